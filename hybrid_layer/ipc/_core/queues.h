/* SPDX-License-Identifier: BSD-3-Clause */
/* The queue of a channel: in, out, expiry, capacity. The segment lock is held in all of these. */
#pragma once

#include "messages.h"

/* Appends a message, which its commit makes readable. OK, FULL, NO_MEMORY, GROW_MESSAGES, GONE (no process has the
 * inbox, or it is full and its process is dead), DAMAGED. */
enum status queue_push(struct handle *handle, const struct push *push, uint32_t *channel);

/* Makes sure that the queue has room, and drops expired messages for that. OK, FULL, DAMAGED; GONE: it is full, and its
 * process is dead. */
enum status queue_make_room(struct handle *handle, struct channel *channel, uint32_t capacity, uint64_t now);

/* Drops expired messages from the front. */
bool queue_purge(struct handle *handle, struct channel *channel, uint64_t now);

void queue_append(struct handle *handle, struct channel *channel, uint32_t reference);

/* Takes the oldest message off the queue without freeing it. */
bool queue_unlink_head(struct handle *handle, struct channel *channel);

/* Takes the oldest message off the queue and frees it. */
bool queue_drop_head(struct handle *handle, struct channel *channel);

/* Drops every message of the queue. */
bool queue_clear(struct handle *handle, struct channel *channel);

/* What is known of a channel, whether it exists at the moment or not. */
struct queue_state {
    uint32_t unread, oldest_ms; /* messages that have not expired, and how long the oldest of them has been here */
    bool is_counted;            /* by name, since the segment was made: */
    uint64_t sent, full;
};
enum status queue_look(struct handle *handle, struct name name, struct queue_state *state);
