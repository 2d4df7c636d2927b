/* SPDX-License-Identifier: BSD-3-Clause */
/* Which processes live.
 *
 * From before its slot is published until it ends, a process holds a record lock on one byte of a file: of the
 * segment itself, or where shared-memory objects take no record locks, of the lock file. The kernel drops it at any
 * death, a forked child does not inherit it, and it means the same in every pid namespace.
 */
#pragma once

#include "handle.h"

#include <errno.h>
#include <fcntl.h>

#define FIRST_BYTE ((off_t)1 << 40)     /* of slot 0; far above all data, where no other code locks */
#define EXCLUSION_BYTE (FIRST_BYTE - 1) /* held by the process inside, where there is no futex */

/* fcntl, again when a signal has interrupted it. */
static inline int record_lock(int fd, int command, struct flock *lock) {
    int result;
    do
        result = fcntl(fd, command, lock);
    while (result != 0 && errno == EINTR);
    return result;
}

/* Takes the byte of `slot`. EMPTY: another process has it. Also asserts a lock that is ours already. */
enum status liveness_claim(struct handle *handle, uint32_t slot);

/* Gives the byte back. */
void liveness_release(struct handle *handle, uint32_t slot);

/* Whether the process that held `slot` under `generation` is gone. Never asked for one's own slot: record locks do not
 * conflict inside a process. When in doubt (the descriptor is no longer ours) the process lives. */
bool liveness_is_dead(struct handle *handle, uint32_t slot, uint32_t generation);

/* The process that holds the byte of `slot`, as it is called in the caller's pid namespace; 0: none, or none of that
 * namespace. For people only. */
pid_t liveness_pid(struct handle *handle, uint32_t slot);

/* The same for the first byte of any file. */
pid_t record_lock_pid(int fd);

/* Whether no other process holds any slot of the segment, of any layout version, whose record locks are on this file.
 * When in doubt, one does. */
bool liveness_is_alone(int lock_fd);

/* Whether the descriptor still is that file's, and *linked: whether the file still has a name. */
bool liveness_descriptor_is_ours(struct handle *handle, bool *linked);
