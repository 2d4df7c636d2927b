/* Channels and their queues: found and made, pushed to, expired, freed. */
#include "channels.h"

#include <string.h>

#include "blocks.h"
#include "clock.h"
#include "counters.h"
#include "groups.h"
#include "hash.h"
#include "suspect.h"
#include "waiters.h"

#define CHANNEL_NAME offsetof(struct channel, name)
#define MESSAGE_DATA offsetof(struct message, data)
#define PAYLOAD_DATA offsetof(struct payload, data)

struct channel *channel_at(struct handle *handle, uint32_t reference) {
    return block_at(handle, &handle->messages, reference, KIND_CHANNEL);
}

struct channel *channel_found(struct handle *handle, uint32_t reference) {
    return (struct channel *)block_raw(handle, &handle->messages, reference);
}

uint32_t *channel_bucket(struct handle *handle, const char *name, size_t length) {
    uint64_t hash = hash_bytes(handle->seed, name, length);
    return (uint32_t *)&handle->messages.buckets[hash & handle->messages.bucket_mask];
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
    uint32_t blocks = blocks_for(&handle->messages, sizeof((struct channel *)0)->name, name.length);
    status = blocks_take(handle, &handle->messages, blocks, &first, NULL);
    if (status != OK)
        return status;
    struct channel *channel = (struct channel *)block_raw(handle, &handle->messages, first);
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

size_t channel_name(struct handle *handle, const struct channel *channel, char *buffer) {
    size_t length = read_length(&channel->name_length);
    size_t offset = (size_t)((const unsigned char *)channel - handle->messages.base);
    uint32_t reference = (uint32_t)(offset / MESSAGE_BLOCK);
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

enum status channel_remove_inbox(struct handle *handle, uint32_t reference) {
    struct channel *channel = channel_at(handle, reference);
    if (channel == NULL)
        return DAMAGED;
    uint32_t unread = channel->count;
    if (!queue_clear(handle, channel) || !waiters_forget_channel(handle, channel) ||
        groups_forget_target(handle, channel) != OK)
        return DAMAGED;
    count(handle, COUNT_DEAD, unread);
    channel->owner = 0;
    return channel_release(handle, reference);
}

static struct message *message_at(struct handle *handle, uint32_t reference) {
    struct block *block = block_raw(handle, &handle->messages, reference);
    /* MESSAGE and ENTRY have `next` and `deadline` at the same places. */
    return block != NULL && (block->kind == KIND_MESSAGE || block->kind == KIND_ENTRY) ? (struct message *)block : NULL;
}

_Static_assert(offsetof(struct message, next) == offsetof(struct entry, next), "shared field");
_Static_assert(offsetof(struct message, deadline) == offsetof(struct entry, deadline), "shared field");

void queue_append(struct handle *handle, struct channel *channel, uint32_t reference) {
    struct message *tail = channel->tail != 0 ? message_at(handle, channel->tail) : NULL;
    struct message *added = message_at(handle, reference);
    if (tail != NULL) {
        if (added != NULL && added->deadline < tail->deadline)
            channel->unordered = 1;
        commit(&tail->next, reference);
    } else {
        channel->unordered = 0;
        commit(&channel->head, reference);
    }
    channel->tail = reference;
    channel->count++;
}

bool queue_unlink_head(struct handle *handle, struct channel *channel) {
    struct message *head = message_at(handle, channel->head);
    if (head == NULL || channel->count == 0)
        return false;
    uint32_t next = head->next;
    if ((next == 0) != (channel->count == 1)) /* a wrong count would make the channel full for ever */
        return false;
    commit(&channel->head, next);
    if (next == 0)
        channel->tail = 0;
    channel->count--;
    return true;
}

bool message_free(struct handle *handle, uint32_t reference) {
    struct block *block = block_raw(handle, &handle->messages, reference);
    if (block == NULL)
        return false;
    if (block->kind == KIND_ENTRY) {
        struct entry *entry = (struct entry *)block;
        return payload_release(handle, entry->payload) && groups_entry_gone(handle, entry) &&
               blocks_give(handle, &handle->messages, reference, reference, 1);
    }
    if (block->kind != KIND_MESSAGE)
        return false;
    struct message *message = (struct message *)block;
    uint32_t blocks =
        blocks_for(&handle->messages, sizeof message->data, (size_t)message->local_length + message->size);
    return blocks_give(handle, &handle->messages, reference, message->tail, blocks);
}

static bool drop_head(struct handle *handle, struct channel *channel) {
    uint32_t head = channel->head;
    return queue_unlink_head(handle, channel) && message_free(handle, head);
}

bool queue_clear(struct handle *handle, struct channel *channel) {
    while (channel->head != 0)
        if (!drop_head(handle, channel))
            return false;
    return true;
}

bool queue_purge(struct handle *handle, struct channel *channel, uint64_t now, uint32_t limit) {
    for (uint32_t dropped = 0; channel->head != 0 && dropped < limit; dropped++) {
        struct message *head = message_at(handle, channel->head);
        if (head == NULL)
            return false;
        if (head->deadline > now)
            return true;
        if (!channel->was_read && channel->owner == 0)
            handle->unread[channel_name(handle, channel, handle->unread)] = '\0';
        if (!drop_head(handle, channel))
            return false;
        count(handle, COUNT_EXPIRED, 1);
    }
    return true;
}

/* Drops expired messages wherever they stand. Only where senders differ in expiry, and only in a full queue. */
static bool purge_everywhere(struct handle *handle, struct channel *channel, uint64_t now) {
    uint32_t *link = &channel->head;
    uint32_t previous = 0;
    uint64_t last_deadline = 0;
    uint8_t unordered = 0; /* stored at the end: until then, what is freed is not the oldest (see groups_entry_gone) */
    for (uint32_t steps = 0; *link != 0; steps++) {
        uint32_t reference = *link;
        struct message *message = message_at(handle, reference);
        if (message == NULL || steps >= handle->messages.blocks)
            return false;
        if (message->deadline <= now) {
            if (channel->tail == reference)
                channel->tail = previous;
            commit(link, message->next);
            channel->count--;
            if (!message_free(handle, reference))
                return false;
            count(handle, COUNT_EXPIRED, 1);
            continue;
        }
        if (message->deadline < last_deadline)
            unordered = 1;
        last_deadline = message->deadline;
        previous = reference;
        link = &message->next;
    }
    channel->unordered = unordered;
    return true;
}

enum status queue_make_room(struct handle *handle, struct channel *channel, uint32_t capacity, uint64_t now) {
    /* Who takes a message would find a wrong count, but from an empty queue nobody ever does. */
    bool is_empty = channel->head == 0;
    if ((channel->count == 0) != is_empty || (channel->tail == 0) != is_empty)
        return DAMAGED;
    if (channel->count < capacity)
        return OK;
    if (!queue_purge(handle, channel, now, UINT32_MAX))
        return DAMAGED;
    if (channel->count >= capacity && channel->unordered && !purge_everywhere(handle, channel, now))
        return DAMAGED;
    return channel->count < capacity ? OK : FULL;
}

static enum status new_message(struct handle *handle, const struct push *push, uint64_t now, uint32_t *reference) {
    uint32_t first = push->held, last;
    struct message *message;
    if (first == 0) {
        uint32_t blocks = blocks_for(&handle->messages, sizeof message->data, push->local.length + push->size);
        enum status status = blocks_take(handle, &handle->messages, blocks, &first, &last);
        if (status != OK)
            return status;
        message = (struct message *)block_raw(handle, &handle->messages, first);
        message->tail = last;
        message->local_length = (uint8_t)push->local.length;
        message->size = (uint32_t)push->size;
        if (!data_write(handle, &handle->messages, first, MESSAGE_DATA, 0, push->local.bytes, push->local.length) ||
            !data_write(handle, &handle->messages, first, MESSAGE_DATA, push->local.length, push->payload, push->size))
            return DAMAGED;
    } else {
        message = (struct message *)block_raw(handle, &handle->messages, first);
        if (message == NULL)
            return DAMAGED;
    }
    message->next = 0;
    message->deadline = now + push->expiry_ns;
    message->kind = KIND_MESSAGE;
    *reference = first;
    return OK;
}

enum status queue_push(struct handle *handle, const struct push *push, uint32_t *channel_reference) {
    uint64_t now = now_ns();
    uint32_t reference;
    enum status status = names_inbox(push->channel) ? channel_find(handle, push->channel, &reference)
                                                    : channel_find_or_create(handle, push->channel, &reference);
    if (status == EMPTY)
        return GONE;
    if (status != OK)
        return status;
    struct channel *channel = channel_found(handle, reference);
    status = queue_make_room(handle, channel, push->capacity, now);
    if (status == FULL && channel->owner != 0 && suspect_is_dead(handle, channel->owner - 1, channel->owner_generation))
        return GONE;
    uint32_t message;
    if (status == OK)
        status = new_message(handle, push, now, &message);
    if (status != OK) {
        /* A channel that was made for nothing leaves no trace. */
        if (status != DAMAGED && channel_release(handle, reference) != OK)
            return DAMAGED;
        return status;
    }
    queue_append(handle, channel, message);
    *channel_reference = reference;
    return OK;
}

enum status payload_new(struct handle *handle, const void *bytes, size_t size, uint32_t held, uint32_t *reference) {
    uint32_t first = held, last;
    struct payload *payload;
    if (held == 0) {
        uint32_t blocks = blocks_for(&handle->messages, sizeof payload->data, size);
        enum status status = blocks_take(handle, &handle->messages, blocks, &first, &last);
        if (status != OK)
            return status;
        payload = (struct payload *)block_raw(handle, &handle->messages, first);
        payload->tail = last;
        payload->size = (uint32_t)size;
        if (!data_write(handle, &handle->messages, first, PAYLOAD_DATA, 0, bytes, size))
            return DAMAGED;
    } else {
        payload = (struct payload *)block_raw(handle, &handle->messages, first);
        if (payload == NULL)
            return DAMAGED;
    }
    payload->references = 1; /* the maker's own, given back with payload_release */
    payload->kind = KIND_PAYLOAD;
    *reference = first;
    return OK;
}

bool payload_release(struct handle *handle, uint32_t reference) {
    struct payload *payload = block_at(handle, &handle->messages, reference, KIND_PAYLOAD);
    if (payload == NULL || payload->references == 0)
        return false;
    if (--payload->references != 0)
        return true;
    return blocks_give(handle, &handle->messages, reference, payload->tail,
                       blocks_for(&handle->messages, sizeof payload->data, payload->size));
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

enum status channels_sweep(struct handle *handle, uint32_t buckets) {
    uint64_t now = now_ns();
    uint32_t mask = handle->messages.bucket_mask;
    uint32_t bucket = handle->header->sweep_cursor & mask;
    handle->header->sweep_cursor = (bucket + buckets) & mask;
    for (; buckets > 0; buckets--, bucket = (bucket + 1) & mask) {
        uint32_t at = handle->messages.buckets[bucket];
        for (uint32_t steps = 0; at != 0; steps++) {
            struct channel *channel = channel_at(handle, at);
            if (channel == NULL || steps >= handle->messages.blocks)
                return DAMAGED;
            uint32_t next = channel->bucket_next;
            if (!queue_purge(handle, channel, now, UINT32_MAX) || channel_release(handle, at) != OK)
                return DAMAGED;
            at = next;
        }
    }
    return OK;
}
