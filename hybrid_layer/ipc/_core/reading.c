/* SPDX-License-Identifier: BSD-3-Clause */
/* Takes messages out of queues: pop for one, drain for as many as fit. */
#include "reading.h"

#include <string.h>

#include "blocks.h"
#include "channels.h"
#include "clock.h"
#include "counters.h"
#include "groups.h"
#include "loans.h"
#include "inboxes.h"
#include "loops.h"
#include "messages.h"
#include "queues.h"
#include "tallies.h"
#include "waiters.h"
#include "waking.h"

/* Where the payload of a queued message or entry lies. */
struct source {
    uint32_t block; /* of the message itself or the shared payload */
    size_t data;    /* begin of the data in it */
    size_t offset;  /* of the payload in the data */
    size_t size;
    bool is_shared;
    uint32_t sent_ms;
    uint64_t deadline;
};

static bool find_source(struct handle *handle, uint32_t reference, struct source *source) {
    struct block *block = block_raw(handle, &handle->messages, reference);
    if (block == NULL)
        return false;
    if (block->kind == KIND_MESSAGE) {
        struct message *message = (struct message *)block;
        *source = (struct source){reference, MESSAGE_DATA,     message->local_length, message->size,
                                  false,     message->sent_ms, message->deadline};
        return true;
    }
    struct entry *entry = (struct entry *)block;
    if (block->kind != KIND_ENTRY)
        return false;
    struct payload *payload = block_at(handle, &handle->messages, entry->payload, KIND_PAYLOAD);
    if (payload == NULL)
        return false;
    *source = (struct source){entry->payload, PAYLOAD_DATA, 0, payload->size, true, entry->sent_ms, entry->deadline};
    return true;
}

/* A size that the area cannot hold would have the caller ask for that much memory. */
static bool source_of(struct handle *handle, uint32_t reference, struct source *source) {
    return find_source(handle, reference, source) &&
           source->offset + source->size <= (size_t)handle->messages.blocks * BLOCK;
}

/* Takes the head off the queue with its payload on loan. The loan is stored first: a death in between leaves the
 * message in the queue as well, and the rebuild believes the queue. */
static enum status take_on_loan(struct handle *handle, struct channel *channel, const struct source *source,
                                struct taken *taken) {
    uint32_t reference = channel->head, loan;
    enum status status = loan_keep(handle, source->block, &loan);
    if (status != OK)
        return status;
    taken->loan = loan;
    if (source->is_shared)
        ((struct payload *)block_raw(handle, &handle->messages, source->block))->references++;
    taken->loan_size = source->size;
    if (!queue_unlink_head(handle, channel))
        return DAMAGED;
    return !source->is_shared || message_free(handle, reference) ? OK : DAMAGED;
}

enum status queue_wait(struct handle *handle, struct name name, uint32_t loop) {
    uint32_t reference;
    enum status status = channel_find_target(handle, name, &reference);
    if (status != OK)
        return status == EMPTY ? GONE : status;
    status = waiter_add(handle, reference, loop);
    if (status == OK)
        return EMPTY;
    return channel_release(handle, reference) == OK ? status : DAMAGED;
}

/* The path of every message that is read. Small payloads are copied to the caller's buffer under the lock, so that
 * their blocks are free when it is released; for large ones a loan keeps the blocks, and they are copied afterwards. */
enum status queue_pop(struct handle *handle, struct name name, uint32_t loop, struct taken *taken,
                      struct wakeups *wakeups) {
    uint32_t reference;
    uint64_t now = 0;
    struct source source;
    taken->loan = NO_LOAN;
    taken->used = 0;
    taken->asleep = false;
    enum status status = channel_find(handle, name, &reference);
    if (status == OK) {
        struct channel *channel = block_raw(handle, &handle->messages, reference);
        channel->was_read = 1;
        now = now_ns();
        if (!queue_purge(handle, channel, now))
            return DAMAGED;
        if (channel->head == 0)
            status = loop == NO_LOOP && channel_release(handle, reference) != OK ? DAMAGED : EMPTY;
    }
    if (status == EMPTY && loop != NO_LOOP) {
        status = queue_wait(handle, name, loop);
        taken->asleep = status == EMPTY && loop_sleep(handle, loop);
    }
    if (status != OK)
        return status;
    struct channel *channel = block_raw(handle, &handle->messages, reference);
    if (!source_of(handle, channel->head, &source))
        return DAMAGED;
    status = source.size > LARGE ? take_on_loan(handle, channel, &source, taken) : NO_SLOT;
    if (status == NO_SLOT) { /* small, or all loans are in use */
        taken->used = source.size;
        if (source.size > taken->size)
            return NO_SPACE;
        if (!data_read(handle, &handle->messages, source.block, source.data, source.offset, taken->buffer,
                       source.size) ||
            !queue_drop_head(handle, channel))
            return DAMAGED;
    } else if (status != OK) {
        return status;
    }
    count(handle, COUNT_RECEIVED, 1);
    count_wait(handle, source.sent_ms, now, 1);
    if (channel->owner == 0)
        add_locked(&tally_of(handle, channel)->received, 1);
    taken->left = channel->head != 0;
    return taken->left ? waiters_wake(handle, reference, wakeups) : channel_release(handle, reference);
}

/* Writes the local names of the members that get the head, as length and bytes each, and says how large they are.
 * NO_SPACE: they do not fit. */
static enum status write_names(struct handle *handle, uint32_t head, const struct source *source, char *names,
                               size_t room, size_t *size, uint32_t *number) {
    if (source->is_shared)
        return group_recipients(handle, (struct entry *)block_raw(handle, &handle->messages, head), names, room, size,
                                number);
    *number = 1;
    *size = 1 + source->offset;
    if (*size > room)
        return NO_SPACE;
    names[0] = (char)source->offset;
    return data_read(handle, &handle->messages, source->block, source->data, 0, names + 1, source->offset) ? OK
                                                                                                           : DAMAGED;
}

/* Copies the head into the buffer. EMPTY: no member gets it any more. NO_SPACE: it does not fit into the rest. */
static enum status drain_head(struct handle *handle, struct channel *channel, uint64_t now, struct taken *taken) {
    struct source source;
    uint32_t head = channel->head;
    if (!source_of(handle, head, &source))
        return DAMAGED;
    struct drained item = {.deadline = source.deadline, .size = (uint32_t)source.size};
    size_t room = taken->size - taken->used, names_size;
    size_t header = room < sizeof item ? room : sizeof item;
    char *names = taken->buffer + taken->used + header;
    enum status status = write_names(handle, head, &source, names, room - header, &names_size, &item.names);
    if (status != OK && status != NO_SPACE)
        return status;
    if (item.names == 0)
        return EMPTY;
    item.names_size = (uint32_t)names_size;
    bool loan = source.size > LARGE && taken->loan == NO_LOAN;
    size_t needed = sizeof item + names_size + (loan ? 0 : source.size);
    if (loan && needed <= room) {
        status = take_on_loan(handle, channel, &source, taken);
        if (status == DAMAGED)
            return status;
        item.is_loaned = status == OK;
        needed += item.is_loaned ? 0 : source.size;
    }
    if (needed > room) {
        taken->used = taken->used == 0 ? needed : taken->used;
        return NO_SPACE;
    }
    if (!item.is_loaned && (!data_read(handle, &handle->messages, source.block, source.data, source.offset,
                                       names + names_size, source.size) ||
                            !queue_drop_head(handle, channel)))
        return DAMAGED;
    count_wait(handle, source.sent_ms, now, item.names);
    memcpy(taken->buffer + taken->used, &item, sizeof item);
    taken->used += needed;
    return OK;
}

/* Only the owner drains, so it gets the messages in the order of the queue. It finds nothing and is registered as a
 * waiter in one step, so the next message wakes the loop. */
enum status inbox_drain(struct handle *handle, struct name name, uint32_t loop, struct taken *taken) {
    uint32_t reference;
    taken->loan = NO_LOAN;
    taken->used = 0;
    taken->left = false;
    enum status status = channel_find(handle, name, &reference);
    if (status != OK)
        return status == EMPTY ? GONE : status;
    struct channel *channel = block_raw(handle, &handle->messages, reference);
    if (!inbox_is_own(handle, channel))
        return GONE;
    uint64_t now = now_ns();
    while (taken->loan == NO_LOAN) {
        if (!queue_purge(handle, channel, now))
            return DAMAGED;
        if (channel->head == 0)
            break;
        status = drain_head(handle, channel, now, taken);
        if (status == EMPTY && queue_drop_head(handle, channel))
            continue;
        if (status == NO_SPACE && taken->size != 0 && taken->used != 0 && taken->used <= taken->size)
            break; /* what is in the buffer is whole; the rest is for the next call */
        if (status != OK)
            return status == NO_SPACE ? NO_SPACE : DAMAGED;
    }
    taken->left = channel->head != 0;
    if (!taken->left && loop != NO_LOOP) {
        status = waiter_add(handle, reference, loop);
        if (status != OK && taken->used == 0)
            return status; /* nothing was taken, so the caller may try again */
        taken->left = status != OK;
    }
    return OK;
}
