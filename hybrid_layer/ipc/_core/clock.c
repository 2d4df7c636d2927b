/* Reads the clock of deadlines. */
#include "handle.h" /* first: it asks for the system's extensions */

#include "clock.h"

#include <time.h>

uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}
