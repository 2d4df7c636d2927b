/* Who is inside the segment: one thread of one process at a time, also after the death of the one before.
 *
 * linux/exclusion.c waits for the lock word with a futex; portable/exclusion.c is for systems that have none. Either
 * way the word names the owner, and the order is
 *
 *     the process's private mutex (private_page.mutex) -> what the other processes see
 */
#ifndef HYBRID_EXCLUSION_H
#define HYBRID_EXCLUSION_H

#include "handle.h"

#define WAIT_NS 50000000ull

/* OK, or BUSY: not had at once with TRY and GLANCE, or within WAIT_NS with WAIT. TRY does not ask whether the owner
 * lives. *takeover: its owner vanished inside, and may have left anything behind. */
enum status exclusion_take(struct handle *handle, enum mode mode, bool *takeover);

/* If the word is not ours any more, it is left alone and the segment is marked damaged. */
void exclusion_give(struct handle *handle);

#endif
