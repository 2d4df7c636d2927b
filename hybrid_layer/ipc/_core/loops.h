/* SPDX-License-Identifier: BSD-3-Clause */
/* The event loops of processes: their places, their sleep, and their ready channels. The segment lock is held in all of
 * these.
 *
 * A loop is AWAKE, ASLEEP or RUNG. A loop goes to sleep and takes its last look at its ready list in one critical
 * section, and a push reads the state in its own, so no message falls between them. Only the loop itself returns to
 * AWAKE.
 */
#pragma once

#include "handle.h"
#include "wakeups.h"

#define NO_LOOP UINT32_MAX

enum status loop_open(struct handle *handle, uint32_t *loop); /* NO_SLOT: more than LOOPS loops wait */

/* The functions below take a loop that is open; for any other they return STALE. */

enum status loop_close(struct handle *handle, uint32_t loop, struct wakeups *wakeups);

/* Puts the loop to sleep. False: something is ready for it. */
bool loop_sleep(struct handle *handle, uint32_t loop);

/* Makes the loop AWAKE and writes the names of its ready channels into `names` as length and bytes each; *left tells
 * that more are ready than fitted. With `sleep` and nothing ready the loop is ASLEEP instead, and the result EMPTY. */
enum status loop_collect(struct handle *handle, uint32_t loop, bool sleep, char *names, size_t size, size_t *used,
                         bool *left);

/* In each housekeeping of the loop: puts all its channels that have messages on its ready list. */
enum status loop_repoll(struct handle *handle, uint32_t loop);

/* Drops the waiters of a loop. With `wakeups`, finds other loops for the messages that these were to take. */
enum status loop_forget(struct handle *handle, struct loop_slot *loop, struct wakeups *wakeups);

/* The doorbell of a loop could not be rung: wakes other loops for its messages, and removes its waiters if its process
 * is dead. */
enum status wakeup_failed(struct handle *handle, const struct wakeup *wakeup, struct wakeups *wakeups);
