/* SPDX-License-Identifier: BSD-3-Clause */
/* Walks a whole segment and names the first invariant that does not hold. Changes nothing. */
#include "checker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "channels.h"
#include "memberships.h"
#include "shards.h"
#include "tallies.h"

struct walk {
    struct handle *handle;
    char *error;
    size_t size;
    uint64_t *totals;
    unsigned char *messages, *groups; /* one byte for each block: 1 used, 2 free */
    uint32_t *references;             /* to each payload, by its block */
    uint32_t *pending;                /* entries for each pair, by its block */
    uint32_t waiters;                 /* in the lists of the loops */
    uint32_t inboxes, inboxes_of_slots;
    uint32_t pairs_of_targets, pairs_of_groups, members_of_pairs;
};

static bool fail(struct walk *walk, const char *what, uint32_t reference) {
    if (walk->error[0] == '\0')
        snprintf(walk->error, walk->size, "%s (block %u)", what, reference);
    return false;
}

/* An invariant. */
#define REQUIRE(condition, what, reference)     \
    do {                                        \
        if (!(condition))                       \
            return fail(walk, what, reference); \
    } while (0)

static unsigned char *marks_of(const struct walk *walk, const struct area *area) {
    return area == &walk->handle->messages ? walk->messages : walk->groups;
}

/* Claims the chain of a record for its owner; *last, unless NULL, is its last block. */
static bool claim(struct walk *walk, struct area *area, uint32_t first, uint32_t blocks, const char *what,
                  uint32_t *last) {
    unsigned char *marks = marks_of(walk, area);
    uint32_t at = first;
    for (uint32_t count = 0; count < blocks; count++) {
        struct block *block = at < area->books->fresh ? block_raw(walk->handle, area, at) : NULL;
        REQUIRE(block != NULL && (count == 0 || block->kind == KIND_TAIL), what, at);
        REQUIRE(marks[at] == 0, "a block belongs to two records", at);
        marks[at] = 1;
        if (last != NULL)
            *last = at;
        at = block->chain;
    }
    REQUIRE(at == 0, "a chain is longer than its record", first);
    return true;
}

static bool claim_message(struct walk *walk, uint32_t reference, const struct message *message) {
    uint32_t blocks = blocks_for(sizeof message->data, (size_t)message->local_length + message->size), last = 0;
    if (!claim(walk, &walk->handle->messages, reference, blocks, "a message leads nowhere", &last))
        return false;
    REQUIRE(last == message->tail, "a message's last block is not the one that it names", reference);
    return true;
}

/* Counts a reference to a payload, and claims it at the first. */
static bool claim_payload(struct walk *walk, uint32_t reference, const struct payload *payload) {
    uint32_t blocks = blocks_for(sizeof payload->data, payload->size), last = 0;
    if (walk->references[reference]++ != 0)
        return true;
    if (!claim(walk, &walk->handle->messages, reference, blocks, "a payload leads nowhere", &last))
        return false;
    REQUIRE(last == payload->tail, "a payload's last block is not the one that it names", reference);
    return true;
}

static bool claim_entry(struct walk *walk, uint32_t reference, const struct entry *entry, const struct channel *channel,
                        uint32_t channel_reference) {
    struct payload *payload = block_at(walk->handle, &walk->handle->messages, entry->payload, KIND_PAYLOAD);
    REQUIRE(payload != NULL, "an entry has no payload", reference);
    REQUIRE(entry->sequence <= walk->handle->header->sequence, "an entry is of a group send that is yet to come",
            reference);
    REQUIRE((entry->pair != 0) == (channel->owner != 0), "an entry has a pair in a normal channel, or none in an inbox",
            reference);
    if (entry->pair != 0) {
        struct pair *pair = pair_at(walk->handle, entry->pair);
        REQUIRE(pair != NULL && pair->target == channel_reference, "an entry has no pair", reference);
        walk->pending[entry->pair]++;
    }
    return claim(walk, &walk->handle->messages, reference, 1, "an entry leads nowhere", NULL) &&
           claim_payload(walk, entry->payload, payload);
}

static bool walk_queue(struct walk *walk, uint32_t channel_reference, struct channel *channel) {
    struct area *area = &walk->handle->messages;
    uint32_t at = channel->head, last = 0, number = 0;
    uint64_t deadline = 0;
    for (; at != 0; number++) {
        struct message *message = block_raw(walk->handle, area, at);
        REQUIRE(message != NULL && number <= area->blocks, "a queue leads nowhere", channel_reference);
        bool is_sound = message->kind == KIND_MESSAGE ? claim_message(walk, at, message)
                        : message->kind == KIND_ENTRY
                            ? claim_entry(walk, at, (struct entry *)message, channel, channel_reference)
                            : fail(walk, "a queue holds something else than messages", at);
        if (!is_sound)
            return false;
        REQUIRE(message->deadline >= deadline || channel->unordered,
                "deadlines of a queue fall, which it does not tell", channel_reference);
        deadline = message->deadline;
        walk->totals[TOTAL_MESSAGES]++;
        last = at;
        at = message->next;
    }
    REQUIRE(number == channel->count, "a queue's count is wrong", channel_reference);
    REQUIRE(last == channel->tail, "a queue's tail is wrong", channel_reference);
    return true;
}

/* The list of a group's or a channel's pairs, whose number is added to *total. */
static bool walk_pairs_of(struct walk *walk, uint32_t reference, uint32_t first, bool is_group, uint32_t *total) {
    uint32_t previous = 0;
    for (uint32_t at = first, number = 0; at != 0; number++, ++*total) {
        struct pair *pair = pair_at(walk->handle, at);
        if (pair == NULL || (is_group ? pair->group : pair->target) != reference ||
            (is_group ? pair->group_previous : pair->target_previous) != previous ||
            number > walk->handle->groups.blocks)
            return fail(walk, is_group ? "a group's list of pairs is broken" : "a channel's list of pairs is broken",
                        reference);
        previous = at;
        at = is_group ? pair->group_next : pair->target_next;
    }
    return true;
}

/* A loop's waiters, of which some are ready. */
static bool walk_loop(struct walk *walk, uint32_t number, uint32_t loop) {
    struct handle *handle = walk->handle;
    struct loop_slot *waiting = &handle->slots[number].loops[loop];
    uint32_t previous = 0, ready = 0, last_ready = 0;
    for (uint32_t at = waiting->waiters; at != 0; walk->waiters++) {
        struct waiter *waiter = block_at(handle, &handle->messages, at, KIND_WAITER);
        if (waiter == NULL || waiter->slot != number || waiter->loop != loop ||
            waiter->generation + 1 != handle->slots[number].published || waiter->loop_previous != previous ||
            !waiting->in_use || walk->waiters > handle->messages.blocks)
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
    return (ready == 0 && last_ready == waiting->ready_tail) ||
           fail(walk, "a loop's list of ready waiters does not hold all", waiting->ready);
}

/* What a slot has: its inboxes and its loops. */
static bool walk_slots(struct walk *walk) {
    struct handle *handle = walk->handle;
    for (uint32_t number = 0; number < SLOTS; number++) {
        struct slot *slot = &handle->slots[number];
        for (uint32_t at = slot->inboxes; at != 0; walk->inboxes_of_slots++) {
            struct channel *inbox = channel_at(handle, at);
            if (inbox == NULL || inbox->owner != number + 1 || inbox->owner_generation + 1 != slot->published ||
                walk->inboxes_of_slots > handle->messages.blocks)
                return fail(walk, "a slot's list of inboxes is broken", at);
            at = inbox->owned_next;
        }
        for (uint32_t loop = 0; loop < LOOPS; loop++)
            if (!walk_loop(walk, number, loop))
                return false;
    }
    REQUIRE(walk->inboxes_of_slots == walk->inboxes, "an inbox is in no slot's list", 0);
    REQUIRE(walk->inboxes == handle->header->inboxes, "the number of inboxes is wrong", 0);
    REQUIRE(walk->waiters == walk->totals[TOTAL_WAITERS], "a waiter is in no loop's list", 0);
    REQUIRE(positions_are_sound(handle), "the position in a stream contradicts its check", 0);
    REQUIRE(tallies_are_sound(handle), "a tally lies where its name does not lead, or a channel is counted as another",
            0);
    return true;
}

static bool walk_waiters(struct walk *walk, uint32_t channel_reference, const struct channel *channel) {
    struct area *area = &walk->handle->messages;
    uint32_t previous = 0;
    for (uint32_t at = channel->waiters; at != 0;) {
        struct waiter *waiter = block_at(walk->handle, area, at, KIND_WAITER);
        REQUIRE(waiter != NULL && waiter->channel == channel_reference && waiter->previous == previous,
                "a list of waiters is broken", channel_reference);
        if (!claim(walk, area, at, 1, "a waiter leads nowhere", NULL))
            return false;
        walk->totals[TOTAL_WAITERS]++;
        previous = at;
        at = waiter->next;
    }
    REQUIRE(previous == channel->waiters_tail, "a list of waiters has the wrong end", channel_reference);
    return true;
}

static bool walk_channel(struct walk *walk, uint32_t reference, struct channel *channel, uint32_t bucket) {
    struct area *area = &walk->handle->messages;
    char name[NAME_MAX_LENGTH];
    size_t length = channel_name(walk->handle, channel, name);
    uint32_t found = 0;
    REQUIRE(length != 0 && channel_bucket(walk->handle, name, length) == &area->buckets[bucket],
            "a channel lies in a bucket that is not its own", reference);
    REQUIRE(channel_find(walk->handle, (struct name){name, length}, &found) == OK && found == reference,
            "two channels have one name", reference);
    REQUIRE((channel->owner != 0) == (name[length - 1] == '!'), "an inbox has no owner, or a normal channel has one",
            reference);
    REQUIRE(channel->owner != 0 || channel->head != 0 || channel->waiters != 0 || channel->pairs != 0,
            "nothing keeps a channel in being", reference);
    walk->totals[TOTAL_CHANNELS]++;
    walk->inboxes += channel->owner != 0;
    return claim(walk, area, reference, blocks_for(sizeof channel->name, length), "a channel leads nowhere", NULL) &&
           walk_queue(walk, reference, channel) && walk_waiters(walk, reference, channel) &&
           walk_pairs_of(walk, reference, channel->pairs, false, &walk->pairs_of_targets);
}

static bool walk_channels(struct walk *walk) {
    struct area *area = &walk->handle->messages;
    for (uint32_t bucket = 0; bucket <= area->bucket_mask; bucket++)
        for (uint32_t at = area->buckets[bucket]; at != 0;) {
            struct channel *channel = channel_at(walk->handle, at);
            REQUIRE(channel != NULL, "a bucket leads nowhere", at);
            if (!walk_channel(walk, at, channel, bucket))
                return false;
            at = channel->bucket_next;
        }
    return true;
}

static bool walk_member(struct walk *walk, uint32_t reference, const struct member *member, const struct pair *pair) {
    uint64_t next = walk->handle->header->sequence + 1;
    REQUIRE(member->check != 0 && member_is_sound(member), "a member's numbers are not those that were set", reference);
    REQUIRE(member->joined <= next && member->left <= next,
            "a member joined or left after a group send that is yet to come", reference);
    REQUIRE(member->left != 0 || member->deadline <= pair->last_deadline, "a member lives longer than its pair knows",
            reference);
    return true;
}

static bool walk_pair(struct walk *walk, uint32_t reference, const struct pair *pair) {
    struct area *area = &walk->handle->groups;
    uint32_t live = 0, gone = 0, previous = 0, found = 0;
    for (uint32_t at = pair->members; at != 0;) {
        struct member *member = member_at(walk->handle, at);
        REQUIRE(member != NULL && member->pair == reference && member->previous == previous &&
                    live + gone <= area->blocks,
                "a list of members is broken", reference);
        if (!walk_member(walk, at, member, pair))
            return false;
        member->left == 0 ? live++ : gone++;
        previous = at;
        at = member->next;
    }
    walk->members_of_pairs += live + gone;
    REQUIRE(pair->pending == walk->pending[reference], "a pair counts its entries wrongly", reference);
    REQUIRE(live == pair->live && gone == pair->gone, "a pair counts its members wrongly", reference);
    REQUIRE(pair->members != 0 || pair->pending != 0, "nothing keeps a pair in being", reference);
    REQUIRE(find_pair(walk->handle, pair->group, pair->target, &found) == OK && found == reference,
            "two pairs are of one group and one channel", reference);
    return true;
}

/* There must be only one record of that name. The walk over its pair has looked at the list that it is in. */
static bool is_the_only(struct walk *walk, uint32_t reference, const struct group *record) {
    struct handle *handle = walk->handle;
    bool is_group = record->kind == KIND_GROUP;
    size_t data = is_group ? offsetof(struct group, name) : offsetof(struct member, name);
    char bytes[NAME_MAX_LENGTH];
    struct name name = {bytes, record->name_length}; /* at the same place in a member */
    uint32_t found = 0;
    if (name.length > NAME_MAX_LENGTH || !data_read(handle, &handle->groups, reference, data, 0, bytes, name.length))
        return fail(walk, "a name leads nowhere", reference);
    if (is_group)
        return (find_group(handle, name, &found) == OK && found == reference) ||
               fail(walk, "two groups have one name", reference);
    const struct member *member = (const struct member *)record;
    return member->left != 0 || (find_member(handle, member->pair, name, false, &found) == OK && found == reference) ||
           fail(walk, "two members have one name", reference);
}

static bool walk_group_record(struct walk *walk, uint32_t reference, struct group *record) {
    struct area *area = &walk->handle->groups;
    size_t room = record->kind == KIND_GROUP ? sizeof record->name : sizeof((struct member *)0)->name;
    uint32_t blocks = record->kind == KIND_PAIR ? 1 : blocks_for(room, record->name_length);
    if (!claim(walk, area, reference, blocks, "a group record leads nowhere", NULL))
        return false;
    if (record->kind == KIND_PAIR) {
        walk->totals[TOTAL_PAIRS]++;
        return walk_pair(walk, reference, (struct pair *)record);
    }
    walk->totals[record->kind == KIND_GROUP ? TOTAL_GROUPS : TOTAL_MEMBERS]++;
    return is_the_only(walk, reference, record) &&
           (record->kind == KIND_MEMBER ||
            (walk_pairs_of(walk, reference, record->pairs, true, &walk->pairs_of_groups) &&
             (record->pairs != 0 || record->t != 0 || fail(walk, "nothing keeps a group in being", reference))));
}

static bool walk_groups(struct walk *walk) {
    struct area *area = &walk->handle->groups;
    for (uint32_t bucket = 0; bucket <= area->bucket_mask; bucket++)
        for (uint32_t at = area->buckets[bucket]; at != 0;) {
            struct group *record = record_at(walk->handle, at);
            REQUIRE(record != NULL && record_bucket(walk->handle, at) == &area->buckets[bucket],
                    "a record of groups lies in a bucket that is not its own", at);
            if (!walk_group_record(walk, at, record))
                return false;
            at = record->bucket_next;
        }
    REQUIRE(walk->members_of_pairs == walk->totals[TOTAL_MEMBERS], "a member is in no list", 0);
    REQUIRE(walk->pairs_of_targets == walk->totals[TOTAL_PAIRS] && walk->pairs_of_groups == walk->totals[TOTAL_PAIRS],
            "a pair is in no list", 0);
    return true;
}

static bool walk_loans(struct walk *walk) {
    for (uint32_t number = 0; number < SLOTS; number++)
        for (uint32_t loan = 0; loan < LOANS; loan++) {
            struct slot *slot = &walk->handle->slots[number];
            uint32_t at = slot->loans[loan].block;
            struct block *block = at != 0 ? block_raw(walk->handle, &walk->handle->messages, at) : NULL;
            if (at == 0)
                continue;
            REQUIRE(slot->published, "a loan is nobody's", at);
            bool is_sound =
                block != NULL && block->kind == KIND_MESSAGE   ? claim_message(walk, at, (struct message *)block)
                : block != NULL && block->kind == KIND_PAYLOAD ? claim_payload(walk, at, (struct payload *)block)
                                                               : fail(walk, "a loan leads nowhere", at);
            if (!is_sound)
                return false;
        }
    return true;
}

static bool walk_payloads(struct walk *walk) {
    for (uint32_t at = 1; at < walk->handle->messages.blocks; at++)
        REQUIRE(walk->references[at] == 0 ||
                    ((struct payload *)block_raw(walk->handle, &walk->handle->messages, at))->references ==
                        walk->references[at],
                "a payload counts its references wrongly", at);
    return true;
}

/* Every block that was ever used is either in one record or free. */
static bool walk_free(struct walk *walk, struct area *area, uint64_t totals[2]) {
    const struct area_books *books = area->books;
    unsigned char *marks = marks_of(walk, area);
    uint32_t number = 0, fresh = books->fresh, reserved = atomic_load(&books->reserved);
    REQUIRE(books->fresh_check == ~fresh, "the number of blocks that were ever used contradicts its check", fresh);
    REQUIRE(fresh != 0 && reserved <= area->blocks && fresh <= (reserved != 0 ? reserved : 1),
            "more blocks are in use than there is memory for", fresh);
    for (uint32_t at = books->free_head; at != 0; number++) {
        struct block *block = at < fresh ? block_raw(walk->handle, area, at) : NULL;
        REQUIRE(block != NULL, "the free chain leads nowhere", at);
        REQUIRE(marks[at] == 0, marks[at] == 1 ? "a used block is free" : "the free chain runs into itself", at);
        marks[at] = 2;
        at = block->chain;
    }
    REQUIRE(number == books->free_count, "the free chain's count is wrong", books->free_head);
    for (uint32_t at = 1; at < fresh; at++)
        REQUIRE(marks[at] != 0, "a block is neither used nor free", at);
    totals[0] = fresh - 1;
    totals[1] = number;
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
        (void)(walk_channels(&walk) && walk_slots(&walk) && walk_loans(&walk) && walk_payloads(&walk) &&
               walk_groups(&walk) && walk_free(&walk, &handle->messages, &totals[TOTAL_MESSAGE_BLOCKS]) &&
               walk_free(&walk, &handle->groups, &totals[TOTAL_GROUP_BLOCKS]));
    free(walk.messages);
    free(walk.groups);
    free(walk.references);
    free(walk.pending);
    return OK;
}
