#include "scenes.h"

#include <signal.h>
#include <unistd.h>

#define BUFFER (200 * KIB)

static char bytes[BIG];

static void all_are_rung(struct handle *handle, struct wakeups *wakeups) {
    for (uint32_t i = 0; i < wakeups->count; i++)
        wakeup_succeeded(handle, &wakeups->items[i]);
    wakeups_close(wakeups);
}

enum status push_for(struct handle *handle, const char *channel, const char *local, uint32_t id, size_t size,
                     uint32_t capacity, uint64_t expiry) {
    struct wakeups wakeups;
    fill_payload(bytes, size, id);
    struct push push = push_of(channel, local, bytes, size, capacity);
    push.expiry_ns = expiry;
    wakeups_open(&wakeups);
    enum status status = send(handle, &push, &wakeups);
    all_are_rung(handle, &wakeups);
    return status;
}

enum status group_send_for(struct handle *handle, const char *group, uint32_t id, size_t size, uint32_t capacity,
                           uint64_t expiry) {
    struct wakeups wakeups;
    fill_payload(bytes, size, id);
    struct group_send group_send = {
        .group = named(group), .payload = bytes, .size = size, .capacity = capacity, .expiry_ns = expiry};
    wakeups_open(&wakeups);
    enum status status = send_to_group(handle, &group_send, &wakeups);
    all_are_rung(handle, &wakeups);
    return status;
}

enum status act_push(struct handle *handle, const char *channel, const char *local, uint32_t id, size_t size,
                     uint32_t capacity) {
    return push_for(handle, channel, local, id, size, capacity, LONG);
}

enum status act_group_send(struct handle *handle, const char *group, uint32_t id, size_t size, uint32_t capacity) {
    return group_send_for(handle, group, id, size, capacity, LONG);
}

static char two[2][MEDIUM];

enum status act_push_two(struct handle *handle, const char *channel, const char *local, uint32_t id, size_t size,
                         uint32_t capacity) {
    struct wakeups wakeups;
    struct push items[2];
    for (uint32_t i = 0; i < 2; i++) {
        fill_payload(two[i], size, id + i);
        items[i] = push_of(channel, local, two[i], size, capacity);
        items[i].loan = 0;
    }
    struct pushes pushes = {.items = items, .number = 2};
    wakeups_open(&wakeups);
    enum status status = op_push_several(handle, WAIT, &pushes, &wakeups);
    wakeups_merge(&wakeups);
    all_are_rung(handle, &wakeups);
    return status;
}

enum status act_group_send_two(struct handle *handle, const char *group, uint32_t id, size_t size, uint32_t capacity,
                               const char *passed_over) {
    struct wakeups wakeups;
    struct group_send items[2];
    struct name no_local = {"", 0};
    struct excluded excluded = {.locals = &no_local, .locals_count = 1};
    if (passed_over != NULL)
        excluded.target = named(passed_over);
    for (uint32_t i = 0; i < 2; i++) {
        fill_payload(two[i], size, id + i);
        items[i] = (struct group_send){.group = named(group),
                                       .payload = two[i],
                                       .size = size,
                                       .capacity = capacity,
                                       .expiry_ns = LONG,
                                       .loan = NO_LOAN,
                                       .excluded = &excluded,
                                       .excluded_count = passed_over != NULL};
    }
    struct group_sends sends = {.items = items, .number = 2};
    wakeups_open(&wakeups);
    enum status status = op_group_send_several(handle, WAIT, &sends, &wakeups);
    wakeups_merge(&wakeups);
    all_are_rung(handle, &wakeups);
    return status;
}

enum status act_pop(struct handle *handle, const char *channel, uint32_t loop) {
    static char buffer[BUFFER];
    struct taken taken = {.buffer = buffer, .size = sizeof buffer};
    struct wakeups wakeups;
    wakeups_open(&wakeups);
    enum status status = op_pop(handle, WAIT, named(channel), loop, &taken, &wakeups);
    all_are_rung(handle, &wakeups);
    if (status == OK && taken.loan != NO_LOAN)
        read_loan(handle, taken.loan, buffer, taken.loan_size);
    return status;
}

enum status act_drain(struct handle *handle, const char *inbox, uint32_t loop) {
    static char buffer[BUFFER];
    struct taken taken = {.buffer = buffer, .size = sizeof buffer};
    enum status status = op_drain(handle, WAIT, named(inbox), loop, &taken);
    if (status == OK && taken.loan != NO_LOAN)
        read_loan(handle, taken.loan, buffer, taken.loan_size);
    return status;
}

void put(struct handle *handle, const char *channel, const char *local, uint32_t id, size_t size, uint64_t expiry) {
    MUST(push_for(handle, channel, local, id, size, 100, expiry) == OK);
}

void put_for_all(struct handle *handle, const char *group, uint32_t id, size_t size, uint64_t expiry) {
    MUST(group_send_for(handle, group, id, size, 100, expiry) == OK);
}

void take(struct handle *handle, const char *channel) { MUST(act_pop(handle, channel, NO_LOOP) == OK); }

void open_inbox(struct handle *handle, const char *name) { MUST(op_inbox(handle, WAIT, named(name), true) == OK); }

void become_member(struct handle *handle, const char *group, const char *target, const char *local, uint64_t expiry) {
    MUST(op_group_add(handle, WAIT, named(group), named(target), named(local), expiry) == OK);
}

void stop_being_member(struct handle *handle, const char *group, const char *target, const char *local) {
    MUST(op_group_discard(handle, WAIT, named(group), named(target), named(local)) == OK);
}

void open_loop(struct handle *handle) {
    uint32_t loop;
    MUST(op_loop_open(handle, WAIT, &loop) == OK && loop == 0);
}

void wait_for(struct handle *handle, const char *channel) { MUST(op_wait(handle, WAIT, named(channel), 0) == EMPTY); }

void sleep_now(struct handle *handle) {
    struct ready ready;
    while (collect(handle, 0, true, &ready) != EMPTY)
        ; /* what is ready comes first */
}

void use_all_loans(struct handle *handle) {
    uint32_t loan;
    for (uint32_t i = 0; i < LOANS; i++)
        MUST(op_loan_reserve(handle, WAIT, 0, MEDIUM, i % 2 == 0, &loan) == OK);
}

void nobody_does_housekeeping(struct handle *handle) { handle->header->next_look = now_ns() + 190000000; }

void somebody_died(struct handle *handle, void (*work)(struct handle *)) {
    pid_t pid = fork_child();
    if (pid == 0) {
        work(join(handle->fd));
        (void)kill(getpid(), SIGKILL);
    }
    must_be_killed(pid);
}
