#include "groups.h"

#include <string.h>

#include "blocks.h"
#include "hash.h"

#define GROUP_NAME offsetof(struct group, name)
#define MEMBER_NAME offsetof(struct member, name)

static struct group *group_at(struct handle *handle, uint32_t reference) {
    return block_at(handle, &handle->groups, reference, KIND_GROUP);
}

static struct pair *pair_at(struct handle *handle, uint32_t reference) {
    return block_at(handle, &handle->groups, reference, KIND_PAIR);
}

static struct member *member_at(struct handle *handle, uint32_t reference) {
    return block_at(handle, &handle->groups, reference, KIND_MEMBER);
}

static _Atomic uint32_t *bucket_of(struct handle *handle, uint64_t hash) {
    return &handle->groups.buckets[hash & handle->groups.bucket_mask];
}

_Atomic uint32_t *group_bucket(struct handle *handle, const char *name, size_t length) {
    return bucket_of(handle, hash_bytes(handle->seed, name, length));
}

_Atomic uint32_t *pair_bucket(struct handle *handle, uint32_t group, uint32_t target) {
    uint32_t key[2] = {group, target};
    return bucket_of(handle, hash_bytes(handle->seed, key, sizeof key));
}

_Atomic uint32_t *member_bucket(struct handle *handle, uint32_t pair, const char *name, size_t length) {
    char key[sizeof pair + NAME_MAX_LENGTH];
    memcpy(key, &pair, sizeof pair);
    memcpy(key + sizeof pair, name, length);
    return bucket_of(handle, hash_bytes(handle->seed, key, sizeof pair + length));
}

/* The field that links a record of any kind to the next one of its bucket is at the same place. */
_Static_assert(offsetof(struct group, bucket_next) == offsetof(struct pair, bucket_next), "shared field");
_Static_assert(offsetof(struct group, bucket_next) == offsetof(struct member, bucket_next), "shared field");

static struct group *record_at(struct handle *handle, uint32_t reference) {
    struct block *block = block_raw(handle, &handle->groups, reference);
    return block != NULL && block->kind >= KIND_GROUP && block->kind <= KIND_MEMBER ? (struct group *)block : NULL;
}

static void publish(_Atomic uint32_t *bucket, uint32_t reference, uint32_t *bucket_next) {
    *bucket_next = atomic_load_explicit(bucket, memory_order_relaxed);
    commit((uint32_t *)bucket, reference);
}

static enum status unpublish(struct handle *handle, _Atomic uint32_t *bucket, uint32_t reference) {
    uint32_t *link = (uint32_t *)bucket;
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

static enum status find_group(struct handle *handle, struct name name, uint32_t *reference) {
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

static enum status find_pair(struct handle *handle, uint32_t group, uint32_t target, uint32_t *reference) {
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

/* The membership that has not left; a channel that left and joined again may have older ones, too. */
static enum status find_member(struct handle *handle, uint32_t pair, struct name local, bool has_left, uint32_t *reference) {
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

static enum status create_group(struct handle *handle, struct name name, uint32_t *reference) {
    uint32_t blocks = blocks_for(&handle->groups, sizeof ((struct group *)0)->name, name.length);
    enum status status = blocks_take(handle, &handle->groups, blocks, reference, NULL);
    if (status != OK)
        return status;
    struct group *group = (struct group *)block_raw(handle, &handle->groups, *reference);
    group->name_length = (uint8_t)name.length;
    group->pairs = 0;
    if (!data_write(handle, &handle->groups, *reference, GROUP_NAME, 0, name.bytes, name.length))
        return DAMAGED;
    group->kind = KIND_GROUP;
    publish(group_bucket(handle, name.bytes, name.length), *reference, &group->bucket_next);
    return OK;
}

void pair_link(struct handle *handle, uint32_t reference, struct pair *pair, struct group *group, struct channel *target) {
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

static enum status create_pair(struct handle *handle, uint32_t group, uint32_t target, uint32_t *reference) {
    enum status status = blocks_take(handle, &handle->groups, 1, reference, NULL);
    if (status != OK)
        return status;
    struct pair *pair = (struct pair *)block_raw(handle, &handle->groups, *reference);
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

static enum status create_member(struct handle *handle, uint32_t pair_reference, struct name local, uint64_t deadline) {
    uint32_t blocks = blocks_for(&handle->groups, sizeof ((struct member *)0)->name, local.length);
    uint32_t reference;
    enum status status = blocks_take(handle, &handle->groups, blocks, &reference, NULL);
    if (status != OK)
        return status;
    struct member *member = (struct member *)block_raw(handle, &handle->groups, reference);
    struct pair *pair = pair_at(handle, pair_reference);
    if (pair == NULL)
        return DAMAGED;
    member->name_length = (uint8_t)local.length;
    member->pair = pair_reference;
    member->joined = handle->header->sequence + 1;
    member->left = 0;
    member->deadline = deadline;
    if (!data_write(handle, &handle->groups, reference, MEMBER_NAME, 0, local.bytes, local.length))
        return DAMAGED;
    member->kind = KIND_MEMBER;
    member_link(handle, reference, member, pair);
    publish(member_bucket(handle, pair_reference, local.bytes, local.length), reference, &member->bucket_next);
    return OK;
}

static enum status free_member(struct handle *handle, uint32_t reference, struct member *member, struct pair *pair) {
    char name[NAME_MAX_LENGTH];
    if (member->name_length > NAME_MAX_LENGTH ||
        !data_read(handle, &handle->groups, reference, MEMBER_NAME, 0, name, member->name_length))
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
    return unpublish(handle, member_bucket(handle, member->pair, name, member->name_length), reference);
}

static enum status free_group_if_empty(struct handle *handle, uint32_t reference) {
    struct group *group = group_at(handle, reference);
    char name[NAME_MAX_LENGTH];
    if (group == NULL)
        return DAMAGED;
    if (group->pairs != 0)
        return OK;
    if (group->name_length > NAME_MAX_LENGTH ||
        !data_read(handle, &handle->groups, reference, GROUP_NAME, 0, name, group->name_length))
        return DAMAGED;
    return unpublish(handle, group_bucket(handle, name, group->name_length), reference);
}

/* Frees a pair that nobody is a member of and no entry names, and its group if that was the last. The target stays: the caller
 * may be at work on it. */
static enum status free_pair_if_empty(struct handle *handle, uint32_t reference) {
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

/* Undoes what a group_add that ran out of memory has made. */
static enum status undo_add(struct handle *handle, enum status status, uint32_t group, uint32_t pair, uint32_t target) {
    if (status == DAMAGED)
        return status;
    if (pair != 0) {
        if (free_pair_if_empty(handle, pair) != OK)
            return DAMAGED;
    } else if (group != 0 && free_group_if_empty(handle, group) != OK) {
        return DAMAGED;
    }
    return target != 0 && channel_release(handle, target) != OK ? DAMAGED : status;
}

/* Ends a membership now. Messages that are on their way to it still arrive. */
static enum status end_member(struct handle *handle, uint32_t reference, struct member *member, struct pair *pair) {
    if (pair->pending == 0)
        return free_member(handle, reference, member, pair);
    if (member->left == 0) {
        member->left = handle->header->sequence + 1;
        pair->live--;
        pair->gone++;
    }
    return OK;
}

enum status group_add(struct handle *handle, struct name group_name, struct name target_name, struct name local,
                      uint64_t expiry_ns) {
    uint64_t deadline = now_ns() + expiry_ns;
    uint32_t target = 0, group = 0, pair_reference = 0, member_reference;
    bool is_inbox = target_name.bytes[target_name.length - 1] == '!';
    enum status status = is_inbox ? channel_find(handle, target_name, &target)
                                  : channel_find_or_create(handle, target_name, &target);
    if (status != OK)
        return status == EMPTY ? OK : status;
    status = find_group(handle, group_name, &group);
    if (status == EMPTY)
        status = create_group(handle, group_name, &group);
    if (status != OK)
        return undo_add(handle, status, 0, 0, target);
    status = find_pair(handle, group, target, &pair_reference);
    if (status == EMPTY)
        status = create_pair(handle, group, target, &pair_reference);
    if (status != OK)
        return undo_add(handle, status, group, 0, target);
    struct pair *pair = pair_at(handle, pair_reference);
    if (pair == NULL)
        return DAMAGED;
    status = find_member(handle, pair_reference, local, false, &member_reference);
    if (status == OK && member_at(handle, member_reference)->deadline <= now_ns()) {
        /* It had expired: what was sent since is not for it, what was sent before is still on its way. */
        if (end_member(handle, member_reference, member_at(handle, member_reference), pair) != OK)
            return DAMAGED;
        status = EMPTY;
    } else if (status == EMPTY) {
        /* A membership that ended since the last group send is as good as one that never ended. */
        status = find_member(handle, pair_reference, local, true, &member_reference);
        if (status == OK && (member_at(handle, member_reference)->left <= handle->header->sequence ||
                             member_at(handle, member_reference)->deadline <= now_ns()))
            status = EMPTY;
        if (status == OK) {
            member_at(handle, member_reference)->left = 0;
            pair->live++;
            pair->gone--;
        }
    }
    if (status == EMPTY) {
        status = create_member(handle, pair_reference, local, deadline);
        return status == OK ? OK : undo_add(handle, status, group, pair_reference, target);
    }
    if (status != OK)
        return status;
    struct member *member = member_at(handle, member_reference);
    member->deadline = deadline;
    if (deadline > pair->last_deadline || (pair->live == 1 && pair->gone == 0))
        pair->last_deadline = deadline;
    return OK;
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
    struct member *member = member_at(handle, member_reference);
    if (pair == NULL || member == NULL || end_member(handle, member_reference, member, pair) != OK ||
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
        if (member->left == 0 && member->deadline <= now) {
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

static uint32_t capacity_for(const struct group_send *send, struct handle *handle, uint32_t target, struct channel *channel) {
    for (size_t i = 0; i < send->others_count; i++) {
        const struct name *name = &send->others[i].target;
        if (channel->name_length == name->length &&
            data_equals(handle, &handle->messages, target, offsetof(struct channel, name), name->bytes, name->length))
            return send->others[i].capacity;
    }
    return send->capacity;
}

static enum status send_to_pair(struct handle *handle, const struct group_send *send, uint32_t pair_reference,
                                struct pair *pair, uint32_t payload_reference, uint64_t now, struct rings *rings) {
    struct channel *channel = channel_at(handle, pair->target);
    struct payload *payload = block_at(handle, &handle->messages, payload_reference, KIND_PAYLOAD);
    uint32_t reference;
    if (channel == NULL || payload == NULL)
        return DAMAGED;
    enum status status = queue_make_room(handle, channel, capacity_for(send, handle, pair->target, channel), now);
    if (status == FULL && channel->owner != 0 &&
        waiters_reap_if_dead(handle, channel->owner - 1, channel->owner_generation))
        return GONE; /* and the pair with it */
    if (status == OK)
        status = blocks_take(handle, &handle->messages, 1, &reference, NULL);
    if (status == FULL || status == NO_MEMORY || status == GROW_MESSAGES)
        return status;
    if (status != OK)
        return DAMAGED;
    struct entry *entry = (struct entry *)block_raw(handle, &handle->messages, reference);
    *entry = (struct entry){
        .kind = KIND_ENTRY,
        .payload = payload_reference,
        .pair = channel->owner != 0 ? pair_reference : 0,
        .deadline = now + send->expiry_ns,
        .sequence = handle->header->sequence,
        .sent = now,
    };
    payload->references++;
    if (entry->pair != 0)
        pair->pending++;
    queue_append(handle, channel, reference);
    return waiters_wake(handle, pair->target, rings);
}

/* Makes sure that one entry for each target fits, so that the send need not stop for memory half-way. */
static enum status make_sure_of_memory(struct handle *handle, struct group *group, size_t payload_blocks) {
    size_t needed = payload_blocks;
    uint32_t at = group->pairs;
    for (uint32_t steps = 0; at != 0; steps++) {
        struct pair *pair = pair_at(handle, at);
        if (pair == NULL || steps >= handle->groups.blocks)
            return DAMAGED;
        needed++;
        at = pair->group_next;
    }
    struct area_books *books = handle->messages.books;
    uint32_t reserved = atomic_load(&books->reserved);
    uint32_t untouched = reserved > books->fresh ? reserved - books->fresh : 0;
    return needed <= (size_t)books->free_count + untouched ? OK : GROW_MESSAGES;
}

enum status group_send(struct handle *handle, const struct group_send *send, struct rings *rings) {
    uint32_t group_reference, payload;
    uint64_t now = now_ns();
    enum status status = find_group(handle, send->group, &group_reference);
    if (status == EMPTY)
        return send->held == 0 || payload_release(handle, send->held) ? OK : DAMAGED;
    if (status != OK)
        return status;
    struct group *group = group_at(handle, group_reference);
    size_t payload_blocks =
        send->held != 0 ? 0 : blocks_for(&handle->messages, sizeof ((struct payload *)0)->data, send->size);
    status = make_sure_of_memory(handle, group, payload_blocks);
    if (status == DAMAGED ||
        (status == GROW_MESSAGES && atomic_load(&handle->messages.books->reserved) < handle->messages.blocks))
        return status;
    status = payload_new(handle, send->payload, send->size, send->held, &payload);
    if (status == GROW_MESSAGES)
        status = NO_MEMORY;
    if (status != OK)
        return status;
    handle->header->sequence++;
    uint32_t at = group->pairs;
    for (uint32_t steps = 0; at != 0; steps++) {
        struct pair *pair = pair_at(handle, at);
        if (pair == NULL || steps >= handle->groups.blocks)
            return DAMAGED;
        uint32_t next = pair->group_next;
        if (pair->last_deadline <= now) {
            uint32_t target = pair->target;
            if (expire_members(handle, pair, now) != OK || free_pair_if_empty(handle, at) != OK ||
                channel_release(handle, target) != OK)
                return DAMAGED;
        } else if (pair->live != 0) {
            status = send_to_pair(handle, send, at, pair, payload, now, rings);
            if (status == DAMAGED)
                return DAMAGED;
            if (status != OK)
                count(handle, status == FULL ? COUNT_FULL : status == GONE ? COUNT_DEAD : COUNT_MEMORY, 1);
            /* Looking for whom to wake may have found dead processes, and freed their pairs: this one, the next one, both. */
            struct pair *still = pair_at(handle, at);
            if (still != NULL && still->group == group_reference) {
                next = still->group_next;
            } else {
                still = next != 0 ? pair_at(handle, next) : NULL;
                if (still == NULL || still->group != group_reference)
                    break;
            }
        }
        at = next;
    }
    return payload_release(handle, payload) ? OK : DAMAGED;
}

enum status group_targets(struct handle *handle, struct name group_name, char *names, size_t size, size_t *used) {
    uint32_t reference;
    *used = 0;
    enum status status = find_group(handle, group_name, &reference);
    if (status != OK)
        return status == EMPTY ? OK : status;
    uint32_t at = group_at(handle, reference)->pairs;
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

enum status group_recipients(struct handle *handle, const struct entry *entry, char *names, size_t size, size_t *used,
                             uint32_t *members) {
    struct pair *pair = pair_at(handle, entry->pair);
    *used = 0;
    *members = 0;
    if (pair == NULL)
        return DAMAGED;
    uint32_t at = pair->members;
    for (uint32_t steps = 0; at != 0; steps++) {
        struct member *member = member_at(handle, at);
        if (member == NULL || steps >= handle->groups.blocks || member->name_length > NAME_MAX_LENGTH)
            return DAMAGED;
        if (member->joined <= entry->sequence && (member->left == 0 || entry->sequence < member->left) &&
            entry->sent < member->deadline) {
            if (*used + member->name_length + 1 <= size) {
                names[*used] = (char)member->name_length;
                if (!data_read(handle, &handle->groups, at, MEMBER_NAME, 0, names + *used + 1, member->name_length))
                    return DAMAGED;
            }
            *used += (size_t)member->name_length + 1;
            (*members)++;
        }
        at = member->next;
    }
    return *used <= size ? OK : NO_SPACE;
}

bool groups_entry_gone(struct handle *handle, const struct entry *entry) {
    if (entry->pair == 0)
        return true;
    struct pair *pair = pair_at(handle, entry->pair);
    struct channel *target = pair != NULL ? channel_at(handle, pair->target) : NULL;
    if (target == NULL || pair->pending == 0)
        return false;
    pair->pending--;
    /* Later entries have higher numbers, and with none left nobody who left can get anything. In a queue whose deadlines do not
     * rise this entry may have been dropped before an older one. */
    uint64_t past = pair->pending == 0 ? UINT64_MAX : target->unordered ? 0 : entry->sequence + 1;
    if (pair->gone != 0 && free_left(handle, pair, past) != OK)
        return false;
    return free_pair_if_empty(handle, entry->pair) == OK;
}

enum status groups_forget_target(struct handle *handle, struct channel *target) {
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
            struct pair *pair = (struct pair *)record;
            if (record->kind == KIND_PAIR && pair->last_deadline <= now) {
                uint32_t target = pair->target;
                if (expire_members(handle, pair, now) != OK || free_pair_if_empty(handle, at) != OK ||
                    channel_release(handle, target) != OK)
                    return DAMAGED;
                break; /* records of this bucket may have gone with it; the rest is for the next round */
            }
            at = record->bucket_next;
        }
    }
    return OK;
}
