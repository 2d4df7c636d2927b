/* SPDX-License-Identifier: BSD-3-Clause */
/* Groups. The segment lock is held in all of these.
 *
 * A group has one `pair` for each queue that has members in it, and a pair one `member` for each channel. A group send
 * stores its payload once and one entry for each pair: what it costs is processes, not members. The process that drains
 * the entry finds the members, by the sequence numbers at which they joined and left.
 */
#pragma once

#include "handle.h"
#include "name.h"

#define NO_SHARD REMOTE_SHARDS /* or any higher number */

struct joining {
    struct name group, target, local;
    uint64_t expiry_ns;
    uint32_t shard;   /* the group's home, or NO_SHARD */
    bool is_restored; /* it was a member, in `epoch`, before the segment lost it, or in another segment */
    bool is_new;      /* result: it was no member */
    bool is_recorded; /* result: the group's record is valid until the membership ends */
    uint64_t epoch;   /* result: of the segment */
};

/* OK, NO_MEMORY (the group area is full), GROW_GROUPS, GROW_MESSAGES, DAMAGED. A process-specific channel whose process
 * is not here joins nothing, which is OK. */
enum status group_add(struct handle *handle, struct joining *joining);

enum status group_discard(struct handle *handle, struct name group, struct name target, struct name local);

/* Writes the names of the group's targets as length and bytes each. NO_SPACE with the size that is needed in *used. */
enum status group_targets(struct handle *handle, struct name group, char *names, size_t size, size_t *used);

/* Writes the local names of the group's members in one target, as group_targets does. With `ends`, ends all of them
 * once they fit. */
enum status group_members(struct handle *handle, struct name group, struct name target, bool ends, char *names,
                          size_t size, size_t *used);

/* Writes the local names of the members that get this entry, as length and bytes each. */
enum status group_recipients(struct handle *handle, const struct entry *entry, char *names, size_t size, size_t *used,
                             uint32_t *members);

/* Frees the expired memberships of a pair, and what they alone have kept in being. OK or DAMAGED. */
enum status group_expire_pair(struct handle *handle, uint32_t reference, struct pair *pair, uint64_t now);

/* Ends expired memberships in a few buckets, and frees groups whose records have ended. */
enum status groups_sweep(struct handle *handle, uint32_t buckets);
