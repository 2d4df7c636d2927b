/* SPDX-License-Identifier: BSD-3-Clause */
/* What dead processes and time leave behind. The segment lock is held in all of these. */
#pragma once

#include "handle.h"

/* A few times a second one process, whichever sends or receives first, looks for dead processes, drops the expired
 * messages and memberships of some buckets, and looks at some memberships for damage. */
enum status housekeep(struct handle *handle);

/* Frees what the dead process left that the operation has met, if it has met one. Never called in the middle of a walk:
 * what the process leaves may be anything that others walk over. */
void reap_suspect(struct handle *handle);

/* Frees everything that belongs to a slot: inboxes with their memberships, waiters, loans. */
enum status slot_clear(struct handle *handle, uint32_t slot);
