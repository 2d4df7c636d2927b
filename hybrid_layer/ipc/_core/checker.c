#include "checker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "channels.h"

struct walk {
    struct handle *handle;
    char *error;
    size_t size;
    uint64_t *totals;
    unsigned char *messages, *groups; /* one byte for each block: 1 used, 2 free */
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
            if (walk->messages[payload_reference] == 0 &&
                !claim(walk, area, walk->messages, payload_reference,
                       blocks_for(area, sizeof payload->data, payload->size), "a payload leads nowhere"))
                return false;
        } else {
            return fail(walk, "a queue holds something else than messages", at);
        }
        walk->totals[TOTAL_MESSAGES]++;
        last = at;
        at = message->next;
    }
    if (number != channel->count)
        return fail(walk, "a queue's count is wrong", channel_reference);
    return last == channel->tail || fail(walk, "a queue's tail is wrong", channel_reference);
}

static bool walk_channels(struct walk *walk) {
    struct area *area = &walk->handle->messages;
    for (uint32_t bucket = 0; bucket <= area->bucket_mask; bucket++)
        for (uint32_t at = area->buckets[bucket]; at != 0;) {
            struct channel *channel = channel_at(walk->handle, at);
            if (channel == NULL)
                return fail(walk, "a bucket leads nowhere", at);
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
        previous = at;
        at = member->next;
    }
    if (live != pair->live || gone != pair->gone)
        return fail(walk, "a pair counts its members wrongly", reference);
    return channel_at(walk->handle, pair->target) != NULL || fail(walk, "a pair has no target", reference);
}

static bool walk_groups(struct walk *walk) {
    struct area *area = &walk->handle->groups;
    for (uint32_t bucket = 0; bucket <= area->bucket_mask; bucket++)
        for (uint32_t at = area->buckets[bucket]; at != 0;) {
            struct group *group = (struct group *)block_raw(walk->handle, area, at);
            uint32_t blocks = 1;
            if (group == NULL)
                return fail(walk, "a group bucket leads nowhere", at);
            if (group->kind == KIND_GROUP) {
                blocks = blocks_for(area, sizeof group->name, group->name_length);
                walk->totals[TOTAL_GROUPS]++;
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
            if (!(block->kind == KIND_PAYLOAD && walk->messages[at] == 1) &&
                !claim(walk, area, walk->messages, at, blocks, "a hold leads nowhere"))
                return false;
        }
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
    uint64_t group_free;
    error[0] = '\0';
    memset(totals, 0, TOTALS * sizeof *totals);
    walk.messages = calloc(handle->messages.blocks, 1);
    walk.groups = calloc(handle->groups.blocks, 1);
    if (walk.messages == NULL || walk.groups == NULL)
        fail(&walk, "no memory for the check", 0);
    else
        (void)(walk_channels(&walk) && walk_holds(&walk) && walk_groups(&walk) &&
               walk_free(&walk, &handle->messages, walk.messages, &totals[TOTAL_MESSAGE_BLOCKS],
                         &totals[TOTAL_MESSAGE_BLOCKS_FREE]) &&
               walk_free(&walk, &handle->groups, walk.groups, &totals[TOTAL_GROUP_BLOCKS], &group_free));
    free(walk.messages);
    free(walk.groups);
    return OK;
}
