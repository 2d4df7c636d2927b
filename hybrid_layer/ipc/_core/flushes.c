/* SPDX-License-Identifier: BSD-3-Clause */
/* Compares numbers of flushes, and follows what is news. */
#include "flushes.h"

#include "blocks.h"
#include "shards.h"
#include "sweep.h"

enum { INCARNATION_SHIFT = 40, COUNT_SHIFT = 20, FLUSHES_BITS = 20, COUNT_BITS = 19 };
#define FLUSHES_MASK ((1u << FLUSHES_BITS) - 1)
#define COUNT_MASK ((1u << COUNT_BITS) - 1)
#define INCARNATION_MASK 0xffffffu
#define IS_MET (1ull << (COUNT_SHIFT + COUNT_BITS))

/* Flushes. The numbers start again at 0, so they are compared by their distance. */

static bool is_ahead(uint32_t number, uint32_t other, uint32_t mask) {
    uint32_t distance = (number - other) & mask;
    return distance != 0 && distance <= mask / 2;
}

int shard_compare_flushes(const struct shard *shard, uint32_t incarnation, uint32_t flushes, bool *is_other) {
    uint64_t met = shard_epoch(shard);
    *is_other = (met & IS_MET) == 0 || met >> INCARNATION_SHIFT != (incarnation & INCARNATION_MASK);
    if (*is_other || ((flushes - (uint32_t)met) & FLUSHES_MASK) == 0)
        return 0;
    return is_ahead(flushes, (uint32_t)met, FLUSHES_MASK) ? 1 : -1;
}

void shard_flushes(const struct shard *shard, uint32_t *incarnation, uint32_t *flushes) {
    uint64_t met = shard_epoch(shard);
    *incarnation = (uint32_t)(met >> INCARNATION_SHIFT);
    *flushes = (uint32_t)met & FLUSHES_MASK;
}

/* Who dies on the way leaves the old word, and the next one that hears of the flush does it again. */
enum status shard_follow(struct handle *handle, struct shard *shard, uint32_t incarnation, uint32_t flushes,
                         bool may_fall, bool *is_news, bool *has_flushed) {
    struct header *header = handle->header;
    uint64_t met = shard_epoch(shard);
    bool is_other;
    int order = shard_compare_flushes(shard, incarnation, flushes, &is_other);
    *is_news = (is_other && shard->flushes != 0) || order > 0;
    if (!is_other && order == 0)
        return OK;
    if (order < 0 && !may_fall)
        return OK;
    /* The first contact, and data that were lost, are no flush. */
    uint32_t count = header->followed & COUNT_MASK;
    if (order > 0) {
        count = ((uint32_t)(met >> COUNT_SHIFT) + flushes - (uint32_t)met) & COUNT_MASK;
        if (is_ahead(count, header->followed, COUNT_MASK)) { /* else another server's news were first */
            if (channels_flush(handle) != OK)
                return DAMAGED;
            if (has_flushed != NULL)
                *has_flushed = true;
            commit(&header->followed, count);
        }
    }
    if (*is_news)
        shard->registration = 0;
    shard_set_epoch(shard, (uint64_t)(incarnation & INCARNATION_MASK) << INCARNATION_SHIFT | IS_MET |
                               (uint64_t)count << COUNT_SHIFT | (flushes & FLUSHES_MASK));
    return OK;
}
