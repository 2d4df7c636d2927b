/* SPDX-License-Identifier: BSD-3-Clause */
/* The lock word: taken with a compare-and-swap, waited for with a futex, taken over from the dead. */
#include "exclusion.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "liveness.h"
#include "memory.h"

static void futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t ns) {
    struct timespec timeout = {.tv_sec = (time_t)(ns / 1000000000ull), .tv_nsec = (long)(ns % 1000000000ull)};
    (void)syscall(SYS_futex, word, FUTEX_WAIT, value, &timeout, NULL, 0);
}

static long futex_wake_one(_Atomic uint32_t *word) { return syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0); }

static enum status take_private(struct private_page *page, enum mode mode) {
    if (pthread_mutex_trylock(&page->mutex) == 0)
        return OK;
    if (mode != WAIT)
        return BUSY;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until); /* the only clock that pthread_mutex_timedlock knows */
    until.tv_nsec += (long)WAIT_NS;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    return pthread_mutex_timedlock(&page->mutex, &until) == 0 ? OK : BUSY;
}

static enum status take_word(struct handle *handle, enum mode mode, bool *takeover) {
    _Atomic uint32_t *word = &handle->header->lock_word;
    uint32_t mine = handle->word;
    uint32_t seen = 0;
    *takeover = false;
    if (atomic_compare_exchange_strong(word, &seen, mine))
        return OK;
    if (mode == TRY) {
        return seen == WORD_WAITERS && atomic_compare_exchange_strong(word, &seen, mine | WORD_WAITERS) ? OK : BUSY;
    }
    uint64_t until = now_ns() + (mode == WAIT ? WAIT_NS : 0);
    for (;;) {
        seen = atomic_load(word);
        uint32_t owner = (seen >> WORD_SLOT_SHIFT) & WORD_SLOT_MASK;
        /* A waiter acquires the lock with the waiters flag set: it cannot know whether others sleep. */
        if (owner == 0) {
            if (atomic_compare_exchange_strong(word, &seen, mine | WORD_WAITERS))
                return OK;
            continue;
        }
        /* Probe before sleeping: then no process waits a full round after a crash, and under contention the owner has
         * mostly released the lock by the time the probe returns. The takeover swaps exactly the word that was probed.
         */
        bool is_ours = (seen & ~WORD_WAITERS) == mine;
        if (is_ours || liveness_is_dead(handle, owner - 1, seen >> WORD_GENERATION_SHIFT)) {
            if (atomic_compare_exchange_strong(word, &seen, mine | WORD_WAITERS)) {
                *takeover = true;
                return OK;
            }
            continue;
        }
        uint64_t now = now_ns();
        if (now >= until)
            return BUSY;
        if ((seen & WORD_WAITERS) == 0 && !atomic_compare_exchange_strong(word, &seen, seen | WORD_WAITERS))
            continue;
        futex_wait(word, seen | WORD_WAITERS, until - now);
    }
}

enum status exclusion_take(struct handle *handle, enum mode mode, bool *takeover) {
    enum status status = take_private(handle->private, mode);
    if (status != OK)
        return status;
    /* Asked again with the mutex held: another thread may just have left the segment, and a process without a slot
     * counts as dead. */
    status = private_is_attached(handle->private) ? take_word(handle, mode, takeover) : DETACHED;
    if (status != OK)
        pthread_mutex_unlock(&handle->private->mutex);
    return status;
}

void exclusion_give(struct handle *handle) {
    _Atomic uint32_t *word = &handle->header->lock_word;
    uint32_t mine = handle->word;
    uint32_t seen = mine;
    if (!atomic_compare_exchange_strong(word, &seen, 0)) {
        if (seen == (mine | WORD_WAITERS) && atomic_compare_exchange_strong(word, &seen, WORD_WAITERS)) {
            /* "Free, a waiter may sleep" stays until a wake has found no sleeper, so none is forgotten. */
            if (futex_wake_one(word) == 0) {
                seen = WORD_WAITERS;
                (void)atomic_compare_exchange_strong(word, &seen, 0);
            }
        } else {
            /* Not our word any more: another process took this one for dead, or the word was overwritten. */
            atomic_store(&handle->header->damaged, 1);
        }
    }
    pthread_mutex_unlock(&handle->private->mutex);
}
