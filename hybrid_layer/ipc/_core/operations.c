/* SPDX-License-Identifier: BSD-3-Clause */
/* Runs each operation as one critical section, and repeats it after an area was grown, or a full one swept. */
#include "operations.h"

#include "blocks.h"
#include "channels.h"
#include "clock.h"
#include "counters.h"
#include "inboxes.h"
#include "lock.h"
#include "registrations.h"
#include "streams.h"
#include "reaping.h"
#include "sweep.h"
#include "waiters.h"
#include "waking.h"

#define SWEEP_PAUSE_NS 10000000ull

/* The area is full: frees what has expired unread anywhere, at most every 10 ms, as it costs a walk over all channels.
 * If it is that of the groups, those without members go, too. */
static bool sweep_when_full(struct handle *handle, bool is_groups) {
    uint64_t now = now_ns();
    if (now < atomic_load(&handle->next_sweep))
        return false;
    atomic_store(&handle->next_sweep, now + SWEEP_PAUSE_NS);
    return channels_sweep(handle, handle->messages.bucket_mask + 1) == OK &&
           groups_sweep(handle, handle->groups.bucket_mask + 1) == OK && (!is_groups || groups_free_idle(handle) == OK);
}

static bool is_out_of_memory(enum status status) {
    return status == NO_MEMORY || status == NO_GROUP_MEMORY || status == NO_SHM;
}

/* Begins one round of an operation. */
static enum status begin(struct handle *handle, enum mode mode) {
    enum status status = lock_take(handle, mode);
    if (status == OK)
        handle->suspect.slot = 0; /* a forked child inherits, and damage leaves, that of another operation */
    return status;
}

/* Ends one round of an operation. True: another round is due. */
static bool again(struct handle *handle, enum mode mode, enum status *status, bool *swept) {
    if (*status == DAMAGED)
        atomic_store(&handle->header->damaged, 1);
    else
        reap_suspect(handle);
    enum status wanted = *status;
    bool grow = wanted == GROW_MESSAGES || wanted == GROW_GROUPS;
    bool full = is_out_of_memory(wanted) && !*swept;
    if (full) {
        *swept = true;
        full = sweep_when_full(handle, wanted == NO_GROUP_MEMORY);
    }
    lock_give(handle);
    if (!grow)
        return full;
    *status = area_grow(handle, wanted == GROW_GROUPS ? &handle->groups : &handle->messages);
    if (is_out_of_memory(*status) && !*swept) {
        *swept = true;
        enum status taken = lock_take(handle, mode);
        if (taken != OK) { /* BUSY above all: the area is not known to be full, so the caller tries again */
            *status = taken;
            return false;
        }
        bool freed = sweep_when_full(handle, wanted == GROW_GROUPS);
        lock_give(handle);
        return freed;
    }
    return *status == OK;
}

/* The rounds are bounded: each but the last two has grown an area by an extent. */
#define OPERATION(call)                             \
    enum status status;                             \
    bool swept = false;                             \
    do {                                            \
        status = begin(handle, mode);               \
        if (status != OK)                           \
            return status;                          \
        status = (call);                            \
    } while (again(handle, mode, &status, &swept)); \
    return status

/* The path of every message. It is stored, and a waiter is looked for, in one step; a loop takes its last look and goes
 * to sleep in one step, too (`queue_pop`, `loop_collect`). So a loop that is not found asleep here finds the message by
 * itself, and need not be rung. */
static enum status push_and_wake(struct handle *handle, struct push *push, struct wakeups *wakeups) {
    uint32_t channel;
    enum status status = queue_push(handle, push, &channel);
    if (status == OK) {
        count(handle, COUNT_SENT, 1);
        status = waiters_wake(handle, channel, wakeups);
    } else if (status == GONE) {
        count(handle, COUNT_SENT, 1);
        count(handle, COUNT_DEAD, 1);
    } else if (status == FULL) {
        count(handle, COUNT_FULL, 1);
    }
    return status;
}

static enum status push_loaned(struct handle *handle, const struct push *push, struct wakeups *wakeups) {
    struct push loaned = *push;
    if (!loan_block(handle, push->loan, &loaned.loan))
        return DAMAGED;
    enum status status = push_and_wake(handle, &loaned, wakeups);
    if (status == OK)
        loan_forget(handle, push->loan);
    return status;
}

enum status op_push(struct handle *handle, enum mode mode, struct push *push, struct wakeups *wakeups) {
    OPERATION(housekeep(handle) == OK ? push_loaned(handle, push, wakeups) : DAMAGED);
}

/* A further round, after an area was grown or swept, goes on behind those that are done. */
static enum status push_each(struct handle *handle, struct pushes *pushes, struct wakeups *wakeups) {
    for (; pushes->done < pushes->number; pushes->done++) {
        uint32_t channel;
        enum status status = queue_push(handle, &pushes->items[pushes->done], &channel);
        if (status == FULL)
            return OK;
        if (status != OK && status != GONE)
            return status;
        count(handle, COUNT_SENT, 1);
        if (status == GONE)
            count(handle, COUNT_DEAD, 1);
        else if (waiters_wake(handle, channel, wakeups) != OK)
            return DAMAGED;
    }
    return OK;
}

enum status op_push_several(struct handle *handle, enum mode mode, struct pushes *pushes, struct wakeups *wakeups) {
    OPERATION(housekeep(handle) == OK ? push_each(handle, pushes, wakeups) : DAMAGED);
}

enum status op_loan_reserve(struct handle *handle, enum mode mode, size_t local, size_t size, bool is_payload,
                            uint32_t *loan) {
    OPERATION(loan_reserve(handle, local, size, is_payload, loan));
}

enum status op_loan_release(struct handle *handle, enum mode mode, uint32_t loan) {
    OPERATION(loan_clear(handle, handle->private->slot, loan) ? OK : DAMAGED);
}

enum status op_pop(struct handle *handle, enum mode mode, struct name name, uint32_t loop, struct taken *taken,
                   struct wakeups *wakeups) {
    OPERATION(queue_pop(handle, name, loop, taken, wakeups));
}

enum status op_drain(struct handle *handle, enum mode mode, struct name name, uint32_t loop, struct taken *taken) {
    OPERATION(inbox_drain(handle, name, loop, taken));
}

static enum status open_inbox(struct handle *handle, struct name name) {
    enum status status = inbox_open(handle, name);
    if (status != GONE)
        return status;
    reap_suspect(handle);
    status = inbox_open(handle, name);
    return status != GONE ? status : DAMAGED;
}

enum status op_inbox(struct handle *handle, enum mode mode, struct name name, bool open) {
    OPERATION(open ? open_inbox(handle, name) : inbox_close(handle, name));
}

enum status op_wait(struct handle *handle, enum mode mode, struct name name, uint32_t loop) {
    OPERATION(queue_wait(handle, name, loop));
}

static enum status unwait(struct handle *handle, struct name name, uint32_t loop, struct wakeups *wakeups) {
    uint32_t channel, waiter;
    enum status status = channel_find(handle, name, &channel);
    if (status == OK)
        status = waiter_find(handle, block_raw(handle, &handle->messages, channel), loop, &waiter);
    if (status != OK)
        return status == EMPTY ? OK : status;
    return waiter_drop(handle, waiter) ? waiters_pass_on(handle, channel, wakeups) : DAMAGED;
}

enum status op_unwait(struct handle *handle, enum mode mode, struct name name, uint32_t loop, struct wakeups *wakeups) {
    OPERATION(unwait(handle, name, loop, wakeups));
}

enum status op_group_join(struct handle *handle, enum mode mode, struct joining *joining) {
    OPERATION(group_add(handle, joining));
}

enum status op_group_add(struct handle *handle, enum mode mode, struct name group, struct name target,
                         struct name local, uint64_t expiry_ns) {
    struct joining joining = {
        .group = group, .target = target, .local = local, .expiry_ns = expiry_ns, .shard = NO_SHARD};
    return op_group_join(handle, mode, &joining);
}

enum status op_group_discard(struct handle *handle, enum mode mode, struct name group, struct name target,
                             struct name local) {
    OPERATION(group_discard(handle, group, target, local));
}

static enum status send_loaned(struct handle *handle, struct group_send *send, struct wakeups *wakeups) {
    struct group_send loaned = *send;
    if (!loan_block(handle, send->loan, &loaned.loan))
        return DAMAGED;
    enum status status = group_send(handle, &loaned, wakeups);
    send->dropped = loaned.dropped;
    if (status == OK)
        loan_forget(handle, send->loan);
    return status;
}

enum status op_group_send(struct handle *handle, enum mode mode, struct group_send *send, struct wakeups *wakeups) {
    OPERATION(housekeep(handle) == OK ? send_loaned(handle, send, wakeups) : DAMAGED);
}

static enum status send_each(struct handle *handle, struct group_sends *sends, struct wakeups *wakeups) {
    for (; sends->done < sends->number; sends->done++) {
        struct group_send *send = &sends->items[sends->done];
        enum status status = send_loaned(handle, send, wakeups);
        if (status != OK)
            return status;
        sends->dropped += send->dropped;
    }
    return OK;
}

enum status op_group_send_several(struct handle *handle, enum mode mode, struct group_sends *sends,
                                  struct wakeups *wakeups) {
    OPERATION(housekeep(handle) == OK ? send_each(handle, sends, wakeups) : DAMAGED);
}

enum status op_group_targets(struct handle *handle, enum mode mode, struct name group, char *names, size_t size,
                             size_t *used) {
    OPERATION(group_targets(handle, group, names, size, used));
}

enum status op_state(struct handle *handle, enum mode mode, struct name name, struct queue_state *state) {
    OPERATION(queue_look(handle, name, state));
}

enum status op_group_members(struct handle *handle, enum mode mode, struct name group, struct name target, bool ends,
                             char *names, size_t size, size_t *used) {
    OPERATION(housekeep(handle) == OK ? group_members(handle, group, target, ends, names, size, used) : DAMAGED);
}

enum status op_loop_open(struct handle *handle, enum mode mode, uint32_t *loop) { OPERATION(loop_open(handle, loop)); }

enum status op_loop_close(struct handle *handle, enum mode mode, uint32_t loop, struct wakeups *wakeups) {
    OPERATION(loop_close(handle, loop, wakeups));
}

enum status op_collect(struct handle *handle, enum mode mode, uint32_t loop, bool sleep, char *names, size_t size,
                       size_t *used, bool *left) {
    OPERATION(loop_collect(handle, loop, sleep, names, size, used, left));
}

static enum status repoll(struct handle *handle, uint32_t loop) {
    enum status status = loop_repoll(handle, loop);
    return status == OK ? housekeep(handle) : status;
}

enum status op_repoll(struct handle *handle, enum mode mode, uint32_t loop) { OPERATION(repoll(handle, loop)); }

enum status op_wakeup_failed(struct handle *handle, enum mode mode, const struct wakeup *wakeup,
                             struct wakeups *wakeups) {
    OPERATION(wakeup_failed(handle, wakeup, wakeups));
}

enum status op_flush(struct handle *handle, enum mode mode) { OPERATION(channels_flush(handle)); }

enum status op_look(struct handle *handle, enum mode mode, uint32_t shard, struct view *view) {
    OPERATION(stream_look(handle, shard, view));
}

enum status op_renewed(struct handle *handle, enum mode mode, uint32_t shard, const struct view *view,
                       const struct answer *answer) {
    OPERATION(stream_renewed(handle, shard, view, answer));
}

enum status op_put(struct handle *handle, enum mode mode, struct arrival *arrival, struct wakeups *wakeups) {
    OPERATION(housekeep(handle) == OK ? stream_put(handle, arrival, wakeups) : DAMAGED);
}

enum status op_walked(struct handle *handle, enum mode mode, uint32_t shard, uint64_t registration) {
    OPERATION(stream_walked(handle, shard, registration));
}

enum status op_void(struct handle *handle, enum mode mode, uint32_t shard) { OPERATION(stream_void(handle, shard)); }

enum status op_meet_flush(struct handle *handle, enum mode mode, uint32_t shard, uint32_t incarnation, uint32_t flushes,
                          bool *has_flushed) {
    OPERATION(stream_meet_flush(handle, shard, incarnation, flushes, has_flushed));
}

enum status op_record(struct handle *handle, enum mode mode, struct name group, const struct registered *registered) {
    OPERATION(registration_store(handle, group, registered));
}

enum status op_forget(struct handle *handle, enum mode mode, struct name group, uint32_t shard, uint64_t t,
                      bool *is_done) {
    OPERATION(registration_forget(handle, group, shard, t, is_done));
}

enum status op_groups(struct handle *handle, enum mode mode, uint32_t bucket, uint32_t buckets, char *groups,
                      size_t size, size_t *used) {
    OPERATION(groups_list(handle, bucket, buckets, groups, size, used));
}

enum status op_is_needed(struct handle *handle, enum mode mode, bool *needed) {
    OPERATION(channels_are_needed(handle, needed));
}

enum status op_check(struct handle *handle, enum mode mode, char *error, size_t size, uint64_t totals[TOTALS]) {
    OPERATION(checker_walk(handle, error, size, totals));
}
