/* SPDX-License-Identifier: BSD-3-Clause */
/* Taking messages out: pop for normal channels, drain for inboxes. The segment lock is held in all of these.
 *
 * A payload of up to LARGE bytes is copied into the caller's buffer; a larger one goes on loan, for the caller to copy
 * without the lock. Nothing is taken out that does not fit.
 */
#pragma once

#include "handle.h"
#include "name.h"
#include "wakeups.h"

struct taken {
    char *buffer;
    size_t size;      /* of the buffer */
    size_t used;      /* with NO_SPACE: what it must hold */
    uint32_t loan;    /* NO_LOAN, or where the payload is */
    size_t loan_size; /* its size in bytes */
    bool left;        /* more is waiting */
    bool asleep;      /* of a pop: nothing is there, and the loop sleeps from now on */
};

/* One message of a normal channel. EMPTY: nothing there; the loop is now registered as a waiter, unless it is NO_LOOP,
 * and asleep, unless another of its channels is ready. Wakes another waiter if messages are left. */
enum status queue_pop(struct handle *handle, struct name name, uint32_t loop, struct taken *taken,
                      struct wakeups *wakeups);

/* Registers the loop as a waiter of a channel that may not exist yet. EMPTY: done. GONE: no such inbox. */
enum status queue_wait(struct handle *handle, struct name name, uint32_t loop);

/* What a drained message looks like in the buffer, followed by `names` local names (length and bytes each) and, unless
 * it is on loan, the payload. */
struct drained {
    uint64_t deadline; /* nanoseconds of CLOCK_MONOTONIC */
    uint32_t names;
    uint32_t names_size; /* bytes */
    uint32_t size;       /* of the payload */
    uint32_t is_loaned;
};

/* The oldest messages of the process's inbox, as many as fit. Unless some are left, the loop is registered as a waiter.
 * GONE: the inbox is not ours or not there. */
enum status inbox_drain(struct handle *handle, struct name name, uint32_t loop, struct taken *taken);
