/* SPDX-License-Identifier: BSD-3-Clause */
/* Blocks: references checked, allocated, freed, filled and read.
 *
 * This is the only way from a reference to memory. Each function that returns NULL or false has met inconsistent data;
 * the caller stops and returns DAMAGED.
 */
#pragma once

#include "handle.h"

/* A length that is checked and then used is read once: in between, a stray write may change it. */
static inline size_t read_length(const uint8_t *length) { return *(const volatile uint8_t *)length; }

/* Writes a new value of an authority so that all that was stored before is in memory before it. */
static inline void commit(uint32_t *field, uint32_t value) {
    atomic_signal_fence(memory_order_seq_cst);
    *(volatile uint32_t *)field = value;
    atomic_signal_fence(memory_order_seq_cst);
}

/* The block if the reference is in range and of that kind, else NULL. */
void *block_at(struct handle *handle, struct area *area, uint32_t reference, uint8_t kind);

/* The block whatever its kind, or NULL if the reference is out of range: never NULL for what this operation has found
 * or made, whatever a stray write may have done to the block's kind since. */
void *block_raw(struct handle *handle, struct area *area, uint32_t reference);

/* Takes `count` free blocks, chained, in *first and *last; all or none. */
enum status blocks_take(struct handle *handle, struct area *area, uint32_t count, uint32_t *first, uint32_t *last);

/* Stores from which block on none was ever used. */
void blocks_set_fresh(struct area_books *books, uint32_t fresh);

/* Gives a chain of `count` blocks back. Costs the same for any length. */
bool blocks_give(struct handle *handle, struct area *area, uint32_t first, uint32_t last, uint32_t count);

/* The same for a chain of unknown length. */
bool blocks_give_chain(struct handle *handle, struct area *area, uint32_t first);

/* How many blocks a record takes whose first block holds `inline_size` bytes of data. */
uint32_t blocks_for(size_t inline_size, size_t size);

/* Writes or reads `size` bytes from `offset` of a record's data, which begins in its first block at `data`. */
bool data_write(struct handle *handle, struct area *area, uint32_t first, size_t data, size_t offset, const void *from,
                size_t size);
bool data_read(struct handle *handle, struct area *area, uint32_t first, size_t data, size_t offset, void *to,
               size_t size);

/* Whether a record's data begins with these bytes. */
bool data_equals(struct handle *handle, struct area *area, uint32_t first, size_t data, const void *bytes, size_t size);

/* Reserves the area's next extent of memory. Called without the lock. NO_MEMORY, NO_GROUP_MEMORY, NO_SHM, RETIRED: to
 * this process, which has lost its descriptor and has to attach anew. */
enum status area_grow(struct handle *handle, struct area *area);

/* Learns how far other processes have grown the area; a reference beyond that is damage. BUSY: the kernel cannot tell
 * now. RETIRED: as above. */
enum status area_see(struct handle *handle, struct area *area);
