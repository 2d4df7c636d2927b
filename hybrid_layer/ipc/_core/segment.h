/* A segment's life: made, attached, left. The caller holds the record lock on the lock file, so that one process at a
 * time makes, replaces or removes a segment; see segment.py. */
#pragma once

#include "handle.h"

/* Makes a segment in the empty object `fd`: size, reserved control part, header. Its processes are to hold their record
 * locks on `lock_fd`, which may be the same. The magic is stored last, so an unfinished segment is never attached.
 * NO_SHM or SYSTEM_ERROR. */
enum status segment_format(int fd, int lock_fd, uint64_t message_bytes, uint64_t group_bytes, const char *prefix,
                           const char *project, const char *machine, const uint64_t seed[2]);

/* Maps the segment and copies what is fixed. SYSTEM_ERROR, or DAMAGED with *reason naming what is wrong. */
enum status segment_map(int fd, int lock_fd, struct handle *handle, const char **reason);

/* Whether the part of the header that never changes is what it was when this process attached. */
bool segment_is_sealed(struct handle *handle);

/* Whether it is as large as it was. If it was truncated, touching what is missing ends the process (SIGBUS). */
bool segment_is_whole(struct handle *handle);

/* Has all its processes move to another segment. True for the one caller that does so first. */
bool segment_retire(struct handle *handle);

/* Unmaps the segment. For when no thread can be inside any more. */
void segment_unmap(struct handle *handle);

/* Notes that the server number `shard` has been flushed for the `flushes`-th time in this incarnation of its data. A
 * flush empties all servers, one after the other. True, for one caller on the machine and for the first server of which
 * it hears: that was news, so the local messages have to be flushed, too. Without the lock. */
bool segment_meet_remote_flush(struct handle *handle, uint32_t shard, uint32_t incarnation, uint32_t flushes);

/* Takes a slot and publishes it. NO_SLOT, BUSY, DAMAGED, SYSTEM_ERROR. */
enum status segment_join(struct handle *handle);

/* Gives the slot back with all that belongs to it. The mapping stays. */
enum status segment_leave(struct handle *handle);
