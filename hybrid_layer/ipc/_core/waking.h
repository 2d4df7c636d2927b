/* SPDX-License-Identifier: BSD-3-Clause */
/* Which loop is to be woken. The segment lock is held in all of these but wakeup_succeeded.
 *
 * While a loop is AWAKE no process rings it: its channels with new messages are put on its ready list, which it
 * collects before it sleeps (loops.h).
 *
 * RUNG is stored after the doorbell was rung. Stored before, a ringer that dies in between would silence all others. A
 * RUNG that is older than HINT_MS is void: its loop is stopped, busy or gone. After SUSPICIOUS_MS its process is
 * probed.
 *
 * A wake is a hint. Whichever loop looks first takes the head of the queue, so a loop that does not answer delays
 * nothing beyond the others' next housekeeping (see op_repoll).
 */
#pragma once

#include "handle.h"
#include "wakeups.h"

#define HINT_MS 20u
#define SUSPICIOUS_MS 250u

/* Adds the loops to wake for a queue that has messages: for a normal channel the oldest sleeping loop, for an inbox
 * each. */
enum status waiters_wake(struct handle *handle, uint32_t channel, struct wakeups *wakeups);

/* After a channel has lost a waiter or a message: wakes another waiter if messages are left, and frees the channel if
 * nothing keeps it in being. */
enum status waiters_pass_on(struct handle *handle, uint32_t channel, struct wakeups *wakeups);

/* Marks a loop as rung, unless it has woken up since. Without the lock. */
void wakeup_succeeded(struct handle *handle, const struct wakeup *wakeup);
