#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint64_t seed, steps;
static struct handle *joined[64]; /* reachable to the end, so that none counts as leaked */
static uint32_t number_joined;
static const char *program;
static _Thread_local uint64_t random_state;

void begin(int argc, char **argv, const char *name) {
    program = name;
    seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    steps = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000;
    reseed(seed);
}

void wrong(const char *file, int line, const char *what) {
    fprintf(stderr, "%s %llu %llu: %s:%d: not true: %s\n", program, (unsigned long long)seed, (unsigned long long)steps,
            file, line, what);
    abort();
}

void reseed(uint64_t with) { random_state = with * 0x9e3779b97f4a7c15ull + 0x2545f4914f6cdd1dull; }

uint32_t chance(void) { /* xorshift64* */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)((random_state * 0x2545f4914f6cdd1dull) >> 32);
}

void pause_for(uint32_t microseconds) {
    struct timespec time = {0, (long)microseconds * 1000};
    nanosleep(&time, NULL);
}

pid_t fork_child(void) {
    pid_t parent = getpid(), pid = fork();
    MUST(pid >= 0);
    if (pid == 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent))
        _exit(1);
    return pid;
}

void must_be_killed(pid_t pid) {
    int how;
    MUST(waitpid(pid, &how, 0) == pid && WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
}

uint32_t below(uint32_t limit) { return chance() % limit; }

int new_segment(uint64_t message_bytes, uint64_t group_bytes) {
    struct beginning beginning = {.message_bytes = message_bytes,
                                  .group_bytes = group_bytes,
                                  .prefix = "prefix",
                                  .project = "project",
                                  .machine = "machine",
                                  .seed = {seed, ~seed}};
    int fd = memfd_create("segment", MFD_CLOEXEC);
    MUST(fd >= 0);
    MUST(segment_format(fd, fd, &beginning) == OK);
    return fd;
}

struct handle *join(int fd) {
    struct handle *handle = calloc(1, sizeof *handle);
    joined[number_joined++ % 64] = handle;
    const char *reason;
    MUST(handle != NULL);
    MUST(segment_map(fd, fd, handle, &reason) == OK);
    SURELY(segment_join(handle));
    return handle;
}

struct name named(const char *text) { return (struct name){text, strlen(text)}; }

struct push push_of(const char *channel, const char *local, const char *payload, size_t size, uint32_t capacity) {
    return (struct push){.channel = named(channel),
                         .local = named(local),
                         .payload = payload,
                         .size = size,
                         .capacity = capacity,
                         .expiry_ns = LONG,
                         .loan = NO_LOAN};
}

const uint64_t *check(struct handle *handle) {
    static uint64_t totals[TOTALS];
    char error[160];
    enum status status;
    PATIENTLY(status, op_check(handle, WAIT, error, sizeof error, totals));
    if (status != OK || error[0] != '\0') {
        fprintf(stderr, "status %d, %s\n", (int)status, error);
        wrong(__FILE__, __LINE__, "the checker finds nothing");
    }
    return totals;
}

void fill_payload(char *bytes, size_t size, uint32_t id) {
    uint32_t length = (uint32_t)size;
    memcpy(bytes, &id, 4);
    memcpy(bytes + 4, &length, 4);
    for (size_t i = 8; i < size; i++)
        bytes[i] = (char)(i * 31 + id);
}

bool is_payload(const char *bytes, size_t size, uint32_t *id) {
    uint32_t length;
    if (size < 8)
        return false;
    memcpy(id, bytes, 4);
    memcpy(&length, bytes + 4, 4);
    if (length != size)
        return false;
    for (size_t i = 8; i < size; i++)
        if (bytes[i] != (char)(i * 31 + *id))
            return false;
    return true;
}

void read_loan(struct handle *handle, uint32_t loan, char *to, size_t size) {
    MUST(loan_read(handle, loan, to, size));
    SURELY(op_loan_release(handle, WAIT, loan));
}

static enum status reserve(struct handle *handle, struct name local, const void *payload, size_t size, bool is_shared,
                           uint32_t *loan) {
    enum status status;
    *loan = NO_LOAN;
    if (size <= LARGE)
        return OK;
    PATIENTLY(status, op_loan_reserve(handle, WAIT, local.length, size, is_shared, loan));
    if (status != OK) {
        *loan = NO_LOAN;
        return status == NO_SLOT ? OK : status;
    }
    return loan_fill(handle, *loan, local, payload, size, is_shared) ? OK : DAMAGED;
}

static void let_go(struct handle *handle, uint32_t loan) {
    enum status status;
    if (loan != NO_LOAN)
        PATIENTLY(status, op_loan_release(handle, WAIT, loan));
}

enum status send(struct handle *handle, struct push *push, struct wakeups *wakeups) {
    uint32_t loan;
    enum status status = reserve(handle, push->local, push->payload, push->size, false, &loan);
    if (status == OK) {
        push->loan = loan;
        PATIENTLY(status, op_push(handle, WAIT, push, wakeups));
    }
    if (status != OK)
        let_go(handle, loan);
    return status;
}

enum status send_to_group(struct handle *handle, struct group_send *group_send, struct wakeups *wakeups) {
    uint32_t loan;
    enum status status = reserve(handle, (struct name){"", 0}, group_send->payload, group_send->size, true, &loan);
    if (status == OK) {
        group_send->loan = loan;
        PATIENTLY(status, op_group_send(handle, WAIT, group_send, wakeups));
    }
    if (status != OK)
        let_go(handle, loan);
    return status;
}

enum status collect(struct handle *handle, uint32_t loop, bool sleep, struct ready *ready) {
    return op_collect(handle, WAIT, loop, sleep, ready->names, sizeof ready->names, &ready->used, &ready->left);
}

enum status quiet_push(struct handle *handle, const char *channel, const char *local, const char *payload, size_t size,
                       uint32_t capacity) {
    struct wakeups nobody;
    struct push push = push_of(channel, local, payload, size, capacity);
    wakeups_open(&nobody);
    enum status status = op_push(handle, WAIT, &push, &nobody);
    wakeups_close(&nobody);
    return status;
}

enum status quiet_group_send(struct handle *handle, const char *group, const char *payload, size_t size,
                             uint32_t capacity) {
    struct wakeups nobody;
    struct group_send group_send = {.group = named(group),
                                    .payload = payload,
                                    .size = size,
                                    .capacity = capacity,
                                    .expiry_ns = LONG,
                                    .loan = NO_LOAN};
    wakeups_open(&nobody);
    enum status status = op_group_send(handle, WAIT, &group_send, &nobody);
    wakeups_close(&nobody);
    return status;
}

enum status quiet_pop(struct handle *handle, const char *channel, uint32_t loop, struct taken *taken) {
    struct wakeups nobody;
    wakeups_open(&nobody);
    enum status status = op_pop(handle, WAIT, named(channel), loop, taken, &nobody);
    wakeups_close(&nobody);
    return status;
}

enum status quiet_unwait(struct handle *handle, const char *channel, uint32_t loop) {
    struct wakeups nobody;
    wakeups_open(&nobody);
    enum status status = op_unwait(handle, WAIT, named(channel), loop, &nobody);
    wakeups_close(&nobody);
    return status;
}

enum status quiet_loop_close(struct handle *handle, uint32_t loop) {
    struct wakeups nobody;
    wakeups_open(&nobody);
    enum status status = op_loop_close(handle, WAIT, loop, &nobody);
    wakeups_close(&nobody);
    return status;
}

uint32_t number_drained(const struct taken *taken) {
    uint32_t number = 0;
    for (size_t at = 0; at < taken->used; number++) {
        struct drained item;
        memcpy(&item, taken->buffer + at, sizeof item);
        at += sizeof item + item.names_size + item.size;
    }
    return number;
}
