/* SPDX-License-Identifier: BSD-3-Clause */
/* What was counted of each normal channel, by name. The segment lock is held in all of these. And what a new segment
 * takes over of all that was counted, so that the numbers go on. */
#pragma once

#include "handle.h"
#include "name.h"

/* The tally of a normal channel, which begins one if there is room, or that of all others together. */
struct tally *tally_of(struct handle *handle, struct channel *channel);

/* A message was stored, or there was no room for it, by a sender with that capacity. */
void tally_sent(struct handle *handle, struct channel *channel, uint32_t capacity);
void tally_full(struct handle *handle, struct channel *channel, uint32_t capacity);

/* The place where a name is counted, TALLY_OTHER if it has none of its own. */
uint32_t tally_find(struct handle *handle, struct name name);

/* Whether each tally lies where its name leads, and each channel is counted there; and clears those that do not. Of
 * buckets that do not run in circles. */
bool tallies_are_sound(struct handle *handle);
void tallies_repair(struct handle *handle);

/* In private memory. */
struct figures {
    uint64_t counters[HALVES][COUNTERS], waits[WAITS], waited;
    struct tally tallies[TALLIES + 1];
};
void figures_take(struct handle *handle, struct figures *figures);

/* Into a new segment, in which nobody is yet. */
void figures_store(struct header *header, struct tally *tallies, const struct figures *figures);
