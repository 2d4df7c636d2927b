/* SPDX-License-Identifier: BSD-3-Clause */
/* The records of groups: found, made, linked and freed. The segment lock is held in all of these.
 *
 * What a function that finds or makes a record returns: OK, EMPTY (there is none), NO_MEMORY, GROW_GROUPS or DAMAGED.
 */
#pragma once

#include "handle.h"
#include "name.h"

/* A record of that kind, or NULL. */
struct group *group_at(struct handle *handle, uint32_t reference);
struct pair *pair_at(struct handle *handle, uint32_t reference);
struct member *member_at(struct handle *handle, uint32_t reference);

/* A record of any kind: what links it to the next one of its bucket is at the same place in all. */
struct group *record_at(struct handle *handle, uint32_t reference);

/* The bucket in which a record belongs by its name or key, or NULL if it is none. */
uint32_t *record_bucket(struct handle *handle, uint32_t reference);

enum status find_group(struct handle *handle, struct name name, uint32_t *reference);
enum status find_pair(struct handle *handle, uint32_t group, uint32_t target, uint32_t *reference);

/* The membership that has not left; with `has_left`, of those that have, the one that left last. */
enum status find_member(struct handle *handle, uint32_t pair, struct name local, bool has_left, uint32_t *reference);

enum status create_group(struct handle *handle, struct name name, uint32_t *reference);
enum status create_pair(struct handle *handle, uint32_t group, uint32_t target, uint32_t *reference);
enum status create_member(struct handle *handle, uint32_t pair, struct name local, uint64_t deadline);

/* Links a record into the derived lists of what it belongs to. */
void pair_link(struct handle *handle, uint32_t reference, struct pair *pair, struct group *group,
               struct channel *target);
void member_link(struct handle *handle, uint32_t reference, struct member *member, struct pair *pair);

/* Stores from when until when a member gets what is sent: by number, and by time. */
void member_set(struct member *member, uint64_t joined, uint64_t left, uint64_t deadline);

/* Whether these are as they were set. */
bool member_is_sound(const struct member *member);

enum status free_member(struct handle *handle, uint32_t reference, struct member *member, struct pair *pair);

/* Frees a group without pairs, unless a record keeps it in being; then it is idle from now on. */
enum status free_group_if_empty(struct handle *handle, uint32_t reference);

/* Frees a pair without members that no entry names, and its group if that was the last pair. The target stays: the
 * caller may be at work on it. */
enum status free_pair_if_empty(struct handle *handle, uint32_t reference);

/* An entry has left its queue: frees the memberships that had left by then. */
bool pair_entry_gone(struct handle *handle, const struct entry *entry);

/* Ends all memberships of a queue that goes away. */
enum status pairs_forget_target(struct handle *handle, struct channel *target);
