/* SPDX-License-Identifier: BSD-3-Clause */
/* Mutual exclusion: one thread of one process at a time is inside the segment, also after the owner of the lock has
 * died.
 *
 * linux/exclusion.c waits for the lock word with a futex; portable/exclusion.c is for systems without futexes. In both,
 * the word names the owner, and locks are acquired in this order:
 *
 *     the process's private mutex (private_page.mutex) -> what the other processes see
 */
#pragma once

#include "handle.h"

#define WAIT_NS 50000000ull

/* OK, or BUSY: not acquired at once with TRY and GLANCE, or within WAIT_NS with WAIT. TRY does not ask whether the
 * owner lives. *takeover: the owner died inside, and may have left anything half done. */
enum status exclusion_take(struct handle *handle, enum mode mode, bool *takeover);

/* If the word is not ours any more, it is left alone and the segment is marked damaged. */
void exclusion_give(struct handle *handle);
