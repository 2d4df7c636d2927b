/* Positions, flushes and heritage: the shard table. */
#include "shards.h"

#include <string.h>

#include "blocks.h"
#include "clock.h"
#include "hash.h"
#include "sweep.h"

enum { INCARNATION_SHIFT = 40, COUNT_SHIFT = 20, FLUSHES_BITS = 20, COUNT_BITS = 19 };
#define FLUSHES_MASK ((1u << FLUSHES_BITS) - 1)
#define COUNT_MASK ((1u << COUNT_BITS) - 1)
#define INCARNATION_MASK 0xffffffu
#define IS_MET (1ull << (COUNT_SHIFT + COUNT_BITS))

struct shard *shard_at(struct handle *handle, uint32_t number) {
    return number < REMOTE_SHARDS ? &handle->shards[number] : NULL;
}

/* Positions */

static uint32_t word_of(struct position position, uint32_t which) {
    uint64_t sum = (position.ms * 0x9e3779b97f4a7c15u + position.sequence) * 0xd1b54a32d192ed03u;
    return (uint32_t)(sum >> 32 << 2) | which;
}

bool position_read(const struct shard *shard, struct position *position) {
    uint32_t at = *(const volatile uint32_t *)&shard->at, which = at & 3u;
    if (which != 1 && which != 2)
        return false;
    *position = shard->positions[which - 1];
    return word_of(*position, which) == at;
}

void position_move(struct shard *shard, struct position to) {
    uint32_t which = (shard->at & 3u) == 1 ? 2 : 1; /* the one that does not count */
    shard->positions[which - 1] = to;
    commit(&shard->at, word_of(to, which));
}

int position_compare(struct position one, struct position other) {
    if (one.ms != other.ms)
        return one.ms < other.ms ? -1 : 1;
    return one.sequence < other.sequence ? -1 : one.sequence > other.sequence;
}

/* Flushes. The numbers start again at 0, so they are compared by their distance. */

static bool is_ahead(uint32_t number, uint32_t other, uint32_t mask) {
    uint32_t distance = (number - other) & mask;
    return distance != 0 && distance <= mask / 2;
}

int shard_compare_flushes(const struct shard *shard, uint32_t incarnation, uint32_t flushes, bool *is_other) {
    uint64_t met = shard->flushes;
    *is_other = (met & IS_MET) == 0 || met >> INCARNATION_SHIFT != (incarnation & INCARNATION_MASK);
    if (*is_other || ((flushes - (uint32_t)met) & FLUSHES_MASK) == 0)
        return 0;
    return is_ahead(flushes, (uint32_t)met, FLUSHES_MASK) ? 1 : -1;
}

void shard_flushes(const struct shard *shard, uint32_t *incarnation, uint32_t *flushes) {
    *incarnation = (uint32_t)(shard->flushes >> INCARNATION_SHIFT);
    *flushes = (uint32_t)shard->flushes & FLUSHES_MASK;
}

void shards_pause(struct header *header) { header->readable_at = now_ns() + PAUSE_NS; }

/* Who dies on the way leaves the old word, and the next one that hears of the flush does it again. */
enum status shard_follow(struct handle *handle, struct shard *shard, uint32_t incarnation, uint32_t flushes,
                         bool may_fall, bool *is_news, bool *has_flushed) {
    struct header *header = handle->header;
    uint64_t met = shard->flushes;
    bool is_other;
    int order = shard_compare_flushes(shard, incarnation, flushes, &is_other);
    *is_news = (is_other && (met & IS_MET) != 0) || order > 0;
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
    atomic_signal_fence(memory_order_seq_cst);
    shard->flushes = (uint64_t)(incarnation & INCARNATION_MASK) << INCARNATION_SHIFT | IS_MET |
                     (uint64_t)count << COUNT_SHIFT | (flushes & FLUSHES_MASK);
    return OK;
}

/* Heritage */

void shards_begin(struct header *header, struct shard *shards, const struct heritage *heritage) {
    for (uint32_t number = 0; number < REMOTE_SHARDS; number++) {
        struct shard *shard = &shards[number];
        if (heritage == NULL) {
            shard->turn = hash_bytes(header->hash_seed, &number, sizeof number);
            continue;
        }
        const struct heirloom *old = &heritage->shards[number];
        if (old->is_known)
            position_move(shard, old->position);
        shard->turn = old->turn + 1;
        shard->run = old->run;
        shard->flushes = old->flushes;
        shard->registration = old->registration; /* and nothing is walked: all groups are registered anew */
        shard->forgotten = old->forgotten;
        atomic_store(&shard->outages, old->outages);
    }
    if (heritage != NULL)
        header->followed = heritage->followed;
}

void shards_bequeath(struct handle *handle, struct heritage *heritage) {
    memset(heritage, 0, sizeof *heritage); /* what is between the fields, too: it is handed on as bytes */
    for (uint32_t number = 0; number < REMOTE_SHARDS; number++) {
        const struct shard *shard = &handle->shards[number];
        struct heirloom *heirloom = &heritage->shards[number];
        heirloom->is_known = position_read(shard, &heirloom->position);
        heirloom->turn = shard->turn;
        heirloom->run = shard->run;
        heirloom->flushes = shard->flushes;
        heirloom->registration = shard->registration;
        heirloom->forgotten = shard->forgotten;
        heirloom->outages = atomic_load(&shard->outages);
    }
    heritage->followed = handle->header->followed;
}
