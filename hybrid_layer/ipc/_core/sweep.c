/* SPDX-License-Identifier: BSD-3-Clause */
/* Walks over all channels: drops what has expired, forgets everything, counts what is unread. */
#include "sweep.h"

#include "channels.h"
#include "clock.h"
#include "epochs.h"
#include "groups.h"
#include "memberships.h"
#include "messages.h"
#include "queues.h"
#include "registrations.h"

/* What is done to each channel; false on damage. */
typedef bool visit(struct handle *handle, struct channel *channel, uint64_t *value);

/* Visits the channels of some buckets, and frees those that nothing keeps in being then. */
static enum status visit_channels(struct handle *handle, uint32_t bucket, uint32_t buckets, visit *each,
                                  uint64_t *value) {
    for (; buckets > 0; buckets--, bucket++) {
        uint32_t at = handle->messages.buckets[bucket & handle->messages.bucket_mask];
        for (uint32_t steps = 0; at != 0; steps++) {
            struct channel *channel = channel_at(handle, at);
            if (channel == NULL || steps >= handle->messages.blocks)
                return DAMAGED;
            uint32_t reference = at;
            at = channel->bucket_next;
            if (!each(handle, channel, value) || channel_release(handle, reference) != OK)
                return DAMAGED;
        }
    }
    return OK;
}

static bool purge(struct handle *handle, struct channel *channel, uint64_t *now) {
    return queue_purge(handle, channel, *now);
}

static bool empty(struct handle *handle, struct channel *channel, uint64_t *unused) {
    (void)unused;
    return queue_clear(handle, channel) && pairs_forget_target(handle, channel) == OK;
}

static bool ask_for_need(struct handle *handle, struct channel *channel, uint64_t *needed) {
    (void)handle;
    *needed |= channel->owner == 0 && (channel->head != 0 || channel->pairs != 0);
    return true;
}

enum status channels_sweep(struct handle *handle, uint32_t buckets) {
    uint64_t now = now_ns();
    uint32_t mask = handle->messages.bucket_mask;
    uint32_t bucket = handle->header->sweep_cursor & mask;
    handle->header->sweep_cursor = (bucket + buckets) & mask;
    return visit_channels(handle, bucket, buckets, purge, &now);
}

enum status channels_flush(struct handle *handle) {
    epoch_move(handle->header);
    enum status status = visit_channels(handle, 0, handle->messages.bucket_mask + 1, empty, NULL);
    /* What is left are groups that only a record keeps in being. */
    return status == OK && groups_exist(handle) ? groups_free_idle(handle) : status;
}

enum status channels_are_needed(struct handle *handle, bool *needed) {
    uint64_t found = 0;
    enum status status = channels_sweep(handle, handle->messages.bucket_mask + 1);
    if (status == OK)
        status = groups_sweep(handle, handle->groups.bucket_mask + 1);
    if (status == OK)
        status = visit_channels(handle, 0, handle->messages.bucket_mask + 1, ask_for_need, &found);
    *needed = found != 0;
    return status;
}

uint64_t channels_unread(struct handle *handle) {
    uint64_t unread = 0, now = now_ns();
    uint32_t steps = 0, limit = 2 * handle->messages.blocks; /* also where queues and chains run in circles */
    for (uint32_t bucket = 0; bucket <= handle->messages.bucket_mask; bucket++) {
        struct channel *channel = channel_at(handle, handle->messages.buckets[bucket]);
        for (; channel != NULL && steps < limit; channel = channel_at(handle, channel->bucket_next)) {
            struct message *message = message_at(handle, channel->head);
            for (steps++; message != NULL && steps < limit; message = message_at(handle, message->next), steps++)
                unread += message->deadline > now;
        }
    }
    return unread;
}
