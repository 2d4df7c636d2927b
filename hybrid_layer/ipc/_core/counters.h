/* The counters of a segment, which people read. */
#ifndef HYBRID_COUNTERS_H
#define HYBRID_COUNTERS_H

#include "handle.h"

/* Needs no lock. */
static inline void count(struct handle *handle, enum counter counter, uint64_t number) {
    atomic_fetch_add_explicit(&handle->header->counters[counter], number, memory_order_relaxed);
}

#endif
