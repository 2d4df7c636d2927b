#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

const bool is_portable = false;
const char *const memory_place = "/dev/shm";

int memory_reserve(int fd, off_t from, off_t size) {
    int error;
    do
        error = posix_fallocate(fd, from, size);
    while (error == EINTR);
    return error;
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
