/* SPDX-License-Identifier: BSD-3-Clause */
/* The segment's epoch, which every flush moves: messages and memberships of an earlier one have ended.
 *
 * It is read without the lock, so its check lies in the same word. A damaged one must not pass for a flush: processes
 * would not register their memberships again.
 */
#pragma once

#include "handle.h"

#define EPOCH_DAMAGED (1ull << 48) /* in what epoch_read returns */

static inline uint64_t epoch_word(uint32_t number) { return (uint64_t)((number + 1u) * 0x9e3779b1u) << 32 | number; }

static inline uint64_t epoch_read(const struct header *header) {
    uint64_t word = atomic_load_explicit(&header->epoch, memory_order_relaxed);
    return word == epoch_word((uint32_t)word) ? (uint32_t)word : EPOCH_DAMAGED | (uint32_t)word;
}

static inline bool epoch_is_damaged(const struct header *header) { return (epoch_read(header) & EPOCH_DAMAGED) != 0; }

/* With the lock. Far from what it was: no process takes that for flushes. */
static inline void epoch_repair(struct header *header) {
    atomic_store(&header->epoch, epoch_word((uint32_t)atomic_load(&header->epoch) + (1u << 21)));
}

/* With the lock. */
static inline void epoch_move(struct header *header) {
    atomic_store(&header->epoch, epoch_word((uint32_t)atomic_load(&header->epoch) + 1u));
}
