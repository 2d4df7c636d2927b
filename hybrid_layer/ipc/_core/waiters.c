/* Which loops wait for what, which are to be woken, and the places that loops have. */
#include "waiters.h"

#include "blocks.h"
#include "clock.h"
#include "liveness.h"
#include "suspect.h"

static void rings_add(struct rings *rings, const struct waiter *waiter, uint64_t state) {
    rings_add_loop(rings, waiter->slot, waiter->generation, waiter->loop, state);
}

static struct waiter *waiter_at(struct handle *handle, uint32_t reference) {
    return block_at(handle, &handle->messages, reference, KIND_WAITER);
}

static struct loop_slot *loop_of(struct handle *handle, uint32_t slot, uint32_t loop) {
    return slot < SLOTS && loop < LOOPS ? &handle->slots[slot].loops[loop] : NULL;
}

/* A loop of ours that is open; NULL for any other. */
static struct loop_slot *own_loop(struct handle *handle, uint32_t number) {
    struct loop_slot *loop = loop_of(handle, handle->private->slot, number);
    return loop != NULL && loop->in_use ? loop : NULL;
}

/* Takes a waiter out of its channel's, its loop's and the ready list, and frees it. */
static bool drop_waiter(struct handle *handle, uint32_t reference) {
    struct waiter *waiter = waiter_at(handle, reference);
    if (waiter == NULL)
        return false;
    struct channel *channel = channel_at(handle, waiter->channel);
    struct loop_slot *loop = loop_of(handle, waiter->slot, waiter->loop);
    if (channel == NULL || loop == NULL)
        return false;
    struct waiter *next = waiter->next != 0 ? waiter_at(handle, waiter->next) : NULL;
    struct waiter *previous = waiter->previous != 0 ? waiter_at(handle, waiter->previous) : NULL;
    struct waiter *loop_next = waiter->loop_next != 0 ? waiter_at(handle, waiter->loop_next) : NULL;
    struct waiter *loop_previous = waiter->loop_previous != 0 ? waiter_at(handle, waiter->loop_previous) : NULL;
    *(previous != NULL ? &previous->next : &channel->waiters) = waiter->next;
    *(next != NULL ? &next->previous : &channel->waiters_tail) = waiter->previous;
    *(loop_previous != NULL ? &loop_previous->loop_next : &loop->waiters) = waiter->loop_next;
    if (loop_next != NULL)
        loop_next->loop_previous = waiter->loop_previous;
    if (waiter->is_ready) {
        uint32_t previous_ready = 0;
        uint32_t *link = &loop->ready;
        for (uint32_t steps = 0; *link != reference; steps++) {
            struct waiter *other = waiter_at(handle, *link);
            if (other == NULL || steps >= handle->messages.blocks)
                return false;
            previous_ready = *link;
            link = &other->ready_next;
        }
        *link = waiter->ready_next;
        if (loop->ready_tail == reference)
            loop->ready_tail = previous_ready;
    }
    return blocks_give(handle, &handle->messages, reference, reference, 1);
}

static enum status find_waiter(struct handle *handle, const struct channel *channel, uint32_t loop,
                               uint32_t *reference) {
    uint32_t at = channel->waiters;
    for (uint32_t steps = 0; at != 0; steps++) {
        struct waiter *waiter = waiter_at(handle, at);
        if (waiter == NULL || steps > SLOTS * LOOPS)
            return DAMAGED;
        if (waiter->slot == handle->private->slot && waiter->loop == loop &&
            waiter->generation == handle->private->generation) {
            *reference = at;
            return OK;
        }
        at = waiter->next;
    }
    return EMPTY;
}

enum status waiters_add(struct handle *handle, uint32_t channel_reference, uint32_t loop_number) {
    struct channel *channel = channel_at(handle, channel_reference);
    struct loop_slot *loop = own_loop(handle, loop_number);
    if (loop == NULL)
        return STALE;
    if (channel == NULL)
        return DAMAGED;
    uint32_t reference;
    enum status status = find_waiter(handle, channel, loop_number, &reference);
    if (status != EMPTY)
        return status;
    status = blocks_take(handle, &handle->messages, 1, &reference, NULL);
    if (status != OK)
        return status;
    struct waiter *waiter = (struct waiter *)block_raw(handle, &handle->messages, reference);
    *waiter = (struct waiter){
        .kind = KIND_WAITER,
        .channel = channel_reference,
        .slot = handle->private->slot,
        .generation = handle->private->generation,
        .loop = loop_number,
        .previous = channel->waiters_tail,
        .loop_next = loop->waiters,
    };
    struct waiter *last = channel->waiters_tail != 0 ? waiter_at(handle, channel->waiters_tail) : NULL;
    struct waiter *first = loop->waiters != 0 ? waiter_at(handle, loop->waiters) : NULL;
    if ((last == NULL) != (channel->waiters_tail == 0) || (first == NULL) != (loop->waiters == 0))
        return DAMAGED;
    *(last != NULL ? &last->next : &channel->waiters) = reference;
    channel->waiters_tail = reference;
    channel->was_read = 1;
    if (first != NULL)
        first->loop_previous = reference;
    loop->waiters = reference;
    return OK;
}

enum status waiters_remove(struct handle *handle, uint32_t channel_reference, uint32_t loop, struct rings *rings) {
    struct channel *channel = channel_at(handle, channel_reference);
    if (channel == NULL)
        return DAMAGED;
    uint32_t reference;
    enum status status = find_waiter(handle, channel, loop, &reference);
    if (status != OK)
        return status == EMPTY ? OK : status;
    if (!drop_waiter(handle, reference))
        return DAMAGED;
    if (channel->head != 0)
        return waiters_wake(handle, channel_reference, rings);
    return channel_release(handle, channel_reference);
}

bool waiters_forget_channel(struct handle *handle, struct channel *channel) {
    for (uint32_t steps = 0; channel->waiters != 0; steps++)
        if (steps > SLOTS * LOOPS || !drop_waiter(handle, channel->waiters))
            return false;
    return true;
}

static bool make_ready(struct handle *handle, uint32_t reference, struct waiter *waiter) {
    if (waiter->is_ready)
        return true;
    struct loop_slot *loop = loop_of(handle, waiter->slot, waiter->loop);
    struct waiter *tail = loop != NULL && loop->ready_tail != 0 ? waiter_at(handle, loop->ready_tail) : NULL;
    if (loop == NULL || (tail == NULL) != (loop->ready_tail == 0))
        return false;
    *(tail != NULL ? &tail->ready_next : &loop->ready) = reference;
    loop->ready_tail = reference;
    waiter->ready_next = 0;
    waiter->is_ready = 1;
    return true;
}

static bool is_void(uint64_t state, uint32_t now, uint32_t limit) {
    uint32_t age = now - RUNG_AT(state); /* in the future: a huge number */
    return age > limit;
}

enum rank { NOBODY, VOID, ANSWERING, AWAKE_ALREADY, SLEEPING_READY, SLEEPING };

static enum rank rank_of(const struct waiter *waiter, uint64_t state, uint32_t now) {
    switch (STATE_OF(state)) {
    case LOOP_ASLEEP:
        /* Ready and asleep: somebody is about to ring it for another message. Prefer one that nobody rings. */
        return waiter->is_ready ? SLEEPING_READY : SLEEPING;
    case LOOP_AWAKE:
        return AWAKE_ALREADY;
    default:
        return is_void(state, now, HINT_MS) ? VOID : ANSWERING;
    }
}

/* One pass over a channel's waiters. Those of a process that has not answered for long, and is found dead, are passed
 * over. Once one of those is found alive no further one is asked, since none would be preferred to it. */
static enum status choose(struct handle *handle, const struct channel *channel, uint32_t now, uint32_t *best,
                          struct rings *rings) {
    enum rank best_rank = NOBODY;
    bool one_lives = false;
    uint32_t next = channel->waiters;
    *best = 0;
    for (uint32_t steps = 0; next != 0 && best_rank != SLEEPING; steps++) {
        uint32_t at = next;
        struct waiter *waiter = waiter_at(handle, at);
        struct loop_slot *loop = waiter != NULL ? loop_of(handle, waiter->slot, waiter->loop) : NULL;
        if (loop == NULL || steps > SLOTS * LOOPS)
            return DAMAGED;
        next = waiter->next;
        uint64_t state = atomic_load_explicit(&loop->state, memory_order_relaxed);
        enum rank rank = rank_of(waiter, state, now);
        if (STATE_OF(state) == LOOP_RUNG && is_void(state, now, SUSPICIOUS_MS) && !one_lives) {
            if (suspect_is_dead(handle, waiter->slot, waiter->generation))
                continue;
            one_lives = true;
        }
        if (channel->owner != 0) { /* an inbox: each loop of its process may have the consumer */
            if (!make_ready(handle, at, waiter))
                return DAMAGED;
            if (rank >= SLEEPING_READY || rank == VOID)
                rings_add(rings, waiter, state);
        } else if (rank > best_rank) {
            best_rank = rank;
            *best = at;
        }
    }
    return OK;
}

enum status waiters_wake(struct handle *handle, uint32_t channel_reference, struct rings *rings) {
    struct channel *channel = channel_at(handle, channel_reference);
    if (channel == NULL)
        return DAMAGED;
    if (channel->waiters == 0)
        return OK;
    uint32_t now = now_ms();
    uint32_t best;
    enum status status = choose(handle, channel, now, &best, rings);
    if (status != OK || best == 0)
        return status;
    struct waiter *waiter = waiter_at(handle, best);
    struct loop_slot *loop = waiter != NULL ? loop_of(handle, waiter->slot, waiter->loop) : NULL;
    if (loop == NULL || !make_ready(handle, best, waiter))
        return DAMAGED;
    uint64_t state = atomic_load_explicit(&loop->state, memory_order_relaxed);
    enum rank rank = rank_of(waiter, state, now);
    if (STATE_OF(state) == LOOP_ASLEEP || rank == VOID)
        rings_add(rings, waiter, state);
    return OK;
}

void ring_succeeded(struct handle *handle, const struct ring *ring) {
    struct loop_slot *loop = loop_of(handle, ring->slot, ring->loop);
    uint64_t expected = STATE_WORD(LOOP_ASLEEP, ring->sleep, 0);
    uint64_t rung = STATE_WORD(LOOP_RUNG, ring->sleep, now_ms());
    if (loop != NULL && atomic_load(&handle->slots[ring->slot].generation) == ring->generation)
        (void)atomic_compare_exchange_strong(&loop->state, &expected, rung);
}

enum status loop_forget(struct handle *handle, struct loop_slot *loop, struct rings *rings) {
    for (uint32_t steps = 0; loop->waiters != 0; steps++) {
        struct waiter *waiter = waiter_at(handle, loop->waiters);
        if (waiter == NULL || steps >= handle->messages.blocks)
            return DAMAGED;
        uint32_t reference = waiter->channel;
        if (!drop_waiter(handle, loop->waiters))
            return DAMAGED;
        struct channel *channel = channel_at(handle, reference);
        if (channel == NULL)
            return DAMAGED;
        enum status status = channel->head != 0 && rings != NULL ? waiters_wake(handle, reference, rings)
                                                                 : channel_release(handle, reference);
        if (status != OK)
            return status;
    }
    return OK;
}

enum status ring_failed(struct handle *handle, const struct ring *ring, struct rings *rings) {
    struct loop_slot *loop = loop_of(handle, ring->slot, ring->loop);
    if (loop == NULL || atomic_load(&handle->slots[ring->slot].generation) != ring->generation)
        return OK;
    bool is_own = ring->slot == handle->private->slot && ring->generation == handle->private->generation;
    if (!is_own && liveness_is_dead(handle, ring->slot, ring->generation))
        return loop_forget(handle, loop, rings);
    /* It lives, and looks around by itself; until then others are to be preferred, as if it had been rung. */
    ring_succeeded(handle, ring);
    uint32_t at = loop->waiters;
    for (uint32_t steps = 0; at != 0; steps++) {
        struct waiter *waiter = waiter_at(handle, at);
        struct channel *channel = waiter != NULL ? channel_at(handle, waiter->channel) : NULL;
        if (channel == NULL || steps >= handle->messages.blocks)
            return DAMAGED;
        at = waiter->loop_next;
        if (channel->head != 0 && channel->owner == 0) {
            enum status status = waiters_wake(handle, waiter->channel, rings);
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

enum status loop_close(struct handle *handle, uint32_t number, struct rings *rings) {
    struct loop_slot *loop = loop_of(handle, handle->private->slot, number); /* also one that damage has closed */
    if (loop == NULL)
        return STALE;
    enum status status = loop_forget(handle, loop, rings);
    loop->in_use = 0;
    return status;
}

bool loop_sleep(struct handle *handle, uint32_t number) {
    struct loop_slot *loop = own_loop(handle, number);
    if (loop == NULL || loop->ready != 0)
        return false;
    /* A new sleep also for who was ASLEEP or RUNG: it has answered its bell. A mark that stayed, or that a late ringer
     * sets, would silence the next ones. */
    uint64_t state = atomic_load_explicit(&loop->state, memory_order_relaxed);
    atomic_store(&loop->state, STATE_WORD(LOOP_ASLEEP, SLEEP_OF(state) + 1, 0));
    return true;
}

enum status loop_collect(struct handle *handle, uint32_t number, bool sleep, char *names, size_t size, size_t *used,
                         bool *left) {
    struct loop_slot *loop = own_loop(handle, number);
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

/* Whether the ready list holds as many waiters as say that they are in it: who says so and is not is never woken again.
 */
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
    struct loop_slot *loop = own_loop(handle, number);
    if (loop == NULL)
        return STALE;
    uint32_t at = loop->waiters, ready = 0;
    for (uint32_t steps = 0; at != 0; steps++) {
        struct waiter *waiter = waiter_at(handle, at);
        struct channel *channel = waiter != NULL ? channel_at(handle, waiter->channel) : NULL;
        if (channel == NULL || steps >= handle->messages.blocks)
            return DAMAGED;
        if (channel->head != 0 && !make_ready(handle, at, waiter))
            return DAMAGED;
        ready += waiter->is_ready != 0;
        at = waiter->loop_next;
    }
    return is_ready_list_sound(handle, loop, ready) ? OK : DAMAGED;
}
