/* SPDX-License-Identifier: BSD-3-Clause */
/* Makes and frees messages, entries and payloads. */
#include "messages.h"

#include <string.h>

#include "blocks.h"
#include "counters.h"
#include "memberships.h"

_Static_assert(offsetof(struct message, next) == offsetof(struct entry, next), "shared field");
_Static_assert(offsetof(struct message, sent_ms) == offsetof(struct entry, sent_ms), "shared field");
_Static_assert(offsetof(struct message, deadline) == offsetof(struct entry, deadline), "shared field");

struct message *message_at(struct handle *handle, uint32_t reference) {
    struct block *block = block_raw(handle, &handle->messages, reference);
    /* MESSAGE and ENTRY have `next` and `deadline` at the same places. */
    return block != NULL && (block->kind == KIND_MESSAGE || block->kind == KIND_ENTRY) ? (struct message *)block : NULL;
}

enum status message_reserve(struct handle *handle, size_t local_length, size_t size, uint32_t *reference) {
    uint32_t last, blocks = blocks_for(sizeof((struct message *)0)->data, local_length + size);
    enum status status = blocks_take(handle, &handle->messages, blocks, reference, &last);
    if (status != OK)
        return status;
    struct message *message = block_raw(handle, &handle->messages, *reference);
    message->tail = last;
    message->local_length = (uint8_t)local_length;
    message->size = (uint32_t)size;
    message->kind = KIND_MESSAGE;
    return OK;
}

enum status message_new(struct handle *handle, const struct push *push, uint64_t now, uint32_t *reference) {
    *reference = push->loan;
    if (push->loan == 0) {
        enum status status = message_reserve(handle, push->local.length, push->size, reference);
        if (status != OK)
            return status;
        if (!data_write(handle, &handle->messages, *reference, MESSAGE_DATA, 0, push->local.bytes,
                        push->local.length) ||
            !data_write(handle, &handle->messages, *reference, MESSAGE_DATA, push->local.length, push->payload,
                        push->size))
            return DAMAGED;
    }
    struct message *message = block_raw(handle, &handle->messages, *reference);
    if (message == NULL)
        return DAMAGED;
    message->next = 0;
    message->deadline = now + push->expiry_ns;
    message->sent_ms = ms_of(now);
    message->kind = KIND_MESSAGE;
    return OK;
}

enum status payload_reserve(struct handle *handle, size_t size, uint32_t *reference) {
    uint32_t last, blocks = blocks_for(sizeof((struct payload *)0)->data, size);
    enum status status = blocks_take(handle, &handle->messages, blocks, reference, &last);
    if (status != OK)
        return status;
    struct payload *payload = block_raw(handle, &handle->messages, *reference);
    payload->tail = last;
    payload->size = (uint32_t)size;
    payload->references = 1;
    payload->kind = KIND_PAYLOAD;
    return OK;
}

enum status payload_new(struct handle *handle, const void *bytes, size_t size, uint32_t loan, uint32_t *reference) {
    *reference = loan;
    if (loan == 0) {
        enum status status = payload_reserve(handle, size, reference);
        if (status != OK)
            return status;
        if (!data_write(handle, &handle->messages, *reference, PAYLOAD_DATA, 0, bytes, size))
            return DAMAGED;
    }
    struct payload *payload = block_raw(handle, &handle->messages, *reference);
    if (payload == NULL)
        return DAMAGED;
    payload->references = 1;
    payload->kind = KIND_PAYLOAD;
    return OK;
}

bool payload_release(struct handle *handle, uint32_t reference) {
    struct payload *payload = block_at(handle, &handle->messages, reference, KIND_PAYLOAD);
    if (payload == NULL || payload->references == 0)
        return false;
    if (--payload->references != 0)
        return true;
    return blocks_give(handle, &handle->messages, reference, payload->tail,
                       blocks_for(sizeof payload->data, payload->size));
}

bool message_free(struct handle *handle, uint32_t reference) {
    struct block *block = block_raw(handle, &handle->messages, reference);
    if (block == NULL)
        return false;
    if (block->kind == KIND_ENTRY) {
        struct entry *entry = (struct entry *)block;
        return payload_release(handle, entry->payload) && pair_entry_gone(handle, entry) &&
               blocks_give(handle, &handle->messages, reference, reference, 1);
    }
    if (block->kind != KIND_MESSAGE)
        return false;
    struct message *message = (struct message *)block;
    uint32_t blocks = blocks_for(sizeof message->data, (size_t)message->local_length + message->size);
    return blocks_give(handle, &handle->messages, reference, message->tail, blocks);
}
