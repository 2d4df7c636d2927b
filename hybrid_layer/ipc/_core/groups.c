/* SPDX-License-Identifier: BSD-3-Clause */
/* Adds members to groups, discards and lists them, and ends what has expired. */
#include "groups.h"

#include <string.h>

#include "blocks.h"
#include "channels.h"
#include "clock.h"
#include "epochs.h"
#include "memberships.h"
#include "records.h"

#define MEMBER_NAME offsetof(struct member, name)

/* Ends a membership now. Messages sent before still arrive. */
static enum status end_member(struct handle *handle, uint32_t reference, struct member *member, struct pair *pair) {
    if (pair->pending == 0)
        return free_member(handle, reference, member, pair);
    if (member->left == 0) {
        member_set(member, member->joined, handle->header->sequence + 1, member->deadline);
        pair->live--;
        pair->gone++;
    }
    return OK;
}

/* Finds the pair of a group and a channel. What is missing is made, and undone where the memory is full. */
static enum status find_or_create_pair(struct handle *handle, struct name group_name, uint32_t target,
                                       uint32_t *reference) {
    uint32_t group;
    enum status status = find_group(handle, group_name, &group);
    if (status == EMPTY)
        status = create_group(handle, group_name, &group);
    if (status != OK)
        return status;
    status = find_pair(handle, group, target, reference);
    if (status == EMPTY)
        status = create_pair(handle, group, target, reference);
    if (status == OK || status == DAMAGED)
        return status;
    return free_group_if_empty(handle, group) == OK ? status : DAMAGED;
}

/* Finds a membership that can be renewed. EMPTY: there is none. *is_new: it had ended. */
static enum status find_renewable(struct handle *handle, uint32_t pair_reference, struct pair *pair, struct name local,
                                  uint32_t *reference, bool *is_new) {
    enum status status = find_member(handle, pair_reference, local, false, reference);
    struct member *member;
    *is_new = true;
    if (status == OK) {
        member = block_raw(handle, &handle->groups, *reference);
        if (member->deadline > now_ns()) {
            *is_new = false;
            return OK;
        }
        /* It has expired: what was sent since then is not for it, what was sent before is still on its way. */
        return end_member(handle, *reference, member, pair) == OK ? EMPTY : DAMAGED;
    }
    if (status == EMPTY)
        status = find_member(handle, pair_reference, local, true, reference);
    if (status != OK)
        return status;
    /* A membership that ended since the last group send is as good as one that never ended. */
    member = block_raw(handle, &handle->groups, *reference);
    if (member->left <= handle->header->sequence || member->deadline <= now_ns())
        return EMPTY;
    pair->live++;
    pair->gone--;
    return OK;
}

static enum status add_member(struct handle *handle, uint32_t pair_reference, struct name local, uint64_t deadline,
                              bool *is_new) {
    struct pair *pair = pair_at(handle, pair_reference);
    uint32_t reference;
    if (pair == NULL)
        return DAMAGED;
    enum status status = find_renewable(handle, pair_reference, pair, local, &reference, is_new);
    if (status == EMPTY)
        status = create_member(handle, pair_reference, local, deadline);
    else if (status == OK) {
        struct member *member = block_raw(handle, &handle->groups, reference);
        member_set(member, member->joined, 0, deadline);
        if (deadline > pair->last_deadline || (pair->live == 1 && pair->gone == 0))
            pair->last_deadline = deadline;
    }
    if (status == OK || status == DAMAGED)
        return status;
    return free_pair_if_empty(handle, pair_reference) == OK ? status : DAMAGED;
}

/* What the servers were told of a group may have been taken back while its member was lost here. */
static void tell_all_servers_again(struct handle *handle) {
    for (uint32_t number = 0; number < REMOTE_SHARDS; number++)
        handle->shards[number].registration = 0;
}

static enum status look_at_record(struct handle *handle, struct joining *joining, uint32_t pair_reference,
                                  uint64_t deadline) {
    struct pair *pair = pair_at(handle, pair_reference);
    struct group *group = pair != NULL ? group_at(handle, pair->group) : NULL;
    if (group == NULL)
        return DAMAGED;
    joining->is_recorded = record_is_valid(handle, group, joining->shard, deadline);
    if (joining->is_restored && joining->is_new && !record_is_valid(handle, group, group->shard, now_ns()))
        tell_all_servers_again(handle);
    return OK;
}

enum status group_add(struct handle *handle, struct joining *joining) {
    uint64_t deadline = now_ns() + joining->expiry_ns;
    uint32_t target, pair;
    joining->is_new = false;
    joining->is_recorded = true; /* who joins nothing needs no record */
    uint64_t epoch = epoch_read(handle->header);
    if (joining->is_restored && joining->epoch != epoch) /* a flush has ended it */
        return OK;
    joining->epoch = epoch;
    enum status status = channel_find_target(handle, joining->target, &target);
    if (status != OK)
        return status == EMPTY ? OK : status;
    status = find_or_create_pair(handle, joining->group, target, &pair);
    if (status == OK)
        status = add_member(handle, pair, joining->local, deadline, &joining->is_new);
    if (status == OK && (joining->shard < NO_SHARD || joining->is_restored))
        status = look_at_record(handle, joining, pair, deadline);
    if (status == OK || status == DAMAGED)
        return status;
    return channel_release(handle, target) == OK ? status : DAMAGED;
}

enum status group_discard(struct handle *handle, struct name group_name, struct name target_name, struct name local) {
    uint32_t target, group, pair_reference, member_reference;
    enum status status = channel_find(handle, target_name, &target);
    if (status == OK)
        status = find_group(handle, group_name, &group);
    if (status == OK)
        status = find_pair(handle, group, target, &pair_reference);
    if (status == OK)
        status = find_member(handle, pair_reference, local, false, &member_reference);
    if (status != OK)
        return status == EMPTY ? OK : status;
    struct pair *pair = pair_at(handle, pair_reference);
    struct member *member = block_raw(handle, &handle->groups, member_reference);
    if (pair == NULL || end_member(handle, member_reference, member, pair) != OK ||
        free_pair_if_empty(handle, pair_reference) != OK)
        return DAMAGED;
    return channel_release(handle, target);
}

/* Frees the expired memberships of a pair. */
static enum status expire_members(struct handle *handle, struct pair *pair, uint64_t now) {
    uint32_t at = pair->members;
    uint64_t last = 0;
    for (uint32_t steps = 0; at != 0; steps++) {
        struct member *member = member_at(handle, at);
        if (member == NULL || steps >= handle->groups.blocks)
            return DAMAGED;
        uint32_t next = member->next;
        bool has_ended = member->left == 0 ? member->deadline <= now : pair->pending == 0;
        if (has_ended) {
            if (end_member(handle, at, member, pair) != OK)
                return DAMAGED;
        } else if (member->deadline > last) {
            last = member->deadline;
        }
        at = next;
    }
    pair->last_deadline = last;
    return OK;
}

enum status group_expire_pair(struct handle *handle, uint32_t reference, struct pair *pair, uint64_t now) {
    uint32_t target = pair->target;
    if (expire_members(handle, pair, now) != OK || free_pair_if_empty(handle, reference) != OK)
        return DAMAGED;
    return channel_release(handle, target);
}

enum status group_targets(struct handle *handle, struct name group_name, char *names, size_t size, size_t *used) {
    uint32_t reference;
    *used = 0;
    enum status status = find_group(handle, group_name, &reference);
    if (status != OK)
        return status == EMPTY ? OK : status;
    uint32_t at = ((struct group *)block_raw(handle, &handle->groups, reference))->pairs;
    for (uint32_t steps = 0; at != 0; steps++) {
        struct pair *pair = pair_at(handle, at);
        struct channel *channel = pair != NULL ? channel_at(handle, pair->target) : NULL;
        char name[NAME_MAX_LENGTH];
        size_t length = channel != NULL ? channel_name(handle, channel, name) : 0;
        if (length == 0 || steps >= handle->groups.blocks)
            return DAMAGED;
        if (*used + length + 1 <= size) {
            names[*used] = (char)length;
            memcpy(names + *used + 1, name, length);
        }
        *used += length + 1;
        at = pair->group_next;
    }
    return *used <= size ? OK : NO_SPACE;
}

/* Writes a name as length and byte, if it fits into the rest. */
static bool write_name(struct handle *handle, uint32_t reference, const struct member *member, char *names, size_t size,
                       size_t *used) {
    size_t length = read_length(&member->name_length);
    if (length > NAME_MAX_LENGTH)
        return false;
    if (*used + length + 1 <= size) {
        names[*used] = (char)length;
        if (!data_read(handle, &handle->groups, reference, MEMBER_NAME, 0, names + *used + 1, length))
            return false;
    }
    *used += length + 1;
    return true;
}

static enum status end_members(struct handle *handle, uint32_t pair_reference, struct pair *pair) {
    uint32_t at = pair->members, target = pair->target;
    for (uint32_t steps = 0; at != 0; steps++) {
        struct member *member = member_at(handle, at);
        if (member == NULL || steps >= handle->groups.blocks)
            return DAMAGED;
        uint32_t next = member->next;
        if (member->left == 0 && end_member(handle, at, member, pair) != OK)
            return DAMAGED;
        at = next;
    }
    if (free_pair_if_empty(handle, pair_reference) != OK)
        return DAMAGED;
    return channel_release(handle, target);
}

enum status group_members(struct handle *handle, struct name group_name, struct name target_name, bool ends,
                          char *names, size_t size, size_t *used) {
    uint32_t target, group, reference;
    uint64_t now = now_ns();
    *used = 0;
    enum status status = channel_find(handle, target_name, &target);
    if (status == OK)
        status = find_group(handle, group_name, &group);
    if (status == OK)
        status = find_pair(handle, group, target, &reference);
    if (status != OK)
        return status == EMPTY ? OK : status;
    struct pair *pair = pair_at(handle, reference);
    if (pair == NULL)
        return DAMAGED;
    uint32_t at = pair->members;
    for (uint32_t steps = 0; at != 0; steps++) {
        struct member *member = member_at(handle, at);
        if (member == NULL || steps >= handle->groups.blocks)
            return DAMAGED;
        bool is_member = member->left == 0 && member->deadline > now;
        if (is_member && !write_name(handle, at, member, names, size, used))
            return DAMAGED;
        at = member->next;
    }
    if (*used > size)
        return NO_SPACE;
    return ends ? end_members(handle, reference, pair) : OK;
}

enum status group_recipients(struct handle *handle, const struct entry *entry, char *names, size_t size, size_t *used,
                             uint32_t *members) {
    struct pair *pair = pair_at(handle, entry->pair);
    *used = 0;
    *members = 0;
    if (pair == NULL)
        return DAMAGED;
    uint32_t at = pair->members, number = 0;
    for (; at != 0; number++) {
        struct member *member = member_at(handle, at);
        size_t length = member != NULL ? read_length(&member->name_length) : 0;
        if (member == NULL || number >= handle->groups.blocks || length > NAME_MAX_LENGTH ||
            member->pair != entry->pair || !member_is_sound(member) ||
            member->joined >
                handle->header->sequence + 1) /* the member would get nothing until a message has such a number */
            return DAMAGED;
        if (member->joined <= entry->sequence && (member->left == 0 || entry->sequence < member->left) &&
            entry->sent < member->deadline) {
            if (*used + length + 1 <= size) {
                names[*used] = (char)length;
                if (!data_read(handle, &handle->groups, at, MEMBER_NAME, 0, names + *used + 1, length))
                    return DAMAGED;
            }
            *used += length + 1;
            (*members)++;
        }
        at = member->next;
    }
    if (number != pair->live + pair->gone)
        return DAMAGED;
    return *used <= size ? OK : NO_SPACE;
}

enum status groups_sweep(struct handle *handle, uint32_t buckets) {
    uint64_t now = now_ns();
    uint32_t mask = handle->groups.bucket_mask;
    uint32_t bucket = handle->header->group_cursor & mask;
    handle->header->group_cursor = (bucket + buckets) & mask;
    for (; buckets > 0; buckets--, bucket = (bucket + 1) & mask) {
        uint32_t at = handle->groups.buckets[bucket];
        for (uint32_t steps = 0; at != 0; steps++) {
            struct group *record = record_at(handle, at);
            if (record == NULL || steps >= handle->groups.blocks)
                return DAMAGED;
            if (record->kind == KIND_GROUP && record->pairs == 0 && !record_lasts(record, now)) {
                if (free_group_if_empty(handle, at) != OK)
                    return DAMAGED;
                break; /* as below */
            }
            struct pair *pair = (struct pair *)record;
            /* A member that left is freed with its last message, unless the process that took the message died in
             * between. */
            if (record->kind == KIND_PAIR && (pair->last_deadline <= now || (pair->gone != 0 && pair->pending == 0))) {
                if (group_expire_pair(handle, at, pair, now) != OK)
                    return DAMAGED;
                break; /* other records of this bucket may have been freed with it; the rest is for the next round */
            }
            at = record->bucket_next;
        }
    }
    return OK;
}
