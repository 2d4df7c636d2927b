#include "doorbells.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool doorbells_open(struct doorbells *doorbells, const char *directory) {
    doorbells->uses = 0;
    for (uint32_t i = 0; i < DOORBELLS; i++)
        doorbells->open[i].fd = -1;
    doorbells->directory = strdup(directory);
    return doorbells->directory != NULL;
}

void doorbells_close(struct doorbells *doorbells) {
    for (uint32_t i = 0; i < DOORBELLS; i++)
        if (doorbells->open[i].fd >= 0)
            close(doorbells->open[i].fd);
    free(doorbells->directory);
    doorbells->directory = NULL;
}

bool doorbell_path(const struct doorbells *doorbells, uint32_t slot, uint32_t generation, uint32_t loop, char *path,
                   size_t size) {
    int length = snprintf(path, size, "%s/%u.%u.%u", doorbells->directory, slot, generation, loop);
    return length > 0 && (size_t)length < size;
}

/* The place of an open doorbell, or of the one that was not used for longest, closed. */
static uint32_t place_for(struct doorbells *doorbells, const struct ring *ring) {
    uint32_t oldest = 0;
    for (uint32_t i = 0; i < DOORBELLS; i++) {
        if (doorbells->open[i].fd >= 0 && doorbells->open[i].slot == ring->slot) {
            if (doorbells->open[i].generation == ring->generation && doorbells->open[i].loop == ring->loop)
                return i;
            if (doorbells->open[i].generation != ring->generation) { /* the slot has changed hands */
                close(doorbells->open[i].fd);
                doorbells->open[i].fd = -1;
            }
        }
        uint64_t used = doorbells->open[i].fd < 0 ? 0 : doorbells->open[i].used;
        uint64_t least = doorbells->open[oldest].fd < 0 ? 0 : doorbells->open[oldest].used;
        if (used < least)
            oldest = i;
    }
    if (doorbells->open[oldest].fd >= 0)
        close(doorbells->open[oldest].fd);
    doorbells->open[oldest].fd = -1;
    return oldest;
}

/* Whether an open doorbell still is the one at its path: a loop that ended has removed its own, and the next one made anew. And
 * whether it is one at all, so that nothing else is written to. */
static bool is_current(int fd) {
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode) && status.st_nlink > 0;
}

bool doorbell_ring(struct doorbells *doorbells, const struct ring *ring) {
    uint32_t i = place_for(doorbells, ring);
    if (doorbells->open[i].fd >= 0 && !is_current(doorbells->open[i].fd)) {
        close(doorbells->open[i].fd);
        doorbells->open[i].fd = -1;
    }
    if (doorbells->open[i].fd < 0) {
        char path[PATH_MAX];
        if (!doorbell_path(doorbells, ring->slot, ring->generation, ring->loop, path, sizeof path))
            return false;
        int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0 && !is_current(fd)) {
            close(fd);
            fd = -1;
        }
        if (fd < 0)
            return false;
        doorbells->open[i].slot = ring->slot;
        doorbells->open[i].generation = ring->generation;
        doorbells->open[i].loop = ring->loop;
        doorbells->open[i].fd = fd;
    }
    doorbells->open[i].used = ++doorbells->uses;
    ssize_t written;
    do
        written = write(doorbells->open[i].fd, "", 1);
    while (written < 0 && errno == EINTR);
    if (written == 1 || errno == EAGAIN)
        return true;
    close(doorbells->open[i].fd);
    doorbells->open[i].fd = -1;
    return false;
}
