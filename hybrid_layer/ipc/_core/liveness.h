/* Which processes live.
 *
 * From before its slot is published until it ends, a process holds a record lock on one byte of the segment's descriptor. The
 * kernel drops it at any death, a forked child does not inherit it, and it means the same in every pid namespace.
 */
#ifndef HYBRID_LIVENESS_H
#define HYBRID_LIVENESS_H

#include "handle.h"

/* Takes the byte of `slot`. EMPTY: another process has it. Also asserts a lock that is ours already. */
enum status liveness_claim(struct handle *handle, uint32_t slot);

/* Gives the byte back. */
void liveness_release(struct handle *handle, uint32_t slot);

/* Whether the process that held `slot` under `generation` is gone. Never asked for one's own slot: record locks do not
 * conflict inside a process. When in doubt (the descriptor is no longer ours) nobody is dead. */
bool liveness_is_dead(struct handle *handle, uint32_t slot, uint32_t generation);

/* Whether the descriptor still is the segment's, and *linked: whether the segment still has a name. */
bool liveness_descriptor_is_ours(struct handle *handle, bool *linked);

#endif
