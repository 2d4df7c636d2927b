/* The segment's lock, which survives the death of its owner: who comes next repairs what it left.
 *
 * It is a leaf lock. While it is held nothing waits, no Python object is touched and the interpreter's lock is not
 * asked for: one busy thread of one process would otherwise stall every process of the machine. Who may be inside is
 * decided by exclusion.h.
 */
#ifndef HYBRID_LOCK_H
#define HYBRID_LOCK_H

#include "handle.h"

/* OK, BUSY (not had at once with TRY, or within 50 ms with WAIT), DETACHED, or DAMAGED when a necessary rebuild failed.
 * A lock taken from a dead owner has been repaired before this returns; what this process cannot see it leaves to
 * others: BUSY, RETIRED. */
enum status lock_take(struct handle *handle, enum mode mode);

void lock_give(struct handle *handle);

#endif
