/* SPDX-License-Identifier: BSD-3-Clause */
/* Reserves memory with posix_fallocate, and has the kernel wipe a page in a forked child. */
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

const bool is_portable = false;
const char *const memory_place = "/dev/shm";

/* When a signal interrupts it, the kernel gives back all that it had reserved. So each interrupted request is followed
 * by a smaller one, down to a page: a timer with a short period must not keep a large area from ever being reserved. */
int memory_reserve(int fd, off_t from, off_t size) {
    off_t most = size;
    while (size > 0) {
        off_t piece = size < most ? size : most;
        int error = posix_fallocate(fd, from, piece);
        if (error == 0) {
            from += piece;
            size -= piece;
        } else if (error != EINTR) {
            return error;
        } else if (most > (off_t)PAGE) {
            most = piece / 2 > (off_t)PAGE ? piece / 2 : (off_t)PAGE;
        }
    }
    return 0;
}

/* The kernel wipes it in a forked child; all zero is also an initialised mutex in glibc and musl. */
struct private_page *private_open(void) {
    struct private_page *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return NULL;
    if (madvise(page, PAGE, MADV_WIPEONFORK) != 0) {
        int error = errno;
        munmap(page, PAGE);
        errno = error;
        return NULL;
    }
    return page;
}

void private_close(struct private_page *page) { munmap(page, PAGE); }

bool private_is_attached(const struct private_page *page) { return page->attached != 0; }

void private_attach(struct private_page *page, uint32_t slot, uint32_t generation) {
    page->slot = slot;
    page->generation = generation;
    page->attached = 1;
}
