/* SPDX-License-Identifier: BSD-3-Clause */
/* Reads a segment without its lock, and reads again what was changed meanwhile. */
#include "observer.h"

#include <string.h>
#include <time.h>

#include "blocks.h"
#include "channels.h"
#include "clock.h"
#include "counters.h"
#include "liveness.h"
#include "memberships.h"
#include "messages.h"

#define PATIENCE_NS 50000000ull
#define TRIES_AT_ONCE 8u /* without a pause */
#define PAUSE_NS_BETWEEN 20000u

/* One reading, and whether nothing was changed meanwhile. */
struct reading {
    uint32_t progress, word;
};

static uint32_t owner_of_word(uint32_t word) { return (word >> WORD_SLOT_SHIFT) & WORD_SLOT_MASK; }

/* What blocks were ever used is known to be backed by memory, also to a process that may not ask the kernel for it. */
static void see_area(struct area *area) {
    const volatile struct area_books *books = area->books;
    uint32_t fresh = books->fresh;
    bool is_sound = books->fresh_check == ~fresh && fresh <= area->blocks;
    atomic_store_explicit(&area->reserved, is_sound ? fresh : 0, memory_order_relaxed);
}

/* False: somebody is inside, and lives. */
static bool begin(struct handle *handle, bool ask, struct reading *reading) {
    struct header *header = handle->header;
    reading->progress = atomic_load(&header->progress); /* before the word: who comes in between moves it */
    reading->word = atomic_load(&header->lock_word) & ~WORD_WAITERS;
    uint32_t owner = owner_of_word(reading->word);
    if (owner != 0 && (!ask || owner == handle->own_slot ||
                       !liveness_is_dead(handle, owner - 1, reading->word >> WORD_GENERATION_SHIFT)))
        return false;
    see_area(&handle->messages);
    see_area(&handle->groups);
    return true;
}

static bool is_unchanged(struct handle *handle, const struct reading *reading) {
    struct header *header = handle->header;
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&header->progress, memory_order_relaxed) == reading->progress &&
           (reading->word == 0 || (atomic_load(&header->lock_word) & ~WORD_WAITERS) == reading->word);
}

/* Repeats `call` until the lock was free all the time, or is_patient says that it is enough: BUSY. */
#define OBSERVE(handle, tries, status, call)                                        \
    do {                                                                            \
        struct reading reading;                                                     \
        uint64_t until = 0;                                                         \
        status = BUSY;                                                              \
        for (uint32_t attempt = 1; is_patient(attempt, tries, &until); attempt++) { \
            if (!begin(handle, attempt % TRIES_AT_ONCE == 0, &reading))             \
                continue;                                                           \
            enum status outcome = (call);                                           \
            if (is_unchanged(handle, &reading)) {                                   \
                status = outcome;                                                   \
                break;                                                              \
            }                                                                       \
        }                                                                           \
    } while (0)

/* Whether to try once more: `tries` times, or with 0 for 50 ms. Pauses now and then. */
static bool is_patient(uint32_t number, uint32_t tries, uint64_t *until) {
    if (tries != 0)
        return number <= tries;
    uint64_t now = now_ns();
    if (*until == 0)
        *until = now + PATIENCE_NS;
    if (number % TRIES_AT_ONCE == 0)
        nanosleep(&(struct timespec){.tv_sec = 0, .tv_nsec = PAUSE_NS_BETWEEN}, NULL);
    return now < *until;
}

/* Room for so many more bytes; NULL: there is none. */
static void *add(struct sight *sight, size_t size) {
    char *at = sight->used + size <= sight->size ? sight->buffer + sight->used : NULL;
    sight->used += size;
    return at;
}

/* Channels */

/* The oldest message that has not expired, and how many before it have. */
static enum status find_oldest(struct handle *handle, const struct channel *channel, uint64_t now,
                               const struct message **oldest, uint32_t *expired) {
    uint32_t at = channel->head;
    *expired = 0;
    for (*oldest = NULL; at != 0; (*expired)++) {
        const struct message *message = message_at(handle, at);
        if (message == NULL || *expired >= handle->messages.blocks)
            return DAMAGED;
        if (message->deadline > now) {
            *oldest = message;
            return OK;
        }
        at = message->next;
    }
    return OK;
}

static enum status list_channel(struct handle *handle, const struct channel *channel, uint64_t now,
                                struct sight *sight) {
    char name[NAME_MAX_LENGTH];
    size_t length = channel_name(handle, channel, name);
    const struct message *oldest;
    uint32_t expired;
    struct seen_channel seen;
    memset(&seen, 0, sizeof seen);
    if (length == 0 || find_oldest(handle, channel, now, &oldest, &expired) != OK)
        return DAMAGED;
    seen.owner = channel->owner;
    seen.owner_generation = channel->owner_generation;
    seen.unread = channel->count > expired ? channel->count - expired : 0;
    seen.oldest_ms = oldest != NULL ? ms_of(now) - oldest->sent_ms : 0;
    seen.was_read = channel->was_read;
    seen.name_length = (uint8_t)length;
    size_t begin = sight->used;
    (void)add(sight, sizeof seen);
    char *copy = add(sight, length);
    if (copy != NULL)
        memcpy(copy, name, length);
    for (uint32_t at = channel->waiters; at != 0; seen.waiters++) {
        const struct waiter *waiter = block_at(handle, &handle->messages, at, KIND_WAITER);
        if (waiter == NULL || seen.waiters > SLOTS * LOOPS)
            return DAMAGED;
        char *slot = add(sight, sizeof waiter->slot);
        if (slot != NULL)
            memcpy(slot, &waiter->slot, sizeof waiter->slot);
        at = waiter->next;
    }
    if (sight->used <= sight->size)
        memcpy(sight->buffer + begin, &seen, sizeof seen);
    return OK;
}

static enum status list_channels(struct handle *handle, uint32_t bucket, uint32_t buckets, struct sight *sight) {
    uint64_t now = now_ns();
    sight->used = 0;
    for (; buckets > 0; buckets--, bucket++) {
        uint32_t at = handle->messages.buckets[bucket];
        for (uint32_t steps = 0; at != 0; steps++) {
            const struct channel *channel = channel_at(handle, at);
            if (channel == NULL || steps >= handle->messages.blocks || list_channel(handle, channel, now, sight) != OK)
                return DAMAGED;
            at = channel->bucket_next;
        }
    }
    return sight->used <= sight->size ? OK : NO_SPACE;
}

/* Members */

static enum status list_member(struct handle *handle, uint32_t reference, const struct member *member, uint64_t now,
                               struct sight *sight) {
    const struct pair *pair = pair_at(handle, member->pair);
    const struct group *group = pair != NULL ? group_at(handle, pair->group) : NULL;
    const struct channel *target = pair != NULL ? channel_at(handle, pair->target) : NULL;
    if (group == NULL || target == NULL)
        return DAMAGED;
    if (member->left != 0 || member->deadline <= now)
        return OK;
    char target_name[NAME_MAX_LENGTH];
    struct seen_member seen;
    memset(&seen, 0, sizeof seen);
    seen.left_ns = member->deadline - now;
    seen.group_length = (uint8_t)read_length(&group->name_length);
    seen.target_length = (uint8_t)channel_name(handle, target, target_name);
    seen.local_length = (uint8_t)read_length(&member->name_length);
    if (seen.group_length > NAME_MAX_LENGTH || seen.local_length > NAME_MAX_LENGTH || seen.target_length == 0)
        return DAMAGED;
    size_t names = (size_t)seen.group_length + seen.target_length + seen.local_length;
    char *at = add(sight, sizeof seen + names);
    if (at == NULL)
        return OK;
    memcpy(at, &seen, sizeof seen);
    at += sizeof seen;
    if (!data_read(handle, &handle->groups, pair->group, offsetof(struct group, name), 0, at, seen.group_length))
        return DAMAGED;
    memcpy(at + seen.group_length, target_name, seen.target_length);
    return data_read(handle, &handle->groups, reference, offsetof(struct member, name), 0,
                     at + seen.group_length + seen.target_length, seen.local_length)
               ? OK
               : DAMAGED;
}

static enum status list_members(struct handle *handle, uint32_t bucket, uint32_t buckets, struct sight *sight) {
    uint64_t now = now_ns();
    sight->used = 0;
    for (; buckets > 0; buckets--, bucket++) {
        uint32_t at = handle->groups.buckets[bucket];
        for (uint32_t steps = 0; at != 0; steps++) {
            const struct group *record = record_at(handle, at);
            if (record == NULL || steps >= handle->groups.blocks)
                return DAMAGED;
            if (record->kind == KIND_MEMBER && list_member(handle, at, (const struct member *)record, now, sight) != OK)
                return DAMAGED;
            at = record->bucket_next;
        }
    }
    return sight->used <= sight->size ? OK : NO_SPACE;
}

/* Both, in parts that become smaller while others work in between. A part of one bucket is waited for. */

static enum status list_part(struct handle *handle, uint32_t *bucket, uint32_t all, struct sight *sight,
                             enum status (*list)(struct handle *handle, uint32_t bucket, uint32_t buckets,
                                                 struct sight *sight)) {
    enum status status = BUSY;
    if (*bucket >= all)
        return EMPTY;
    uint32_t buckets = all - *bucket < OBSERVED_BUCKETS ? all - *bucket : OBSERVED_BUCKETS;
    for (;; buckets /= 2) {
        uint32_t tries = buckets > 1 ? TRIES_AT_ONCE : 0;
        OBSERVE(handle, tries, status, list(handle, *bucket, buckets, sight));
        if (status != BUSY || buckets == 1)
            break;
    }
    if (status == OK)
        *bucket += buckets;
    return status;
}

enum status observe_channels(struct handle *handle, uint32_t *bucket, struct sight *sight) {
    return list_part(handle, bucket, handle->messages.bucket_mask + 1, sight, list_channels);
}

enum status observe_members(struct handle *handle, uint32_t *bucket, struct sight *sight) {
    return list_part(handle, bucket, handle->groups.bucket_mask + 1, sight, list_members);
}

/* Areas */

static void see_books(const struct area *area, struct seen_area *seen) {
    const struct area_books *books = area->books;
    uint32_t used = books->fresh - 1;
    seen->used = (uint64_t)(used > books->free_count ? used - books->free_count : 0) * BLOCK;
    seen->reserved = (uint64_t)atomic_load(&books->reserved) * BLOCK;
    seen->limit = (uint64_t)(area->blocks - 1) * BLOCK;
}

static enum status read_areas(struct handle *handle, struct seen_area areas[2]) {
    see_books(&handle->messages, &areas[0]);
    see_books(&handle->groups, &areas[1]);
    return OK;
}

enum status observe_areas(struct handle *handle, struct seen_area areas[2]) {
    enum status status;
    OBSERVE(handle, 0, status, read_areas(handle, areas));
    return status;
}

/* Messages */

static enum status see_message(struct handle *handle, uint32_t reference, uint64_t now, struct seen_message *seen) {
    const struct message *message = message_at(handle, reference);
    memset(seen, 0, sizeof *seen);
    if (message == NULL)
        return DAMAGED;
    seen->reference = reference;
    seen->age_ms = ms_of(now) - message->sent_ms;
    seen->deadline = message->deadline;
    seen->is_shared = message->kind == KIND_ENTRY;
    seen->size = *(const volatile uint32_t *)&message->size; /* each once, as it is checked */
    seen->local_length = (uint8_t)read_length(&message->local_length);
    if (seen->is_shared) {
        const struct payload *payload =
            block_at(handle, &handle->messages, ((const struct entry *)message)->payload, KIND_PAYLOAD);
        if (payload == NULL)
            return DAMAGED;
        seen->size = *(const volatile uint32_t *)&payload->size;
        seen->local_length = 0;
    }
    return seen->local_length <= NAME_MAX_LENGTH && seen->size <= (uint64_t)handle->messages.blocks * BLOCK ? OK
                                                                                                            : DAMAGED;
}

static enum status read_queue(struct handle *handle, struct name name, struct seen_message *messages, uint32_t most,
                              uint32_t *number, uint64_t now) {
    uint32_t reference, steps = 0;
    *number = 0;
    enum status status = channel_find(handle, name, &reference);
    if (status != OK)
        return status == EMPTY ? OK : status;
    const struct channel *channel = channel_at(handle, reference);
    if (channel == NULL)
        return DAMAGED;
    for (uint32_t at = channel->head; at != 0 && *number < most; steps++) {
        if (steps >= handle->messages.blocks || see_message(handle, at, now, &messages[*number]) != OK)
            return DAMAGED;
        *number += messages[*number].deadline > now;
        at = ((const struct message *)block_raw(handle, &handle->messages, at))->next; /* in range, as seen */
    }
    return OK;
}

enum status observe_queue(struct handle *handle, struct name name, struct seen_message *messages, uint32_t most,
                          uint32_t *number, uint64_t *now) {
    enum status status;
    OBSERVE(handle, 0, status, read_queue(handle, name, messages, most, number, *now = now_ns()));
    return status;
}

/* Whether the message is still in the queue, which may have become shorter at its head. */
static enum status find_again(struct handle *handle, struct name name, const struct seen_message *message) {
    uint32_t reference;
    enum status status = channel_find(handle, name, &reference);
    const struct channel *channel = status == OK ? channel_at(handle, reference) : NULL;
    if (status != OK || channel == NULL)
        return status == EMPTY ? EMPTY : DAMAGED;
    uint32_t at = channel->head;
    for (uint32_t steps = 0; at != 0; steps++) {
        const struct message *queued = message_at(handle, at);
        if (queued == NULL || steps >= handle->messages.blocks)
            return DAMAGED;
        if (at == message->reference)
            return queued->deadline == message->deadline && (queued->kind == KIND_ENTRY) == message->is_shared ? OK
                                                                                                               : EMPTY;
        at = queued->next;
    }
    return EMPTY;
}

static bool copy_data(struct handle *handle, const struct seen_message *message, char *data, size_t size) {
    if (!message->is_shared)
        return data_read(handle, &handle->messages, message->reference, MESSAGE_DATA, 0, data, size);
    const struct entry *entry = block_at(handle, &handle->messages, message->reference, KIND_ENTRY);
    return entry != NULL && data_read(handle, &handle->messages, entry->payload, PAYLOAD_DATA, 0, data, size);
}

/* Copied without a look at the lock, as a large one takes long: its blocks are its own as long as it is in the queue.
 */
enum status observe_data(struct handle *handle, struct name name, const struct seen_message *message, char *data,
                         size_t size) {
    bool is_whole = copy_data(handle, message, data, size);
    enum status status;
    OBSERVE(handle, 0, status, find_again(handle, name, message));
    return status == OK && !is_whole ? DAMAGED : status;
}
