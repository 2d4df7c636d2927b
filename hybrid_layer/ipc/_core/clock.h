/* SPDX-License-Identifier: BSD-3-Clause */
/* The clock of deadlines: CLOCK_MONOTONIC, which all processes of the machine share. */
#pragma once

#include "handle.h" /* first: it asks for the system's extensions */

#include <time.h>

static inline uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* The low half, for the times in the words of loops. */
static inline uint32_t now_ms(void) { return (uint32_t)(now_ns() / 1000000u); }
