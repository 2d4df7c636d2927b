/* Makes free lists, buckets and counts anew from the authorities, after a death or damage. */
#include "recovery.h"

#include <string.h>

#include "blocks.h"
#include "channels.h"
#include "counters.h"
#include "marks.h"
#include "memberships.h"

struct rebuild {
    struct handle *handle;
    struct marks messages, groups;
    uint64_t damaged;
};

/* The slot of an inbox's process, NULL if that has gone. */
static struct slot *owner_of(struct handle *handle, const struct channel *channel) {
    uint32_t owner = *(const volatile uint32_t *)&channel->owner; /* once, as it is checked */
    if (owner == 0 || owner > SLOTS)
        return NULL;
    struct slot *slot = &handle->slots[owner - 1];
    return slot->published == channel->owner_generation + 1 ? slot : NULL;
}

/* First pass: which channels there are. */
static void rebuild_channels(struct rebuild *rebuild) {
    struct handle *handle = rebuild->handle;
    struct area *area = &handle->messages;
    for (uint32_t bucket = 0; bucket <= area->bucket_mask; bucket++) {
        uint32_t *link = (uint32_t *)&area->buckets[bucket];
        for (uint32_t steps = 0; *link != 0; steps++) {
            uint32_t reference = *link, last;
            char name[NAME_MAX_LENGTH];
            struct channel *channel = (struct channel *)marks_fresh(&rebuild->messages, reference, KIND_CHANNEL);
            size_t length = channel != NULL ? channel_name(handle, channel, name) : 0;
            /* In a bucket where its name does not lead, it could never be removed. */
            if (length == 0 || channel_bucket(handle, name, length) != (uint32_t *)&area->buckets[bucket] ||
                steps > rebuild->messages.limit ||
                !marks_add(&rebuild->messages, reference, blocks_for(area, sizeof channel->name, length), &last)) {
                rebuild->damaged++;
                *link = 0;
                break;
            }
            channel->tail = channel->waiters = channel->waiters_tail = channel->pairs = 0;
            channel->unordered = 0;
            channel->owned_next = 0;
            struct slot *slot = owner_of(handle, channel);
            if (name[length - 1] != '!') {
                channel->owner = 0;
            } else if (slot != NULL) {
                channel->owned_next = slot->inboxes;
                slot->inboxes = reference;
            } else { /* the inbox of a process that has gone; nothing else reaches its messages and memberships */
                marks_remove(&rebuild->messages, reference);
                *link = channel->bucket_next;
                continue;
            }
            link = &channel->bucket_next;
        }
    }
}

/* Second pass: the records of the group area, which lie in their buckets in any order. */
static void rebuild_group_records(struct rebuild *rebuild) {
    struct handle *handle = rebuild->handle;
    struct area *area = &handle->groups;
    for (uint32_t bucket = 0; bucket <= area->bucket_mask; bucket++) {
        uint32_t *link = (uint32_t *)&area->buckets[bucket];
        while (*link != 0) {
            uint32_t reference = *link, last, blocks = 1;
            struct block *block = reference < rebuild->groups.limit ? block_raw(handle, area, reference) : NULL;
            struct group *group = (struct group *)block; /* bucket_next is at the same place in all three */
            bool sound = block != NULL && !marks_has(&rebuild->groups, reference);
            if (sound && block->kind == KIND_GROUP) {
                sound = group->name_length > 0 && group->name_length <= NAME_MAX_LENGTH;
                blocks = blocks_for(area, sizeof group->name, group->name_length);
                group->pairs = 0;
            } else if (sound && block->kind == KIND_PAIR) {
                struct pair *pair = (struct pair *)block;
                pair->members = pair->live = pair->gone = pair->pending = 0;
                pair->group_next = pair->group_previous = pair->target_next = pair->target_previous = 0;
                pair->last_deadline = 0;
            } else if (sound && block->kind == KIND_MEMBER) {
                struct member *member = (struct member *)block;
                sound = member->name_length <= NAME_MAX_LENGTH;
                blocks = blocks_for(area, sizeof member->name, member->name_length);
                member->next = member->previous = 0;
            } else {
                sound = false;
            }
            if (!sound || record_bucket(handle, reference) != &area->buckets[bucket] ||
                !marks_add(&rebuild->groups, reference, blocks, &last)) {
                rebuild->damaged++;
                *link = 0;
                break;
            }
            link = &group->bucket_next;
        }
    }
}

/* The group and the channel of a pair are there. */
static bool pair_has_both(struct rebuild *rebuild, uint32_t reference, struct block *record) {
    struct handle *handle = rebuild->handle;
    struct pair *pair = (struct pair *)record;
    (void)reference;
    return block_at(handle, &handle->groups, pair->group, KIND_GROUP) != NULL &&
           channel_at(handle, pair->target) != NULL && marks_has(&rebuild->groups, pair->group) &&
           marks_has(&rebuild->messages, pair->target);
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
static bool link_member(struct rebuild *rebuild, uint32_t reference, struct block *record) {
    struct member *member = (struct member *)record;
    struct pair *pair = block_at(rebuild->handle, &rebuild->handle->groups, member->pair, KIND_PAIR);
    if (pair == NULL || !marks_has(&rebuild->groups, member->pair))
        return false;
    if (!member_is_sound(member)) {
        rebuild->damaged++;
        return false;
    }
    repair_numbers(rebuild, member);
    member_link(rebuild->handle, reference, member, pair);
    return true;
}

/* Called once its members and entries are known. A process that died while it made the first member leaves a pair with
 * neither. */
static bool link_pair(struct rebuild *rebuild, uint32_t reference, struct block *record) {
    struct handle *handle = rebuild->handle;
    struct pair *pair = (struct pair *)record;
    struct group *group = block_at(handle, &handle->groups, pair->group, KIND_GROUP);
    struct channel *target = channel_at(handle, pair->target);
    if (group == NULL || target == NULL || (pair->members == 0 && pair->pending == 0))
        return false;
    pair_link(handle, reference, pair, group, target);
    return true;
}

static bool group_has_pairs(struct rebuild *rebuild, uint32_t reference, struct block *record) {
    (void)rebuild, (void)reference;
    return ((struct group *)record)->pairs != 0;
}

/* Frees the records of one kind that are not to be kept: they belong to nothing, or nothing belongs to them. */
static void rebuild_group_lists(struct rebuild *rebuild, uint8_t kind,
                                bool (*keep)(struct rebuild *, uint32_t, struct block *)) {
    struct area *area = &rebuild->handle->groups;
    for (uint32_t bucket = 0; bucket <= area->bucket_mask; bucket++) {
        uint32_t *link = (uint32_t *)&area->buckets[bucket];
        for (uint32_t steps = 0; *link != 0; steps++) {
            uint32_t reference = *link;
            struct block *block = block_raw(rebuild->handle, area, reference);
            /* All was sound a moment ago: some process goes on with stray writes. */
            if (block == NULL || steps > rebuild->groups.limit) {
                *link = 0;
                break;
            }
            if (block->kind != kind || keep(rebuild, reference, block)) {
                link = &((struct group *)block)->bucket_next;
            } else {
                marks_remove(&rebuild->groups, reference);
                *link = ((struct group *)block)->bucket_next;
            }
        }
    }
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
    return marks_add(&rebuild->messages, reference, blocks_for(area, sizeof payload->data, payload->size),
                     &payload->tail);
}

static bool keep_message(struct rebuild *rebuild, uint32_t reference) {
    struct area *area = &rebuild->handle->messages;
    struct message *message = (struct message *)marks_fresh(&rebuild->messages, reference, KIND_MESSAGE);
    if (message == NULL)
        return false;
    size_t size = (size_t)message->local_length + message->size;
    return marks_add(&rebuild->messages, reference, blocks_for(area, sizeof message->data, size), &message->tail);
}

/* An entry is kept if its pair is there: without members no process gets it. */
static bool keep_entry(struct rebuild *rebuild, uint32_t reference, struct entry *entry, uint32_t channel,
                       bool *is_sound) {
    struct handle *handle = rebuild->handle;
    uint32_t last;
    *is_sound = entry->chain == 0 && entry->payload != reference;
    if (!*is_sound)
        return false;
    struct pair *pair = NULL;
    if (entry->pair != 0) {
        pair = block_at(handle, &handle->groups, entry->pair, KIND_PAIR);
        if (pair == NULL || !marks_has(&rebuild->groups, entry->pair) || pair->target != channel)
            return false;
    }
    *is_sound = marks_add(&rebuild->messages, reference, 1, &last);
    if (*is_sound && !keep_payload(rebuild, entry->payload)) {
        marks_remove(&rebuild->messages, reference);
        *is_sound = false;
    }
    if (!*is_sound)
        return false;
    if (entry->sequence > handle->header->sequence) { /* as in repair_numbers */
        entry->sequence = handle->header->sequence;
        rebuild->damaged++;
    }
    if (pair != NULL)
        pair->pending++;
    return true;
}

/* Walks one queue; what follows inconsistent data is cut off. */
static void rebuild_queue(struct rebuild *rebuild, uint32_t channel_reference, struct channel *channel) {
    struct handle *handle = rebuild->handle;
    uint32_t *link = &channel->head, before = channel->count;
    uint64_t deadline = 0;
    channel->count = 0;
    for (uint32_t steps = 0; *link != 0; steps++) {
        uint32_t reference = *link;
        struct entry *entry = (struct entry *)marks_fresh(&rebuild->messages, reference, KIND_ENTRY);
        bool is_sound = true;
        bool keep = entry != NULL ? keep_entry(rebuild, reference, entry, channel_reference, &is_sound)
                                  : (is_sound = keep_message(rebuild, reference));
        if (!is_sound || steps > rebuild->messages.limit) {
            uint32_t missing = before - channel->count; /* the count may be what is wrong */
            rebuild->damaged += missing > 0 && missing <= rebuild->messages.limit ? missing : 1;
            *link = 0;
            return;
        }
        struct message *message = (struct message *)block_raw(handle, &handle->messages, reference);
        if (!keep) {
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
}

static void rebuild_queues(struct rebuild *rebuild) {
    struct area *area = &rebuild->handle->messages;
    for (uint32_t bucket = 0; bucket <= area->bucket_mask; bucket++)
        for (uint32_t at = area->buckets[bucket], steps = 0; at != 0; steps++) {
            struct channel *channel = channel_at(rebuild->handle, at);
            if (channel == NULL || steps > rebuild->messages.limit)
                break;
            rebuild_queue(rebuild, at, channel);
            at = channel->bucket_next;
        }
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
static void free_idle_channels(struct rebuild *rebuild) {
    struct area *area = &rebuild->handle->messages;
    for (uint32_t bucket = 0; bucket <= area->bucket_mask; bucket++) {
        uint32_t *link = (uint32_t *)&area->buckets[bucket];
        for (uint32_t steps = 0; *link != 0; steps++) {
            struct channel *channel = channel_at(rebuild->handle, *link);
            if (channel == NULL || steps > rebuild->messages.limit)
                break;
            if (channel->head == 0 && channel->pairs == 0 && channel->owner == 0) {
                marks_remove(&rebuild->messages, *link);
                *link = channel->bucket_next;
            } else {
                link = &channel->bucket_next;
            }
        }
    }
}

static void rebuild_books(struct rebuild *rebuild, struct area *area, struct marks *marks) {
    struct area_books *books = area->books;
    books->free_head = books->free_count = 0;
    for (uint32_t reference = marks->highest; reference > 0; reference--) {
        if (marks_has(marks, reference))
            continue;
        struct block *block = block_raw(rebuild->handle, area, reference);
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
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            handle->slots[slot].inboxes = 0;
            for (uint32_t loop = 0; loop < LOOPS; loop++) {
                struct loop_slot *waiting = &handle->slots[slot].loops[loop];
                waiting->waiters = waiting->ready = waiting->ready_tail = 0;
            }
        }
        if (handle->header->sequence > UINT64_MAX / 2) /* no site has sent so many messages */
            handle->header->sequence = 0;
        rebuild_channels(&rebuild);
        rebuild_group_records(&rebuild);
        rebuild_group_lists(&rebuild, KIND_PAIR, pair_has_both);
        rebuild_group_lists(&rebuild, KIND_MEMBER, link_member);
        rebuild_queues(&rebuild);
        rebuild_loans(&rebuild);
        rebuild_group_lists(&rebuild, KIND_PAIR, link_pair);
        rebuild_group_lists(&rebuild, KIND_GROUP, group_has_pairs);
        free_idle_channels(&rebuild);
        rebuild_books(&rebuild, &handle->messages, &rebuild.messages);
        rebuild_books(&rebuild, &handle->groups, &rebuild.groups);
        count(handle, COUNT_DAMAGED, rebuild.damaged);
        atomic_fetch_add(&handle->lost, rebuild.damaged);
        if (rebuild.damaged != 0 || was_marked)
            atomic_fetch_add(&handle->repairs, 1);
        atomic_fetch_add(&handle->header->rebuilds, 1);
        atomic_store(&handle->wake_everybody, true);
    }
    marks_close(&rebuild.messages);
    marks_close(&rebuild.groups);
    return opened;
}
