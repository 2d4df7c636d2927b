/* SPDX-License-Identifier: BSD-3-Clause */
/* Finds, makes, links and frees the records of groups. */
#include "memberships.h"

#include <string.h>

#include "blocks.h"
#include "channels.h"
#include "clock.h"
#include "hash.h"
#include "records.h"

#define GROUP_NAME offsetof(struct group, name)
#define MEMBER_NAME offsetof(struct member, name)

struct group *group_at(struct handle *handle, uint32_t reference) {
    return block_at(handle, &handle->groups, reference, KIND_GROUP);
}

struct pair *pair_at(struct handle *handle, uint32_t reference) {
    return block_at(handle, &handle->groups, reference, KIND_PAIR);
}

struct member *member_at(struct handle *handle, uint32_t reference) {
    return block_at(handle, &handle->groups, reference, KIND_MEMBER);
}

static uint32_t *bucket_of(struct handle *handle, uint64_t hash) {
    return &handle->groups.buckets[hash & handle->groups.bucket_mask];
}

static uint32_t *group_bucket(struct handle *handle, const char *name, size_t length) {
    return bucket_of(handle, hash_bytes(handle->seed, name, length));
}

static uint32_t *pair_bucket(struct handle *handle, uint32_t group, uint32_t target) {
    uint32_t key[2] = {group, target};
    return bucket_of(handle, hash_bytes(handle->seed, key, sizeof key));
}

static uint32_t *member_bucket(struct handle *handle, uint32_t pair, const char *name, size_t length) {
    char key[sizeof pair + NAME_MAX_LENGTH];
    memcpy(key, &pair, sizeof pair);
    memcpy(key + sizeof pair, name, length);
    return bucket_of(handle, hash_bytes(handle->seed, key, sizeof pair + length));
}

/* The field that links a record of any kind to the next one of its bucket is at the same place. */
_Static_assert(offsetof(struct group, bucket_next) == offsetof(struct pair, bucket_next), "shared field");
_Static_assert(offsetof(struct group, bucket_next) == offsetof(struct member, bucket_next), "shared field");
_Static_assert(offsetof(struct group, name_length) == offsetof(struct member, name_length), "shared field");

struct group *record_at(struct handle *handle, uint32_t reference) {
    struct block *block = block_raw(handle, &handle->groups, reference);
    return block != NULL && block->kind >= KIND_GROUP && block->kind <= KIND_MEMBER ? (struct group *)block : NULL;
}

uint32_t *record_bucket(struct handle *handle, uint32_t reference) {
    struct group *record = record_at(handle, reference);
    char name[NAME_MAX_LENGTH];
    if (record == NULL)
        return NULL;
    if (record->kind == KIND_PAIR)
        return pair_bucket(handle, ((struct pair *)record)->group, ((struct pair *)record)->target);
    size_t length = read_length(&record->name_length); /* at the same place in a member */
    size_t data = record->kind == KIND_GROUP ? GROUP_NAME : MEMBER_NAME;
    if (length > NAME_MAX_LENGTH || !data_read(handle, &handle->groups, reference, data, 0, name, length))
        return NULL;
    return record->kind == KIND_GROUP ? group_bucket(handle, name, length)
                                      : member_bucket(handle, ((struct member *)record)->pair, name, length);
}

static void publish(uint32_t *bucket, uint32_t reference, uint32_t *bucket_next) {
    *bucket_next = *bucket;
    commit(bucket, reference);
}

static enum status unpublish(struct handle *handle, uint32_t *bucket, uint32_t reference) {
    uint32_t *link = bucket;
    struct group *record = record_at(handle, reference);
    for (uint32_t steps = 0; *link != reference; steps++) {
        struct group *other = record_at(handle, *link);
        if (other == NULL || steps >= handle->groups.blocks)
            return DAMAGED;
        link = &other->bucket_next;
    }
    if (record == NULL)
        return DAMAGED;
    commit(link, record->bucket_next);
    return blocks_give_chain(handle, &handle->groups, reference) ? OK : DAMAGED;
}

enum status find_group(struct handle *handle, struct name name, uint32_t *reference) {
    uint32_t at = *group_bucket(handle, name.bytes, name.length);
    for (uint32_t steps = 0; at != 0; steps++) {
        struct group *group = record_at(handle, at);
        if (group == NULL || steps >= handle->groups.blocks)
            return DAMAGED;
        if (group->kind == KIND_GROUP && group->name_length == name.length &&
            data_equals(handle, &handle->groups, at, GROUP_NAME, name.bytes, name.length)) {
            *reference = at;
            return OK;
        }
        at = group->bucket_next;
    }
    return EMPTY;
}

enum status find_pair(struct handle *handle, uint32_t group, uint32_t target, uint32_t *reference) {
    uint32_t at = *pair_bucket(handle, group, target);
    for (uint32_t steps = 0; at != 0; steps++) {
        struct group *record = record_at(handle, at);
        if (record == NULL || steps >= handle->groups.blocks)
            return DAMAGED;
        if (record->kind == KIND_PAIR && ((struct pair *)record)->group == group &&
            ((struct pair *)record)->target == target) {
            *reference = at;
            return OK;
        }
        at = record->bucket_next;
    }
    return EMPTY;
}

enum status find_member(struct handle *handle, uint32_t pair, struct name local, bool has_left, uint32_t *reference) {
    uint32_t at = *member_bucket(handle, pair, local.bytes, local.length);
    uint64_t newest = 0;
    enum status status = EMPTY;
    for (uint32_t steps = 0; at != 0; steps++) {
        struct group *record = record_at(handle, at);
        if (record == NULL || steps >= handle->groups.blocks)
            return DAMAGED;
        struct member *member = (struct member *)record;
        if (record->kind == KIND_MEMBER && member->pair == pair && member->name_length == local.length &&
            (member->left != 0) == has_left && member->left >= newest &&
            data_equals(handle, &handle->groups, at, MEMBER_NAME, local.bytes, local.length)) {
            newest = member->left;
            *reference = at;
            status = OK;
        }
        at = record->bucket_next;
    }
    return status;
}

enum status create_group(struct handle *handle, struct name name, uint32_t *reference) {
    uint32_t blocks = blocks_for(sizeof((struct group *)0)->name, name.length);
    enum status status = blocks_take(handle, &handle->groups, blocks, reference, NULL);
    if (status != OK)
        return status;
    struct group *group = block_raw(handle, &handle->groups, *reference);
    group->name_length = (uint8_t)name.length;
    group->pairs = 0;
    record_clear(group);
    if (!data_write(handle, &handle->groups, *reference, GROUP_NAME, 0, name.bytes, name.length))
        return DAMAGED;
    group->kind = KIND_GROUP;
    publish(group_bucket(handle, name.bytes, name.length), *reference, &group->bucket_next);
    return OK;
}

void pair_link(struct handle *handle, uint32_t reference, struct pair *pair, struct group *group,
               struct channel *target) {
    pair->group_previous = pair->target_previous = 0;
    pair->group_next = group->pairs;
    pair->target_next = target->pairs;
    struct pair *next = pair_at(handle, group->pairs);
    if (next != NULL)
        next->group_previous = reference;
    next = pair_at(handle, target->pairs);
    if (next != NULL)
        next->target_previous = reference;
    group->pairs = reference;
    target->pairs = reference;
}

enum status create_pair(struct handle *handle, uint32_t group, uint32_t target, uint32_t *reference) {
    enum status status = blocks_take(handle, &handle->groups, 1, reference, NULL);
    if (status != OK)
        return status;
    struct pair *pair = block_raw(handle, &handle->groups, *reference);
    struct group *group_record = group_at(handle, group);
    struct channel *target_record = channel_at(handle, target);
    if (group_record == NULL || target_record == NULL)
        return DAMAGED;
    memset(pair, 0, sizeof *pair);
    pair->kind = KIND_PAIR;
    pair->group = group;
    pair->target = target;
    pair_link(handle, *reference, pair, group_record, target_record);
    publish(pair_bucket(handle, group, target), *reference, &pair->bucket_next);
    return OK;
}

void member_link(struct handle *handle, uint32_t reference, struct member *member, struct pair *pair) {
    member->previous = 0;
    member->next = pair->members;
    struct member *next = member_at(handle, pair->members);
    if (next != NULL)
        next->previous = reference;
    pair->members = reference;
    if (member->left == 0)
        pair->live++;
    else
        pair->gone++;
    if (member->deadline > pair->last_deadline)
        pair->last_deadline = member->deadline;
}

static uint16_t check_of(const struct member *member) {
    uint64_t sum = member->joined * 0x9e3779b97f4a7c15u + member->left;
    sum = (sum * 0xd1b54a32d192ed03u + member->deadline) * 0x8cb92ba72f3d8dd7u;
    uint16_t check = (uint16_t)(sum >> 48);
    return check != 0 ? check : 1;
}

void member_set(struct member *member, uint64_t joined, uint64_t left, uint64_t deadline) {
    member->check = 0; /* a process that dies from here on leaves old numbers beside new ones, which is no damage */
    atomic_signal_fence(memory_order_seq_cst);
    member->joined = joined;
    member->left = left;
    member->deadline = deadline;
    atomic_signal_fence(memory_order_seq_cst);
    member->check = check_of(member);
}

bool member_is_sound(const struct member *member) { return member->check == 0 || member->check == check_of(member); }

enum status create_member(struct handle *handle, uint32_t pair_reference, struct name local, uint64_t deadline) {
    uint32_t blocks = blocks_for(sizeof((struct member *)0)->name, local.length);
    uint32_t reference;
    enum status status = blocks_take(handle, &handle->groups, blocks, &reference, NULL);
    if (status != OK)
        return status;
    struct member *member = block_raw(handle, &handle->groups, reference);
    struct pair *pair = pair_at(handle, pair_reference);
    if (pair == NULL)
        return DAMAGED;
    member->name_length = (uint8_t)local.length;
    member->pair = pair_reference;
    member_set(member, handle->header->sequence + 1, 0, deadline);
    if (!data_write(handle, &handle->groups, reference, MEMBER_NAME, 0, local.bytes, local.length))
        return DAMAGED;
    member->kind = KIND_MEMBER;
    member_link(handle, reference, member, pair);
    publish(member_bucket(handle, pair_reference, local.bytes, local.length), reference, &member->bucket_next);
    return OK;
}

enum status free_member(struct handle *handle, uint32_t reference, struct member *member, struct pair *pair) {
    char name[NAME_MAX_LENGTH];
    size_t length = read_length(&member->name_length);
    if (length > NAME_MAX_LENGTH || !data_read(handle, &handle->groups, reference, MEMBER_NAME, 0, name, length))
        return DAMAGED;
    struct member *next = member->next != 0 ? member_at(handle, member->next) : NULL;
    struct member *previous = member->previous != 0 ? member_at(handle, member->previous) : NULL;
    *(previous != NULL ? &previous->next : &pair->members) = member->next;
    if (next != NULL)
        next->previous = member->previous;
    if (member->left == 0)
        pair->live--;
    else
        pair->gone--;
    return unpublish(handle, member_bucket(handle, member->pair, name, length), reference);
}

enum status free_group_if_empty(struct handle *handle, uint32_t reference) {
    struct group *group = group_at(handle, reference);
    char name[NAME_MAX_LENGTH];
    if (group == NULL)
        return DAMAGED;
    if (group->pairs != 0)
        return OK;
    if (group->t != 0 && record_lasts(group, now_ns())) {
        record_begin_idling(group);
        return OK;
    }
    size_t length = read_length(&group->name_length);
    if (length > NAME_MAX_LENGTH || !data_read(handle, &handle->groups, reference, GROUP_NAME, 0, name, length))
        return DAMAGED;
    return unpublish(handle, group_bucket(handle, name, length), reference);
}

enum status free_pair_if_empty(struct handle *handle, uint32_t reference) {
    struct pair *pair = pair_at(handle, reference);
    if (pair == NULL)
        return DAMAGED;
    if (pair->members != 0 || pair->pending != 0)
        return OK;
    struct group *group = group_at(handle, pair->group);
    struct channel *target = channel_at(handle, pair->target);
    if (group == NULL || target == NULL)
        return DAMAGED;
    struct pair *next = pair->group_next != 0 ? pair_at(handle, pair->group_next) : NULL;
    struct pair *previous = pair->group_previous != 0 ? pair_at(handle, pair->group_previous) : NULL;
    *(previous != NULL ? &previous->group_next : &group->pairs) = pair->group_next;
    if (next != NULL)
        next->group_previous = pair->group_previous;
    next = pair->target_next != 0 ? pair_at(handle, pair->target_next) : NULL;
    previous = pair->target_previous != 0 ? pair_at(handle, pair->target_previous) : NULL;
    *(previous != NULL ? &previous->target_next : &target->pairs) = pair->target_next;
    if (next != NULL)
        next->target_previous = pair->target_previous;
    uint32_t group_reference = pair->group;
    enum status status = unpublish(handle, pair_bucket(handle, pair->group, pair->target), reference);
    return status == OK ? free_group_if_empty(handle, group_reference) : status;
}

/* Frees memberships that left at or before `sequence`. */
static enum status free_left(struct handle *handle, struct pair *pair, uint64_t sequence) {
    uint32_t at = pair->members;
    for (uint32_t steps = 0; at != 0; steps++) {
        struct member *member = member_at(handle, at);
        if (member == NULL || steps >= handle->groups.blocks)
            return DAMAGED;
        uint32_t next = member->next;
        if (member->left != 0 && member->left <= sequence && free_member(handle, at, member, pair) != OK)
            return DAMAGED;
        at = next;
    }
    return OK;
}

bool pair_entry_gone(struct handle *handle, const struct entry *entry) {
    if (entry->pair == 0)
        return true;
    struct pair *pair = pair_at(handle, entry->pair);
    struct channel *target = pair != NULL ? channel_at(handle, pair->target) : NULL;
    if (target == NULL || pair->pending == 0)
        return false;
    pair->pending--;
    /* Later entries have higher numbers. With no entry left, no member that has left can get anything. In a queue whose
     * deadlines do not rise, this entry may have been dropped before an older one. */
    uint64_t past = pair->pending == 0 ? UINT64_MAX : target->unordered ? 0 : entry->sequence + 1;
    if (pair->gone != 0 && free_left(handle, pair, past) != OK)
        return false;
    return free_pair_if_empty(handle, entry->pair) == OK;
}

enum status pairs_forget_target(struct handle *handle, struct channel *target) {
    for (uint32_t pairs = 0; target->pairs != 0; pairs++) {
        uint32_t reference = target->pairs;
        struct pair *pair = pair_at(handle, reference);
        if (pair == NULL || pairs >= handle->groups.blocks)
            return DAMAGED;
        pair->pending = 0;
        for (uint32_t members = 0; pair->members != 0; members++) {
            struct member *member = member_at(handle, pair->members);
            if (member == NULL || members >= handle->groups.blocks ||
                free_member(handle, pair->members, member, pair) != OK)
                return DAMAGED;
        }
        if (free_pair_if_empty(handle, reference) != OK)
            return DAMAGED;
    }
    return OK;
}
