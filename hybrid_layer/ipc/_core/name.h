/* SPDX-License-Identifier: BSD-3-Clause */
/* A name as the caller gives it: of a channel, of a group, or the local part of one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct name {
    const char *bytes;
    size_t length;
};

/* Whether a channel's name, which is not empty, is that of a process's inbox. */
static inline bool names_inbox(struct name name) { return name.bytes[name.length - 1] == '!'; }
