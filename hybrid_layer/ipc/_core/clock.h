/* The clock of deadlines: CLOCK_MONOTONIC, which all processes of the machine share. */
#pragma once

#include <stdint.h>

uint64_t now_ns(void);

/* The low half, for the times in the words of loops. */
static inline uint32_t now_ms(void) { return (uint32_t)(now_ns() / 1000000u); }
