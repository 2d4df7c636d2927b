/* SPDX-License-Identifier: BSD-3-Clause */
/* Reserves nothing, and notices a fork by comparing pids. */
#include "memory.h"

#include <stdlib.h>
#include <unistd.h>

const bool is_portable = true;
const char *const memory_place = "memory";

/* There is nothing to ask for: macOS backs shared memory by swap, and touching it is no SIGBUS. */
int memory_reserve(int fd, off_t from, off_t size) {
    (void)fd, (void)from, (void)size;
    return 0;
}

static void belongs_to_this_process(struct private_page *page) {
    page->pid = (uint32_t)getpid();
    pthread_mutex_init(&page->mutex, NULL);
}

struct private_page *private_open(void) {
    struct private_page *page = calloc(1, sizeof *page);
    if (page != NULL)
        belongs_to_this_process(page);
    return page;
}

void private_close(struct private_page *page) { free(page); }

bool private_is_attached(const struct private_page *page) { return page->attached && page->pid == (uint32_t)getpid(); }

void private_attach(struct private_page *page, uint32_t slot, uint32_t generation) {
    if (page->pid !=
        (uint32_t)getpid()) /* a forked child: its parent's threads, which may hold the mutex, do not exist here */
        belongs_to_this_process(page);
    page->slot = slot;
    page->generation = generation;
    page->attached = 1;
}
