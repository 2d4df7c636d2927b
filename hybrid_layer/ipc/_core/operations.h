/* The operations that the binding offers, each one critical section: lock, work, unlock, and again after growing an
 * area.
 *
 * Each returns OK or what its comment names; and besides BUSY, DETACHED, RETIRED (the segment has been left for
 * another one) and DAMAGED (it is being repaired: what was asked for may have been done or not).
 *
 * With TRY the caller holds the interpreter's lock, so the segment lock is asked for once and BUSY comes back if it is
 * taken; the caller then releases the interpreter and asks again with WAIT.
 */
#ifndef HYBRID_OPERATIONS_H
#define HYBRID_OPERATIONS_H

#include "checker.h"
#include "groups.h"
#include "loans.h"
#include "loops.h"
#include "messages.h"
#include "reading.h"

/* Stores a message, and names in `wakeups` whom to ring. OK, FULL, GONE (an inbox that nobody has), NO_MEMORY, NO_SHM.
 * Counts what became of it. A payload in a loan is taken over with OK, and stays the caller's otherwise. */
enum status op_push(struct handle *handle, enum mode mode, struct push *push, struct wakeups *wakeups);

/* Blocks for a payload, or a message with its local part, that is copied without the lock: `loan_reserve`. */
enum status op_loan_reserve(struct handle *handle, enum mode mode, size_t local, size_t size, bool is_payload,
                            uint32_t *loan);

/* Gives a loan back. Its payload is freed, unless a message has it. */
enum status op_loan_release(struct handle *handle, enum mode mode, uint32_t loan);

/* The head of a normal channel's queue. EMPTY: there is none, and with the same look `loop`, unless it is NO_LOOP, is
 * registered as a waiter, and asleep unless another of its channels is ready. STALE: it has no place any more. */
enum status op_pop(struct handle *handle, enum mode mode, struct name name, uint32_t loop, struct taken *taken,
                   struct wakeups *wakeups);

/* The oldest messages of an inbox, as many as fit. Unless some are left, `loop` is registered as a waiter. GONE: the
 * inbox is not ours, or not there. STALE: the loop has no place any more. */
enum status op_drain(struct handle *handle, enum mode mode, struct name name, uint32_t loop, struct taken *taken);

/* Makes an inbox of this process, or ends it with its memberships. */
enum status op_inbox(struct handle *handle, enum mode mode, struct name name, bool open);

/* Registers `loop` as a waiter of a channel, which need not exist. EMPTY: done. GONE: there is no such inbox. STALE:
 * the loop has no place any more. */
enum status op_wait(struct handle *handle, enum mode mode, struct name name, uint32_t loop);

/* Nobody of `loop` waits for a channel any more; if it had been woken for one, the next waiter is. */
enum status op_unwait(struct handle *handle, enum mode mode, struct name name, uint32_t loop, struct wakeups *wakeups);

/* Makes `target`, with `local` if it is an inbox, a member for `expiry_ns`. A channel whose process is not here joins
 * nothing, which is OK. NO_GROUP_MEMORY, NO_SHM. */
enum status op_group_add(struct handle *handle, enum mode mode, struct name group, struct name target,
                         struct name local, uint64_t expiry_ns);

/* Ends a membership. OK too if there was none. */
enum status op_group_discard(struct handle *handle, enum mode mode, struct name group, struct name target,
                             struct name local);

/* Stores a message for each member, once for each inbox. Members at capacity are counted, in `send->dropped` too. */
enum status op_group_send(struct handle *handle, enum mode mode, struct group_send *send, struct wakeups *wakeups);

/* The members' channels and inboxes, each behind its length. NO_SPACE: they do not fit into `size`, and `used` says how
 * much they take. */
enum status op_group_targets(struct handle *handle, enum mode mode, struct name group, char *names, size_t size,
                             size_t *used);

/* A place for an event loop of this process. NO_SLOT: they are all taken. */
enum status op_loop_open(struct handle *handle, enum mode mode, uint32_t *loop);

/* Ends a loop's place. What it had been woken for, others are woken for. */
enum status op_loop_close(struct handle *handle, enum mode mode, uint32_t loop, struct wakeups *wakeups);

/* What has come for `loop` since it collected last, each name behind its length. With `sleep` and nothing there, it
 * is asleep from now on. `left`: more did not fit. */
enum status op_collect(struct handle *handle, enum mode mode, uint32_t loop, bool sleep, char *names, size_t size,
                       size_t *used, bool *left);

/* Puts the loop's channels on its ready list: what came may have been announced to a loop that does not answer. */
enum status op_repoll(struct handle *handle, enum mode mode, uint32_t loop);

/* A doorbell could not be written to: its loop is gone, or not to be reached, and others are woken in its place. */
enum status op_wakeup_failed(struct handle *handle, enum mode mode, const struct wakeup *wakeup,
                             struct wakeups *wakeups);

/* Forgets every message and membership. Inboxes and waiters stay. */
enum status op_flush(struct handle *handle, enum mode mode);

/* Whether anything in the segment, such as an unread message, is reason to keep it when its last process leaves. */
enum status op_is_needed(struct handle *handle, enum mode mode, bool *needed);

/* Looks at every invariant and writes the first that does not hold into `error`; counts what it saw in `totals`. */
enum status op_check(struct handle *handle, enum mode mode, char *error, size_t size, uint64_t totals[TOTALS]);

#endif
