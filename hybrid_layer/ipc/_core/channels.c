/* SPDX-License-Identifier: BSD-3-Clause */
/* Finds, makes and frees the records of channels. */
#include "channels.h"

#include <string.h>

#include "blocks.h"
#include "hash.h"

#define CHANNEL_NAME offsetof(struct channel, name)

struct channel *channel_at(struct handle *handle, uint32_t reference) {
    return block_at(handle, &handle->messages, reference, KIND_CHANNEL);
}

uint32_t *channel_bucket(struct handle *handle, const char *name, size_t length) {
    uint64_t hash = hash_bytes(handle->seed, name, length);
    return &handle->messages.buckets[hash & handle->messages.bucket_mask];
}

enum status channel_find(struct handle *handle, struct name name, uint32_t *reference) {
    uint32_t at = *channel_bucket(handle, name.bytes, name.length);
    for (uint32_t steps = 0; at != 0; steps++) {
        struct channel *channel = channel_at(handle, at);
        if (channel == NULL || steps >= handle->messages.blocks)
            return DAMAGED;
        if (channel->name_length == name.length &&
            data_equals(handle, &handle->messages, at, CHANNEL_NAME, name.bytes, name.length)) {
            *reference = at;
            return OK;
        }
        at = channel->bucket_next;
    }
    return EMPTY;
}

enum status channel_find_or_create(struct handle *handle, struct name name, uint32_t *reference) {
    enum status status = channel_find(handle, name, reference);
    if (status != EMPTY)
        return status;
    uint32_t first;
    uint32_t blocks = blocks_for(sizeof((struct channel *)0)->name, name.length);
    status = blocks_take(handle, &handle->messages, blocks, &first, NULL);
    if (status != OK)
        return status;
    struct channel *channel = block_raw(handle, &handle->messages, first);
    uint32_t chain = channel->chain;
    memset(channel, 0, sizeof *channel);
    channel->chain = chain;
    channel->name_length = (uint8_t)name.length;
    if (!data_write(handle, &handle->messages, first, CHANNEL_NAME, 0, name.bytes, name.length))
        return DAMAGED;
    uint32_t *bucket = channel_bucket(handle, name.bytes, name.length);
    channel->bucket_next = *bucket;
    channel->kind = KIND_CHANNEL;
    commit(bucket, first);
    *reference = first;
    return OK;
}

enum status channel_find_target(struct handle *handle, struct name name, uint32_t *reference) {
    return names_inbox(name) ? channel_find(handle, name, reference) : channel_find_or_create(handle, name, reference);
}

size_t channel_name(struct handle *handle, const struct channel *channel, char *buffer) {
    size_t length = read_length(&channel->name_length);
    size_t offset = (size_t)((const unsigned char *)channel - handle->messages.base);
    uint32_t reference = (uint32_t)(offset / BLOCK);
    if (length > NAME_MAX_LENGTH || !data_read(handle, &handle->messages, reference, CHANNEL_NAME, 0, buffer, length))
        return 0;
    return length;
}

static enum status unlink_channel(struct handle *handle, uint32_t reference, struct channel *channel) {
    char name[NAME_MAX_LENGTH];
    size_t length = channel_name(handle, channel, name);
    if (length == 0)
        return DAMAGED;
    uint32_t *link = channel_bucket(handle, name, length);
    for (uint32_t steps = 0; *link != reference; steps++) {
        struct channel *other = channel_at(handle, *link);
        if (other == NULL || steps >= handle->messages.blocks)
            return DAMAGED;
        link = &other->bucket_next;
    }
    commit(link, channel->bucket_next);
    return blocks_give_chain(handle, &handle->messages, reference) ? OK : DAMAGED;
}

enum status channel_release(struct handle *handle, uint32_t reference) {
    struct channel *channel = channel_at(handle, reference);
    if (channel == NULL)
        return DAMAGED;
    if (channel->head != 0 || channel->waiters != 0 || channel->pairs != 0 || channel->owner != 0)
        return OK;
    return unlink_channel(handle, reference, channel);
}
