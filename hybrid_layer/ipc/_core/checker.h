/* SPDX-License-Identifier: BSD-3-Clause */
/* Walks a whole segment and says whether every invariant holds. For tests and for people; changes nothing. */
#pragma once

#include "handle.h"

enum total {
    TOTAL_CHANNELS,
    TOTAL_MESSAGES,
    TOTAL_WAITERS,
    TOTAL_GROUPS,
    TOTAL_PAIRS,
    TOTAL_MEMBERS,
    TOTAL_MESSAGE_BLOCKS, /* used or free, and behind each the free ones */
    TOTAL_MESSAGE_BLOCKS_FREE,
    TOTAL_GROUP_BLOCKS,
    TOTAL_GROUP_BLOCKS_FREE,
    TOTALS
};

/* With the lock held. OK always; `error` is empty if all is well, else it names the first violation. */
enum status checker_walk(struct handle *handle, char *error, size_t size, uint64_t totals[TOTALS]);
