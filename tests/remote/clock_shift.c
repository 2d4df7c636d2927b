/* Preloaded into a server or a client: shifts the clocks that it sees by what a file says, CLOCK_SHIFT: two numbers of
   64 bits, in nanoseconds, for the wall clock and for CLOCK_BOOTTIME. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t none[2];
static const volatile int64_t *shifts;

static int64_t shift_of(clockid_t clock) {
    if (!shifts) {
        const char *path = getenv("CLOCK_SHIFT");
        int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *seen = file < 0 ? MAP_FAILED : mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, file, 0);
        shifts = seen == MAP_FAILED ? none : seen;
        if (file >= 0)
            close(file);
    }
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        return shifts[0];
    return clock == CLOCK_BOOTTIME ? shifts[1] : 0;
}

int clock_gettime(clockid_t clock, struct timespec *result) {
    long failed = syscall(SYS_clock_gettime, clock, result);
    if (!failed) {
        int64_t nanoseconds = (int64_t)result->tv_sec * 1000000000 + result->tv_nsec + shift_of(clock);
        result->tv_sec = (time_t)(nanoseconds / 1000000000);
        result->tv_nsec = (long)(nanoseconds % 1000000000);
    }
    return (int)failed;
}

int gettimeofday(struct timeval *restrict result, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    result->tv_sec = now.tv_sec;
    result->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result)
        *result = now.tv_sec;
    return now.tv_sec;
}
