/* SPDX-License-Identifier: BSD-3-Clause */
/* Frees what dead processes left, and what has expired, a few buckets at a time. */
#include "reaping.h"

#include "channels.h"
#include "clock.h"
#include "counters.h"
#include "epochs.h"
#include "groups.h"
#include "loans.h"
#include "inboxes.h"
#include "loops.h"
#include "scrub.h"
#include "suspect.h"
#include "sweep.h"

#define LOOK_NS 200000000ull
#define PROBES \
    128u /* for each look: all slots within 1.6 s, so a dead process is reaped within two, however many live */
#define SWEEP_BUCKETS 4096u /* 16 KiB that are not in any cache */
#define SCRUB_BLOCKS 256u

void reap_suspect(struct handle *handle) {
    struct suspect dead = handle->suspect;
    handle->suspect.slot = 0;
    if (dead.slot == 0)
        return;
    /* A newcomer clears the slot before it publishes itself. So a reference to an earlier owner of the slot is damage.
     */
    if (handle->slots[dead.slot - 1].published != dead.generation + 1 || slot_clear(handle, dead.slot - 1) != OK)
        atomic_store(&handle->header->damaged, 1);
    /* The generation stays: a newcomer that has claimed the slot has stored its own already. */
}

enum status slot_clear(struct handle *handle, uint32_t number) {
    struct slot *slot = &handle->slots[number];
    if (slot->published)
        count(handle, COUNT_REAPED, 1);
    for (uint32_t steps = 0; slot->inboxes != 0; steps++) {
        struct channel *inbox = channel_at(handle, slot->inboxes);
        if (inbox == NULL || steps >= handle->messages.blocks)
            return DAMAGED;
        uint32_t reference = slot->inboxes;
        slot->inboxes = inbox->owned_next;
        if (inbox_remove(handle, reference) != OK)
            return DAMAGED;
    }
    for (uint32_t loop = 0; loop < LOOPS; loop++) {
        if (loop_forget(handle, &slot->loops[loop], NULL) != OK)
            return DAMAGED;
        slot->loops[loop].in_use = 0;
    }
    for (uint32_t loan = 0; loan < LOANS; loan++)
        if (!loan_clear(handle, number, loan))
            return DAMAGED;
    slot->published = 0;
    return OK;
}

enum status housekeep(struct handle *handle) {
    struct header *header = handle->header;
    uint64_t now = now_ns();
    if (now < header->next_look && header->next_look - now <= LOOK_NS)
        return OK;
    /* Where few processes are awake, looks are rarer, and each probes more slots. */
    uint64_t late = now > header->next_look ? (now - header->next_look) / LOOK_NS : 0;
    uint32_t most = PROBES * (1 + (uint32_t)(late < SLOTS / PROBES ? late : SLOTS / PROBES));
    header->next_look = now + LOOK_NS;
    if (epoch_is_damaged(header))
        return DAMAGED;
    /* Most segments have a few processes, and each slot that is looked at is not in any cache. */
    uint32_t used = header->slots_used;
    if (used <= handle->private->slot || used > SLOTS)
        used = header->slots_used = SLOTS; /* a stray write was there */
    uint32_t slot = header->probe_cursor % used;
    uint32_t probes = 0;
    for (uint32_t seen = 0; seen < used && probes < most; seen++, slot = (slot + 1) % used) {
        if (!handle->slots[slot].published || slot == handle->private->slot)
            continue;
        probes++;
        if (suspect_is_dead(handle, slot, handle->slots[slot].published - 1))
            reap_suspect(handle);
    }
    header->probe_cursor = slot;
    enum status status = channels_sweep(handle, SWEEP_BUCKETS);
    if (status == OK)
        status = groups_sweep(handle, SWEEP_BUCKETS);
    return status == OK ? scrub_groups(handle, SCRUB_BLOCKS) : status;
}
