/* SPDX-License-Identifier: BSD-3-Clause */
/* Takes and drops leases by compare-and-swap. */
#include "leases.h"

#include "liveness.h"
#include "memory.h"
#include "shards.h"

enum { GENERATION_SHIFT = 11, COUNT_SHIFT = 31 };
#define SLOT_MASK ((1u << GENERATION_SHIFT) - 1)

static bool is_nobodys(struct handle *handle, uint64_t lease) {
    uint32_t slot = (uint32_t)lease & SLOT_MASK, generation = (uint32_t)(lease >> GENERATION_SHIFT) & GENERATION_MASK;
    const struct private_page *page = handle->private;
    if (lease == 0 || slot == 0 || slot > SLOTS) /* the last two: a stray write was there */
        return true;
    bool is_own = private_is_attached(page) && slot == page->slot + 1 && generation == page->generation;
    return !is_own && liveness_is_dead(handle, slot - 1, generation);
}

uint64_t lease_of(struct handle *handle, uint32_t number) {
    const struct shard *shard = shard_at(handle, number);
    uint64_t lease = shard != NULL ? atomic_load(&shard->lease) : 0;
    return is_nobodys(handle, lease) ? 0 : lease;
}

uint64_t lease_take(struct handle *handle, uint32_t number, uint64_t seen) {
    struct shard *shard = shard_at(handle, number);
    const struct private_page *page = handle->private;
    if (shard == NULL || !private_is_attached(page) || atomic_load(&handle->header->retired) == RETIRED_MARK)
        return 0;
    if (seen == 0) {
        seen = atomic_load(&shard->lease);
        if (!is_nobodys(handle, seen))
            return 0;
    }
    /* By its count, no lease is ever the same as an earlier one. */
    uint64_t count = atomic_fetch_add(&handle->leases, 1) + 1;
    uint64_t mine = (page->slot + 1) | (uint64_t)page->generation << GENERATION_SHIFT | count << COUNT_SHIFT;
    return atomic_compare_exchange_strong(&shard->lease, &seen, mine) ? mine : 0;
}

void lease_drop(struct handle *handle, uint32_t number, uint64_t seen) {
    struct shard *shard = shard_at(handle, number);
    if (shard != NULL)
        (void)atomic_compare_exchange_strong(&shard->lease, &seen, 0);
}

uint32_t outages_of(struct handle *handle, uint32_t number) {
    const struct shard *shard = shard_at(handle, number);
    return shard != NULL ? atomic_load(&shard->outages) : 0;
}

void outage_set(struct handle *handle, uint32_t number, bool is_lost) {
    struct shard *shard = shard_at(handle, number);
    uint32_t seen = shard != NULL ? atomic_load(&shard->outages) : 0;
    while (shard != NULL && (seen & 1u) != is_lost && !atomic_compare_exchange_weak(&shard->outages, &seen, seen + 1))
        ; /* another process was first, perhaps with the same */
}
