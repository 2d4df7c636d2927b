/* SPDX-License-Identifier: BSD-3-Clause */
/* What a tool sees of a segment, in which it has no slot.
 *
 * An observer stores nothing and takes no lock, so it can hold nobody up, whether it is slow, stopped or killed. It
 * reads a small part, and then asks whether the lock was free all the time: the number of acquisitions is the same as
 * before. If not, it reads again, later a smaller part. What it reads meanwhile may be nonsense, so each reference is
 * checked, as everywhere. An owner of the lock that is dead changes nothing either: then what it left is read as it is.
 *
 * Each returns OK, BUSY (others hold the lock all the time; its owner is perhaps stopped), DAMAGED (what is there makes
 * no sense) or RETIRED.
 */
#pragma once

#include "handle.h"
#include "name.h"

#define OBSERVED_BUCKETS 512u /* most that are read in one step */

/* A list of records, each with its name behind it. */
struct sight {
    char *buffer;
    size_t size, used; /* used > size: it did not fit, and NO_SPACE is returned */
};

struct seen_channel {
    uint32_t owner, owner_generation; /* of an inbox: slot + 1; 0 for a normal channel */
    uint32_t unread;                  /* messages that have not expired */
    uint32_t oldest_ms;               /* for how long the oldest of them has lain here */
    uint32_t waiters;                 /* slots of the event loops that wait here, behind the name */
    uint8_t was_read, name_length;
};

struct seen_member {
    uint64_t left_ns; /* until it ends */
    uint8_t group_length, target_length, local_length;
};

struct seen_message {
    uint32_t reference;
    uint32_t size, age_ms;
    uint64_t deadline;
    uint8_t local_length; /* the payload begins with the local part of the channel's name, of so many bytes */
    bool is_shared;       /* a message to a group, whose payload other queues share */
};

struct seen_area {
    uint64_t used, reserved, limit; /* bytes */
};

/* The channels in some buckets from *bucket on, which moves. EMPTY: there are no further buckets. */
enum status observe_channels(struct handle *handle, uint32_t *bucket, struct sight *sight);

/* The memberships that have not ended, in the same way. */
enum status observe_members(struct handle *handle, uint32_t *bucket, struct sight *sight);

enum status observe_areas(struct handle *handle, struct seen_area areas[2]);

/* Up to `most` messages at the head of a queue, oldest first; and the first bytes of what one of them holds, local part
 * and payload, unless it was taken meanwhile: EMPTY. */
enum status observe_queue(struct handle *handle, struct name name, struct seen_message *messages, uint32_t most,
                          uint32_t *number, uint64_t *now);
enum status observe_data(struct handle *handle, struct name name, const struct seen_message *message, char *data,
                         size_t size);
