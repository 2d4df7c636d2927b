/* SPDX-License-Identifier: BSD-3-Clause */
/* Puts messages into queues, takes them off, and drops what has expired. */
#include "queues.h"

#include "blocks.h"
#include "channels.h"
#include "clock.h"
#include "counters.h"
#include "messages.h"
#include "suspect.h"
#include "tallies.h"

void queue_append(struct handle *handle, struct channel *channel, uint32_t reference) {
    struct message *tail = channel->tail != 0 ? message_at(handle, channel->tail) : NULL;
    struct message *added = message_at(handle, reference);
    if (tail != NULL) {
        if (added != NULL && added->deadline < tail->deadline)
            channel->unordered = 1;
        commit(&tail->next, reference);
    } else {
        channel->unordered = 0;
        commit(&channel->head, reference);
    }
    channel->tail = reference;
    channel->count++;
}

bool queue_unlink_head(struct handle *handle, struct channel *channel) {
    struct message *head = message_at(handle, channel->head);
    if (head == NULL || channel->count == 0)
        return false;
    uint32_t next = head->next;
    if ((next == 0) != (channel->count == 1)) /* a wrong count would make the channel full for ever */
        return false;
    commit(&channel->head, next);
    if (next == 0)
        channel->tail = 0;
    channel->count--;
    return true;
}

bool queue_drop_head(struct handle *handle, struct channel *channel) {
    uint32_t head = channel->head;
    return queue_unlink_head(handle, channel) && message_free(handle, head);
}

bool queue_clear(struct handle *handle, struct channel *channel) {
    while (channel->head != 0)
        if (!queue_drop_head(handle, channel))
            return false;
    return true;
}

bool queue_purge(struct handle *handle, struct channel *channel, uint64_t now) {
    while (channel->head != 0) {
        struct message *head = message_at(handle, channel->head);
        if (head == NULL)
            return false;
        if (head->deadline > now)
            return true;
        if (!channel->was_read && channel->owner == 0)
            handle->unread[channel_name(handle, channel, handle->unread)] = '\0';
        if (!queue_drop_head(handle, channel))
            return false;
        count(handle, COUNT_EXPIRED, 1);
    }
    return true;
}

/* Drops expired messages anywhere in the queue. Needed only where senders differ in expiry, and the queue is full. */
static bool purge_everywhere(struct handle *handle, struct channel *channel, uint64_t now) {
    uint32_t *link = &channel->head;
    uint32_t previous = 0;
    uint64_t last_deadline = 0;
    uint8_t unordered = 0; /* stored at the end: until then, what is freed is not the oldest (see pair_entry_gone) */
    for (uint32_t steps = 0; *link != 0; steps++) {
        uint32_t reference = *link;
        struct message *message = message_at(handle, reference);
        if (message == NULL || steps >= handle->messages.blocks)
            return false;
        if (message->deadline <= now) {
            if (channel->tail == reference)
                channel->tail = previous;
            commit(link, message->next);
            channel->count--;
            if (!message_free(handle, reference))
                return false;
            count(handle, COUNT_EXPIRED, 1);
            continue;
        }
        if (message->deadline < last_deadline)
            unordered = 1;
        last_deadline = message->deadline;
        previous = reference;
        link = &message->next;
    }
    channel->unordered = unordered;
    return true;
}

enum status queue_make_room(struct handle *handle, struct channel *channel, uint32_t capacity, uint64_t now) {
    /* A reader that takes a message notices a wrong count, but an empty queue has no reader that does. */
    bool is_empty = channel->head == 0;
    if ((channel->count == 0) != is_empty || (channel->tail == 0) != is_empty)
        return DAMAGED;
    if (channel->count < capacity)
        return OK;
    if (!queue_purge(handle, channel, now))
        return DAMAGED;
    if (channel->count >= capacity && channel->unordered && !purge_everywhere(handle, channel, now))
        return DAMAGED;
    if (channel->count < capacity)
        return OK;
    bool is_dead = channel->owner != 0 && suspect_is_dead(handle, channel->owner - 1, channel->owner_generation);
    return is_dead ? GONE : FULL;
}

enum status queue_look(struct handle *handle, struct name name, struct queue_state *state) {
    uint64_t now = now_ns();
    uint32_t reference, place = names_inbox(name) ? TALLY_OTHER : tally_find(handle, name);
    *state = (struct queue_state){.is_counted = place != TALLY_OTHER};
    if (state->is_counted) {
        state->sent = atomic_load_explicit(&handle->tallies[place].sent, memory_order_relaxed);
        state->full = atomic_load_explicit(&handle->tallies[place].full, memory_order_relaxed);
    }
    enum status status = channel_find(handle, name, &reference);
    if (status != OK)
        return status == EMPTY ? OK : status;
    struct channel *channel = block_raw(handle, &handle->messages, reference);
    if (!queue_purge(handle, channel, now) || (channel->unordered && !purge_everywhere(handle, channel, now)))
        return DAMAGED;
    const struct message *head = channel->head != 0 ? message_at(handle, channel->head) : NULL;
    state->unread = channel->count;
    state->oldest_ms = head != NULL ? ms_of(now) - head->sent_ms : 0;
    return channel_release(handle, reference);
}

enum status queue_push(struct handle *handle, const struct push *push, uint32_t *channel_reference) {
    uint64_t now = now_ns();
    uint32_t reference;
    enum status status = channel_find_target(handle, push->channel, &reference);
    if (status == EMPTY)
        return GONE;
    if (status != OK)
        return status;
    struct channel *channel = block_raw(handle, &handle->messages, reference);
    status = queue_make_room(handle, channel, push->capacity, now);
    uint32_t message;
    bool is_normal = !names_inbox(push->channel);
    if (status == FULL && is_normal && !push->is_one_of_several)
        tally_full(handle, channel, push->capacity);
    if (status == OK)
        status = message_new(handle, push, now, &message);
    if (status != OK) {
        /* A channel that was made in vain leaves no trace. */
        if (status != DAMAGED && channel_release(handle, reference) != OK)
            return DAMAGED;
        return status;
    }
    if (is_normal)
        tally_sent(handle, channel, push->capacity);
    queue_append(handle, channel, message);
    *channel_reference = reference;
    return OK;
}
