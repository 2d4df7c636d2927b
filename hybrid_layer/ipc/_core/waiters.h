/* Who waits, and who is to be rung. The segment lock is held in all of these but ring_succeeded.
 *
 * A loop is AWAKE, ASLEEP or RUNG. Going to sleep and the last look at what came are one critical section, and a push
 * reads the state in its own, so no message falls between them. While a loop is AWAKE nobody rings it: what comes for
 * it is put on its ready list, which it collects before it sleeps. Only the loop itself returns to AWAKE.
 *
 * RUNG is stored after the doorbell was written. Stored before, a ringer that dies in between would silence all others.
 * A RUNG that is older than HINT_MS is void: its loop is stopped, busy or gone; and 250 ms old, it is reason to probe.
 *
 * A wake is a hint. Whoever looks first takes the head of the queue, so a loop that does not answer holds nothing up
 * for longer than the others' next look around (see op_repoll).
 */
#ifndef HYBRID_WAITERS_H
#define HYBRID_WAITERS_H

#include "channels.h"
#include "rings.h"

#define HINT_MS 20u
#define SUSPICIOUS_MS 250u

/* Registers the calling process's `loop` for a channel; again is fine. STALE: the loop has no place, so nobody would be
 * woken. */
enum status waiters_add(struct handle *handle, uint32_t channel, uint32_t loop);

/* Ends it, and wakes another waiter if messages are there that this one was perhaps woken for. */
enum status waiters_remove(struct handle *handle, uint32_t channel, uint32_t loop, struct rings *rings);

/* Finds whom to wake for a queue that has messages: for a normal channel the oldest sleeping loop, for an inbox each.
 */
enum status waiters_wake(struct handle *handle, uint32_t channel, struct rings *rings);

/* Frees all waiters of a channel. */
bool waiters_forget_channel(struct handle *handle, struct channel *channel);

/* Marks a loop as rung, unless it has woken up since. Without the lock. */
void ring_succeeded(struct handle *handle, const struct ring *ring);

/* The doorbell of a loop could not be rung: wakes others for what it was woken for, and removes its waiters if it is
 * dead. */
enum status ring_failed(struct handle *handle, const struct ring *ring, struct rings *rings);

enum status loop_open(struct handle *handle, uint32_t *loop); /* NO_SLOT: more than LOOPS loops wait */

/* Those below take a loop that is open; another one is STALE. */

enum status loop_close(struct handle *handle, uint32_t loop, struct rings *rings);

/* Puts the loop to sleep. False: something is ready for it. */
bool loop_sleep(struct handle *handle, uint32_t loop);

/* Makes the loop AWAKE and writes the names of its ready channels into `names` as length and bytes each; *left tells
 * that more are ready than fitted. With `sleep` and nothing ready the loop is ASLEEP instead, and the result EMPTY. */
enum status loop_collect(struct handle *handle, uint32_t loop, bool sleep, char *names, size_t size, size_t *used,
                         bool *left);

/* Each time that the loop looks around: puts all its channels that have messages on its ready list. */
enum status loop_repoll(struct handle *handle, uint32_t loop);

/* Drops the waiters of a loop. With `rings`, finds others for the messages that these were to take. */
enum status loop_forget(struct handle *handle, struct loop_slot *loop, struct rings *rings);

#endif
