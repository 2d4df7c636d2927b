/* SPDX-License-Identifier: BSD-3-Clause */
/* Keeps the loops to wake, on the stack until they outgrow that. */
#include "wakeups.h"

#include <stdlib.h>
#include <string.h>

void wakeups_open(struct wakeups *wakeups) {
    wakeups->items = wakeups->few;
    wakeups->count = 0;
    wakeups->capacity = LOOPS;
}

void wakeups_close(struct wakeups *wakeups) {
    if (wakeups->items != wakeups->few)
        free(wakeups->items);
}

void wakeups_add(struct wakeups *wakeups, uint32_t slot, uint32_t generation, uint32_t loop, uint64_t state) {
    if (slot >= SLOTS || loop >= LOOPS)
        return;
    if (wakeups->count == wakeups->capacity) {
        struct wakeup *items = malloc(2 * wakeups->capacity * sizeof *items);
        if (items == NULL)
            return;
        memcpy(items, wakeups->items, wakeups->count * sizeof *items);
        wakeups_close(wakeups);
        wakeups->items = items;
        wakeups->capacity *= 2;
    }
    wakeups->items[wakeups->count++] = (struct wakeup){slot, generation, loop, SLEEP_OF(state)};
}

void wakeups_merge(struct wakeups *wakeups) {
    uint8_t seen[SLOTS] = {0}; /* a bit for each loop */
    uint32_t kept = 0;
    for (uint32_t i = 0; i < wakeups->count; i++) {
        struct wakeup wakeup = wakeups->items[i];
        uint8_t bit = (uint8_t)(1u << wakeup.loop);
        if ((seen[wakeup.slot] & bit) == 0)
            wakeups->items[kept++] = wakeup;
        seen[wakeup.slot] |= bit;
    }
    wakeups->count = kept;
}
