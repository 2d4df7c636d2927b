#include "recovery.h"

#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "channels.h"
#include "memberships.h"

/* Blocks that an authority has been found to reach, one bit each, in private memory. */
struct marks {
    unsigned char *bits;
    uint32_t limit;   /* blocks below this number have memory behind them */
    uint32_t highest; /* the highest one reached */
};

struct rebuild {
    struct handle *handle;
    struct marks messages, groups;
    uint64_t damaged;
};

/* How many blocks there is memory for. What this process knows of is certain; more is asked of the kernel. */
static uint32_t repair_reserved(struct handle *handle, struct area *area) {
    uint32_t known = atomic_load(&area->reserved), reserved = atomic_load(&area->books->reserved);
    if (reserved > area->blocks)
        reserved = area->blocks;
    if (reserved < known)
        reserved = known;
    atomic_store(&area->books->reserved, reserved);
    if (reserved > known && block_raw(handle, area, reserved - 1) == NULL) {
        reserved = known;
        atomic_store(&area->books->reserved, reserved);
    }
    return reserved;
}

static bool marks_open(struct handle *handle, struct marks *marks, struct area *area) {
    marks->limit = repair_reserved(handle, area);
    marks->highest = 0;
    marks->bits = calloc(marks->limit / 8 + 1, 1);
    return marks->bits != NULL;
}

static bool is_marked(const struct marks *marks, uint32_t reference) {
    return reference < marks->limit && ((marks->bits[reference / 8] >> (reference % 8)) & 1) != 0;
}

static void mark(struct marks *marks, uint32_t reference) {
    marks->bits[reference / 8] |= (unsigned char)(1u << (reference % 8));
    if (reference > marks->highest)
        marks->highest = reference;
}

/* An unmarked block of that kind, or NULL. */
static struct block *fresh_block(struct rebuild *rebuild, struct area *area, struct marks *marks, uint32_t reference,
                                 uint8_t kind) {
    if (reference == 0 || reference >= marks->limit || is_marked(marks, reference))
        return NULL;
    return block_at(rebuild->handle, area, reference, kind);
}

/* Marks a record of `blocks` blocks if all of its chain is there and belongs to nobody else. */
static bool mark_record(struct rebuild *rebuild, struct area *area, struct marks *marks, uint32_t first, uint32_t blocks,
                        uint32_t *last) {
    uint32_t at = first;
    for (uint32_t count = 0; count < blocks; count++) {
        struct block *block = at < marks->limit ? block_raw(rebuild->handle, area, at) : NULL;
        if (block == NULL || is_marked(marks, at) || (count > 0 && block->kind != KIND_TAIL))
            return false;
        *last = at;
        at = block->chain;
    }
    if (at != 0)
        return false;
    at = first;
    for (uint32_t count = 0; count < blocks; count++) {
        /* A chain that runs into itself has a marked block here before its end. */
        if (at >= marks->limit || is_marked(marks, at))
            return false;
        mark(marks, at);
        at = block_raw(rebuild->handle, area, at)->chain;
    }
    return true;
}

static void unmark_record(struct rebuild *rebuild, struct area *area, struct marks *marks, uint32_t first) {
    for (uint32_t at = first; at != 0 && is_marked(marks, at);) {
        marks->bits[at / 8] &= (unsigned char)~(1u << (at % 8));
        at = block_raw(rebuild->handle, area, at)->chain;
    }
}

static bool owner_is_here(struct handle *handle, const struct channel *channel) {
    if (channel->owner == 0 || channel->owner > SLOTS)
        return false;
    struct slot *slot = &handle->slots[channel->owner - 1];
    return slot->published == channel->owner_generation + 1;
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
            struct channel *channel =
                (struct channel *)fresh_block(rebuild, area, &rebuild->messages, reference, KIND_CHANNEL);
            size_t length = channel != NULL ? channel_name(handle, channel, name) : 0;
            /* Where it is not looked for by its name, it could never be removed. */
            if (length == 0 || channel_bucket(handle, name, length) != (uint32_t *)&area->buckets[bucket] ||
                steps > rebuild->messages.limit || !mark_record(rebuild, area, &rebuild->messages, reference,
                                            blocks_for(area, sizeof channel->name, length), &last)) {
                rebuild->damaged++;
                *link = 0;
                break;
            }
            channel->tail = channel->count = channel->waiters = channel->waiters_tail = channel->pairs = 0;
            channel->unordered = 0;
            channel->owned_next = 0;
            if (name[length - 1] != '!') {
                channel->owner = 0;
            } else if (owner_is_here(handle, channel)) {
                struct slot *slot = &handle->slots[channel->owner - 1];
                channel->owned_next = slot->inboxes;
                slot->inboxes = reference;
            } else { /* the inbox of a process that has gone; its messages and memberships are reached by nobody else */
                unmark_record(rebuild, area, &rebuild->messages, reference);
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
            bool sound = block != NULL && !is_marked(&rebuild->groups, reference);
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
                !mark_record(rebuild, area, &rebuild->groups, reference, blocks, &last)) {
                rebuild->damaged++;
                *link = 0;
                break;
            }
            link = &group->bucket_next;
        }
    }
}

static bool link_pair(struct rebuild *rebuild, uint32_t reference, struct pair *pair) {
    struct handle *handle = rebuild->handle;
    struct group *group = block_at(handle, &handle->groups, pair->group, KIND_GROUP);
    struct channel *target = channel_at(handle, pair->target);
    if (group == NULL || target == NULL || !is_marked(&rebuild->groups, pair->group) ||
        pair->target >= rebuild->messages.limit || !is_marked(&rebuild->messages, pair->target))
        return false;
    pair_link(handle, reference, pair, group, target);
    return true;
}

static bool link_member(struct rebuild *rebuild, uint32_t reference, struct member *member) {
    struct pair *pair = block_at(rebuild->handle, &rebuild->handle->groups, member->pair, KIND_PAIR);
    if (pair == NULL || !is_marked(&rebuild->groups, member->pair))
        return false;
    member_link(rebuild->handle, reference, member, pair);
    return true;
}

/* Links the records of one kind into the lists of what they belong to, and frees those that belong to nothing: memberships of a
 * process that has gone, groups without members. Pairs come first, then members, then groups. */
static void rebuild_group_lists(struct rebuild *rebuild, uint8_t kind) {
    struct area *area = &rebuild->handle->groups;
    for (uint32_t bucket = 0; bucket <= area->bucket_mask; bucket++) {
        uint32_t *link = (uint32_t *)&area->buckets[bucket];
        while (*link != 0) {
            uint32_t reference = *link;
            struct block *block = block_raw(rebuild->handle, area, reference);
            if (block == NULL) { /* all was sound a moment ago: somebody goes on writing where he should not */
                *link = 0;
                break;
            }
            bool keep = block->kind != kind || (kind == KIND_PAIR     ? link_pair(rebuild, reference, (struct pair *)block)
                                                : kind == KIND_MEMBER ? link_member(rebuild, reference, (struct member *)block)
                                                                      : ((struct group *)block)->pairs != 0);
            if (keep) {
                link = &((struct group *)block)->bucket_next;
            } else {
                unmark_record(rebuild, area, &rebuild->groups, reference);
                *link = ((struct group *)block)->bucket_next;
            }
        }
    }
}

/* Marks the payload if this is its first entry or hold. */
static bool keep_payload(struct rebuild *rebuild, uint32_t reference) {
    struct area *area = &rebuild->handle->messages;
    struct payload *payload = block_at(rebuild->handle, area, reference, KIND_PAYLOAD);
    if (payload == NULL || reference >= rebuild->messages.limit)
        return false;
    if (is_marked(&rebuild->messages, reference)) {
        payload->references++;
        return true;
    }
    payload->references = 1;
    return mark_record(rebuild, area, &rebuild->messages, reference,
                       blocks_for(area, sizeof payload->data, payload->size), &payload->tail);
}

static bool keep_message(struct rebuild *rebuild, uint32_t reference) {
    struct area *area = &rebuild->handle->messages;
    struct message *message =
        (struct message *)fresh_block(rebuild, area, &rebuild->messages, reference, KIND_MESSAGE);
    if (message == NULL)
        return false;
    size_t size = (size_t)message->local_length + message->size;
    return mark_record(rebuild, area, &rebuild->messages, reference, blocks_for(area, sizeof message->data, size),
                       &message->tail);
}

/* An entry is kept if its pair is there: without members it is for nobody. */
static bool keep_entry(struct rebuild *rebuild, uint32_t reference, struct entry *entry, uint32_t channel, bool *is_sound) {
    struct handle *handle = rebuild->handle;
    uint32_t last;
    *is_sound = entry->chain == 0 && entry->payload != reference;
    if (!*is_sound)
        return false;
    struct pair *pair = NULL;
    if (entry->pair != 0) {
        pair = block_at(handle, &handle->groups, entry->pair, KIND_PAIR);
        if (pair == NULL || !is_marked(&rebuild->groups, entry->pair) || pair->target != channel)
            return false;
    }
    *is_sound = mark_record(rebuild, &handle->messages, &rebuild->messages, reference, 1, &last);
    if (*is_sound && !keep_payload(rebuild, entry->payload)) {
        unmark_record(rebuild, &handle->messages, &rebuild->messages, reference);
        *is_sound = false;
    }
    if (!*is_sound)
        return false;
    if (pair != NULL)
        pair->pending++;
    return true;
}

/* Walks one queue; what follows something impossible is cut off. */
static void rebuild_queue(struct rebuild *rebuild, uint32_t channel_reference, struct channel *channel) {
    struct handle *handle = rebuild->handle;
    uint32_t *link = &channel->head;
    uint64_t deadline = 0;
    while (*link != 0) {
        uint32_t reference = *link;
        struct entry *entry =
            (struct entry *)fresh_block(rebuild, &handle->messages, &rebuild->messages, reference, KIND_ENTRY);
        bool is_sound = true;
        bool keep = entry != NULL ? keep_entry(rebuild, reference, entry, channel_reference, &is_sound)
                                  : (is_sound = keep_message(rebuild, reference));
        if (!is_sound) {
            rebuild->damaged++;
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
        for (uint32_t at = area->buckets[bucket]; at != 0;) {
            struct channel *channel = channel_at(rebuild->handle, at);
            if (channel == NULL)
                break;
            rebuild_queue(rebuild, at, channel);
            at = channel->bucket_next;
        }
}

static void rebuild_holds(struct rebuild *rebuild) {
    struct handle *handle = rebuild->handle;
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        for (uint32_t hold = 0; hold < HOLDS; hold++) {
            uint32_t reference = handle->slots[slot].holds[hold].block;
            if (reference == 0)
                continue;
            /* A message that is also in a queue was linked there last; the queue has it. */
            if (!handle->slots[slot].published || reference >= rebuild->messages.limit ||
                !(block_at(handle, &handle->messages, reference, KIND_PAYLOAD) != NULL
                      ? keep_payload(rebuild, reference)
                      : keep_message(rebuild, reference)))
                commit(&handle->slots[slot].holds[hold].block, 0);
        }
}

/* Last: channels that nothing keeps in being, then the free chains. */
static void free_idle_channels(struct rebuild *rebuild) {
    struct area *area = &rebuild->handle->messages;
    for (uint32_t bucket = 0; bucket <= area->bucket_mask; bucket++) {
        uint32_t *link = (uint32_t *)&area->buckets[bucket];
        while (*link != 0) {
            struct channel *channel = channel_at(rebuild->handle, *link);
            if (channel == NULL)
                break;
            if (channel->head == 0 && channel->pairs == 0 && channel->owner == 0) {
                unmark_record(rebuild, area, &rebuild->messages, *link);
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
        if (is_marked(marks, reference))
            continue;
        struct block *block = block_raw(rebuild->handle, area, reference);
        block->kind = KIND_FREE;
        block->chain = books->free_head;
        books->free_head = reference;
        books->free_count++;
    }
    books->fresh = marks->highest + 1;
}

bool recovery_rebuild(struct handle *handle) {
    struct rebuild rebuild = {.handle = handle};
    bool opened = marks_open(handle, &rebuild.messages, &handle->messages) &&
                  marks_open(handle, &rebuild.groups, &handle->groups);
    if (opened) {
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            handle->slots[slot].inboxes = 0;
            for (uint32_t loop = 0; loop < LOOPS; loop++) {
                struct loop_slot *waiting = &handle->slots[slot].loops[loop];
                waiting->waiters = waiting->ready = waiting->ready_tail = 0;
            }
        }
        rebuild_channels(&rebuild);
        rebuild_group_records(&rebuild);
        rebuild_group_lists(&rebuild, KIND_PAIR);
        rebuild_group_lists(&rebuild, KIND_MEMBER);
        rebuild_queues(&rebuild);
        rebuild_holds(&rebuild);
        rebuild_group_lists(&rebuild, KIND_GROUP);
        free_idle_channels(&rebuild);
        rebuild_books(&rebuild, &handle->messages, &rebuild.messages);
        rebuild_books(&rebuild, &handle->groups, &rebuild.groups);
        count(handle, COUNT_DAMAGED, rebuild.damaged);
        atomic_fetch_add(&handle->header->rebuilds, 1);
        atomic_store(&handle->ring_everybody, true);
    }
    free(rebuild.messages.bits);
    free(rebuild.groups.bits);
    return opened;
}
