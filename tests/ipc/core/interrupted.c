/* Memory is reserved while a timer of the process fires again and again: the kernel then gives back all that it has
 * reserved in the call, and says EINTR. This program's posix_fallocate is such a kernel, where no call for more than a
 * few pages ends in time, and one for less only at every other try.
 */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"

#define IN_TIME (4 * (off_t)PAGE)
#define PATIENCE 100000u /* calls after which this would never end */

static uint32_t calls, most = PATIENCE;

int posix_fallocate(int fd, off_t from, off_t size) {
    struct stat status;
    MUST(calls++ < most);
    if (size > IN_TIME || calls % 2 == 0)
        return EINTR;
    MUST(fstat(fd, &status) == 0 &&
         from + size <= status.st_size); /* it is there: an object in memory need not be filled */
    return 0;
}

/* Calls that it takes to reserve so much. */
static uint32_t calls_for(off_t size) {
    int fd = new_segment(256 * KIB, 64 * KIB);
    calls = 0;
    MUST(ftruncate(fd, size) == 0 && memory_reserve(fd, 0, size) == 0);
    close(fd);
    return calls;
}

int main(int argc, char **argv) {
    static char bytes[100 * KIB];
    struct wakeups wakeups;
    begin(argc, argv, "interrupted");
    if (is_portable) /* memory is not reserved */
        return 0;
    uint32_t pages = 64 * 1024 * KIB / PAGE;
    MUST(calls_for((off_t)pages * PAGE) < 3 * pages);
    MUST(calls_for(100) <= 2 && calls_for(0) == 0);
    struct handle *handle = join(new_segment(8 * 1024 * KIB, 1024 * KIB));
    wakeups_open(&wakeups);
    for (uint32_t number = 0; number < 40; number++) {
        fill_payload(bytes, sizeof bytes, number);
        struct push push = push_of("a", "", bytes, sizeof bytes, 100);
        MUST(send(handle, &push, &wakeups) == OK);
    }
    check(handle);
    return 0;
}
