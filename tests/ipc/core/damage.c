/* Random bytes are written over a segment in use. Every operation must return; what a rebuild leaves must be sound. */
#include "observer.h"
#include "workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPERATIONS 60

static void damage(unsigned char *bytes, const struct handle *handle) {
    /* Most of the segment is buckets; the rest is where it hurts. */
    size_t used = (size_t)(handle->messages.base - bytes) + (size_t)handle->messages.books->fresh % 4096 * BLOCK;
    size_t begins[] = {offsetof(struct header, lock_word), PAGE, 0, (size_t)(handle->messages.base - bytes),
                       (size_t)(handle->groups.base - bytes)};
    size_t ends[] = {sizeof(struct header), PAGE + 4 * sizeof(struct slot), handle->size, used,
                     (size_t)(handle->groups.base - bytes) + 64 * BLOCK};
    uint32_t number = 1 + below(below(4) == 0 ? 200 : 8);
    for (uint32_t i = 0; i < number; i++) {
        uint32_t where = below(8);
        where = where < 5 ? where : 3 + where % 2;
        if (ends[where] > handle->size || ends[where] <= begins[where])
            continue;
        size_t at = begins[where] + ((size_t)chance() << 16 ^ chance()) % (ends[where] - begins[where]);
        if (below(3) == 0) { /* a small number, which may be a reference, where one may be */
            uint32_t value = below(300);
            memcpy(bytes + (at & ~(size_t)3), &value, sizeof value);
        } else {
            bytes[at] = (unsigned char)chance();
        }
    }
}

/* A tool reads what is there, and is not led astray. */
static void observe(struct handle *handle) {
    static char buffer[1u << 20];
    struct sight sight = {.buffer = buffer, .size = sizeof buffer};
    struct seen_message messages[8];
    struct seen_area areas[2];
    uint32_t bucket = 0, number;
    uint64_t now;
    while (observe_channels(handle, &bucket, &sight) == OK)
        ;
    for (bucket = 0; observe_members(handle, &bucket, &sight) == OK;)
        ;
    (void)observe_areas(handle, areas);
    if (observe_queue(handle, named("a"), messages, 8, &number, &now) == OK)
        for (uint32_t i = 0; i < number; i++) {
            size_t size = (size_t)messages[i].local_length + messages[i].size;
            (void)observe_data(handle, named("a"), &messages[i], buffer, size < sizeof buffer ? size : sizeof buffer);
        }
}

/* One segment, in use by this process alone, damaged and repaired several times. */
static void one_round(struct ledger *ledger, uint64_t round) {
    struct worker worker;
    char error[160];
    uint64_t totals[TOTALS];
    reseed(seed * 100000 + round);
    struct handle *handle = join(new_segment(256 * KIB, 64 * KIB));
    worker_begin(&worker, handle, ledger, 1, false);
    for (uint32_t i = 0; i < 300; i++)
        worker_step(&worker);
    for (uint32_t times = 0; times < 8; times++) {
        damage((unsigned char *)handle->header, handle);
        observe(handle);
        if (below(2) == 0)
            (void)op_check(handle, WAIT, error, sizeof error, totals);
        for (uint32_t i = 0; i < OPERATIONS; i++)
            worker_step(&worker);
        /* Repaired, the segment is sound, and stays so. */
        atomic_store(&handle->header->retired, 0); /* that one would mean: move to another segment */
        atomic_store(&handle->header->damaged, 1);
        check(handle);
        MUST(segment_leave(handle) == OK && segment_join(handle) == OK);
        worker_begin(&worker, handle, ledger, 1, true);
        for (uint32_t i = 0; i < OPERATIONS; i++) {
            worker_step(&worker);
            check(handle);
        }
        worker.is_strict = false;
    }
}

int main(int argc, char **argv) {
    begin(argc, argv, "damage");
    struct ledger *ledger = new_ledger();
    if (argc > 3) { /* for the debugger: one round only */
        one_round(ledger, strtoull(argv[3], NULL, 10));
        return 0;
    }
    for (uint64_t round = 0; round < steps; round++) {
        int how;
        pid_t pid = fork_child(); /* mappings stay for the life of a process */
        if (pid == 0) {
            alarm(20);
            one_round(ledger, round);
            _exit(0);
        }
        MUST(waitpid(pid, &how, 0) == pid);
        if (how != 0) {
            fprintf(stderr, "round %llu ended with %d\n", (unsigned long long)round, how);
            wrong(__FILE__, __LINE__, "the process ended well");
        }
    }
    printf("%llu segments\n", (unsigned long long)steps);
    return 0;
}
