/* SPDX-License-Identifier: BSD-3-Clause */
/* The operations that the binding offers. Each is one critical section: lock, work, unlock; and again after an area was
 * grown. A dead process that the work meets is reaped before the lock is released (suspect.h).
 *
 * Each returns OK or what its comment names; and besides BUSY, DETACHED, RETIRED (the segment has been left for another
 * one), DAMAGED (it is being repaired, and the operation may have been done or not) and SYSTEM_ERROR.
 *
 * With TRY the caller holds the interpreter's lock, so the segment lock is asked for once, and the result is BUSY if it
 * is taken; the caller then releases the interpreter and asks again with WAIT.
 */
#pragma once

#include "checker.h"
#include "groups.h"
#include "loans.h"
#include "loops.h"
#include "messages.h"
#include "queues.h"
#include "reading.h"
#include "registrations.h"
#include "sending.h"
#include "streams.h"

/* Stores a message, and adds to `wakeups` the loops to ring. OK, FULL, GONE (no process has the inbox), NO_MEMORY,
 * NO_SHM. Counts the outcome. With OK a payload on loan belongs to the message, otherwise it stays the caller's. */
enum status op_push(struct handle *handle, enum mode mode, struct push *push, struct wakeups *wakeups);

/* Stores messages, whose loans are all 0, in order, and counts in `done` those that are stored, or are for nobody. OK
 * also where it ends before one that finds no room or no memory, which is not counted: that one has to be tried by
 * itself. */
struct pushes {
    struct push *items;
    size_t number, done;
};
enum status op_push_several(struct handle *handle, enum mode mode, struct pushes *pushes, struct wakeups *wakeups);

/* Reserves the blocks for a payload, or a message with its local part, that is copied without the lock. NO_SLOT (all
 * loans are in use), NO_MEMORY, NO_SHM. */
enum status op_loan_reserve(struct handle *handle, enum mode mode, size_t local, size_t size, bool is_payload,
                            uint32_t *loan);

/* Gives a loan back. Frees its payload, unless that belongs to a message. */
enum status op_loan_release(struct handle *handle, enum mode mode, uint32_t loan);

/* Takes the oldest message of a normal channel. EMPTY: there is none; in the same step `loop`, unless it is NO_LOOP, is
 * registered as a waiter, and goes to sleep unless another of its channels is ready. NO_SPACE: the buffer is too small.
 * STALE: the loop has lost its place. */
enum status op_pop(struct handle *handle, enum mode mode, struct name name, uint32_t loop, struct taken *taken,
                   struct wakeups *wakeups);

/* Takes the oldest messages of an inbox, as many as fit. Unless some are left, registers `loop` as a waiter. NO_SPACE:
 * not even the first one fits. GONE: the inbox is not ours, or not there. STALE: the loop has lost its place. */
enum status op_drain(struct handle *handle, enum mode mode, struct name name, uint32_t loop, struct taken *taken);

/* Makes an inbox of this process, or ends it with its memberships. */
enum status op_inbox(struct handle *handle, enum mode mode, struct name name, bool open);

/* Registers `loop` as a waiter of a channel, which need not exist. EMPTY: done. GONE: there is no such inbox. STALE:
 * the loop has lost its place. */
enum status op_wait(struct handle *handle, enum mode mode, struct name name, uint32_t loop);

/* Ends the waiting of `loop` for a channel; if the channel has messages, wakes the next waiter. */
enum status op_unwait(struct handle *handle, enum mode mode, struct name name, uint32_t loop, struct wakeups *wakeups);

/* Makes `target`, with `local` if it is an inbox, a member for `expiry_ns`. A channel whose process is not here joins
 * nothing, which is OK. NO_GROUP_MEMORY, NO_SHM. */
enum status op_group_add(struct handle *handle, enum mode mode, struct name group, struct name target,
                         struct name local, uint64_t expiry_ns);

/* The same, and tells more: see struct joining. */
enum status op_group_join(struct handle *handle, enum mode mode, struct joining *joining);

/* Ends a membership. OK too if there was none. */
enum status op_group_discard(struct handle *handle, enum mode mode, struct name group, struct name target,
                             struct name local);

/* Stores a message for each member, once for each inbox. Members at capacity are counted, in `send->dropped` too. */
enum status op_group_send(struct handle *handle, enum mode mode, struct group_send *send, struct wakeups *wakeups);

/* Sends messages to one group, in order and to the same members. As op_push_several; `dropped` is that of all.
 * NO_MEMORY, NO_SHM: there is none for the payload of the next one. */
struct group_sends {
    struct group_send *items;
    size_t number, done;
    uint32_t dropped;
};
enum status op_group_send_several(struct handle *handle, enum mode mode, struct group_sends *sends,
                                  struct wakeups *wakeups);

/* Writes the names of the members' channels and inboxes, each behind its length. NO_SPACE: they do not fit into `size`,
 * and `used` says how much they take. */
enum status op_group_targets(struct handle *handle, enum mode mode, struct name group, char *names, size_t size,
                             size_t *used);

/* What is known of a channel or inbox, see queue_look. */
enum status op_state(struct handle *handle, enum mode mode, struct name name, struct queue_state *state);

/* Writes the local names of a group's members in one target, in the same way. With `ends`, ends their memberships. */
enum status op_group_members(struct handle *handle, enum mode mode, struct name group, struct name target, bool ends,
                             char *names, size_t size, size_t *used);

/* Gives an event loop of this process a place. NO_SLOT: all are taken. */
enum status op_loop_open(struct handle *handle, enum mode mode, uint32_t *loop);

/* Gives a loop's place back. Wakes other loops for the messages that it was woken for. */
enum status op_loop_close(struct handle *handle, enum mode mode, uint32_t loop, struct wakeups *wakeups);

/* Writes the names of the channels that have become ready for `loop` since its last collect, each behind its length.
 * EMPTY: with `sleep` and nothing ready, the loop sleeps from now on. `left`: more did not fit. STALE: the loop has
 * lost its place. */
enum status op_collect(struct handle *handle, enum mode mode, uint32_t loop, bool sleep, char *names, size_t size,
                       size_t *used, bool *left);

/* Puts the loop's channels with messages on its ready list, since another loop may have been woken for them and not
 * answer; and does housekeeping for the dead and the expired. STALE: the loop has lost its place. */
enum status op_repoll(struct handle *handle, enum mode mode, uint32_t loop);

/* A doorbell could not be rung: its loop is gone or out of reach. Wakes others in its place. */
enum status op_wakeup_failed(struct handle *handle, enum mode mode, const struct wakeup *wakeup,
                             struct wakeups *wakeups);

/* Drops every message and every membership. Inboxes and waiters stay. */
enum status op_flush(struct handle *handle, enum mode mode);

/* The machine's streams, and what its servers know of it: see streams.h and registrations.h. */
enum status op_look(struct handle *handle, enum mode mode, uint32_t shard, struct view *view);
enum status op_renewed(struct handle *handle, enum mode mode, uint32_t shard, const struct view *view,
                       const struct answer *answer);

/* Also NO_MEMORY and NO_SHM: nothing was done, and the position has not moved. */
enum status op_put(struct handle *handle, enum mode mode, struct arrival *arrival, struct wakeups *wakeups);
enum status op_walked(struct handle *handle, enum mode mode, uint32_t shard, uint64_t registration);
enum status op_void(struct handle *handle, enum mode mode, uint32_t shard);
enum status op_meet_flush(struct handle *handle, enum mode mode, uint32_t shard, uint32_t incarnation, uint32_t flushes,
                          bool *has_flushed);
enum status op_record(struct handle *handle, enum mode mode, struct name group, const struct registered *registered);
enum status op_forget(struct handle *handle, enum mode mode, struct name group, uint32_t shard, uint64_t t,
                      bool *is_done);

/* Also NO_SPACE: see groups_list. */
enum status op_groups(struct handle *handle, enum mode mode, uint32_t bucket, uint32_t buckets, char *groups,
                      size_t size, size_t *used);

/* Tells whether anything in the segment, such as an unread message, is reason to keep it when its last process leaves.
 */
enum status op_is_needed(struct handle *handle, enum mode mode, bool *needed);

/* Checks every invariant, writes the first that does not hold into `error`, and counts the records in `totals`. */
enum status op_check(struct handle *handle, enum mode mode, char *error, size_t size, uint64_t totals[TOTALS]);
