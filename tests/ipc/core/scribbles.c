/* A program writes all over a segment while several processes use it. No process crashes, and every operation
 * returns in time; once the writing has ended, a repair makes the segment sound. */
#include "workload.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS 3
#define SCRIBBLES 60           /* in one segment */
#define MOST_NS 20000000000ull /* an operation waits 5 s for the lock here, and the machine may be busy */

static struct ledger *ledger;
static _Atomic uint32_t *has_ended; /* seen by all processes */

static void work(int fd, uint32_t number) {
    struct worker worker;
    struct handle *handle = join(fd);
    reseed(seed * 1000 + number);
    worker_begin(&worker, handle, ledger, number, false);
    while (!atomic_load(has_ended)) {
        uint64_t from = now_ns();
        worker_step(&worker);
        if (below(20) == 0 && worker.loop != NO_LOOP)
            (void)op_repoll(handle, WAIT, worker.loop);
        MUST(now_ns() - from < MOST_NS);
    }
}

static pid_t start(int fd, uint32_t number) {
    pid_t pid = fork_child();
    if (pid == 0) {
        work(fd, number);
        _exit(0);
    }
    return pid;
}

/* Single bytes, words that may be references, and runs of either, where it hurts. */
static void scribble(const struct handle *handle) {
    unsigned char *bytes = (unsigned char *)handle->header;
    size_t messages = (size_t)(handle->messages.base - bytes), groups = (size_t)(handle->groups.base - bytes);
    size_t begins[] = {offsetof(struct header, lock_word), PAGE, PAGE + SLOTS * sizeof(struct slot), messages, groups};
    size_t ends[] = {sizeof(struct header), PAGE + (WORKERS + 2) * sizeof(struct slot), messages,
                     messages + 400 * BLOCK, groups + 100 * BLOCK};
    uint32_t where = below(5), what = below(3);
    size_t width = below(2) == 0 ? 4 : 1, run = below(10) == 0 ? 1 + below(PAGE / 4) : 1;
    size_t at = begins[where] + ((size_t)chance() << 16 ^ chance()) % (ends[where] - begins[where]);
    for (at &= ~(width - 1); run > 0 && at + width <= ends[where]; run--, at += width) {
        uint32_t value = what == 0 ? 0 : what == 1 ? below(500) : chance();
        memcpy(bytes + at, &value, width);
    }
}

static void one_segment(uint64_t round) {
    pid_t pids[WORKERS];
    int how;
    reseed(seed * 100000 + round);
    int fd = new_segment(512 * KIB, 128 * KIB);
    struct handle *handle = join(fd);
    atomic_store(has_ended, 0);
    for (uint32_t i = 0; i < WORKERS; i++)
        pids[i] = start(fd, i + 1);
    pause_for(20000);
    for (uint32_t i = 0; i < SCRIBBLES; i++) {
        scribble(handle);
        if (atomic_load(&handle->header->retired) == RETIRED_MARK) /* that one would mean: move to another segment */
            atomic_store(&handle->header->retired, 0);
        pause_for(below(3) == 0 ? below(4000) : below(100));
    }
    atomic_store(has_ended, 1);
    for (uint32_t i = 0; i < WORKERS; i++) {
        MUST(waitpid(pids[i], &how, 0) == pids[i]);
        if (how != 0)
            fprintf(stderr, "round %llu: a process ended with %d\n", (unsigned long long)round, how);
        MUST(how == 0);
    }
    /* The lock word may name a process of this program's own making; a survivor takes over. */
    atomic_store(&handle->header->damaged, 1);
    check(handle);
    MUST(segment_leave(handle) == OK && segment_join(handle) == OK);
    check(handle);
    close(fd);
}

int main(int argc, char **argv) {
    begin(argc, argv, "scribbles");
    ledger = new_ledger();
    has_ended = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(has_ended != MAP_FAILED);
    for (uint64_t round = 0; round < steps; round++) {
        int how;
        pid_t pid = fork(); /* mappings stay for the life of a process */
        MUST(pid >= 0);
        if (pid == 0) {
            alarm(90);
            one_segment(round);
            _exit(0);
        }
        MUST(waitpid(pid, &how, 0) == pid && how == 0);
    }
    printf("%llu segments\n", (unsigned long long)steps);
    return 0;
}
