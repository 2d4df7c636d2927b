/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages, and the payloads that several entries share: made and freed, in no queue. The segment lock is held in all
 * of these. */
#pragma once

#include "handle.h"
#include "name.h"

#define MESSAGE_DATA offsetof(struct message, data)
#define PAYLOAD_DATA offsetof(struct payload, data)

/* What is pushed into a queue, and by which of the sender's rules. */
struct push {
    struct name channel; /* for an inbox up to and including "!" */
    struct name local;   /* what follows the "!" */
    const void *payload;
    size_t size;
    uint32_t capacity;
    uint64_t expiry_ns;
    uint32_t loan;          /* a filled chain (see loans.h) with local and payload in it, or 0 */
    bool is_one_of_several; /* if it finds no room, it is pushed by itself: only that is counted */
};

/* What stands in a queue at this place, a message or an entry, or NULL. */
struct message *message_at(struct handle *handle, uint32_t reference);

/* Takes the blocks of a message, whose data are to be written. OK, NO_MEMORY, GROW_MESSAGES or DAMAGED. */
enum status message_reserve(struct handle *handle, size_t local_length, size_t size, uint32_t *reference);

/* A message in no queue yet. Returns the same as message_reserve. */
enum status message_new(struct handle *handle, const struct push *push, uint64_t now, uint32_t *reference);

/* Frees a message or entry that is in no queue. */
bool message_free(struct handle *handle, uint32_t reference);

/* Takes the blocks of a payload, whose data are to be written. It has one reference, the caller's own. Returns the same
 * as message_reserve. */
enum status payload_reserve(struct handle *handle, size_t size, uint32_t *reference);

/* The same with its data. `loan` is a filled chain, or 0. */
enum status payload_new(struct handle *handle, const void *bytes, size_t size, uint32_t loan, uint32_t *reference);

/* Gives one reference back; the last one frees the payload. */
bool payload_release(struct handle *handle, uint32_t reference);
