/* SPDX-License-Identifier: BSD-3-Clause */
/* Doorbells: to ring one is to write a byte into the FIFO of an event loop that sleeps. Called with the interpreter's
 * lock, never with the segment's.
 *
 * A FIFO is opened for reading and writing, so that a dead reader causes neither an error nor SIGPIPE. EAGAIN means
 * that the bell is ringing already.
 */
#pragma once

#include "handle.h" /* before the system's: it asks for their extensions */

#include <sys/types.h>

#include "wakeups.h"

#define DOORBELLS 64u

struct doorbell {
    uint32_t slot, generation, loop;
    int fd;       /* -1: free */
    dev_t device; /* what was opened as `fd` */
    ino_t inode;
    uint64_t used;
};

struct doorbells {
    char *directory;
    struct doorbell open[DOORBELLS];
    uint64_t uses;
};

bool doorbells_open(struct doorbells *doorbells, const char *directory);
void doorbells_close(struct doorbells *doorbells);

/* False: there is no such doorbell, so its loop is gone. */
bool doorbell_ring(struct doorbells *doorbells, const struct wakeup *wakeup);

/* Writes the path of a loop's doorbell. False if it does not fit. */
bool doorbell_path(const struct doorbells *doorbells, uint32_t slot, uint32_t generation, uint32_t loop, char *path,
                   size_t size);
