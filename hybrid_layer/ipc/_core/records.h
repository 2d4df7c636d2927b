/* SPDX-License-Identifier: BSD-3-Clause */
/* The record of a group: the server at its home knows that this machine has members in it. The segment lock is held in
 * all of these.
 *
 * A record may be missing although the server knows of the group: that costs a command. It must never be there if the
 * server does not know of it, or the members here would get nothing.
 */
#pragma once

#include "handle.h"

/* A server has the registration `t` of a group for `life_ns`, as it was asked in that turn, under that registration of
 * the machine. */
struct registered {
    uint32_t shard;
    uint64_t turn, registration;
    uint64_t t, life_ns;
};

/* Stores it. */
void record_set(struct group *group, const struct registered *registered, uint64_t now);

/* Whether the record is as it was set. A group without one is as sound. */
bool record_is_sound(const struct group *group);

/* Whether it has one that lasts until then, nanoseconds. */
bool record_lasts(const struct group *group, uint64_t until);

/* Whether it is valid until then: it was made under the registration that the machine has there now, too. */
bool record_is_valid(struct handle *handle, const struct group *group, uint32_t shard, uint64_t until);

void record_clear(struct group *group);

/* Notes when the last member went. */
void record_begin_idling(struct group *group);
