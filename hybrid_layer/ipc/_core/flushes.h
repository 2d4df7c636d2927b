/* SPDX-License-Identifier: BSD-3-Clause */
/* What a machine knows of a server's flushes. The segment lock is held in all of these. */
#pragma once

#include "handle.h"

/* What is known of the server's flushes; 0 nothing. */
void shard_flushes(const struct shard *shard, uint32_t *incarnation, uint32_t *flushes);

/* Follows what is heard of a server: its data's incarnation, of which 24 bits count, and how often it was flushed. A
 * flush empties all servers, one after the other; the first one that is heard of flushes the segment. *is_news: the
 * server has been flushed, or has lost its data; so it has lost what it knew of the machine, too. *has_flushed, unless
 * NULL: the segment was flushed. With `may_fall` a lower number of flushes is believed. OK or DAMAGED. */
enum status shard_follow(struct handle *handle, struct shard *shard, uint32_t incarnation, uint32_t flushes,
                         bool may_fall, bool *is_news, bool *has_flushed);

/* Compares a number of flushes of the same incarnation with what is known: 0 the same, 1 newer, -1 older; *is_other:
 * nothing is known of that incarnation. */
int shard_compare_flushes(const struct shard *shard, uint32_t incarnation, uint32_t flushes, bool *is_other);
