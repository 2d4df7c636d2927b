/* Several threads: of one process, on one handle, or as if each two of them were a process of their own.
 *
 *     threads SEED STEPS [HANDLES]    HANDLES above 1: linked with slots_of_threads.c
 */
#include "workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

#define THREADS 4

static struct handle *handles[THREADS];
static uint32_t handles_count = 1;
static struct ledger *ledger;

static void *work(void *argument) {
    struct worker worker;
    uint32_t number = *(uint32_t *)argument;
    struct handle *handle = handles[number % handles_count];
    reseed(seed * 1000 + number);
    worker_begin(&worker, handle, ledger, number, true);
    for (uint64_t i = 0; i < steps; i++) {
        worker_step(&worker);
        if (i % 50 == 0 && number == 0)
            check(handle);
    }
    return NULL;
}

/* What another process would have, at the same addresses: only there does a sanitizer see that they use the same
 * memory. */
static struct handle *another(const struct handle *first) {
    struct handle *handle = malloc(sizeof *handle);
    MUST(handle != NULL);
    memcpy(handle, first, sizeof *handle);
    handle->private = private_open();
    MUST(handle->private != NULL && segment_join(handle) == OK);
    return handle;
}

int main(int argc, char **argv) {
    pthread_t threads[THREADS];
    uint32_t numbers[THREADS];
    begin(argc, argv, "threads");
    handles[0] = join(new_segment(1024 * KIB, 256 * KIB));
    if (argc > 3)
        handles_count = (uint32_t)strtoul(argv[3], NULL, 10);
    MUST(handles_count >= 1 && handles_count <= THREADS);
    for (uint32_t i = 1; i < handles_count; i++)
        handles[i] = another(handles[0]);
    ledger = new_ledger();
    for (uint32_t i = 0; i < THREADS; i++) {
        numbers[i] = i;
        MUST(pthread_create(&threads[i], NULL, work, &numbers[i]) == 0);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        MUST(pthread_join(threads[i], NULL) == 0);
    struct worker last;
    worker_begin(&last, handles[0], ledger, 9, true);
    worker_drain_normal(&last);
    check(handles[0]);
    MUST(ledger->broken == 0 && ledger->next < MESSAGES);
    for (uint32_t id = 0; id < MESSAGES - 1; id++)
        MUST(ledger->taken[id] == ledger->sent[id]);
    MUST(handles[0]->header->rebuilds == 0);
    printf("%u messages\n", ledger->next);
    return 0;
}
