/* SPDX-License-Identifier: BSD-3-Clause */
/* Opens inboxes, closes them, and removes those of the dead. */
#include "inboxes.h"

#include "blocks.h"
#include "channels.h"
#include "counters.h"
#include "memberships.h"
#include "queues.h"
#include "suspect.h"
#include "waiters.h"

bool inbox_is_own(struct handle *handle, const struct channel *channel) {
    return channel->owner == handle->private->slot + 1 && channel->owner_generation == handle->private->generation;
}

enum status inbox_open(struct handle *handle, struct name name) {
    uint32_t reference;
    enum status status = channel_find(handle, name, &reference);
    bool is_new = status == EMPTY;
    if (is_new)
        status = channel_find_or_create(handle, name, &reference);
    if (status != OK)
        return status;
    struct slot *slot = &handle->slots[handle->private->slot];
    struct channel *channel = block_raw(handle, &handle->messages, reference);
    if (inbox_is_own(handle, channel))
        return OK;
    /* The owner may be the process that this one was before it lost its slot. */
    if (channel->owner != 0 && suspect_is_dead(handle, channel->owner - 1, channel->owner_generation))
        return GONE;
    channel->owned_next = slot->inboxes;
    channel->owner_generation = handle->private->generation;
    commit(&channel->owner, handle->private->slot + 1);
    /* The ids of two layers are not the same by chance, so any other owner is damage: the inbox is ours, and the
     * rebuild links it to us. */
    if (!is_new)
        return DAMAGED;
    slot->inboxes = reference;
    handle->header->inboxes++;
    return OK;
}

enum status inbox_remove(struct handle *handle, uint32_t reference) {
    struct channel *channel = channel_at(handle, reference);
    if (channel == NULL)
        return DAMAGED;
    uint32_t unread = channel->count;
    if (handle->header->inboxes == 0 || !queue_clear(handle, channel) || !waiters_forget_channel(handle, channel) ||
        pairs_forget_target(handle, channel) != OK)
        return DAMAGED;
    count(handle, COUNT_DEAD, unread);
    channel->owner = 0;
    handle->header->inboxes--;
    return channel_release(handle, reference);
}

enum status inbox_close(struct handle *handle, struct name name) {
    uint32_t reference;
    enum status status = channel_find(handle, name, &reference);
    if (status != OK)
        return status == EMPTY ? OK : status;
    struct channel *channel = block_raw(handle, &handle->messages, reference);
    if (!inbox_is_own(handle, channel))
        return OK;
    uint32_t *link = &handle->slots[handle->private->slot].inboxes;
    for (uint32_t steps = 0; *link != reference; steps++) {
        struct channel *other = channel_at(handle, *link);
        if (other == NULL || steps >= handle->messages.blocks)
            return DAMAGED;
        link = &other->owned_next;
    }
    *link = channel->owned_next;
    return inbox_remove(handle, reference);
}
