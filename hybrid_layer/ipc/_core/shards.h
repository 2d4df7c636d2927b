/* SPDX-License-Identifier: BSD-3-Clause */
/* What the machine knows of one server, in the shard table of the segment. The segment lock is held in all of these. */
#pragma once

#include "handle.h"
#include "tallies.h"

/* Whether the position is known, and then *position. */
bool position_read(const struct shard *shard, struct position *position);

/* Whether each position that is known agrees with its check. */
bool positions_are_sound(struct handle *handle);

/* The position moves, by one store. */
void position_move(struct shard *shard, struct position to);

/* Below 0: one comes before other. */
int position_compare(struct position one, struct position other);

/* The record of a shard, or NULL: there is no such number. */
struct shard *shard_at(struct handle *handle, uint32_t number);

/* What is known of the server's flushes, as the layout has it. A new value of it. */
uint64_t shard_epoch(const struct shard *shard);
void shard_set_epoch(struct shard *shard, uint64_t epoch);

/* Processes have lost what they had here. For so long no entry is taken in: they register again first, or it would be
 * for nobody. */
#define PAUSE_NS 2000000000ull
void shards_pause(struct header *header);

/* What a new segment takes over from the one before. In private memory. */
struct heirloom {
    struct position position;
    uint64_t turn, run, flushes, registration, forgotten;
    uint32_t outages;
    bool is_known; /* the position */
};
struct heritage {
    struct heirloom shards[REMOTE_SHARDS];
    uint32_t followed;
    struct figures figures;
};

/* The shard table of a new segment, in which nobody is yet: from the heritage, or with turns that no other segment has.
 */
void shards_begin(struct header *header, struct shard *shards, const struct heritage *heritage);

/* What a new segment takes over from this one. */
void shards_bequeath(struct handle *handle, struct heritage *heritage);
