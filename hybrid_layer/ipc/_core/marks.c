/* SPDX-License-Identifier: BSD-3-Clause */
/* A bit for each block that an authority reaches, while a segment is repaired. */
#include "marks.h"

#include <stdlib.h>

#include "blocks.h"

/* How many blocks have memory behind them. Up to what this process knows that is certain; beyond, the kernel is asked.
 */
static uint32_t repair_reserved(struct handle *handle, struct area *area) {
    uint32_t known = atomic_load(&area->reserved), reserved = atomic_load(&area->books->reserved);
    if (reserved > area->blocks)
        reserved = area->blocks;
    if (reserved < known)
        reserved = known;
    atomic_store(&area->books->reserved, reserved);
    if (reserved > known && block_raw(handle, area, reserved - 1) == NULL) {
        reserved = known;
        atomic_store(&area->books->reserved, reserved);
    }
    return reserved;
}

bool marks_open(struct marks *marks, struct handle *handle, struct area *area) {
    marks->handle = handle;
    marks->area = area;
    marks->limit = repair_reserved(handle, area);
    marks->highest = 0;
    marks->bits = calloc(marks->limit / 8 + 1, 1);
    return marks->bits != NULL;
}

void marks_close(struct marks *marks) { free(marks->bits); }

bool marks_has(const struct marks *marks, uint32_t reference) {
    return reference < marks->limit && ((marks->bits[reference / 8] >> (reference % 8)) & 1) != 0;
}

static void mark(struct marks *marks, uint32_t reference) {
    marks->bits[reference / 8] |= (unsigned char)(1u << (reference % 8));
    if (reference > marks->highest)
        marks->highest = reference;
}

struct block *marks_fresh(struct marks *marks, uint32_t reference, uint8_t kind) {
    if (reference == 0 || reference >= marks->limit || marks_has(marks, reference))
        return NULL;
    return block_at(marks->handle, marks->area, reference, kind);
}

bool marks_add(struct marks *marks, uint32_t first, uint32_t blocks, uint32_t *last) {
    uint32_t at = first;
    if (blocks > marks->limit) /* a damaged size, and perhaps a chain that runs in a circle */
        return false;
    for (uint32_t count = 0; count < blocks; count++) {
        struct block *block = at < marks->limit ? block_raw(marks->handle, marks->area, at) : NULL;
        if (block == NULL || marks_has(marks, at) || (count > 0 && block->kind != KIND_TAIL))
            return false;
        if (last != NULL)
            *last = at;
        at = block->chain;
    }
    if (at != 0)
        return false;
    at = first;
    for (uint32_t count = 0; count < blocks; count++) {
        /* A chain that runs into itself has a marked block here before its end. */
        struct block *block = at < marks->limit ? block_raw(marks->handle, marks->area, at) : NULL;
        if (block == NULL || marks_has(marks, at))
            return false;
        mark(marks, at);
        at = block->chain;
    }
    return true;
}

void marks_remove(struct marks *marks, uint32_t first) {
    for (uint32_t at = first; at != 0 && marks_has(marks, at);) {
        struct block *block = block_raw(marks->handle, marks->area, at);
        marks->bits[at / 8] &= (unsigned char)~(1u << (at % 8));
        at = block != NULL ? block->chain : 0;
    }
}
