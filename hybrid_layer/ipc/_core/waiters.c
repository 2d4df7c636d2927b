/* SPDX-License-Identifier: BSD-3-Clause */
/* Links and unlinks waiters. */
#include "waiters.h"

#include "blocks.h"
#include "channels.h"

struct waiter *waiter_at(struct handle *handle, uint32_t reference) {
    return block_at(handle, &handle->messages, reference, KIND_WAITER);
}

struct loop_slot *loop_at(struct handle *handle, uint32_t slot, uint32_t loop) {
    return slot < SLOTS && loop < LOOPS ? &handle->slots[slot].loops[loop] : NULL;
}

struct loop_slot *loop_own(struct handle *handle, uint32_t number) {
    struct loop_slot *loop = loop_at(handle, handle->private->slot, number);
    return loop != NULL && loop->in_use ? loop : NULL;
}

bool waiter_drop(struct handle *handle, uint32_t reference) {
    struct waiter *waiter = waiter_at(handle, reference);
    if (waiter == NULL)
        return false;
    struct channel *channel = channel_at(handle, waiter->channel);
    struct loop_slot *loop = loop_at(handle, waiter->slot, waiter->loop);
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

enum status waiter_find(struct handle *handle, const struct channel *channel, uint32_t loop, uint32_t *reference) {
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

enum status waiter_add(struct handle *handle, uint32_t channel_reference, uint32_t loop_number) {
    struct channel *channel = channel_at(handle, channel_reference);
    struct loop_slot *loop = loop_own(handle, loop_number);
    if (loop == NULL)
        return STALE;
    if (channel == NULL)
        return DAMAGED;
    uint32_t reference;
    enum status status = waiter_find(handle, channel, loop_number, &reference);
    if (status != EMPTY)
        return status;
    status = blocks_take(handle, &handle->messages, 1, &reference, NULL);
    if (status != OK)
        return status;
    struct waiter *waiter = block_raw(handle, &handle->messages, reference);
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

bool waiters_forget_channel(struct handle *handle, struct channel *channel) {
    for (uint32_t steps = 0; channel->waiters != 0; steps++)
        if (steps > SLOTS * LOOPS || !waiter_drop(handle, channel->waiters))
            return false;
    return true;
}

bool waiter_make_ready(struct handle *handle, uint32_t reference, struct waiter *waiter) {
    if (waiter->is_ready)
        return true;
    struct loop_slot *loop = loop_at(handle, waiter->slot, waiter->loop);
    struct waiter *tail = loop != NULL && loop->ready_tail != 0 ? waiter_at(handle, loop->ready_tail) : NULL;
    if (loop == NULL || (tail == NULL) != (loop->ready_tail == 0))
        return false;
    *(tail != NULL ? &tail->ready_next : &loop->ready) = reference;
    loop->ready_tail = reference;
    waiter->ready_next = 0;
    waiter->is_ready = 1;
    return true;
}
