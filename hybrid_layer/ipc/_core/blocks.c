/* SPDX-License-Identifier: BSD-3-Clause */
/* References to memory and back, free lists, and growth by extents. */
#include "blocks.h"

#include <errno.h>
#include <string.h>

#include "liveness.h"
#include "memory.h"

#define TAIL_HEADER offsetof(struct tail, data)

/* Makes sure that memory is behind a part of the segment. An errno value. */
static int reserve(struct handle *handle, off_t from, off_t size) {
    bool linked;
    /* Code that closes all descriptors may have opened a file of its own under our number. */
    if (!liveness_descriptor_is_ours(handle, &linked))
        return EBADF;
    return memory_reserve(handle->fd, from, size);
}

/* Another process has perhaps grown the area. The number is believed only once the kernel has confirmed that memory is
 * there: touching a hole of a full /dev/shm is SIGBUS. An errno value. */
static int confirm(struct handle *handle, struct area *area, uint32_t known) {
    uint32_t reserved = atomic_load_explicit(&area->books->reserved, memory_order_acquire);
    if (reserved > area->blocks)
        reserved = area->blocks;
    if (reserved <= known)
        return 0;
    off_t from = area->file_offset + (off_t)known * (off_t)BLOCK;
    off_t size = (off_t)(reserved - known) * (off_t)BLOCK;
    int error = reserve(handle, from, size);
    if (error == 0)
        atomic_store_explicit(&area->reserved, reserved, memory_order_relaxed);
    return error;
}

static bool is_reserved(struct handle *handle, struct area *area, uint32_t reference) {
    uint32_t known = atomic_load_explicit(&area->reserved, memory_order_relaxed);
    if (reference < known)
        return true;
    return confirm(handle, area, known) == 0 && reference < atomic_load_explicit(&area->reserved, memory_order_relaxed);
}

enum status area_see(struct handle *handle, struct area *area) {
    int error = confirm(handle, area, atomic_load_explicit(&area->reserved, memory_order_relaxed));
    if (error == EBADF)
        return RETIRED;
    return error == 0 || error == ENOSPC || error == EDQUOT ? OK : BUSY;
}

void *block_raw(struct handle *handle, struct area *area, uint32_t reference) {
    if (reference == 0 || !is_reserved(handle, area, reference))
        return NULL;
    return area->base + (size_t)reference * BLOCK;
}

void *block_at(struct handle *handle, struct area *area, uint32_t reference, uint8_t kind) {
    struct block *block = block_raw(handle, area, reference);
    return block != NULL && block->kind == kind ? block : NULL;
}

void blocks_set_fresh(struct area_books *books, uint32_t fresh) {
    books->fresh = fresh;
    books->fresh_check = ~fresh;
}

enum status blocks_take(struct handle *handle, struct area *area, uint32_t count, uint32_t *first, uint32_t *last) {
    struct area_books *books = area->books;
    uint32_t fresh = books->fresh;
    uint32_t reserved = atomic_load_explicit(&books->reserved, memory_order_relaxed);
    if (reserved > area->blocks || fresh > (reserved > 0 ? reserved : 1) || books->fresh_check != ~fresh)
        return DAMAGED;
    uint32_t untouched = reserved > fresh ? reserved - fresh : 0;
    uint32_t from_free = books->free_count < count ? books->free_count : count;
    if (count - from_free > untouched)
        return area == &handle->groups ? GROW_GROUPS : GROW_MESSAGES;
    /* All blocks are there, so nothing below fails half-way on a sound segment; on a damaged one the rebuild collects
     * what was taken. */
    uint32_t head = 0, tail = 0;
    for (uint32_t taken = 0; taken < count; taken++) {
        uint32_t reference;
        struct block *block;
        if (taken < from_free) {
            reference = books->free_head;
            block = block_raw(handle, area, reference);
            if (block == NULL || (block->kind != KIND_FREE && block->kind != KIND_TAIL))
                return DAMAGED;
            books->free_head = block->chain;
            books->free_count--;
        } else {
            reference = books->fresh;
            blocks_set_fresh(books, reference + 1);
            block = block_raw(handle, area, reference);
            if (block == NULL)
                return DAMAGED;
        }
        block->chain = 0;
        block->kind = KIND_TAIL;
        if (tail == 0)
            head = reference;
        else
            ((struct block *)block_raw(handle, area, tail))->chain = reference;
        tail = reference;
    }
    *first = head;
    if (last != NULL)
        *last = tail;
    return OK;
}

bool blocks_give(struct handle *handle, struct area *area, uint32_t first, uint32_t last, uint32_t count) {
    struct area_books *books = area->books;
    struct block *head = block_raw(handle, area, first);
    struct block *tail = block_raw(handle, area, last);
    if (head == NULL || tail == NULL || tail->chain != 0)
        return false;
    /* The further blocks stay KIND_TAIL, which no reference accepts as a record: marking them would cost their number.
     */
    head->kind = KIND_FREE;
    tail->chain = books->free_head;
    books->free_head = first;
    books->free_count += count;
    return true;
}

bool blocks_give_chain(struct handle *handle, struct area *area, uint32_t first) {
    uint32_t last = first;
    for (uint32_t count = 1; count < area->blocks; count++) {
        struct block *block = block_raw(handle, area, last);
        if (block == NULL)
            return false;
        if (block->chain == 0)
            return blocks_give(handle, area, first, last, count);
        last = block->chain;
    }
    return false;
}

uint32_t blocks_for(size_t inline_size, size_t size) {
    if (size <= inline_size)
        return 1;
    size_t further = BLOCK - TAIL_HEADER;
    return 1u + (uint32_t)((size - inline_size + further - 1) / further);
}

/* Walks over the pieces of memory that hold `size` bytes from `offset` of a record's data. */
struct cursor {
    struct handle *handle;
    struct area *area;
    struct block *block;
    size_t begin; /* of the data in the block */
};

static bool cursor_open(struct cursor *cursor, uint32_t first, size_t data, size_t *offset) {
    cursor->block = block_raw(cursor->handle, cursor->area, first);
    cursor->begin = data;
    while (cursor->block != NULL && *offset >= BLOCK - cursor->begin) {
        *offset -= BLOCK - cursor->begin;
        cursor->begin = TAIL_HEADER;
        cursor->block = block_raw(cursor->handle, cursor->area, cursor->block->chain);
        if (cursor->block == NULL && *offset == 0)
            return true; /* the data ends exactly with its block, and so does what is asked for */
    }
    return cursor->block != NULL;
}

/* The next piece, at most `size` bytes, or NULL if the chain ends too early. The number of steps is bounded by size. */
static unsigned char *cursor_next(struct cursor *cursor, size_t offset, size_t size, size_t *length) {
    if (cursor->block == NULL)
        return NULL;
    size_t room = BLOCK - cursor->begin - offset;
    *length = size < room ? size : room;
    unsigned char *piece = (unsigned char *)cursor->block + cursor->begin + offset;
    cursor->begin = TAIL_HEADER;
    if (*length < size)
        cursor->block = block_raw(cursor->handle, cursor->area, cursor->block->chain);
    return piece;
}

/* Goes over what a record and the caller's bytes have in common, piece by piece, as long as `each` agrees. */
static inline bool each_piece(struct handle *handle, struct area *area, uint32_t first, size_t data, size_t offset,
                              unsigned char *bytes, size_t size,
                              bool (*each)(unsigned char *piece, unsigned char *bytes, size_t length)) {
    struct cursor cursor = {handle, area, NULL, 0};
    if (size == 0)
        return true;
    if (!cursor_open(&cursor, first, data, &offset))
        return false;
    while (size > 0) {
        size_t length;
        unsigned char *piece = cursor_next(&cursor, offset, size, &length);
        if (piece == NULL || !each(piece, bytes, length))
            return false;
        bytes += length;
        size -= length;
        offset = 0;
    }
    return true;
}

static inline bool copy_in(unsigned char *piece, unsigned char *bytes, size_t length) {
    memcpy(piece, bytes, length);
    return true;
}

static inline bool copy_out(unsigned char *piece, unsigned char *bytes, size_t length) {
    memcpy(bytes, piece, length);
    return true;
}

static inline bool is_equal(unsigned char *piece, unsigned char *bytes, size_t length) {
    return memcmp(piece, bytes, length) == 0;
}

bool data_write(struct handle *handle, struct area *area, uint32_t first, size_t data, size_t offset, const void *from,
                size_t size) {
    return each_piece(handle, area, first, data, offset, (unsigned char *)from, size, copy_in);
}

bool data_read(struct handle *handle, struct area *area, uint32_t first, size_t data, size_t offset, void *to,
               size_t size) {
    return each_piece(handle, area, first, data, offset, to, size, copy_out);
}

bool data_equals(struct handle *handle, struct area *area, uint32_t first, size_t data, const void *bytes,
                 size_t size) {
    return each_piece(handle, area, first, data, 0, (unsigned char *)bytes, size, is_equal);
}

enum status area_grow(struct handle *handle, struct area *area) {
    uint32_t reserved = atomic_load_explicit(&area->books->reserved, memory_order_acquire);
    uint32_t extent = EXTENT / BLOCK;
    if (reserved >= area->blocks)
        return area == &handle->groups ? NO_GROUP_MEMORY : NO_MEMORY;
    uint32_t wanted = area->blocks - reserved < extent ? area->blocks : reserved + extent;
    off_t from = area->file_offset + (off_t)reserved * (off_t)BLOCK;
    off_t size = (off_t)(wanted - reserved) * (off_t)BLOCK;
    int error = reserve(handle, from, size);
    if (error == ENOSPC || error == ENOMEM || error == EDQUOT)
        return NO_SHM;
    if (error == EBADF)
        return RETIRED;
    if (error != 0) {
        errno = error;
        return SYSTEM_ERROR;
    }
    /* Two processes may grow at once: both have reserved the same extent, and one of them publishes it. */
    atomic_compare_exchange_strong(&area->books->reserved, &reserved, wanted);
    return OK;
}
