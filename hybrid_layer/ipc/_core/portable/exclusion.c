/* SPDX-License-Identifier: BSD-3-Clause */
/* Uses a record lock in place of the lock word: the system drops it at any death. */
#include "exclusion.h"

#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "liveness.h"
#include "memory.h"

#define SHORTEST_PAUSE_NS 20000ull
#define LONGEST_PAUSE_NS 1000000ull

/* One byte of the file that bears the record locks stands for the whole segment. The kernel frees it at any death, so a
 * waiter need not ask whether the owner lives. */
static int record(struct handle *handle, short type) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = EXCLUSION_BYTE, .l_len = 1};
    return record_lock(handle->lock_fd, F_SETLK, &lock);
}

static enum status take_record(struct handle *handle) {
    bool linked;
    int result = record(handle, F_WRLCK);
    bool is_taken = result != 0 && (errno == EACCES || errno == EAGAIN);
    /* Code that closes all descriptors may have opened a file of its own under our number: a lock on that file excludes
     * no other process. */
    if (!liveness_descriptor_is_ours(handle, &linked))
        return RETIRED;
    return result == 0 ? OK : is_taken ? BUSY : SYSTEM_ERROR;
}

/* By repeated tries: pthread_mutex_timedlock is not everywhere, and F_SETLKW knows no time. */
static enum status take_both(struct handle *handle, enum mode mode) {
    pthread_mutex_t *mutex = &handle->private->mutex;
    uint64_t until = now_ns() + WAIT_NS;
    uint64_t pause = SHORTEST_PAUSE_NS;
    for (bool has_mutex = false;;) {
        has_mutex = has_mutex || pthread_mutex_trylock(mutex) == 0;
        /* Asked again with the mutex held: another thread may just have left the segment, and a process without a slot
         * counts as dead. */
        enum status status = !has_mutex ? BUSY : private_is_attached(handle->private) ? take_record(handle) : DETACHED;
        if (status == OK)
            return OK;
        if (status != BUSY || mode != WAIT || now_ns() >= until) {
            if (has_mutex)
                pthread_mutex_unlock(mutex);
            return status;
        }
        struct timespec time = {.tv_sec = 0, .tv_nsec = (long)pause};
        nanosleep(&time, NULL);
        pause = pause * 2 < LONGEST_PAUSE_NS ? pause * 2 : LONGEST_PAUSE_NS;
    }
}

enum status exclusion_take(struct handle *handle, enum mode mode, bool *takeover) {
    enum status status = take_both(handle, mode);
    if (status == OK)
        *takeover = atomic_exchange(&handle->header->lock_word, handle->word) != 0;
    return status;
}

void exclusion_give(struct handle *handle) {
    uint32_t seen = handle->word;
    if (!atomic_compare_exchange_strong(&handle->header->lock_word, &seen, 0))
        atomic_store(&handle->header->damaged,
                     1); /* another process took this one for dead, or the word was overwritten */
    (void)record(handle, F_UNLCK);
    pthread_mutex_unlock(&handle->private->mutex);
}
