/* SPDX-License-Identifier: BSD-3-Clause */
/* What the systems do differently with memory: linux/memory.c, or portable/memory.c for all others. setup.py takes one
 * of them.
 */
#pragma once

#include "handle.h"

/* Which of the two this is. */
extern const bool is_portable;

/* What is full if memory_reserve fails, for people. */
extern const char *const memory_place;

/* Makes sure that memory is behind a part of the segment, where the system lets one ask. An errno value. */
int memory_reserve(int fd, off_t from, off_t size);

/* The process's own page, not attached; NULL: see errno. */
struct private_page *private_open(void);
void private_close(struct private_page *page);

/* Whether this process has attached. A forked child has not, whatever it inherited and whatever hooks ran or did not.
 */
bool private_is_attached(const struct private_page *page);

/* Attaches this process; a forked child begins anew. */
void private_attach(struct private_page *page, uint32_t slot, uint32_t generation);
