/* Large payloads are copied outside the lock: nobody should wait for the first touch of a megabyte.
 *
 * A hold keeps a chain of blocks in the name of a process while that copies. It goes with the process.
 */
#ifndef HYBRID_HOLDS_H
#define HYBRID_HOLDS_H

#include "handle.h"
#include "name.h"

#define NO_HOLD UINT32_MAX

/* Takes the blocks for a message (with its local part) or a payload; its header fields but for `kind` are filled. OK,
 * NO_SLOT (all holds are in use), NO_MEMORY, GROW_MESSAGES, DAMAGED. */
enum status hold_reserve(struct handle *handle, size_t local_length, size_t size, bool is_payload, uint32_t *hold);

/* Copies the data into a reserved chain. Without the lock. */
bool hold_fill(struct handle *handle, uint32_t hold, struct name local, const void *payload, size_t size,
               bool is_payload);

/* Puts a message that was taken off its queue, or a reference to a payload, into a hold. NO_SLOT if all are in use. */
enum status hold_keep(struct handle *handle, uint32_t reference, uint32_t *hold);

/* Reads `size` bytes of what is kept. Without the lock. */
bool hold_read(struct handle *handle, uint32_t hold, void *to, size_t size);

/* Notes a hold of ours that could not be cleared now; whoever of this process takes one next clears it. Without the
 * lock. */
void hold_abandon(struct handle *handle, uint32_t hold);

uint32_t hold_block(struct handle *handle, uint32_t hold);

/* Forgets a hold whose chain was linked into a queue. */
void hold_forget(struct handle *handle, uint32_t hold);

/* Frees what is in a hold of any slot. */
bool hold_clear(struct handle *handle, uint32_t slot, uint32_t hold);

#endif
