#include "checker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "channels.h"
#include "memberships.h"

struct walk {
    struct handle *handle;
    char *error;
    size_t size;
    uint64_t *totals;
    unsigned char *messages, *groups; /* one byte for each block: 1 used, 2 free */
    uint32_t *references;             /* to each payload, by its block */
    uint32_t *pending;                /* entries for each pair, by its block */
    uint32_t waiters;                 /* in the lists of the loops */
    uint32_t pairs_of_targets, pairs_of_groups;
};

static bool fail(struct walk *walk, const char *what, uint32_t reference) {
    if (walk->error[0] == '\0')
        snprintf(walk->error, walk->size, "%s (block %u)", what, reference);
    return false;
}

/* Claims the chain of a record for its owner. */
static bool claim(struct walk *walk, struct area *area, unsigned char *marks, uint32_t first, uint32_t blocks,
                  const char *what) {
    uint32_t at = first;
    for (uint32_t count = 0; count < blocks; count++) {
        struct block *block = at < area->books->fresh ? block_raw(walk->handle, area, at) : NULL;
        if (block == NULL)
            return fail(walk, what, at);
        if (marks[at] != 0)
            return fail(walk, "a block belongs to two records", at);
        marks[at] = 1;
        at = block->chain;
    }
    return at == 0 || fail(walk, "a chain is longer than its record", first);
}

static bool walk_queue(struct walk *walk, uint32_t channel_reference, struct channel *channel) {
    struct area *area = &walk->handle->messages;
    uint32_t at = channel->head, last = 0, number = 0;
    uint64_t deadline = 0;
    for (; at != 0; number++) {
        struct message *message = (struct message *)block_raw(walk->handle, area, at);
        if (message == NULL || number > area->blocks)
            return fail(walk, "a queue leads nowhere", channel_reference);
        if (message->kind == KIND_MESSAGE) {
            if (!claim(walk, area, walk->messages, at,
                       blocks_for(area, sizeof message->data, (size_t)message->local_length + message->size),
                       "a message leads nowhere"))
                return false;
        } else if (message->kind == KIND_ENTRY) {
            uint32_t payload_reference = ((struct entry *)message)->payload;
            struct payload *payload = block_at(walk->handle, area, payload_reference, KIND_PAYLOAD);
            if (payload == NULL)
                return fail(walk, "an entry has no payload", at);
            if (!claim(walk, area, walk->messages, at, 1, "an entry leads nowhere"))
                return false;
            uint32_t pair = ((struct entry *)message)->pair;
            if (pair != 0 && pair_at(walk->handle, pair) == NULL)
                return fail(walk, "an entry has no pair", at);
            walk->references[payload_reference]++;
            if (pair != 0)
                walk->pending[pair]++;
            if (walk->messages[payload_reference] == 0 &&
                !claim(walk, area, walk->messages, payload_reference,
                       blocks_for(area, sizeof payload->data, payload->size), "a payload leads nowhere"))
                return false;
        } else {
            return fail(walk, "a queue holds something else than messages", at);
        }
        if (message->deadline < deadline && !channel->unordered)
            return fail(walk, "deadlines of a queue fall, which it does not tell", channel_reference);
        deadline = message->deadline;
        walk->totals[TOTAL_MESSAGES]++;
        last = at;
        at = message->next;
    }
    if (number != channel->count)
        return fail(walk, "a queue's count is wrong", channel_reference);
    return last == channel->tail || fail(walk, "a queue's tail is wrong", channel_reference);
}

static bool walk_targets_pairs(struct walk *walk, uint32_t reference, const struct channel *channel) {
    uint32_t previous = 0, number = 0;
    for (uint32_t at = channel->pairs; at != 0; number++) {
        struct pair *pair = pair_at(walk->handle, at);
        if (pair == NULL || pair->target != reference || pair->target_previous != previous ||
            number > walk->handle->groups.blocks)
            return fail(walk, "a channel's list of pairs is broken", reference);
        previous = at;
        at = pair->target_next;
    }
    walk->pairs_of_targets += number;
    return true;
}

/* What a slot has: its inboxes, and each loop's waiters, of which some are ready. */
static bool walk_slots(struct walk *walk) {
    struct handle *handle = walk->handle;
    uint32_t limit = handle->messages.blocks;
    for (uint32_t number = 0; number < SLOTS; number++) {
        struct slot *slot = &handle->slots[number];
        uint32_t steps = 0;
        for (uint32_t at = slot->inboxes; at != 0; steps++) {
            struct channel *inbox = channel_at(handle, at);
            if (inbox == NULL || inbox->owner != number + 1 || inbox->owner_generation + 1 != slot->published ||
                steps > limit)
                return fail(walk, "a slot's list of inboxes is broken", at);
            at = inbox->owned_next;
        }
        for (uint32_t loop = 0; loop < LOOPS; loop++) {
            struct loop_slot *waiting = &slot->loops[loop];
            uint32_t previous = 0, ready = 0, last_ready = 0;
            for (uint32_t at = waiting->waiters; at != 0; walk->waiters++) {
                struct waiter *waiter = block_at(handle, &handle->messages, at, KIND_WAITER);
                if (waiter == NULL || waiter->slot != number || waiter->loop != loop ||
                    waiter->generation + 1 != slot->published || waiter->loop_previous != previous ||
                    !waiting->in_use || walk->waiters > limit)
                    return fail(walk, "a loop's list of waiters is broken", at);
                ready += waiter->is_ready;
                previous = at;
                at = waiter->loop_next;
            }
            for (uint32_t at = waiting->ready; at != 0; ready--) {
                struct waiter *waiter = block_at(handle, &handle->messages, at, KIND_WAITER);
                if (waiter == NULL || !waiter->is_ready || waiter->slot != number || waiter->loop != loop || ready == 0)
                    return fail(walk, "a loop's list of ready waiters is broken", at);
                last_ready = at;
                at = waiter->ready_next;
            }
            if (ready != 0 || last_ready != waiting->ready_tail)
                return fail(walk, "a loop's list of ready waiters does not hold all", waiting->ready);
        }
    }
    return walk->waiters == walk->totals[TOTAL_WAITERS] || fail(walk, "a waiter is in no loop's list", 0);
}

static bool walk_channels(struct walk *walk) {
    struct area *area = &walk->handle->messages;
    for (uint32_t bucket = 0; bucket <= area->bucket_mask; bucket++)
        for (uint32_t at = area->buckets[bucket]; at != 0;) {
            struct channel *channel = channel_at(walk->handle, at);
            if (channel == NULL)
                return fail(walk, "a bucket leads nowhere", at);
            char name[NAME_MAX_LENGTH];
            size_t length = channel_name(walk->handle, channel, name);
            if (length == 0 || channel_bucket(walk->handle, name, length) != (uint32_t *)&area->buckets[bucket])
                return fail(walk, "a channel lies in a bucket that is not its own", at);
            if (!claim(walk, area, walk->messages, at, blocks_for(area, sizeof channel->name, channel->name_length),
                       "a channel leads nowhere") ||
                !walk_queue(walk, at, channel))
                return false;
            uint32_t previous = 0;
            for (uint32_t reference = channel->waiters; reference != 0;) {
                struct waiter *waiter = block_at(walk->handle, area, reference, KIND_WAITER);
                if (waiter == NULL || waiter->channel != at || waiter->previous != previous)
                    return fail(walk, "a list of waiters is broken", at);
                if (!claim(walk, area, walk->messages, reference, 1, "a waiter leads nowhere"))
                    return false;
                walk->totals[TOTAL_WAITERS]++;
                previous = reference;
                reference = waiter->next;
            }
            if (previous != channel->waiters_tail)
                return fail(walk, "a list of waiters has the wrong end", at);
            if (!walk_targets_pairs(walk, at, channel))
                return false;
            walk->totals[TOTAL_CHANNELS]++;
            at = channel->bucket_next;
        }
    return true;
}

static bool walk_pair(struct walk *walk, uint32_t reference, const struct pair *pair) {
    struct area *area = &walk->handle->groups;
    uint32_t live = 0, gone = 0, previous = 0;
    for (uint32_t at = pair->members; at != 0;) {
        struct member *member = block_at(walk->handle, area, at, KIND_MEMBER);
        if (member == NULL || member->pair != reference || member->previous != previous || live + gone > area->blocks)
            return fail(walk, "a list of members is broken", reference);
        member->left == 0 ? live++ : gone++;
        if (member->deadline > pair->last_deadline)
            return fail(walk, "a member lives longer than its pair knows", at);
        previous = at;
        at = member->next;
    }
    if (pair->pending != walk->pending[reference])
        return fail(walk, "a pair counts its entries wrongly", reference);
    if (live != pair->live || gone != pair->gone)
        return fail(walk, "a pair counts its members wrongly", reference);
    return channel_at(walk->handle, pair->target) != NULL || fail(walk, "a pair has no target", reference);
}

static bool walk_groups_pairs(struct walk *walk, uint32_t reference, const struct group *group) {
    uint32_t previous = 0, number = 0;
    for (uint32_t at = group->pairs; at != 0; number++) {
        struct pair *pair = pair_at(walk->handle, at);
        if (pair == NULL || pair->group != reference || pair->group_previous != previous ||
            number > walk->handle->groups.blocks)
            return fail(walk, "a group's list of pairs is broken", reference);
        previous = at;
        at = pair->group_next;
    }
    walk->pairs_of_groups += number;
    return true;
}

static bool walk_groups(struct walk *walk) {
    struct area *area = &walk->handle->groups;
    for (uint32_t bucket = 0; bucket <= area->bucket_mask; bucket++)
        for (uint32_t at = area->buckets[bucket]; at != 0;) {
            struct group *group = (struct group *)block_raw(walk->handle, area, at);
            uint32_t blocks = 1;
            if (group == NULL || record_bucket(walk->handle, at) != &area->buckets[bucket])
                return fail(walk, "a record of groups lies in a bucket that is not its own", at);
            if (group->kind == KIND_GROUP) {
                blocks = blocks_for(area, sizeof group->name, group->name_length);
                walk->totals[TOTAL_GROUPS]++;
                if (!walk_groups_pairs(walk, at, group))
                    return false;
            } else if (group->kind == KIND_MEMBER) {
                struct member *member = (struct member *)group;
                blocks = blocks_for(area, sizeof member->name, member->name_length);
                walk->totals[TOTAL_MEMBERS]++;
            } else if (group->kind == KIND_PAIR) {
                if (!walk_pair(walk, at, (struct pair *)group))
                    return false;
                walk->totals[TOTAL_PAIRS]++;
            } else {
                return fail(walk, "a group bucket holds something else", at);
            }
            if (!claim(walk, area, walk->groups, at, blocks, "a group record leads nowhere"))
                return false;
            at = group->bucket_next;
        }
    return true;
}

static bool walk_holds(struct walk *walk) {
    struct area *area = &walk->handle->messages;
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        for (uint32_t hold = 0; hold < HOLDS; hold++) {
            uint32_t at = walk->handle->slots[slot].holds[hold].block;
            struct block *block = at != 0 ? block_raw(walk->handle, area, at) : NULL;
            if (at == 0)
                continue;
            if (block == NULL || (block->kind != KIND_MESSAGE && block->kind != KIND_PAYLOAD))
                return fail(walk, "a hold leads nowhere", at);
            struct message *message = (struct message *)block;
            struct payload *payload = (struct payload *)block;
            uint32_t blocks =
                block->kind == KIND_MESSAGE
                    ? blocks_for(area, sizeof message->data, (size_t)message->local_length + message->size)
                    : blocks_for(area, sizeof payload->data, payload->size);
            if (block->kind == KIND_PAYLOAD)
                walk->references[at]++;
            if (!(block->kind == KIND_PAYLOAD && walk->messages[at] == 1) &&
                !claim(walk, area, walk->messages, at, blocks, "a hold leads nowhere"))
                return false;
        }
    return true;
}

static bool walk_payloads(struct walk *walk) {
    for (uint32_t at = 1; at < walk->handle->messages.blocks; at++)
        if (walk->references[at] != 0 &&
            ((struct payload *)block_raw(walk->handle, &walk->handle->messages, at))->references != walk->references[at])
            return fail(walk, "a payload counts its references wrongly", at);
    return true;
}

/* Every block that was ever used is either in one record or free. */
static bool walk_free(struct walk *walk, struct area *area, unsigned char *marks, uint64_t *used, uint64_t *free_blocks) {
    uint32_t number = 0;
    if (area->books->fresh > area->blocks || area->books->fresh == 0)
        return fail(walk, "more blocks are in use than there are", area->books->fresh);
    for (uint32_t at = area->books->free_head; at != 0; number++) {
        struct block *block = at < area->books->fresh ? block_raw(walk->handle, area, at) : NULL;
        if (block == NULL)
            return fail(walk, "the free chain leads nowhere", at);
        if (marks[at] != 0)
            return fail(walk, marks[at] == 1 ? "a used block is free" : "the free chain runs into itself", at);
        marks[at] = 2;
        at = block->chain;
    }
    if (number != area->books->free_count)
        return fail(walk, "the free chain's count is wrong", area->books->free_head);
    for (uint32_t at = 1; at < area->books->fresh; at++)
        if (marks[at] == 0)
            return fail(walk, "a block is neither used nor free", at);
    *used = area->books->fresh - 1;
    *free_blocks = number;
    return true;
}

enum status checker_walk(struct handle *handle, char *error, size_t size, uint64_t totals[TOTALS]) {
    struct walk walk = {.handle = handle, .error = error, .size = size, .totals = totals};
    error[0] = '\0';
    memset(totals, 0, TOTALS * sizeof *totals);
    walk.messages = calloc(handle->messages.blocks, 1);
    walk.groups = calloc(handle->groups.blocks, 1);
    walk.references = calloc(handle->messages.blocks, sizeof *walk.references);
    walk.pending = calloc(handle->groups.blocks, sizeof *walk.pending);
    if (walk.messages == NULL || walk.groups == NULL || walk.references == NULL || walk.pending == NULL)
        fail(&walk, "no memory for the check", 0);
    else
        (void)(walk_channels(&walk) && walk_slots(&walk) && walk_holds(&walk) && walk_payloads(&walk) &&
               walk_groups(&walk) &&
               ((walk.pairs_of_targets == totals[TOTAL_PAIRS] && walk.pairs_of_groups == totals[TOTAL_PAIRS]) ||
                fail(&walk, "a pair is in no list", 0)) &&
               walk_free(&walk, &handle->messages, walk.messages, &totals[TOTAL_MESSAGE_BLOCKS],
                         &totals[TOTAL_MESSAGE_BLOCKS_FREE]) &&
               walk_free(&walk, &handle->groups, walk.groups, &totals[TOTAL_GROUP_BLOCKS],
                         &totals[TOTAL_GROUP_BLOCKS_FREE]));
    free(walk.messages);
    free(walk.groups);
    free(walk.references);
    free(walk.pending);
    return OK;
}
