/* Loops to ring once the lock is given back: a doorbell is not written to while others wait for it. */
#ifndef HYBRID_RINGS_H
#define HYBRID_RINGS_H

#include "layout.h"

struct ring {
    uint32_t slot, generation, loop, sleep;
};

struct rings {
    struct ring *items; /* `few` or allocated */
    uint32_t count, capacity;
    struct ring few[LOOPS];
};

void rings_open(struct rings *rings);
void rings_close(struct rings *rings);

/* Adds a loop in this state. Out of memory it is left out, and finds its message when it looks around. */
void rings_add_loop(struct rings *rings, uint32_t slot, uint32_t generation, uint32_t loop, uint64_t state);

#endif
