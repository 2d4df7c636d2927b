/* Many processes of a segment. The arguments are the paths of the segment and of the file that bears its record locks,
 * and how many there are to be. Prints how many have joined; then "leave" on stdin makes one leave, "kill" kills one,
 * each answered by "gone"; at the end of stdin all leave. */
#include "support.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *segment_path, *lock_path;

static _Noreturn void member(int joined, int end) {
    struct handle handle = {0};
    const char *reason;
    char letter = 'j';
    int fd = open(segment_path, O_RDWR | O_CLOEXEC), lock_fd = open(lock_path, O_RDWR | O_CLOEXEC);
    enum status status = segment_map(fd, lock_fd, &handle, &reason);
    if (status == OK)
        PATIENTLY(status, segment_join(&handle));
    if (status != OK)
        _exit(status == NO_SLOT ? 2 : 1);
    MUST(write(joined, &letter, 1) == 1);
    MUST(read(end, &letter, 1) >= 0);
    PATIENTLY(status, segment_leave(&handle));
    _exit(status == OK ? 0 : 1);
}

int main(int argc, char **argv) {
    int joined[2], end[2], how, left = 0;
    char line[16], letter;
    begin(1, argv, "crowd");
    MUST(argc == 4);
    segment_path = argv[1], lock_path = argv[2];
    MUST(pipe2(joined, O_CLOEXEC) == 0 && pipe2(end, O_CLOEXEC) == 0);
    int number = atoi(argv[3]);
    pid_t *pids = calloc((size_t)number, sizeof *pids);
    MUST(pids != NULL);
    for (int i = 0; i < number; i++) {
        pids[i] = fork_child();
        if (pids[i] == 0) {
            close(end[1]);
            member(joined[1], end[0]);
        }
    }
    close(joined[1]);
    close(end[0]);
    for (int i = 0; i < number; i++)
        MUST(read(joined[0], &letter, 1) == 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%d\n", number);
    while (fgets(line, sizeof line, stdin) != NULL) {
        pid_t pid;
        if (strcmp(line, "leave\n") == 0)
            MUST(write(end[1], "", 1) == 1);
        else
            MUST(kill(pids[0], SIGKILL) == 0);
        MUST((pid = wait(&how)) > 0);
        for (int i = 0; i < number; i++)
            if (pids[i] == pid)
                pids[i] = pids[number - 1 - left];
        left++;
        puts("gone");
    }
    close(end[1]);
    for (; left < number; left++)
        MUST(wait(&how) > 0 && WIFEXITED(how) && WEXITSTATUS(how) == 0);
    return 0;
}
