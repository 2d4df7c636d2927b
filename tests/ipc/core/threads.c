/* Several threads of one process on one handle. */
#include "workload.h"

#include <stdio.h>

#define THREADS 4

static struct handle *handle;
static struct ledger *ledger;

static void *work(void *argument) {
    struct worker worker;
    uint32_t number = *(uint32_t *)argument;
    reseed(seed * 1000 + number);
    worker_begin(&worker, handle, ledger, number, true);
    for (uint64_t i = 0; i < steps; i++) {
        worker_step(&worker);
        if (i % 50 == 0 && number == 0)
            check(handle);
    }
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[THREADS];
    uint32_t numbers[THREADS];
    begin(argc, argv, "threads");
    handle = join(new_segment(1024 * KIB, 256 * KIB));
    ledger = new_ledger();
    for (uint32_t i = 0; i < THREADS; i++) {
        numbers[i] = i;
        MUST(pthread_create(&threads[i], NULL, work, &numbers[i]) == 0);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        MUST(pthread_join(threads[i], NULL) == 0);
    struct worker last;
    worker_begin(&last, handle, ledger, 9, true);
    worker_drain_normal(&last);
    check(handle);
    MUST(ledger->broken == 0 && ledger->next < MESSAGES);
    for (uint32_t id = 0; id < MESSAGES - 1; id++)
        MUST(ledger->taken[id] == ledger->sent[id]);
    MUST(handle->header->rebuilds == 0);
    printf("%u messages\n", ledger->next);
    return 0;
}
