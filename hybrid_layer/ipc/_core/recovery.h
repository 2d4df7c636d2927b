/* SPDX-License-Identifier: BSD-3-Clause */
/* Recovery: everything derived is made anew from the authorities.
 *
 * Runs with the lock held, after its owner died or an operation met inconsistent data. It is idempotent: a death in the
 * middle leaves the segment dirty, and the next owner starts over. What no authority reaches is free; what is reached
 * twice or makes no sense is cut off and counted as damaged. Waiters are dropped: each process sees `rebuilds` move and
 * registers anew, and the caller rings every loop.
 */
#pragma once

#include "handle.h"

/* False: not even this helps (no private memory for the marks). */
bool recovery_rebuild(struct handle *handle);
