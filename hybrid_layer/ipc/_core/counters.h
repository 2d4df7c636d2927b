/* SPDX-License-Identifier: BSD-3-Clause */
/* The counters of a segment, which people read. */
#pragma once

#include "handle.h"

/* Needs no lock. */
static inline void count(struct handle *handle, enum counter counter, uint64_t number) {
    atomic_fetch_add_explicit(&handle->header->counters[counter], number, memory_order_relaxed);
}
