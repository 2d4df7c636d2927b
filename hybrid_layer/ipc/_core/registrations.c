/* SPDX-License-Identifier: BSD-3-Clause */
/* Stores and forgets what the servers know of groups, and lists the groups. */
#include "registrations.h"

#include <string.h>

#include "blocks.h"
#include "clock.h"
#include "memberships.h"
#include "shards.h"

#define GROUP_NAME offsetof(struct group, name)

enum status group_has_members(struct handle *handle, const struct group *group, bool *has) {
    uint64_t now = now_ns();
    uint32_t at = group->pairs;
    *has = false;
    for (uint32_t steps = 0; at != 0 && !*has; steps++) {
        struct pair *pair = pair_at(handle, at);
        if (pair == NULL || steps >= handle->groups.blocks)
            return DAMAGED;
        *has = pair->live != 0 && pair->last_deadline > now;
        at = pair->group_next;
    }
    return OK;
}

enum status registration_store(struct handle *handle, struct name name, const struct registered *registered) {
    struct shard *shard = shard_at(handle, registered->shard);
    uint32_t reference;
    uint64_t now = now_ns();
    if (shard == NULL || shard->turn != registered->turn || registered->t <= shard->forgotten ||
        registered->registration == 0)
        return OK;
    enum status status = find_group(handle, name, &reference);
    if (status != OK)
        return status == EMPTY ? OK : status;
    struct group *group = block_raw(handle, &handle->groups, reference);
    /* An answer that comes late does not take the place of a newer one. */
    bool is_late = group->t >= registered->t || registered->registration != shard->registration;
    if (is_late && record_is_valid(handle, group, registered->shard, now))
        return OK;
    record_set(group, registered, now);
    return OK;
}

enum status registration_forget(struct handle *handle, struct name name, uint32_t number, uint64_t t, bool *is_done) {
    struct shard *shard = shard_at(handle, number);
    uint32_t reference;
    *is_done = false;
    if (shard == NULL)
        return OK;
    enum status status = find_group(handle, name, &reference);
    struct group *group = status == OK ? block_raw(handle, &handle->groups, reference) : NULL;
    bool has_members = false;
    if (group != NULL)
        status = group_has_members(handle, group, &has_members);
    if (status == DAMAGED)
        return DAMAGED;
    bool is_of_shard = group != NULL && group->t != 0 && (group->shard == number || !record_is_sound(group));
    if (has_members || (is_of_shard && group->t > t && record_is_sound(group)))
        return OK;
    if (shard->forgotten < t)
        shard->forgotten = t;
    *is_done = true;
    if (!is_of_shard)
        return OK;
    record_clear(group);
    return free_group_if_empty(handle, reference);
}

/* Writes one group behind those that are written already, as far as there is room. */
static enum status list_group(struct handle *handle, uint32_t reference, const struct group *group, char *groups,
                              size_t size, size_t *used) {
    struct listed listed;
    char name[NAME_MAX_LENGTH];
    size_t length = read_length(&group->name_length);
    if (length > NAME_MAX_LENGTH || !data_read(handle, &handle->groups, reference, GROUP_NAME, 0, name, length))
        return DAMAGED;
    memset(&listed, 0, sizeof listed);
    listed.name_length = (uint8_t)length;
    if (record_lasts(group, now_ns())) {
        listed.t = group->t;
        listed.shard = group->shard;
    }
    if (group->pairs == 0) {
        listed.idle_ms = now_ms() - group->idle_since;
        listed.idle_ms += listed.idle_ms == 0;
    }
    if (*used + sizeof listed + length <= size) {
        memcpy(groups + *used, &listed, sizeof listed);
        memcpy(groups + *used + sizeof listed, name, length);
    }
    *used += sizeof listed + length;
    return OK;
}

enum status groups_list(struct handle *handle, uint32_t bucket, uint32_t buckets, char *groups, size_t size,
                        size_t *used) {
    *used = 0;
    for (; buckets > 0 && bucket <= handle->groups.bucket_mask; buckets--, bucket++) {
        uint32_t at = handle->groups.buckets[bucket];
        for (uint32_t steps = 0; at != 0; steps++) {
            struct group *record = record_at(handle, at);
            if (record == NULL || steps >= handle->groups.blocks)
                return DAMAGED;
            if (record->kind == KIND_GROUP && list_group(handle, at, record, groups, size, used) != OK)
                return DAMAGED;
            at = record->bucket_next;
        }
    }
    return *used <= size ? OK : NO_SPACE;
}

enum status groups_free_idle(struct handle *handle) {
    for (uint32_t bucket = 0; bucket <= handle->groups.bucket_mask; bucket++) {
        uint32_t at = handle->groups.buckets[bucket];
        for (uint32_t steps = 0; at != 0; steps++) {
            struct group *record = record_at(handle, at);
            if (record == NULL || steps >= handle->groups.blocks)
                return DAMAGED;
            uint32_t reference = at;
            at = record->bucket_next; /* one that is freed stands in nobody else's way */
            if (record->kind != KIND_GROUP || record->pairs != 0)
                continue;
            record_clear(record);
            if (free_group_if_empty(handle, reference) != OK)
                return DAMAGED;
        }
    }
    return OK;
}

/* Read in this order: blocks are taken from the free ones, or make the others more. */
bool groups_exist(struct handle *handle) {
    const volatile struct area_books *books = handle->groups.books;
    uint32_t free_count = books->free_count;
    atomic_thread_fence(memory_order_acquire);
    return books->fresh - 1 != free_count;
}
