/* SPDX-License-Identifier: BSD-3-Clause */
/* The segment's lock, which survives the death of its owner: the next owner repairs what the dead one left.
 *
 * It is a leaf lock. Its owner waits for nothing, touches no Python object and does not ask for the interpreter's lock:
 * one busy thread of one process would otherwise stall every process of the machine. exclusion.h decides which thread
 * may be inside.
 */
#pragma once

#include "handle.h"

/* OK, BUSY (not acquired at once with TRY, or within 50 ms with WAIT), DETACHED, or DAMAGED when a necessary rebuild
 * failed. If the owner was dead, the segment has been repaired before this returns. What this process cannot see it
 * leaves to others: BUSY, RETIRED. */
enum status lock_take(struct handle *handle, enum mode mode);

void lock_give(struct handle *handle);
