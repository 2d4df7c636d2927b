/* SPDX-License-Identifier: BSD-3-Clause */
/* Keeps the FIFOs of other processes' loops open, and writes to them. */
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

/* Whether an open doorbell still has its descriptor: code that makes daemons closes all descriptors, and opens other
 * files under their numbers. */
static bool is_ours(const struct doorbell *doorbell, struct stat *status) {
    return fstat(doorbell->fd, status) == 0 && status->st_dev == doorbell->device && status->st_ino == doorbell->inode;
}

static void shut(struct doorbell *doorbell) {
    struct stat status;
    if (doorbell->fd >= 0 && is_ours(doorbell, &status))
        close(doorbell->fd);
    doorbell->fd = -1;
}

void doorbells_close(struct doorbells *doorbells) {
    for (uint32_t i = 0; i < DOORBELLS; i++)
        shut(&doorbells->open[i]);
    free(doorbells->directory);
    doorbells->directory = NULL;
}

bool doorbell_path(const struct doorbells *doorbells, uint32_t slot, uint32_t generation, uint32_t loop, char *path,
                   size_t size) {
    int length = snprintf(path, size, "%s/%u.%u.%u", doorbells->directory, slot, generation, loop);
    return length > 0 && (size_t)length < size;
}

/* The place of this open doorbell, or else that of the least recently used one, which is closed. */
static uint32_t place_for(struct doorbells *doorbells, const struct wakeup *wakeup) {
    uint32_t oldest = 0;
    for (uint32_t i = 0; i < DOORBELLS; i++) {
        if (doorbells->open[i].fd >= 0 && doorbells->open[i].slot == wakeup->slot) {
            if (doorbells->open[i].generation == wakeup->generation && doorbells->open[i].loop == wakeup->loop)
                return i;
            if (doorbells->open[i].generation != wakeup->generation) /* the slot has changed hands */
                shut(&doorbells->open[i]);
        }
        uint64_t used = doorbells->open[i].fd < 0 ? 0 : doorbells->open[i].used;
        uint64_t least = doorbells->open[oldest].fd < 0 ? 0 : doorbells->open[oldest].used;
        if (used < least)
            oldest = i;
    }
    shut(&doorbells->open[oldest]);
    return oldest;
}

/* Opens the doorbell at `path`, if it is one, so that nothing else is written to. */
static bool open_doorbell(struct doorbell *doorbell, const struct wakeup *wakeup, const char *path) {
    struct stat status;
    int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    if (fstat(fd, &status) != 0 || !S_ISFIFO(status.st_mode) || status.st_nlink == 0) {
        close(fd);
        return false;
    }
    *doorbell = (struct doorbell){
        .fd = fd,
        .slot = wakeup->slot,
        .generation = wakeup->generation,
        .loop = wakeup->loop,
        .device = status.st_dev,
        .inode = status.st_ino,
    };
    return true;
}

bool doorbell_ring(struct doorbells *doorbells, const struct wakeup *wakeup) {
    struct doorbell *doorbell = &doorbells->open[place_for(doorbells, wakeup)];
    struct stat status;
    /* A loop that ended has removed its doorbell, and the next one made it anew. */
    if (doorbell->fd >= 0 && !(is_ours(doorbell, &status) && status.st_nlink > 0))
        shut(doorbell);
    if (doorbell->fd < 0) {
        char path[PATH_MAX];
        if (!doorbell_path(doorbells, wakeup->slot, wakeup->generation, wakeup->loop, path, sizeof path) ||
            !open_doorbell(doorbell, wakeup, path))
            return false;
    }
    doorbell->used = ++doorbells->uses;
    ssize_t written;
    do
        written = write(doorbell->fd, "", 1);
    while (written < 0 && errno == EINTR);
    if (written == 1 || errno == EAGAIN)
        return true;
    shut(doorbell);
    return false;
}
