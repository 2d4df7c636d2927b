/* SPDX-License-Identifier: BSD-3-Clause */
/* Gives loops their places, puts them to sleep, and reports which channels are ready. */
#include "loops.h"

#include "blocks.h"
#include "channels.h"
#include "liveness.h"
#include "waiters.h"
#include "waking.h"

enum status loop_forget(struct handle *handle, struct loop_slot *loop, struct wakeups *wakeups) {
    for (uint32_t steps = 0; loop->waiters != 0; steps++) {
        struct waiter *waiter = waiter_at(handle, loop->waiters);
        if (waiter == NULL || steps >= handle->messages.blocks)
            return DAMAGED;
        uint32_t reference = waiter->channel;
        if (!waiter_drop(handle, loop->waiters))
            return DAMAGED;
        enum status status =
            wakeups != NULL ? waiters_pass_on(handle, reference, wakeups) : channel_release(handle, reference);
        if (status != OK)
            return status;
    }
    return OK;
}

enum status wakeup_failed(struct handle *handle, const struct wakeup *wakeup, struct wakeups *wakeups) {
    struct loop_slot *loop = loop_at(handle, wakeup->slot, wakeup->loop);
    if (loop == NULL || atomic_load(&handle->slots[wakeup->slot].generation) != wakeup->generation)
        return OK;
    bool is_own = wakeup->slot == handle->private->slot && wakeup->generation == handle->private->generation;
    if (!is_own && liveness_is_dead(handle, wakeup->slot, wakeup->generation))
        return loop_forget(handle, loop, wakeups);
    /* Its process lives, and the loop does its own housekeeping; until then other loops are preferred, as if this one
     * had been rung. */
    wakeup_succeeded(handle, wakeup);
    uint32_t at = loop->waiters;
    for (uint32_t steps = 0; at != 0; steps++) {
        struct waiter *waiter = waiter_at(handle, at);
        struct channel *channel = waiter != NULL ? channel_at(handle, waiter->channel) : NULL;
        if (channel == NULL || steps >= handle->messages.blocks)
            return DAMAGED;
        at = waiter->loop_next;
        if (channel->head != 0 && channel->owner == 0) {
            enum status status = waiters_wake(handle, waiter->channel, wakeups);
            if (status != OK)
                return status;
        }
    }
    return OK;
}

enum status loop_open(struct handle *handle, uint32_t *number) {
    struct slot *slot = &handle->slots[handle->private->slot];
    for (uint32_t loop = 0; loop < LOOPS; loop++) {
        if (slot->loops[loop].in_use)
            continue;
        uint64_t state = atomic_load(&slot->loops[loop].state);
        /* The sleep number goes on, so that a late ringer of the slot's last loop marks nothing. */
        atomic_store(&slot->loops[loop].state, STATE_WORD(LOOP_AWAKE, SLEEP_OF(state) + 1, 0));
        slot->loops[loop].in_use = 1;
        *number = loop;
        return OK;
    }
    return NO_SLOT;
}

enum status loop_close(struct handle *handle, uint32_t number, struct wakeups *wakeups) {
    struct loop_slot *loop = loop_at(handle, handle->private->slot, number); /* also one that damage has closed */
    if (loop == NULL)
        return STALE;
    enum status status = loop_forget(handle, loop, wakeups);
    loop->in_use = 0;
    return status;
}

bool loop_sleep(struct handle *handle, uint32_t number) {
    struct loop_slot *loop = loop_own(handle, number);
    if (loop == NULL || loop->ready != 0)
        return false;
    /* A loop that was ASLEEP or RUNG begins a new sleep, too: it has answered its bell. A mark that stayed, or that a
     * late ringer sets, would silence the next ringers. */
    uint64_t state = atomic_load_explicit(&loop->state, memory_order_relaxed);
    atomic_store(&loop->state, STATE_WORD(LOOP_ASLEEP, SLEEP_OF(state) + 1, 0));
    return true;
}

enum status loop_collect(struct handle *handle, uint32_t number, bool sleep, char *names, size_t size, size_t *used,
                         bool *left) {
    struct loop_slot *loop = loop_own(handle, number);
    if (loop == NULL)
        return STALE;
    uint64_t state = atomic_load_explicit(&loop->state, memory_order_relaxed);
    *used = 0;
    *left = false;
    if (sleep && loop_sleep(handle, number))
        return EMPTY;
    if (STATE_OF(state) != LOOP_AWAKE)
        atomic_store(&loop->state, STATE_WORD(LOOP_AWAKE, SLEEP_OF(state), 0));
    for (uint32_t steps = 0; loop->ready != 0; steps++) {
        struct waiter *waiter = waiter_at(handle, loop->ready);
        struct channel *channel = waiter != NULL ? channel_at(handle, waiter->channel) : NULL;
        if (channel == NULL || steps >= handle->messages.blocks)
            return DAMAGED;
        if (size - *used < NAME_MAX_LENGTH + 1) {
            *left = true;
            return OK;
        }
        size_t length = channel_name(handle, channel, names + *used + 1);
        if (length == 0)
            return DAMAGED;
        names[*used] = (char)length;
        *used += length + 1;
        waiter->is_ready = 0;
        loop->ready = waiter->ready_next;
        if (loop->ready == 0)
            loop->ready_tail = 0;
    }
    return OK;
}

/* Whether the ready list holds as many waiters as say that they are in it: a waiter that says so and is not would never
 * be woken again. */
static bool is_ready_list_sound(struct handle *handle, const struct loop_slot *loop, uint32_t number) {
    for (uint32_t at = loop->ready; at != 0; number--) {
        struct waiter *waiter = waiter_at(handle, at);
        if (waiter == NULL || number == 0)
            return false;
        at = waiter->ready_next;
    }
    return number == 0;
}

enum status loop_repoll(struct handle *handle, uint32_t number) {
    struct loop_slot *loop = loop_own(handle, number);
    if (loop == NULL)
        return STALE;
    uint32_t at = loop->waiters, ready = 0;
    for (uint32_t steps = 0; at != 0; steps++) {
        struct waiter *waiter = waiter_at(handle, at);
        struct channel *channel = waiter != NULL ? channel_at(handle, waiter->channel) : NULL;
        if (channel == NULL || steps >= handle->messages.blocks)
            return DAMAGED;
        if (channel->head != 0 && !waiter_make_ready(handle, at, waiter))
            return DAMAGED;
        ready += waiter->is_ready != 0;
        at = waiter->loop_next;
    }
    return is_ready_list_sound(handle, loop, ready) ? OK : DAMAGED;
}
