/* SPDX-License-Identifier: BSD-3-Clause */
/* Inboxes and the processes that own them. The segment lock is held in all of these. */
#pragma once

#include "handle.h"
#include "name.h"

bool inbox_is_own(struct handle *handle, const struct channel *channel);

/* Makes the inbox, and the calling process its owner. GONE: a dead process owns it; try again once that is reaped. */
enum status inbox_open(struct handle *handle, struct name name);

/* Removes an inbox of the calling process with its messages and memberships. OK too if there is none. */
enum status inbox_close(struct handle *handle, struct name name);

/* Removes any inbox, which is in no slot's list any more, with its messages, which count as dead, and memberships. */
enum status inbox_remove(struct handle *handle, uint32_t reference);
