/* SPDX-License-Identifier: BSD-3-Clause */
/* Positions, and what one segment bequeaths to the next. */
#include "shards.h"

#include <string.h>

#include "blocks.h"
#include "clock.h"
#include "hash.h"

struct shard *shard_at(struct handle *handle, uint32_t number) {
    return number < REMOTE_SHARDS ? &handle->shards[number] : NULL;
}

/* Positions */

static uint32_t word_of(struct position position, uint32_t which) {
    uint64_t sum = (position.ms * 0x9e3779b97f4a7c15u + position.sequence) * 0xd1b54a32d192ed03u;
    return (uint32_t)(sum >> 34 << 2) | which;
}

bool position_read(const struct shard *shard, struct position *position) {
    uint32_t at = *(const volatile uint32_t *)&shard->at, which = at & 3u;
    if (which != 1 && which != 2)
        return false;
    *position = shard->positions[which - 1];
    return word_of(*position, which) == at;
}

bool positions_are_sound(struct handle *handle) {
    struct position position;
    for (uint32_t number = 0; number < REMOTE_SHARDS; number++)
        if (handle->shards[number].at != 0 && !position_read(&handle->shards[number], &position))
            return false;
    return true;
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

static uint32_t epoch_check(uint64_t epoch) { return (uint32_t)((epoch + 1) * 0x9e3779b97f4a7c15u >> 32); }

uint64_t shard_epoch(const struct shard *shard) {
    uint64_t epoch = *(const volatile uint64_t *)&shard->flushes;
    return epoch_check(epoch) == shard->flushes_check ? epoch : 0;
}

void shard_set_epoch(struct shard *shard, uint64_t epoch) {
    atomic_signal_fence(memory_order_seq_cst);
    shard->flushes = epoch;
    atomic_signal_fence(memory_order_seq_cst);
    shard->flushes_check = epoch_check(epoch);
}

void shards_pause(struct header *header) { header->readable_at = now_ns() + PAUSE_NS; }

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
        shard_set_epoch(shard, old->flushes);
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
        heirloom->flushes = shard_epoch(shard);
        heirloom->registration = shard->registration;
        heirloom->forgotten = shard->forgotten;
        heirloom->outages = atomic_load(&shard->outages);
    }
    heritage->followed = handle->header->followed;
    figures_take(handle, &heritage->figures);
}
