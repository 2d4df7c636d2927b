#include "lock.h"

#include <time.h>

#include "exclusion.h"
#include "memory.h"
#include "recovery.h"

uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

enum status lock_take(struct handle *handle, enum mode mode) {
    struct header *header = handle->header;
    if (!private_is_attached(handle->private))
        return DETACHED;
    if (atomic_load_explicit(&header->retired, memory_order_relaxed) == RETIRED_MARK)
        return RETIRED;
    bool takeover;
    enum status status = exclusion_take(handle, mode, &takeover);
    if (status != OK)
        return status;
    atomic_fetch_add_explicit(&header->progress, 1, memory_order_relaxed);
    if (takeover || atomic_load_explicit(&header->dirty, memory_order_relaxed) ||
        atomic_load_explicit(&header->damaged, memory_order_relaxed)) {
        atomic_store(&header->dirty, 1);
        if (!recovery_rebuild(handle)) {
            atomic_store(&header->damaged, 1);
            lock_give(handle);
            return DAMAGED;
        }
        atomic_store(&header->damaged, 0);
    }
    atomic_store_explicit(&header->dirty, 1, memory_order_relaxed);
    /* The compiler may not move a change above the mark; the processor shows a killed process's stores in order anyway. */
    atomic_signal_fence(memory_order_seq_cst);
    return OK;
}

void lock_give(struct handle *handle) {
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&handle->header->dirty, 0, memory_order_release);
    exclusion_give(handle);
}
