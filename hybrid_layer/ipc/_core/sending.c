/* SPDX-License-Identifier: BSD-3-Clause */
/* Sends a message to a group: one payload, and an entry for each queue. */
#include "sending.h"

#include "blocks.h"
#include "channels.h"
#include "clock.h"
#include "counters.h"
#include "groups.h"
#include "memberships.h"
#include "messages.h"
#include "queues.h"
#include "tallies.h"
#include "waking.h"

static uint32_t capacity_for(const struct group_send *send, struct handle *handle, uint32_t target,
                             struct channel *channel) {
    for (size_t i = 0; i < send->others_count; i++) {
        const struct name *name = &send->others[i].target;
        if (channel->name_length == name->length &&
            data_equals(handle, &handle->messages, target, offsetof(struct channel, name), name->bytes, name->length))
            return send->others[i].capacity;
    }
    return send->capacity;
}

static enum status send_to_pair(struct handle *handle, const struct group_send *send, uint32_t pair_reference,
                                struct pair *pair, uint32_t payload_reference, uint64_t now, struct wakeups *wakeups) {
    struct channel *channel = channel_at(handle, pair->target);
    struct payload *payload = block_at(handle, &handle->messages, payload_reference, KIND_PAYLOAD);
    uint32_t reference;
    if (channel == NULL || payload == NULL)
        return DAMAGED;
    uint32_t capacity = capacity_for(send, handle, pair->target, channel);
    enum status status = queue_make_room(handle, channel, capacity, now);
    if (channel->owner == 0 && status == FULL)
        tally_full(handle, channel, capacity);
    if (status == OK)
        status = blocks_take(handle, &handle->messages, 1, &reference, NULL);
    if (status == FULL || status == GONE || status == NO_MEMORY || status == GROW_MESSAGES)
        return status;
    if (status != OK)
        return DAMAGED;
    struct entry *entry = block_raw(handle, &handle->messages, reference);
    *entry = (struct entry){
        .kind = KIND_ENTRY,
        .payload = payload_reference,
        .pair = channel->owner != 0 ? pair_reference : 0,
        .sent_ms = ms_of(now),
        .deadline = now + send->expiry_ns,
        .sequence = handle->header->sequence,
        .sent = now,
    };
    payload->references++;
    if (entry->pair != 0)
        pair->pending++;
    queue_append(handle, channel, reference);
    if (!send->is_forwarded) { /* each stored entry, so once for each queue */
        count(handle, COUNT_SENT, 1);
        if (channel->owner == 0)
            tally_sent(handle, channel, capacity);
    }
    return waiters_wake(handle, pair->target, wakeups);
}

/* Finds the pairs of which all members are excluded. */
static enum status find_excluded(struct handle *handle, const struct group_send *send, uint64_t now) {
    for (size_t i = 0; i < send->excluded_count; i++) {
        struct excluded *excluded = &send->excluded[i];
        uint32_t target, reference, member, members = 0;
        excluded->pair = 0;
        enum status status = channel_find(handle, excluded->target, &target);
        if (status == OK)
            status = find_pair(handle, send->reference, target, &reference);
        for (size_t n = 0; status == OK && n < excluded->locals_count; n++) {
            status = find_member(handle, reference, excluded->locals[n], false, &member);
            if (status == OK)
                members += ((struct member *)block_raw(handle, &handle->groups, member))->deadline > now;
            status = status == EMPTY ? OK : status;
        }
        if (status == OK && members >= pair_at(handle, reference)->live)
            excluded->pair = reference;
        if (status != OK && status != EMPTY)
            return DAMAGED;
    }
    return OK;
}

static bool is_excluded(const struct group_send *send, uint32_t pair) {
    for (size_t i = 0; i < send->excluded_count; i++)
        if (send->excluded[i].pair == pair)
            return true;
    return false;
}

/* Does with one pair what a group send does with it. OK also where the message is dropped, which is counted. */
static enum status serve_pair(struct handle *handle, struct group_send *send, uint32_t reference, struct pair *pair,
                              uint32_t payload, uint64_t now, struct wakeups *wakeups) {
    if (pair->last_deadline <= now)
        return group_expire_pair(handle, reference, pair, now);
    if (pair->live == 0) /* without any, but with members: they would get nothing any more */
        return pair->gone == 0 && pair->members != 0 ? DAMAGED : OK;
    send->served++;
    if (send->excluded_count != 0 && is_excluded(send, reference))
        return OK;
    enum status status = send_to_pair(handle, send, reference, pair, payload, now, wakeups);
    if (status == OK || status == DAMAGED)
        return status;
    count(handle, status == FULL ? COUNT_FULL : status == GONE ? COUNT_DEAD : COUNT_MEMORY, 1);
    send->dropped += status != GONE;
    return OK;
}

/* The blocks that a message to the group takes: its payload, and one entry for each target. 0: damage. */
static size_t blocks_of_send(struct handle *handle, const struct group *group, const struct group_send *send) {
    size_t needed = send->loan != 0 ? 1 : 1 + blocks_for(sizeof((struct payload *)0)->data, send->size);
    uint32_t at = group->pairs;
    for (uint32_t steps = 0; at != 0; steps++) {
        struct pair *pair = pair_at(handle, at);
        if (pair == NULL || steps >= handle->groups.blocks)
            return 0;
        needed++;
        at = pair->group_next;
    }
    return needed;
}

/* Makes sure of them, so that the send need not stop for memory half-way. NO_MEMORY where the area is as large as it
 * gets. */
static enum status make_sure_of_memory(struct handle *handle, size_t needed) {
    struct area_books *books = handle->messages.books;
    uint32_t reserved = atomic_load(&books->reserved);
    uint32_t untouched = reserved > books->fresh ? reserved - books->fresh : 0;
    if (needed <= 1 + (size_t)books->free_count + untouched)
        return OK;
    return reserved >= handle->messages.blocks ? NO_MEMORY : GROW_MESSAGES;
}

/* Finds the group, and stores the payload for it. */
static enum status prepare(struct handle *handle, struct group_send *send, bool is_for_all) {
    send->dropped = send->served = send->reference = send->stored = 0;
    send->never_fits = false;
    enum status status = find_group(handle, send->group, &send->reference);
    if (status != OK)
        return status == EMPTY ? OK : status;
    size_t needed = blocks_of_send(handle, block_raw(handle, &handle->groups, send->reference), send);
    if (needed == 0)
        return DAMAGED;
    send->never_fits = needed > handle->messages.blocks;
    status = make_sure_of_memory(handle, needed);
    /* Some members may get nothing; if there will never be enough for all, that is no reason to wait. */
    if (status == NO_MEMORY && (!is_for_all || send->never_fits))
        status = OK;
    if (status != OK)
        return status;
    status = payload_new(handle, send->payload, send->size, send->loan, &send->stored);
    return status == GROW_MESSAGES ? NO_MEMORY : status;
}

enum status group_send_prepare(struct handle *handle, struct group_send *send) { return prepare(handle, send, true); }

/* One payload for all, and an entry for each pair of group and inbox, not for each member: the process that drains the
 * inbox finds the members. The number of the message, against those of joining and leaving, tells which channels were
 * members when it was sent (`group_recipients`). */
enum status group_send_perform(struct handle *handle, struct group_send *send, struct wakeups *wakeups) {
    uint64_t now = now_ns();
    if (send->reference == 0)
        return send->loan == 0 || payload_release(handle, send->loan) ? OK : DAMAGED;
    struct group *group = block_raw(handle, &handle->groups, send->reference);
    if (group == NULL || find_excluded(handle, send, now) != OK)
        return DAMAGED;
    handle->header->sequence++;
    uint32_t at = group->pairs;
    for (uint32_t steps = 0; at != 0; steps++) {
        struct pair *pair = pair_at(handle, at);
        if (pair == NULL || steps >= handle->groups.blocks)
            return DAMAGED;
        uint32_t next = pair->group_next; /* this pair may be freed, and no other one */
        if (serve_pair(handle, send, at, pair, send->stored, now, wakeups) != OK)
            return DAMAGED;
        at = next;
    }
    return payload_release(handle, send->stored) ? OK : DAMAGED;
}

enum status group_send(struct handle *handle, struct group_send *send, struct wakeups *wakeups) {
    enum status status = prepare(handle, send, false);
    return status == OK ? group_send_perform(handle, send, wakeups) : status;
}
