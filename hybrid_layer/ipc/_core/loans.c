/* SPDX-License-Identifier: BSD-3-Clause */
/* Chains of blocks that a process copies a large payload into, or out of, without the lock. */
#include "loans.h"

#include "blocks.h"
#include "messages.h"

static struct loan *own_loan(struct handle *handle, uint32_t loan) {
    return &handle->slots[handle->private->slot].loans[loan];
}

void loan_abandon(struct handle *handle, uint32_t loan) { atomic_fetch_or(&handle->abandoned, 1u << loan); }

static enum status free_loan(struct handle *handle, uint32_t *loan) {
    uint32_t abandoned = atomic_exchange(&handle->abandoned, 0);
    for (uint32_t number = 0; number < LOANS; number++)
        if ((abandoned >> number & 1u) != 0 && !loan_clear(handle, handle->private->slot, number))
            return DAMAGED;
    for (*loan = 0; *loan < LOANS; (*loan)++)
        if (own_loan(handle, *loan)->block == 0)
            return OK;
    return NO_SLOT;
}

static size_t data_of(uint8_t kind) { return kind == KIND_PAYLOAD ? PAYLOAD_DATA : MESSAGE_DATA; }

enum status loan_reserve(struct handle *handle, size_t local_length, size_t size, bool is_payload, uint32_t *loan) {
    uint32_t first;
    enum status status = free_loan(handle, loan);
    if (status == OK)
        status =
            is_payload ? payload_reserve(handle, size, &first) : message_reserve(handle, local_length, size, &first);
    if (status == OK)
        commit(&own_loan(handle, *loan)->block, first);
    return status;
}

bool loan_fill(struct handle *handle, uint32_t loan, struct name local, const void *payload, size_t size,
               bool is_payload) {
    uint32_t first = own_loan(handle, loan)->block;
    size_t data = data_of(is_payload ? KIND_PAYLOAD : KIND_MESSAGE);
    return data_write(handle, &handle->messages, first, data, 0, local.bytes, local.length) &&
           data_write(handle, &handle->messages, first, data, local.length, payload, size);
}

enum status loan_keep(struct handle *handle, uint32_t reference, uint32_t *loan) {
    enum status status = free_loan(handle, loan);
    if (status == OK)
        commit(&own_loan(handle, *loan)->block, reference);
    return status;
}

static bool read_chain(struct handle *handle, uint32_t first, void *to, size_t size) {
    struct block *block = block_raw(handle, &handle->messages, first);
    if (block == NULL || (block->kind != KIND_MESSAGE && block->kind != KIND_PAYLOAD))
        return false;
    size_t local = block->kind == KIND_MESSAGE ? ((struct message *)block)->local_length : 0;
    return data_read(handle, &handle->messages, first, data_of(block->kind), local, to, size);
}

bool loan_read(struct handle *handle, uint32_t loan, void *to, size_t size) {
    if (read_chain(handle, own_loan(handle, loan)->block, to, size))
        return true;
    atomic_store(&handle->header->damaged, 1); /* or giving it back would count blocks that are not there */
    return false;
}

bool loan_block(struct handle *handle, uint32_t loan, uint32_t *block) {
    *block = loan != NO_LOAN ? own_loan(handle, loan)->block : 0;
    return loan == NO_LOAN || *block != 0;
}

void loan_forget(struct handle *handle, uint32_t loan) {
    if (loan != NO_LOAN)
        commit(&own_loan(handle, loan)->block, 0);
}

bool loan_clear(struct handle *handle, uint32_t slot, uint32_t loan) {
    struct loan *place = &handle->slots[slot].loans[loan];
    uint32_t reference = place->block;
    if (reference == 0)
        return true;
    struct block *block = block_raw(handle, &handle->messages, reference);
    commit(&place->block, 0);
    if (block == NULL)
        return false;
    return block->kind == KIND_PAYLOAD ? payload_release(handle, reference) : message_free(handle, reference);
}
