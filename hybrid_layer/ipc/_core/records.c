/* SPDX-License-Identifier: BSD-3-Clause */
/* Sets and checks the record of a group. */
#include "records.h"

#include "clock.h"
#include "shards.h"

#define LONGEST_NS (1ull << 62) /* no sum with the time of now overflows */

static uint16_t check_of(const struct group *group) {
    uint64_t sum = group->t * 0x9e3779b97f4a7c15u + group->until;
    sum = (sum * 0xd1b54a32d192ed03u + group->registration) * 0x8cb92ba72f3d8dd7u + group->shard;
    return (uint16_t)(sum * 0x9e3779b97f4a7c15u >> 48);
}

bool record_is_sound(const struct group *group) { return group->t == 0 || group->check == check_of(group); }

bool record_lasts(const struct group *group, uint64_t until) {
    return group->t != 0 && group->check == check_of(group) && group->until >= until;
}

bool record_is_valid(struct handle *handle, const struct group *group, uint32_t number, uint64_t until) {
    const struct shard *shard = shard_at(handle, number);
    return shard != NULL && shard->registration != 0 && group->shard == number &&
           group->registration == (uint32_t)shard->registration && record_lasts(group, until);
}

void record_clear(struct group *group) { group->t = 0; }

void record_begin_idling(struct group *group) { group->idle_since = now_ms(); }

/* There is none while the others change: `t` is the commit. */
void record_set(struct group *group, const struct registered *registered, uint64_t now) {
    uint64_t life_ns = registered->life_ns < LONGEST_NS ? registered->life_ns : LONGEST_NS;
    struct group new = {.t = registered->t,
                        .until = now + life_ns,
                        .registration = (uint32_t)registered->registration,
                        .shard = (uint8_t)registered->shard};
    record_clear(group);
    atomic_signal_fence(memory_order_seq_cst);
    group->until = new.until;
    group->registration = new.registration;
    group->shard = new.shard;
    group->check = check_of(&new);
    atomic_signal_fence(memory_order_seq_cst);
    group->t = new.t;
}
