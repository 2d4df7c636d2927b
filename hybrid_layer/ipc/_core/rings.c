/* A list of loops to ring, on the stack until it outgrows that. */
#include "rings.h"

#include <stdlib.h>
#include <string.h>

void rings_open(struct rings *rings) {
    rings->items = rings->few;
    rings->count = 0;
    rings->capacity = LOOPS;
}

void rings_close(struct rings *rings) {
    if (rings->items != rings->few)
        free(rings->items);
}

void rings_add_loop(struct rings *rings, uint32_t slot, uint32_t generation, uint32_t loop, uint64_t state) {
    if (slot >= SLOTS || loop >= LOOPS)
        return;
    if (rings->count == rings->capacity) {
        struct ring *items = malloc(2 * rings->capacity * sizeof *items);
        if (items == NULL)
            return;
        memcpy(items, rings->items, rings->count * sizeof *items);
        rings_close(rings);
        rings->items = items;
        rings->capacity *= 2;
    }
    rings->items[rings->count++] = (struct ring){slot, generation, loop, SLEEP_OF(state)};
}
