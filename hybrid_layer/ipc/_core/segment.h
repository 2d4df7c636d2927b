/* SPDX-License-Identifier: BSD-3-Clause */
/* A segment's life: made, attached, left. The caller holds the record lock on the lock file, so that one process at a
 * time makes, replaces or removes a segment; see segment.py. */
#pragma once

#include "handle.h"
#include "shards.h"

/* What a segment begins with. */
struct beginning {
    uint64_t message_bytes, group_bytes;
    const char *prefix, *project, *machine;
    uint64_t seed[2];
    bool is_successor;               /* of one that its processes have left or are about to leave */
    const struct heritage *heritage; /* of that one, or NULL */
};

/* Makes a segment in the empty object `fd`: size, reserved control part, header. Its processes are to hold their record
 * locks on `lock_fd`, which may be the same. The magic is stored last, so an unfinished segment is never attached.
 * NO_SHM or SYSTEM_ERROR. */
enum status segment_format(int fd, int lock_fd, const struct beginning *beginning);

/* Maps the segment and copies what is fixed. SYSTEM_ERROR, or DAMAGED with *reason naming what is wrong. */
enum status segment_map(int fd, int lock_fd, struct handle *handle, const char **reason);

/* The same for an observer, which never joins: `fd` and the mapping are for reading only. */
enum status segment_map_to_observe(int fd, int lock_fd, struct handle *handle, const char **reason);

/* Whether the part of the header that never changes is what it was when this process attached. */
bool segment_is_sealed(struct handle *handle);

/* Whether it is as large as it was. If it was truncated, touching what is missing ends the process (SIGBUS). */
bool segment_is_whole(struct handle *handle);

/* Has all its processes move to another segment. True for the one caller that does so first. */
bool segment_retire(struct handle *handle);

/* Unmaps the segment. For when no thread can be inside any more. */
void segment_unmap(struct handle *handle);

/* Takes a slot and publishes it. NO_SLOT, BUSY, DAMAGED, SYSTEM_ERROR. */
enum status segment_join(struct handle *handle);

/* Gives the slot back with all that belongs to it. The mapping stays. */
enum status segment_leave(struct handle *handle);

/* What the successor of this segment, which is retired, begins with. Acquires the lock of the retired segment, so that
 * nothing can be taken in here afterwards; also for a process without a slot in it. BUSY, DAMAGED (the header cannot be
 * believed), STALE (it is not retired), NO_SLOT, SYSTEM_ERROR, and what exclusion_take returns. */
enum status segment_bequeath(struct handle *handle, struct heritage *heritage);
