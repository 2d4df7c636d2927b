/* Processes at work on one segment, killed at random moments and replaced; the others find nothing broken. */
#include "workload.h"

#include <signal.h>
#include <stdio.h>

#define WORKERS 5

static struct ledger *ledger;
static int fd;
static uint32_t started;

static _Noreturn void work(uint32_t number) {
    struct worker worker;
    struct handle *handle = join(fd);
    reseed(seed * 1000 + number);
    worker_begin(&worker, handle, ledger, number, true);
    for (;;)
        worker_step(&worker);
}

static pid_t start(void) {
    uint32_t number = ++started;
    pid_t pid = fork_child();
    if (pid == 0)
        work(number);
    return pid;
}

int main(int argc, char **argv) {
    pid_t pids[WORKERS];
    begin(argc, argv, "deaths");
    fd = new_segment(1024 * KIB, 256 * KIB);
    ledger = new_ledger();
    struct handle *handle = join(fd);
    for (uint32_t i = 0; i < WORKERS; i++)
        pids[i] = start();
    for (uint64_t kill_number = 0; kill_number < steps; kill_number++) {
        pause_for(200 + below(4000));
        uint32_t victim = below(WORKERS);
        if (below(10) == 0) /* stopped inside an operation for a while, then killed there: others wait for its lock */
            kill(pids[victim], SIGSTOP), pause_for(1000 + below(20000));
        kill(pids[victim], SIGKILL);
        must_be_killed(pids[victim]);
        pids[victim] = start();
        check(handle);
    }
    for (uint32_t i = 0; i < WORKERS; i++) {
        kill(pids[i], SIGKILL);
        must_be_killed(pids[i]);
    }
    /* Housekeeping reaps what the dead left; then the rest is taken out, and all is free. */
    struct worker last;
    worker_begin(&last, handle, ledger, started + 1, true);
    for (uint32_t i = 0; i < 20; i++) {
        pause_for(250000);
        MUST(op_repoll(handle, WAIT, last.loop) == OK);
        bool dead_are_left = false;
        for (uint32_t slot = 0; slot < SLOTS; slot++)
            dead_are_left = dead_are_left || (handle->slots[slot].published && slot != handle->private->slot);
        if (!dead_are_left)
            break;
        MUST(i < 19);
    }
    worker_drain_normal(&last);
    MUST(op_flush(handle, WAIT) == OK);
    MUST(segment_leave(handle) == OK && segment_join(handle) == OK);
    const uint64_t *totals = check(handle);
    MUST(totals[TOTAL_CHANNELS] == 0 && totals[TOTAL_PAIRS] == 0 && totals[TOTAL_MEMBERS] == 0);
    MUST(totals[TOTAL_MESSAGE_BLOCKS] == totals[TOTAL_MESSAGE_BLOCKS_FREE]);
    MUST(ledger->broken == 0 && ledger->next < MESSAGES);
    uint64_t lost = 0, delivered = 0;
    for (uint32_t id = 0; id < MESSAGES - 1; id++) {
        MUST(ledger->taken[id] <= 1); /* nothing twice */
        delivered += ledger->taken[id];
        lost += ledger->sent[id] && !ledger->taken[id];
    }
    /* A process that dies takes with it at most what it was just reading. */
    MUST(lost <= steps + WORKERS);
    MUST(handle->header->counters[HALF_LOCAL][COUNT_DAMAGED] == 0);
    printf("%llu delivered, %llu lost with their readers, %u rebuilds\n", (unsigned long long)delivered,
           (unsigned long long)lost, handle->header->rebuilds);
    return 0;
}
