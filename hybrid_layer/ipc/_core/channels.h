/* SPDX-License-Identifier: BSD-3-Clause */
/* The records of channels. The segment lock is held in all of these.
 *
 * A normal channel is a queue that any process may read; an inbox is the queue of one process, for all its
 * process-specific channels together. Both are `struct channel`, and each costs the same however many there are and
 * however long they get.
 */
#pragma once

#include "handle.h"
#include "name.h"

struct channel *channel_at(struct handle *handle, uint32_t reference);

/* The bucket in which a channel of that name belongs. */
uint32_t *channel_bucket(struct handle *handle, const char *name, size_t length);

/* OK, EMPTY (there is none) or DAMAGED. */
enum status channel_find(struct handle *handle, struct name name, uint32_t *reference);
enum status channel_find_or_create(struct handle *handle, struct name name, uint32_t *reference);

/* Makes a normal channel if there is none. An inbox is made by its process alone: EMPTY if there is none. */
enum status channel_find_target(struct handle *handle, struct name name, uint32_t *reference);

/* Frees a channel that nothing keeps in being. */
enum status channel_release(struct handle *handle, uint32_t reference);

/* The name in `buffer`, at least NAME_MAX_LENGTH bytes; its length, or 0 on damage. */
size_t channel_name(struct handle *handle, const struct channel *channel, char *buffer);
