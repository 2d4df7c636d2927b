/* SPDX-License-Identifier: BSD-3-Clause */
/* Large payloads are copied outside the lock: no process should wait for the first touch of a megabyte.
 *
 * A loan keeps a chain of blocks in the name of a process while the process copies. It is freed when the process ends.
 */
#pragma once

#include "handle.h"
#include "name.h"

#define NO_LOAN UINT32_MAX

/* Takes the blocks for a message (with its local part) or a payload; its header fields but for `kind` are filled. OK,
 * NO_SLOT (all loans are in use), NO_MEMORY, GROW_MESSAGES, DAMAGED. */
enum status loan_reserve(struct handle *handle, size_t local_length, size_t size, bool is_payload, uint32_t *loan);

/* Copies the data into a reserved chain. Without the lock. */
bool loan_fill(struct handle *handle, uint32_t loan, struct name local, const void *payload, size_t size,
               bool is_payload);

/* Lends a message that is taken off its queue, or a reference to a payload. NO_SLOT if all loans are in use. */
enum status loan_keep(struct handle *handle, uint32_t reference, uint32_t *loan);

/* Reads `size` bytes of what is kept. Without the lock. */
bool loan_read(struct handle *handle, uint32_t loan, void *to, size_t size);

/* Notes a loan of ours that could not be cleared now; the next thread of this process that needs one clears it. Without
 * the lock. */
void loan_abandon(struct handle *handle, uint32_t loan);

/* The chain that is lent, or 0 for NO_LOAN. False: a rebuild has dropped it as inconsistent. */
bool loan_block(struct handle *handle, uint32_t loan, uint32_t *block);

/* Forgets a loan, if it is one, whose chain was linked into a queue. */
void loan_forget(struct handle *handle, uint32_t loan);

/* Frees what is on loan in any slot. */
bool loan_clear(struct handle *handle, uint32_t slot, uint32_t loan);
