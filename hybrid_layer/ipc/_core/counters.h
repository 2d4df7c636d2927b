/* SPDX-License-Identifier: BSD-3-Clause */
/* The counters of a segment, which people read. */
#pragma once

#include "handle.h"

/* Needs no lock. */
static inline void count(struct handle *handle, enum counter counter, uint64_t number) {
    atomic_fetch_add_explicit(&handle->header->counters[HALF_LOCAL][counter], number, memory_order_relaxed);
}

/* With the lock: so a load and a store do, which cost a tenth of an atomic addition. */
static inline void add_locked(_Atomic uint64_t *number, uint64_t more) {
    atomic_store_explicit(number, atomic_load_explicit(number, memory_order_relaxed) + more, memory_order_relaxed);
}

static inline uint32_t ms_of(uint64_t ns) { return (uint32_t)(ns / 1000000u); }

/* With the lock: `readers` have got a message that was stored at `sent_ms`. */
static inline void count_wait(struct handle *handle, uint32_t sent_ms, uint64_t now, uint32_t readers) {
    uint32_t ms = ms_of(now) - sent_ms, class = 0;
    if (ms > UINT32_MAX / 2) /* stored since the clock was read, or a stray write */
        ms = 0;
    for (uint32_t left = ms; left != 0 && class < WAITS - 1; left >>= 2)
        class ++;
    add_locked(&handle->header->waits[class], readers);
    add_locked(&handle->header->waited, (uint64_t)ms * readers);
}
