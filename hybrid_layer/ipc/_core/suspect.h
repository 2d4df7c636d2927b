/* SPDX-License-Identifier: BSD-3-Clause */
/* A dead process that an operation meets in the middle of its work.
 *
 * What a dead process leaves may be anything that the operation walks over. So the operation goes on as if that process
 * were not there, and operations.c reaps it when the work is done. One is remembered at a time; further ones are met
 * again by the next operation, or found by the next housekeeping.
 */
#pragma once

#include "handle.h"

/* Whether a process other than this one is dead; if so, it is the operation's suspect from here on. Called with the
 * segment lock. False for a slot out of range: no process was ever there. */
bool suspect_is_dead(struct handle *handle, uint32_t slot, uint32_t generation);
