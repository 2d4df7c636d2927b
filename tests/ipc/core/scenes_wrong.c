/* Operations that are not safe, each by one mistake: kills.c has to fail in every one of them, or it cannot be
 * believed. They are compiled as the core is, so that their stores count. */
#include "scenes.h"

#include <string.h>

#include "blocks.h"
#include "lock.h"

static void one_in_b(struct handle *s) { put(s, "b", "", 1, SMALL, LONG); }

/* Links a message before it is filled. */
static enum status link_first(struct handle *handle) {
    uint32_t channel, reference, last;
    char bytes[SMALL];
    fill_payload(bytes, SMALL, 9);
    enum status status = lock_take(handle, WAIT);
    MUST(status == OK && channel_find(handle, named("b"), &channel) == OK);
    MUST(blocks_take(handle, &handle->messages, 1, &reference, &last) == OK);
    struct message *message = block_raw(handle, &handle->messages, reference);
    message->next = 0;
    message->tail = last;
    message->local_length = 0;
    message->size = SMALL;
    message->kind = KIND_MESSAGE;
    queue_append(handle, channel_at(handle, channel), reference);
    message->deadline = now_ns() + LONG;
    memcpy(message->data, bytes, SMALL);
    lock_give(handle);
    return OK;
}

/* Takes a message by a copy at the end of another queue, so that for a moment it is in both. */
static enum status in_two_queues(struct handle *handle) {
    uint32_t from, to;
    MUST(lock_take(handle, WAIT) == OK && channel_find(handle, named("b"), &from) == OK);
    MUST(channel_find_or_create(handle, named("a"), &to) == OK);
    struct channel *source = channel_at(handle, from), *target = channel_at(handle, to);
    uint32_t reference = source->head;
    queue_append(handle, target, reference);
    MUST(queue_unlink_head(handle, source) && channel_release(handle, from) == OK);
    lock_give(handle);
    return OK;
}

/* Works without the lock, so that no process repairs what it leaves. */
static enum status without_lock(struct handle *handle) {
    uint32_t channel;
    MUST(channel_find(handle, named("b"), &channel) == OK);
    struct channel *source = channel_at(handle, channel);
    uint32_t reference = source->head;
    MUST(queue_unlink_head(handle, source) && message_free(handle, reference));
    return channel_release(handle, channel);
}

/* Takes blocks and forgets them; no process was killed, so none looks for them. */
static enum status leak(struct handle *handle) {
    uint32_t reference;
    MUST(lock_take(handle, WAIT) == OK);
    MUST(blocks_take(handle, &handle->messages, 3, &reference, NULL) == OK);
    lock_give(handle);
    return OK;
}

/* Stores where no call tells of it. */
__attribute__((no_sanitize("thread"))) static enum status unseen(struct handle *handle) {
    handle->slots[SLOTS - 1].pad = 1;
    return OK;
}

/* Does nothing: the number of changes must be noticed. */
static enum status nothing(struct handle *handle) {
    (void)handle;
    return OK;
}

const struct scene wrong_scenes[] = {
    {"wrong: linked before it is filled", "b=1 s.1!=", "b=1,9 s.1!=", one_in_b, .act = link_first, .at_least = 5},
    {"wrong: in two queues", "b=1 s.1!=", "a=1 s.1!=", one_in_b, .act = in_two_queues, .at_least = 5},
    {"wrong: without the lock", "b=1 s.1!=", "s.1!=", one_in_b, .act = without_lock, .at_least = 5},
    {"wrong: blocks leak", "b=1 s.1!=", NULL, one_in_b, .act = leak, .at_least = 5},
    {"wrong: an unseen store", "s.1!=", NULL, .act = unseen},
    {"wrong: nothing happens", "s.1!=", NULL, .act = nothing, .at_least = 1},
    {.name = NULL},
};
