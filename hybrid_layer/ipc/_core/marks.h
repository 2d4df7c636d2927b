/* SPDX-License-Identifier: BSD-3-Clause */
/* Blocks that an authority has been found to reach, one bit each, in private memory: the rebuild's notes. */
#pragma once

#include "handle.h"

struct marks {
    struct handle *handle;
    struct area *area;
    unsigned char *bits;
    uint32_t limit;   /* blocks below this number have memory behind them */
    uint32_t highest; /* the highest one reached */
};

/* None yet. Repairs the area's number of reserved blocks. False: no private memory. */
bool marks_open(struct marks *marks, struct handle *handle, struct area *area);
void marks_close(struct marks *marks);

bool marks_has(const struct marks *marks, uint32_t reference);

/* An unmarked block of that kind, or NULL. */
struct block *marks_fresh(struct marks *marks, uint32_t reference, uint8_t kind);

/* Marks a record of `blocks` blocks if all of its chain is there and belongs to no other record; *last, unless NULL,
 * is its last one. */
bool marks_add(struct marks *marks, uint32_t first, uint32_t blocks, uint32_t *last);

void marks_remove(struct marks *marks, uint32_t first);
