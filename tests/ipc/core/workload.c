#include "workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BIGGEST (80 * KIB)
#define BUFFER (4 * BIGGEST)

static const char *const channels[CHANNELS] = {
    "a", "b", "a.name.that.is.longer.than.one.block.of.the.message.area.can.hold-or.so-x", "c"};
static const char *const groups[2] = {"g", "another.group.whose.name.takes.two.blocks.of.the.group.area.indeed"};

struct ledger *new_ledger(void) {
    struct ledger *ledger =
        mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MUST(ledger != MAP_FAILED);
    return ledger;
}

static bool is_full(enum status status) { return status == NO_MEMORY || status == NO_GROUP_MEMORY || status == NO_SHM; }

/* What an operation on a segment in use by others may come to. */
static void allow(const struct worker *worker, enum status status) {
    if (!worker->is_strict)
        return;
    if (status != OK && status != EMPTY && status != FULL && !is_full(status) && status != GONE && status != NO_SPACE)
        fprintf(stderr, "status %d\n", (int)status);
    MUST(status == OK || status == EMPTY || status == FULL || is_full(status) || status == GONE || status == NO_SPACE);
}

void worker_begin(struct worker *worker, struct handle *handle, struct ledger *ledger, uint32_t number,
                  bool is_strict) {
    enum status status;
    if (number > atomic_load(&ledger->workers))
        atomic_store(&ledger->workers, number);
    *worker = (struct worker){.handle = handle, .ledger = ledger, .is_strict = is_strict};
    snprintf(worker->inbox, sizeof worker->inbox, "specific.%u!", number);
    PATIENTLY(status, op_inbox(handle, WAIT, named(worker->inbox), true));
    allow(worker, status);
    worker->loop = NO_LOOP;
    PATIENTLY(status, op_loop_open(handle, WAIT, &worker->loop));
    allow(worker, status);
}

static void wakeup(struct worker *worker, struct wakeups *wakeups) {
    for (uint32_t i = 0; i < wakeups->count; i++) {
        struct wakeups others;
        enum status status = OK;
        wakeups_open(&others);
        if (below(10) != 0)
            wakeup_succeeded(worker->handle, &wakeups->items[i]);
        else
            PATIENTLY(status, op_wakeup_failed(worker->handle, WAIT, &wakeups->items[i], &others));
        wakeups_close(&others);
        allow(worker, status);
    }
    wakeups_close(wakeups);
}

static size_t random_size(void) { return below(40) == 0 ? LARGE + below(BIGGEST - LARGE) : 8 + below(400); }

static void work_push(struct worker *worker, bool is_normal) {
    static _Thread_local char bytes[BIGGEST];
    char inbox[32];
    struct wakeups wakeups;
    uint32_t id = atomic_fetch_add(&worker->ledger->next, 1) % MESSAGES;
    size_t size = random_size();
    snprintf(inbox, sizeof inbox, "specific.%u!", atomic_load(&worker->ledger->workers) - below(8));
    fill_payload(bytes, size, id);
    struct push push = {
        .channel = named(is_normal ? channels[below(CHANNELS)] : inbox),
        .local = named(is_normal ? "" : "17"),
        .payload = bytes,
        .size = size,
        .capacity = 20,
        .expiry_ns = LONG,
    };
    wakeups_open(&wakeups);
    enum status status = send(worker->handle, &push, &wakeups);
    if (status == OK && is_normal)
        atomic_store(&worker->ledger->sent[id], 1);
    wakeup(worker, &wakeups);
    allow(worker, status);
}

static void take(struct worker *worker, const char *bytes, size_t size, bool is_normal) {
    uint32_t id;
    if (!is_payload(bytes, size, &id) || id >= MESSAGES)
        atomic_fetch_add(&worker->ledger->broken, 1);
    else if (is_normal)
        atomic_fetch_add(&worker->ledger->taken[id], 1);
}

/* The bytes of a loan, in the end freed by the caller. NULL if they cannot be had. */
static char *loan(struct worker *worker, uint32_t loan, size_t size) {
    char *bytes = size < 2 * BIGGEST ? malloc(size) : NULL;
    if (bytes != NULL && !loan_read(worker->handle, loan, bytes, size)) {
        free(bytes);
        bytes = NULL;
    }
    enum status status;
    PATIENTLY(status, op_loan_release(worker->handle, WAIT, loan));
    allow(worker, status);
    MUST(bytes != NULL || !worker->is_strict);
    return bytes;
}

static enum status work_pop(struct worker *worker, const char *channel, uint32_t loop) {
    static _Thread_local char buffer[BUFFER];
    struct taken taken = {.buffer = buffer, .size = sizeof buffer};
    struct wakeups wakeups;
    enum status status;
    wakeups_open(&wakeups);
    PATIENTLY(status, op_pop(worker->handle, WAIT, named(channel), loop, &taken, &wakeups));
    if (status == OK && taken.loan == NO_LOAN) {
        MUST(taken.used <= sizeof buffer);
        take(worker, buffer, taken.used, true);
    } else if (status == OK) {
        char *bytes = loan(worker, taken.loan, taken.loan_size);
        if (bytes != NULL)
            take(worker, bytes, taken.loan_size, true);
        free(bytes);
    }
    wakeup(worker, &wakeups);
    allow(worker, status);
    return status;
}

static void work_drain(struct worker *worker) {
    static _Thread_local char buffer[BUFFER];
    struct taken taken = {.buffer = buffer, .size = sizeof buffer};
    enum status status;
    PATIENTLY(status, op_drain(worker->handle, WAIT, named(worker->inbox), worker->loop, &taken));
    for (size_t at = 0; status == OK && at < taken.used;) {
        struct drained item;
        MUST(taken.used <= sizeof buffer && taken.used - at >= sizeof item);
        memcpy(&item, buffer + at, sizeof item);
        at += sizeof item;
        MUST(item.names_size <= taken.used - at);
        at += item.names_size;
        if (item.is_loaned) {
            free(loan(worker, taken.loan, taken.loan_size));
        } else {
            MUST(item.size <= taken.used - at);
            take(worker, buffer + at, item.size, false);
            at += item.size;
        }
    }
    allow(worker, status);
    if (status == GONE || status == DAMAGED)
        PATIENTLY(status, op_inbox(worker->handle, WAIT, named(worker->inbox), true));
    allow(worker, status);
}

static void work_group(struct worker *worker) {
    static _Thread_local char bytes[BIGGEST];
    char local[16];
    struct name group = named(groups[below(2)]);
    bool is_normal = below(8) == 0;
    struct name target = named(is_normal ? channels[0] : worker->inbox);
    enum status status;
    snprintf(local, sizeof local, "%u", below(5));
    struct name name = named(is_normal ? "" : local);
    uint32_t what = below(4);
    if (what == 0) {
        PATIENTLY(status, op_group_add(worker->handle, WAIT, group, target, name, LONG));
    } else if (what == 1) {
        PATIENTLY(status, op_group_discard(worker->handle, WAIT, group, target, name));
    } else {
        struct wakeups wakeups;
        size_t size = random_size();
        fill_payload(bytes, size, MESSAGES - 1); /* one of many; who gets it is not counted */
        struct group_send group_send = {
            .group = group, .payload = bytes, .size = size, .capacity = 20, .expiry_ns = LONG};
        wakeups_open(&wakeups);
        status = send_to_group(worker->handle, &group_send, &wakeups);
        wakeup(worker, &wakeups);
    }
    allow(worker, status);
}

static void work_wait(struct worker *worker) {
    struct ready ready;
    enum status status;
    struct wakeups wakeups;
    if (worker->loop == NO_LOOP)
        return;
    switch (below(4)) {
    case 0:
        PATIENTLY(status, op_repoll(worker->handle, WAIT, worker->loop));
        break;
    case 1:
        wakeups_open(&wakeups);
        PATIENTLY(status, op_unwait(worker->handle, WAIT, named(channels[below(CHANNELS)]), worker->loop, &wakeups));
        wakeup(worker, &wakeups);
        break;
    default:
        PATIENTLY(status, collect(worker->handle, worker->loop, below(2) == 0, &ready));
        MUST(status != OK || ready.used <= sizeof ready.names);
        break;
    }
    allow(worker, status);
}

void worker_step(struct worker *worker) {
    uint32_t what = below(100);
    if (what < 30)
        work_push(worker, true);
    else if (what < 40)
        work_push(worker, false);
    else if (what < 68)
        work_pop(worker, channels[below(CHANNELS)], below(2) == 0 ? worker->loop : NO_LOOP);
    else if (what < 78)
        work_drain(worker);
    else if (what < 90)
        work_group(worker);
    else
        work_wait(worker);
}

void worker_drain_normal(struct worker *worker) {
    for (uint32_t channel = 0; channel < CHANNELS; channel++)
        while (work_pop(worker, channels[channel], NO_LOOP) == OK)
            ;
}
