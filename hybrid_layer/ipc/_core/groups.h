/* Groups. The segment lock is held in all of these.
 *
 * A group has one `pair` for each queue that has members in it, and a pair one `member` for each channel. A group send
 * stores its payload once and one entry for each pair: what it costs is processes, not members. The process that drains
 * the entry finds the members, by the sequence numbers at which they joined and left.
 */
#pragma once

#include "handle.h"
#include "name.h"
#include "wakeups.h"

/* Capacity of a target that differs from the common one, because a pattern of channel_capacity matched its name. */
struct capacity_of {
    struct name target;
    uint32_t capacity;
};

struct group_send {
    struct name group;
    const void *payload;
    size_t size;
    uint32_t capacity; /* of every target that `others` does not name */
    const struct capacity_of *others;
    size_t others_count;
    uint64_t expiry_ns;
    uint32_t loan;     /* a filled payload chain, or 0 */
    bool is_forwarded; /* it came over a server, and its sender has counted it as sent */
    uint32_t dropped;  /* result: targets that were at capacity or found no memory */
    /* Between the two steps: */
    uint32_t reference, stored; /* the group, 0 there is none; and the payload */
    bool never_fits;            /* even an empty segment has no room for all */
    uint32_t served;            /* result: queues with members, whether the message fitted or not */
};

#define NO_SHARD REMOTE_SHARDS /* or any higher number */

struct joining {
    struct name group, target, local;
    uint64_t expiry_ns;
    uint32_t shard;   /* the group's home, or NO_SHARD */
    bool is_restored; /* it was a member before the segment lost it, or in another segment */
    bool is_new;      /* result: it was no member */
    bool is_recorded; /* result: the group's record is valid until the membership ends */
    uint64_t epoch;   /* result: of the segment */
};

/* OK, NO_MEMORY (the group area is full), GROW_GROUPS, GROW_MESSAGES, DAMAGED. A process-specific channel whose process
 * is not here joins nothing, which is OK. */
enum status group_add(struct handle *handle, struct joining *joining);

enum status group_discard(struct handle *handle, struct name group, struct name target, struct name local);

/* OK, NO_MEMORY (for the payload), GROW_MESSAGES or DAMAGED; members at capacity are counted. */
enum status group_send(struct handle *handle, struct group_send *send, struct wakeups *wakeups);

/* The same in two steps. The first one makes sure of all memory, and changes nothing that anybody sees: NO_MEMORY if
 * not all members could get the message, unless that will never be so. The second one is OK or DAMAGED. */
enum status group_send_prepare(struct handle *handle, struct group_send *send);
enum status group_send_perform(struct handle *handle, struct group_send *send, struct wakeups *wakeups);

/* Writes the names of the group's targets as length and bytes each. NO_SPACE with the size that is needed in *used. */
enum status group_targets(struct handle *handle, struct name group, char *names, size_t size, size_t *used);

/* Writes the local names of the members that get this entry, as length and bytes each. */
enum status group_recipients(struct handle *handle, const struct entry *entry, char *names, size_t size, size_t *used,
                             uint32_t *members);

/* Ends expired memberships in a few buckets, and frees groups whose records have ended. */
enum status groups_sweep(struct handle *handle, uint32_t buckets);
