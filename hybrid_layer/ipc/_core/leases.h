/* SPDX-License-Identifier: BSD-3-Clause */
/* Who of the machine reads from a server, and whether the server is lost to the machine. All of it without the lock, so
 * that a process that is stopped with the lock in hand holds no reader up.
 *
 * A lease saves connections, and nothing else depends on it.
 */
#pragma once

#include "handle.h"

/* The lease of a server: 0 if nobody has it, or who had it has died; else another number each time that its reader
 * renews it. */
uint64_t lease_of(struct handle *handle, uint32_t shard);

/* Takes the lease, or renews it, unless it is not what was `seen` any more. What it is now, or 0. */
uint64_t lease_take(struct handle *handle, uint32_t shard, uint64_t seen);

/* Gives the lease back, unless another process has taken it. */
void lease_drop(struct handle *handle, uint32_t shard, uint64_t seen);

/* How often a server was lost and came back: odd while it is lost. */
uint32_t outages_of(struct handle *handle, uint32_t shard);
void outage_set(struct handle *handle, uint32_t shard, bool is_lost);
