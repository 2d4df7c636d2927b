/* SPDX-License-Identifier: BSD-3-Clause */
/* Walks over all channels of a segment. The segment lock is held in all but `channels_unread`. */
#pragma once

#include "handle.h"

/* Drops expired messages of a few buckets, or of all: a channel that no process reads may not keep its memory. */
enum status channels_sweep(struct handle *handle, uint32_t buckets);

/* Drops every message and every membership. Waiters and inboxes stay. */
enum status channels_flush(struct handle *handle);

/* Whether the segment holds an unexpired message or a membership of a normal channel: then it is worth keeping without
 * a process. */
enum status channels_are_needed(struct handle *handle, bool *needed);

/* How many messages no process has read yet. Without the lock, for when the segment is given up. */
uint64_t channels_unread(struct handle *handle);
