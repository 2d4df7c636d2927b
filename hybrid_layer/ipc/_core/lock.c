/* SPDX-License-Identifier: BSD-3-Clause */
/* Acquires the lock, repairs what a dead owner left, and releases the lock. */
#include "lock.h"

#include "blocks.h"
#include "exclusion.h"
#include "memory.h"
#include "recovery.h"

/* The owner of the lock, and the number of acquisitions: the same as before only if none came in between. */
static uint64_t owner_now(struct handle *handle) {
    uint64_t word = atomic_load(&handle->header->lock_word) | WORD_WAITERS;
    return word << 32 | atomic_load(&handle->header->progress);
}

/* An owner that did not go on for a whole wait is perhaps stopped: until it does, this process only looks whether it
 * lives. Otherwise a hundred callers would each hold up their event loop for a wait. */
static enum status take(struct handle *handle, enum mode mode, bool *takeover) {
    if (mode == WAIT && atomic_load(&handle->vain) == owner_now(handle))
        mode = GLANCE;
    enum status status = exclusion_take(handle, mode, takeover);
    if (status == BUSY && mode == WAIT)
        atomic_store(&handle->vain, owner_now(handle));
    return status;
}

enum status lock_take(struct handle *handle, enum mode mode) {
    struct header *header = handle->header;
    if (!private_is_attached(handle->private))
        return DETACHED;
    if (atomic_load_explicit(&header->retired, memory_order_relaxed) == RETIRED_MARK)
        return RETIRED;
    bool takeover;
    enum status status = take(handle, mode, &takeover);
    if (status != OK)
        return status;
    /* Asked again: who retires a segment takes its lock next, and reads there what was taken in. */
    if (atomic_load_explicit(&header->retired, memory_order_relaxed) == RETIRED_MARK) {
        exclusion_give(handle);
        return RETIRED;
    }
    atomic_fetch_add_explicit(&header->progress, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release); /* an observer that sees a change from here on sees that, too */
    if (takeover || atomic_load_explicit(&header->dirty, memory_order_relaxed) ||
        atomic_load_explicit(&header->damaged, memory_order_relaxed)) {
        atomic_store(&header->dirty, 1);
        /* A repair would take for damage what other processes have grown since and this one cannot see. */
        status = area_see(handle, &handle->messages);
        if (status == OK)
            status = area_see(handle, &handle->groups);
        if (status == OK && !recovery_rebuild(handle))
            status = DAMAGED;
        if (status != OK) {
            atomic_store(&header->damaged, 1);
            lock_give(handle);
            return status;
        }
    }
    atomic_store_explicit(&header->dirty, 1, memory_order_relaxed);
    /* The compiler may not move a change above the mark; the processor shows a killed process's stores in order anyway.
     */
    atomic_signal_fence(memory_order_seq_cst);
    return OK;
}

void lock_give(struct handle *handle) {
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&handle->header->dirty, 0, memory_order_release);
    exclusion_give(handle);
}
