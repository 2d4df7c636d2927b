/* SPDX-License-Identifier: BSD-3-Clause */
/* What the servers know of the machine's groups: registered, forgotten, listed. The segment lock is held in all of
 * these. tests/models/registration.py has the rules, and what happens without each of them. */
#pragma once

#include "name.h"
#include "records.h"

/* A group, as it is written into the buffer of `groups_list`: behind it stands its name. */
struct listed {
    uint64_t t;       /* of its record, 0 none that may be believed */
    uint32_t idle_ms; /* since its last member went; 0 it has any */
    uint8_t shard;
    uint8_t name_length;
};

/* Whether a message to the group would be for anybody. DAMAGED, or OK with *has. */
enum status group_has_members(struct handle *handle, const struct group *group, bool *has);

/* Stores a registration of a group, unless the group is not there, or it is out of date by now. OK or DAMAGED. */
enum status registration_store(struct handle *handle, struct name group, const struct registered *registered);

/* Forgets the registration `t` of a group without members, in that a record which is not newer ends, and an answer that
 * comes late is not believed. *is_done: false if it has members, or a newer registration. OK or DAMAGED. */
enum status registration_forget(struct handle *handle, struct name group, uint32_t shard, uint64_t t, bool *is_done);

/* Writes the groups of some buckets, each as `struct listed` and its name. NO_SPACE: they do not fit, and `used` says
 * how much they take. OK or DAMAGED. */
enum status groups_list(struct handle *handle, uint32_t bucket, uint32_t buckets, char *groups, size_t size,
                        size_t *used);

/* Frees all groups that only their record keeps in being. OK or DAMAGED. */
enum status groups_free_idle(struct handle *handle);

/* Whether there is any group. Also without the lock: then, one that was there before and is there after is not missed.
 */
bool groups_exist(struct handle *handle);
