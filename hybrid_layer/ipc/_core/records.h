/* The record of a group: the server at its home knows that this machine has members in it. The segment lock is held in
 * all of these.
 *
 * A record may be missing although the server knows of the group: that costs a command. It must never be there if the
 * server does not know of it, or the members here would get nothing.
 */
#pragma once

#include "handle.h"
#include "name.h"

/* A group, as it is written into the buffer of `records_list`: behind it stands its name. */
struct listed {
    uint64_t t;       /* of its record, 0 none that may be believed */
    uint32_t idle_ms; /* since its last member went; 0 it has any */
    uint8_t shard;
    uint8_t name_length;
};

/* Whether the record is as it was set. A group without one is as sound. */
bool record_is_sound(const struct group *group);

/* Whether it has one that lasts until then, nanoseconds. */
bool record_lasts(const struct group *group, uint64_t until);

/* Whether it is valid until then: it was made under the registration that the machine has there now, too. */
bool record_is_valid(struct handle *handle, const struct group *group, uint32_t shard, uint64_t until);

void record_clear(struct group *group);

/* Notes when the last member went. */
void record_begin_idling(struct group *group);

/* Whether a message to the group would be for anybody. DAMAGED, or OK with *has. */
enum status group_has_members(struct handle *handle, const struct group *group, bool *has);

/* Stores that the server has the registration `t` of the group for `life_ns`, as asked in that turn under that
 * registration of the machine. Nothing is stored if the group is not there, or that is out of date by now. OK or
 * DAMAGED. */
struct registered {
    uint32_t shard;
    uint64_t turn, registration;
    uint64_t t, life_ns;
};
enum status record_store(struct handle *handle, struct name group, const struct registered *registered);

/* Forgets the registration `t` of a group without members, in that a record which is not newer ends, and an answer that
 * comes late is not believed. *is_done: false if it has members, or a newer registration. OK or DAMAGED. */
enum status record_forget(struct handle *handle, struct name group, uint32_t shard, uint64_t t, bool *is_done);

/* Writes the groups of some buckets, each as `struct listed` and its name. NO_SPACE: they do not fit, and `used` says
 * how much they take. OK or DAMAGED. */
enum status records_list(struct handle *handle, uint32_t bucket, uint32_t buckets, char *groups, size_t size,
                         size_t *used);

/* Frees all groups that only their record keeps in being. OK or DAMAGED. */
enum status records_free_idle(struct handle *handle);
