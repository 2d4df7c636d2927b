/* SPDX-License-Identifier: BSD-3-Clause */
/* Wakeups: loops whose doorbells are rung once the lock is released. No doorbell is rung while other processes wait for
 * the lock. */
#pragma once

#include "layout.h"

struct wakeup {
    uint32_t slot, generation, loop, sleep;
};

struct wakeups {
    struct wakeup *items; /* `few` or allocated */
    uint32_t count, capacity;
    struct wakeup few[LOOPS];
};

void wakeups_open(struct wakeups *wakeups);
void wakeups_close(struct wakeups *wakeups);

/* Leaves each loop there once: several messages of one operation may have been for it. */
void wakeups_merge(struct wakeups *wakeups);

/* Adds a loop in this state. Out of memory it is left out, and finds its message in its housekeeping. */
void wakeups_add(struct wakeups *wakeups, uint32_t slot, uint32_t generation, uint32_t loop, uint64_t state);
