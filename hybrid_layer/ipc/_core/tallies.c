/* SPDX-License-Identifier: BSD-3-Clause */
/* Finds the place of a channel's name, and clears what leads nowhere. */
#include "tallies.h"

#include <string.h>

#include "blocks.h"
#include "channels.h"
#include "counters.h"
#include "hash.h"

_Static_assert(NAME_MAX_LENGTH <= sizeof((struct tally *)0)->name, "any name fits");

static bool is_of(const struct tally *tally, struct name name) {
    return tally->name_length == name.length && memcmp(tally->name, name.bytes, name.length) == 0;
}

/* The place of the name, or with *is_free where it may be put; TALLY_OTHER: neither. */
static uint32_t place_of(const uint64_t seed[2], const struct tally *tallies, struct name name, bool *is_free) {
    uint32_t place = (uint32_t)(hash_bytes(seed, name.bytes, name.length) >> 32) % TALLIES;
    for (uint32_t steps = 0; steps < TALLIES; steps++, place = (place + 1) % TALLIES) {
        const struct tally *tally = &tallies[place];
        *is_free = tally->name_length == 0;
        if (*is_free || is_of(tally, name))
            return place;
    }
    return TALLY_OTHER;
}

uint32_t tally_find(struct handle *handle, struct name name) {
    bool is_free = false;
    uint32_t place = place_of(handle->seed, handle->tallies, name, &is_free);
    return is_free ? TALLY_OTHER : place;
}

struct tally *tally_of(struct handle *handle, struct channel *channel) {
    uint32_t known = *(const volatile uint32_t *)&channel->tally; /* once, as it is checked */
    if (known != 0 && known <= TALLIES + 1)
        return &handle->tallies[known - 1];
    char bytes[NAME_MAX_LENGTH];
    struct name name = {bytes, channel_name(handle, channel, bytes)};
    bool is_free = false;
    uint32_t place = name.length != 0 ? place_of(handle->seed, handle->tallies, name, &is_free) : TALLY_OTHER;
    struct tally *tally = &handle->tallies[place];
    if (is_free) {
        memcpy(tally->name, bytes, name.length);
        commit(&tally->name_length, (uint32_t)name.length);
    }
    channel->tally = place + 1;
    return tally;
}

void tally_sent(struct handle *handle, struct channel *channel, uint32_t capacity) {
    struct tally *tally = tally_of(handle, channel);
    atomic_store_explicit(&tally->capacity, capacity, memory_order_relaxed);
    add_locked(&tally->sent, 1);
}

void tally_full(struct handle *handle, struct channel *channel, uint32_t capacity) {
    struct tally *tally = tally_of(handle, channel);
    atomic_store_explicit(&tally->capacity, capacity, memory_order_relaxed);
    add_locked(&tally->full, 1);
}

static bool is_sound(struct handle *handle, uint32_t place) {
    const struct tally *tally = &handle->tallies[place];
    uint32_t length = *(const volatile uint32_t *)&tally->name_length;
    return length == 0 ||
           (length <= NAME_MAX_LENGTH && tally_find(handle, (struct name){tally->name, length}) == place);
}

static bool is_counted_rightly(struct handle *handle, const struct channel *channel) {
    char bytes[NAME_MAX_LENGTH];
    struct name name = {bytes, channel_name(handle, channel, bytes)};
    return channel->owner != 0 || channel->tally == 0 ||
           (name.length != 0 && channel->tally == tally_find(handle, name) + 1);
}

bool tallies_are_sound(struct handle *handle) {
    for (uint32_t place = 0; place < TALLIES; place++)
        if (!is_sound(handle, place))
            return false;
    for (uint32_t bucket = 0; bucket <= handle->messages.bucket_mask; bucket++) {
        const struct channel *channel = channel_at(handle, handle->messages.buckets[bucket]);
        for (; channel != NULL; channel = channel_at(handle, channel->bucket_next))
            if (!is_counted_rightly(handle, channel))
                return false;
    }
    return true;
}

/* Until nothing changes, as one that is cleared may have stood between another one and its place. */
void tallies_repair(struct handle *handle) {
    for (bool is_done = false; !is_done;) {
        is_done = true;
        for (uint32_t place = 0; place < TALLIES; place++)
            if (!is_sound(handle, place)) {
                memset(&handle->tallies[place], 0, sizeof(struct tally));
                is_done = false;
            }
    }
}

void figures_take(struct handle *handle, struct figures *figures) {
    struct header *header = handle->header;
    memset(figures, 0, sizeof *figures);
    for (uint32_t half = 0; half < HALVES; half++)
        for (uint32_t counter = 0; counter < COUNTERS; counter++)
            figures->counters[half][counter] = atomic_load(&header->counters[half][counter]);
    for (uint32_t class = 0; class < WAITS; class++)
        figures->waits[class] = atomic_load(&header->waits[class]);
    figures->waited = atomic_load(&header->waited);
    memcpy(figures->tallies, handle->tallies, sizeof figures->tallies);
}

/* A name leads elsewhere in the new segment, whose hash has another seed. */
static void store_tally(const uint64_t seed[2], struct tally *tallies, const struct tally *old) {
    bool is_free = false;
    uint32_t place = place_of(seed, tallies, (struct name){old->name, old->name_length}, &is_free);
    if (is_free)
        memcpy(&tallies[place], old, sizeof *old);
}

void figures_store(struct header *header, struct tally *tallies, const struct figures *figures) {
    for (uint32_t half = 0; half < HALVES; half++)
        for (uint32_t counter = 0; counter < COUNTERS; counter++)
            atomic_store(&header->counters[half][counter], figures->counters[half][counter]);
    for (uint32_t class = 0; class < WAITS; class++)
        atomic_store(&header->waits[class], figures->waits[class]);
    atomic_store(&header->waited, figures->waited);
    for (uint32_t place = 0; place < TALLIES; place++) {
        const struct tally *old = &figures->tallies[place];
        if (old->name_length != 0 && old->name_length <= NAME_MAX_LENGTH)
            store_tally(header->hash_seed, tallies, old);
    }
    memcpy(&tallies[TALLY_OTHER], &figures->tallies[TALLY_OTHER], sizeof tallies[TALLY_OTHER]);
}
