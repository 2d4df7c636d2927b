/* What the machine knows of one server, in the shard table of the segment. The segment lock is held in all of these. */
#pragma once

#include "handle.h"

/* Whether the position is known, and then *position. */
bool position_read(const struct shard *shard, struct position *position);

/* The position moves, by one store. */
void position_move(struct shard *shard, struct position to);

/* Below 0: one comes before other. */
int position_compare(struct position one, struct position other);

/* The record of a shard, or NULL: there is no such number. */
struct shard *shard_at(struct handle *handle, uint32_t number);

/* Follows what is heard of a server: its data's incarnation, of which 24 bits count, and how often it was flushed. A
 * flush empties all servers, one after the other; the first one that is heard of flushes the segment. *is_news: the
 * server has been flushed, or has lost its data; so it has lost what it knew of the machine, too. *has_flushed, unless
 * NULL: the segment was flushed. With `may_fall` a lower number of flushes is believed. OK or DAMAGED. */
enum status shard_follow(struct handle *handle, struct shard *shard, uint32_t incarnation, uint32_t flushes,
                         bool may_fall, bool *is_news, bool *has_flushed);

/* Compares a number of flushes of the same incarnation with what is known: 0 the same, 1 newer, -1 older; *is_other:
 * nothing is known of that incarnation. */
int shard_compare_flushes(const struct shard *shard, uint32_t incarnation, uint32_t flushes, bool *is_other);

/* What is known of the server's flushes; 0 nothing. */
void shard_flushes(const struct shard *shard, uint32_t *incarnation, uint32_t *flushes);

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
};

/* The shard table of a new segment, in which nobody is yet: from the heritage, or with turns that no other segment has.
 */
void shards_begin(struct header *header, struct shard *shards, const struct heritage *heritage);

/* What a new segment takes over from this one. */
void shards_bequeath(struct handle *handle, struct heritage *heritage);
