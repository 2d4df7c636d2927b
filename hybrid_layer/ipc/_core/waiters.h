/* SPDX-License-Identifier: BSD-3-Clause */
/* The records of waiters: one for each event loop and channel, linked into a list of the channel, a list of the loop,
 * and the loop's ready list. The segment lock is held in all of these. */
#pragma once

#include "handle.h"

struct waiter *waiter_at(struct handle *handle, uint32_t reference);

/* The place of any process's loop; NULL if there is no such place. */
struct loop_slot *loop_at(struct handle *handle, uint32_t slot, uint32_t loop);

/* A loop of the calling process that is open; NULL for any other. */
struct loop_slot *loop_own(struct handle *handle, uint32_t loop);

/* Registers the calling process's `loop` for a channel; again is fine. STALE: the loop has no place, so it could not be
 * woken. */
enum status waiter_add(struct handle *handle, uint32_t channel, uint32_t loop);

/* The waiter of the calling process's `loop`. OK, EMPTY (there is none) or DAMAGED. */
enum status waiter_find(struct handle *handle, const struct channel *channel, uint32_t loop, uint32_t *reference);

/* Takes a waiter out of all its lists, and frees it. */
bool waiter_drop(struct handle *handle, uint32_t reference);

/* Puts a waiter on its loop's ready list, unless it is there. */
bool waiter_make_ready(struct handle *handle, uint32_t reference, struct waiter *waiter);

/* Frees all waiters of a channel. */
bool waiters_forget_channel(struct handle *handle, struct channel *channel);
