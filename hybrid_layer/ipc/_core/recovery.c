/* SPDX-License-Identifier: BSD-3-Clause */
/* Makes free lists, buckets and counts anew from the authorities, after a death or damage. */
#include "recovery.h"

#include <string.h>

#include "blocks.h"
#include "channels.h"
#include "clock.h"
#include "counters.h"
#include "epochs.h"
#include "marks.h"
#include "memberships.h"
#include "records.h"
#include "shards.h"
#include "tallies.h"

/* What becomes of a record: KEEP it, DROP it alone, or CUT it off with all that follows, as it makes no sense. */
enum verdict { KEEP, DROP, CUT };

struct rebuild {
    struct handle *handle;
    struct marks messages, groups;
    uint64_t damaged;
    uint32_t *bucket;   /* the record that is looked at is in this bucket, */
    uint32_t reference; /* and has this number */
};

/* The field that links a record to the next one of its bucket is at the same place in those of both areas. */
_Static_assert(offsetof(struct group, bucket_next) == offsetof(struct channel, bucket_next), "shared field");

/* Shows each record of an area to `look`, which says what becomes of it. */
static void each_record(struct rebuild *rebuild, struct marks *marks,
                        enum verdict (*look)(struct rebuild *rebuild, void *record)) {
    struct area *area = marks->area;
    for (uint32_t bucket = 0; bucket <= area->bucket_mask; bucket++) {
        uint32_t *link = rebuild->bucket = &area->buckets[bucket];
        for (uint32_t steps = 0; *link != 0; steps++) {
            uint32_t reference = rebuild->reference = *link;
            struct group *record = reference < marks->limit ? block_raw(rebuild->handle, area, reference) : NULL;
            enum verdict verdict = record == NULL || steps > marks->limit ? CUT : look(rebuild, record);
            if (verdict == KEEP) {
                link = &record->bucket_next;
            } else if (verdict == DROP) {
                marks_remove(marks, reference);
                *link = record->bucket_next;
            } else {
                rebuild->damaged++;
                *link = 0;
            }
        }
    }
}

/* The slot of an inbox's process, NULL if that has gone. */
static struct slot *owner_of(struct handle *handle, const struct channel *channel) {
    uint32_t owner = *(const volatile uint32_t *)&channel->owner; /* once, as it is checked */
    if (owner == 0 || owner > SLOTS)
        return NULL;
    struct slot *slot = &handle->slots[owner - 1];
    return slot->published == channel->owner_generation + 1 ? slot : NULL;
}

/* First pass: which channels there are. */
static enum verdict keep_channel(struct rebuild *rebuild, void *record) {
    struct handle *handle = rebuild->handle;
    struct channel *channel = record;
    char name[NAME_MAX_LENGTH];
    bool is_new = marks_fresh(&rebuild->messages, rebuild->reference, KIND_CHANNEL) != NULL;
    size_t length = is_new ? channel_name(handle, channel, name) : 0;
    /* In a bucket where its name does not lead, it could never be removed. */
    if (length == 0 || channel_bucket(handle, name, length) != rebuild->bucket ||
        !marks_add(&rebuild->messages, rebuild->reference, blocks_for(sizeof channel->name, length), NULL))
        return CUT;
    channel->tail = channel->waiters = channel->waiters_tail = channel->pairs = 0;
    channel->unordered = 0;
    channel->owned_next = 0;
    if (name[length - 1] != '!') {
        channel->owner = 0;
        return KEEP;
    }
    struct slot *slot = owner_of(handle, channel);
    if (slot == NULL) /* the inbox of a process that has gone; nothing else reaches its messages and memberships */
        return DROP;
    channel->owned_next = slot->inboxes;
    slot->inboxes = rebuild->reference;
    handle->header->inboxes++;
    return KEEP;
}

/* Second pass: the records of the group area, which lie in their buckets in any order. */
static enum verdict keep_group_record(struct rebuild *rebuild, void *record) {
    struct handle *handle = rebuild->handle;
    struct group *group = record;
    struct pair *pair = record;
    struct member *member = record;
    uint32_t blocks = 1;
    if (marks_has(&rebuild->groups, rebuild->reference) ||
        record_bucket(handle, rebuild->reference) != rebuild->bucket ||
        (group->kind == KIND_GROUP && group->name_length == 0))
        return CUT;
    if (group->kind == KIND_GROUP) {
        blocks = blocks_for(sizeof group->name, group->name_length);
        group->pairs = 0;
        if (!record_is_sound(group)) /* not believed, which costs a command */
            record_clear(group);
    } else if (group->kind == KIND_PAIR) {
        pair->members = pair->live = pair->gone = pair->pending = 0;
        pair->group_next = pair->group_previous = pair->target_next = pair->target_previous = 0;
        pair->last_deadline = 0;
    } else {
        blocks = blocks_for(sizeof member->name, member->name_length);
        member->next = member->previous = 0;
    }
    return marks_add(&rebuild->groups, rebuild->reference, blocks, NULL) ? KEEP : CUT;
}

/* Further passes free what belongs to nothing, or to what nothing belongs. A pair, first: its group and channel are
 * there. */
static enum verdict keep_pair_of_both(struct rebuild *rebuild, void *record) {
    struct handle *handle = rebuild->handle;
    struct pair *pair = record;
    if (pair->kind != KIND_PAIR)
        return KEEP;
    bool has_both = group_at(handle, pair->group) != NULL && channel_at(handle, pair->target) != NULL &&
                    marks_has(&rebuild->groups, pair->group) && marks_has(&rebuild->messages, pair->target);
    return has_both ? KEEP : DROP;
}

/* A member that seems to have joined or left at a message of the future would get nothing until then: the number of the
 * last message was damaged. Now it gets what is sent from here on. */
static void repair_numbers(struct rebuild *rebuild, struct member *member) {
    uint64_t next = rebuild->handle->header->sequence + 1;
    if (member->joined > next || member->left > next)
        rebuild->damaged++;
    member_set(member, member->joined > next ? next : member->joined, member->left > next ? next : member->left,
               member->deadline);
}

/* A member whose own numbers were damaged is dropped: its process, if that lives, adds it again. */
static enum verdict link_member(struct rebuild *rebuild, void *record) {
    struct member *member = record;
    if (member->kind != KIND_MEMBER)
        return KEEP;
    struct pair *pair = pair_at(rebuild->handle, member->pair);
    if (pair == NULL || !marks_has(&rebuild->groups, member->pair))
        return DROP;
    if (!member_is_sound(member)) {
        rebuild->damaged++;
        return DROP;
    }
    repair_numbers(rebuild, member);
    member_link(rebuild->handle, rebuild->reference, member, pair);
    return KEEP;
}

/* Called once its members and entries are known. A process that died while it made the first member leaves a pair with
 * neither. */
static enum verdict link_pair(struct rebuild *rebuild, void *record) {
    struct pair *pair = record;
    if (pair->kind != KIND_PAIR)
        return KEEP;
    struct group *group = group_at(rebuild->handle, pair->group);
    struct channel *target = channel_at(rebuild->handle, pair->target);
    if (group == NULL || target == NULL || (pair->members == 0 && pair->pending == 0))
        return DROP;
    pair_link(rebuild->handle, rebuild->reference, pair, group, target);
    return KEEP;
}

static enum verdict keep_group_with_pairs(struct rebuild *rebuild, void *record) {
    struct group *group = record;
    (void)rebuild;
    if (group->kind != KIND_GROUP || group->pairs != 0)
        return KEEP;
    record_begin_idling(group);
    return record_lasts(group, now_ns()) ? KEEP : DROP;
}

/* Marks the payload if this is its first entry or loan. */
static bool keep_payload(struct rebuild *rebuild, uint32_t reference) {
    struct area *area = &rebuild->handle->messages;
    struct payload *payload = block_at(rebuild->handle, area, reference, KIND_PAYLOAD);
    if (payload == NULL || reference >= rebuild->messages.limit)
        return false;
    if (marks_has(&rebuild->messages, reference)) {
        payload->references++;
        return true;
    }
    payload->references = 1;
    return marks_add(&rebuild->messages, reference, blocks_for(sizeof payload->data, payload->size), &payload->tail);
}

static bool keep_message(struct rebuild *rebuild, uint32_t reference) {
    struct message *message = (struct message *)marks_fresh(&rebuild->messages, reference, KIND_MESSAGE);
    if (message == NULL)
        return false;
    size_t size = (size_t)message->local_length + message->size;
    return marks_add(&rebuild->messages, reference, blocks_for(sizeof message->data, size), &message->tail);
}

/* An entry is kept if its pair is there: without members no process gets it. */
static enum verdict keep_entry(struct rebuild *rebuild, uint32_t reference, struct entry *entry, uint32_t channel) {
    struct handle *handle = rebuild->handle;
    struct pair *pair = NULL;
    if (entry->chain != 0 || entry->payload == reference)
        return CUT;
    if ((entry->pair != 0) != (((struct channel *)block_raw(handle, &handle->messages, channel))->owner != 0)) {
        rebuild->damaged++; /* no process could tell whose it is */
        return DROP;
    }
    if (entry->pair != 0) {
        pair = pair_at(handle, entry->pair);
        if (pair == NULL || !marks_has(&rebuild->groups, entry->pair) || pair->target != channel)
            return DROP;
    }
    if (!marks_add(&rebuild->messages, reference, 1, NULL))
        return CUT;
    if (!keep_payload(rebuild, entry->payload)) {
        marks_remove(&rebuild->messages, reference);
        return CUT;
    }
    if (entry->sequence > handle->header->sequence) { /* as in repair_numbers */
        entry->sequence = handle->header->sequence;
        rebuild->damaged++;
    }
    if (pair != NULL)
        pair->pending++;
    return KEEP;
}

/* Walks one queue; what follows inconsistent data is cut off. */
static enum verdict rebuild_queue(struct rebuild *rebuild, void *record) {
    struct channel *channel = record;
    uint32_t *link = &channel->head, before = channel->count;
    uint64_t deadline = 0;
    channel->count = 0;
    for (uint32_t steps = 0; *link != 0; steps++) {
        uint32_t reference = *link;
        struct entry *entry = (struct entry *)marks_fresh(&rebuild->messages, reference, KIND_ENTRY);
        enum verdict verdict = entry != NULL ? keep_entry(rebuild, reference, entry, rebuild->reference)
                               : keep_message(rebuild, reference) ? KEEP
                                                                  : CUT;
        if (verdict == CUT || steps > rebuild->messages.limit) {
            uint32_t missing = before - channel->count; /* the count may be what is wrong */
            rebuild->damaged += missing > 0 && missing <= rebuild->messages.limit ? missing : 1;
            *link = 0;
            break;
        }
        struct message *message = block_raw(rebuild->handle, &rebuild->handle->messages, reference);
        if (verdict == DROP) {
            *link = message->next;
            continue;
        }
        if (message->deadline < deadline)
            channel->unordered = 1;
        deadline = message->deadline;
        channel->tail = reference;
        channel->count++;
        link = &message->next;
    }
    return KEEP;
}

static void rebuild_loans(struct rebuild *rebuild) {
    struct handle *handle = rebuild->handle;
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        for (uint32_t loan = 0; loan < LOANS; loan++) {
            uint32_t reference = handle->slots[slot].loans[loan].block;
            if (reference == 0)
                continue;
            /* A message that is also in a queue was linked there last; the queue has it. */
            if (!handle->slots[slot].published || reference >= rebuild->messages.limit ||
                !(block_at(handle, &handle->messages, reference, KIND_PAYLOAD) != NULL
                      ? keep_payload(rebuild, reference)
                      : keep_message(rebuild, reference)))
                commit(&handle->slots[slot].loans[loan].block, 0);
        }
}

/* Last: channels that nothing keeps in being, then the free chains. */
static enum verdict keep_busy_channel(struct rebuild *rebuild, void *record) {
    struct channel *channel = record;
    (void)rebuild;
    return channel->head == 0 && channel->pairs == 0 && channel->owner == 0 ? DROP : KEEP;
}

/* Each position moves by one store, so one that contradicts its check was damaged. */
static void check_positions(struct rebuild *rebuild) {
    for (uint32_t number = 0; number < REMOTE_SHARDS; number++) {
        struct shard *shard = &rebuild->handle->shards[number];
        struct position position;
        if (shard->at == 0 || position_read(shard, &position))
            continue;
        shard->at = 0;
        rebuild->damaged++;
    }
}

static void rebuild_books(const struct marks *marks) {
    struct area_books *books = marks->area->books;
    books->free_head = books->free_count = 0;
    for (uint32_t reference = marks->highest; reference > 0; reference--) {
        if (marks_has(marks, reference))
            continue;
        struct block *block = block_raw(marks->handle, marks->area, reference);
        block->kind = KIND_FREE;
        block->chain = books->free_head;
        books->free_head = reference;
        books->free_count++;
    }
    blocks_set_fresh(books, marks->highest + 1);
}

bool recovery_rebuild(struct handle *handle) {
    struct rebuild rebuild = {.handle = handle};
    /* Cleared before anything is read: the next owner finds what is marked from here on. A process that was taken for
     * dead although it lives may still be storing, and marks that only when it releases the lock. */
    bool was_marked = atomic_exchange(&handle->header->damaged, 0) != 0;
    bool opened = marks_open(&rebuild.messages, handle, &handle->messages) &&
                  marks_open(&rebuild.groups, handle, &handle->groups);
    if (opened) {
        handle->header->slots_used = SLOTS;
        handle->header->inboxes = 0;
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            handle->slots[slot].inboxes = 0;
            for (uint32_t loop = 0; loop < LOOPS; loop++) {
                struct loop_slot *waiting = &handle->slots[slot].loops[loop];
                waiting->waiters = waiting->ready = waiting->ready_tail = 0;
            }
        }
        if (handle->header->sequence > UINT64_MAX / 2) /* no site has sent so many messages */
            handle->header->sequence = 0;
        each_record(&rebuild, &rebuild.messages, keep_channel);
        each_record(&rebuild, &rebuild.groups, keep_group_record);
        each_record(&rebuild, &rebuild.groups, keep_pair_of_both);
        each_record(&rebuild, &rebuild.groups, link_member);
        each_record(&rebuild, &rebuild.messages, rebuild_queue);
        rebuild_loans(&rebuild);
        each_record(&rebuild, &rebuild.groups, link_pair);
        each_record(&rebuild, &rebuild.groups, keep_group_with_pairs);
        each_record(&rebuild, &rebuild.messages, keep_busy_channel);
        rebuild_books(&rebuild.messages);
        rebuild_books(&rebuild.groups);
        check_positions(&rebuild);
        tallies_repair(handle);
        if (epoch_is_damaged(handle->header)) {
            epoch_repair(handle->header);
            rebuild.damaged++;
        }
        if (rebuild.damaged != 0)
            shards_pause(handle->header);
        count(handle, COUNT_DAMAGED, rebuild.damaged);
        atomic_fetch_add(&handle->lost, rebuild.damaged);
        if (rebuild.damaged != 0 || was_marked) {
            count(handle, COUNT_REPAIRS, 1);
            atomic_fetch_add(&handle->repairs, 1);
        }
        atomic_fetch_add(&handle->header->rebuilds, 1);
        atomic_store(&handle->wake_everybody, true);
    }
    marks_close(&rebuild.messages);
    marks_close(&rebuild.groups);
    return opened;
}
