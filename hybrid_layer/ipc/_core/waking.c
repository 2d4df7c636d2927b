/* SPDX-License-Identifier: BSD-3-Clause */
/* Chooses which loop to wake for a message, and marks it as rung. */
#include "waking.h"

#include "blocks.h"
#include "channels.h"
#include "clock.h"
#include "suspect.h"
#include "waiters.h"

static bool is_void(uint64_t state, uint32_t now, uint32_t limit) {
    uint32_t age = now - RUNG_AT(state); /* in the future: a huge number */
    return age > limit;
}

enum rank { NOBODY, VOID, ANSWERING, AWAKE_ALREADY, SLEEPING_READY, SLEEPING };

static enum rank rank_of(const struct waiter *waiter, uint64_t state, uint32_t now) {
    switch (STATE_OF(state)) {
    case LOOP_ASLEEP:
        /* Ready and asleep: another process is about to ring it for another message. One that is not about to be rung
         * is preferred. */
        return waiter->is_ready ? SLEEPING_READY : SLEEPING;
    case LOOP_AWAKE:
        return AWAKE_ALREADY;
    default:
        return is_void(state, now, HINT_MS) ? VOID : ANSWERING;
    }
}

/* A loop that is awake, or has been rung a moment ago, looks at its ready list by itself. */
static bool wake(struct handle *handle, uint32_t reference, struct waiter *waiter, uint64_t state, enum rank rank,
                 struct wakeups *wakeups) {
    if (!waiter_make_ready(handle, reference, waiter))
        return false;
    if (rank >= SLEEPING_READY || rank == VOID)
        wakeups_add(wakeups, waiter->slot, waiter->generation, waiter->loop, state);
    return true;
}

/* One pass over the channel's waiters. Those of a process that has not answered for long, and is found dead, are passed
 * over. Once one of those is found alive no further one is asked, since none would be preferred to it. */
enum status waiters_wake(struct handle *handle, uint32_t channel_reference, struct wakeups *wakeups) {
    struct channel *channel = channel_at(handle, channel_reference);
    if (channel == NULL)
        return DAMAGED;
    struct waiter *best = NULL;
    enum rank best_rank = NOBODY;
    uint64_t best_state = 0;
    uint32_t best_reference = 0, at = channel->waiters, now = at != 0 ? now_ms() : 0;
    bool one_lives = false;
    for (uint32_t steps = 0; at != 0 && best_rank != SLEEPING; steps++) {
        struct waiter *waiter = waiter_at(handle, at);
        struct loop_slot *loop = waiter != NULL ? loop_at(handle, waiter->slot, waiter->loop) : NULL;
        if (loop == NULL || steps > SLOTS * LOOPS)
            return DAMAGED;
        uint32_t reference = at;
        at = waiter->next;
        uint64_t state = atomic_load_explicit(&loop->state, memory_order_relaxed);
        enum rank rank = rank_of(waiter, state, now);
        if (rank == VOID && !one_lives && is_void(state, now, SUSPICIOUS_MS)) {
            if (suspect_is_dead(handle, waiter->slot, waiter->generation))
                continue;
            one_lives = true;
        }
        if (channel->owner != 0) { /* an inbox: each loop of its process may have the consumer */
            if (!wake(handle, reference, waiter, state, rank, wakeups))
                return DAMAGED;
        } else if (rank > best_rank) {
            best = waiter;
            best_rank = rank;
            best_state = state;
            best_reference = reference;
        }
    }
    return best == NULL || wake(handle, best_reference, best, best_state, best_rank, wakeups) ? OK : DAMAGED;
}

enum status waiters_pass_on(struct handle *handle, uint32_t channel_reference, struct wakeups *wakeups) {
    struct channel *channel = channel_at(handle, channel_reference);
    if (channel == NULL)
        return DAMAGED;
    return channel->head != 0 ? waiters_wake(handle, channel_reference, wakeups)
                              : channel_release(handle, channel_reference);
}

void wakeup_succeeded(struct handle *handle, const struct wakeup *wakeup) {
    struct loop_slot *loop = loop_at(handle, wakeup->slot, wakeup->loop);
    uint64_t expected = STATE_WORD(LOOP_ASLEEP, wakeup->sleep, 0);
    uint64_t rung = STATE_WORD(LOOP_RUNG, wakeup->sleep, now_ms());
    if (loop != NULL && atomic_load(&handle->slots[wakeup->slot].generation) == wakeup->generation)
        (void)atomic_compare_exchange_strong(&loop->state, &expected, rung);
}
