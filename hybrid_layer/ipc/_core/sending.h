/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages to groups. The segment lock is held in all of these. */
#pragma once

#include "handle.h"
#include "name.h"
#include "wakeups.h"

/* Capacity of a target that differs from the common one, because a pattern of channel_capacity matched its name. */
struct capacity_of {
    struct name target;
    uint32_t capacity;
};

/* Members of one target that get nothing. */
struct excluded {
    struct name target;
    const struct name *locals; /* none of them twice; of a normal channel an empty one */
    size_t locals_count;
    uint32_t pair; /* for the work: the pair that has no other members, or 0 */
};

struct group_send {
    struct name group;
    const void *payload;
    size_t size;
    uint32_t capacity; /* of every target that `others` does not name */
    const struct capacity_of *others;
    size_t others_count;
    /* Who is excluded. Here a queue gets no entry if all its members are. Of the others, the process leaves them out
     * that takes the entry: it reads the payload. */
    struct excluded *excluded;
    size_t excluded_count;
    uint64_t expiry_ns;
    uint32_t loan;     /* a filled payload chain, or 0 */
    bool is_forwarded; /* it came over a server, and its sender has counted it as sent */
    uint32_t dropped;  /* result: targets that were at capacity or found no memory */
    /* Between the two steps: */
    uint32_t reference, stored; /* the group, 0 there is none; and the payload */
    bool never_fits;            /* even an empty segment has no room for all */
    uint32_t served;            /* result: queues with members, whether the message fitted or not */
};

/* OK, NO_MEMORY (for the payload), GROW_MESSAGES or DAMAGED; members at capacity are counted. */
enum status group_send(struct handle *handle, struct group_send *send, struct wakeups *wakeups);

/* The same in two steps. The first one makes sure of all memory, and changes nothing that anybody sees: NO_MEMORY if
 * not all members could get the message, unless that will never be so. The second one is OK or DAMAGED. */
enum status group_send_prepare(struct handle *handle, struct group_send *send);
enum status group_send_perform(struct handle *handle, struct group_send *send, struct wakeups *wakeups);
