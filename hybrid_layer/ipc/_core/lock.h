/* The segment's lock: a futex word that survives the death of its owner.
 *
 * It is a leaf lock. While it is held nothing waits, no Python object is touched and the interpreter's lock is not asked for:
 * one busy thread of one process would otherwise stall every process of the machine. The order is
 *
 *     the process's private mutex (private_page.mutex) -> the lock word
 *
 * and both are held from lock_take to lock_give. With the private mutex in hand no other thread of this process is inside, so
 * who finds its own slot in the word knows that the word was left by a thread that vanished, and takes over.
 */
#ifndef HYBRID_LOCK_H
#define HYBRID_LOCK_H

#include "handle.h"

/* OK, BUSY (not had at once with TRY, or within 50 ms with WAIT), DETACHED, or DAMAGED when a necessary rebuild failed. A lock
 * taken from a dead owner has been repaired before this returns. */
enum status lock_take(struct handle *handle, enum mode mode);

void lock_give(struct handle *handle);

#endif
