/* A process of a segment that stands still inside the lock: it stops itself (SIGSTOP) at each line of stdin, and gives
 * the lock back when it is continued. The arguments are the paths of the segment and of the file that bears its record
 * locks. Prints "ready" when it is in, "gave" each time. */
#include "support.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#include "lock.h"

int main(int argc, char **argv) {
    struct handle handle_of_its_own = {0}, *handle = &handle_of_its_own;
    const char *reason;
    begin(1, argv, "stopper");
    MUST(argc == 3);
    int letter, fd = open(argv[1], O_RDWR | O_CLOEXEC), lock_fd = open(argv[2], O_RDWR | O_CLOEXEC);
    MUST(segment_map(fd, lock_fd, handle, &reason) == OK && segment_join(handle) == OK);
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    while ((letter = getchar()) != EOF) {
        if (letter != '\n')
            continue;
        SURELY(lock_take(handle, WAIT));
        raise(SIGSTOP);
        lock_give(handle);
        puts("gave");
    }
    return segment_leave(handle) == OK ? 0 : 1;
}
