/* Numbers that name something of a process's slot, used where they do not belong: a loop that has no place, a loan when
 * all are taken, or those of a slot that the process had before.
 */
#include "support.h"

#include <string.h>

static char bytes[256 * KIB];

static enum status send_large(struct handle *handle, const char *channel, struct wakeups *wakeups) {
    struct push push = push_of(channel, "", bytes, LARGE + 100, 100);
    return send(handle, &push, wakeups);
}

/* No reader would ever be woken for a loop that is not open, and its place may be another loop's soon. */
static void loops_without_a_place(void) {
    struct handle *handle = join(new_segment(256 * KIB, 64 * KIB));
    struct taken taken = {.buffer = bytes, .size = sizeof bytes};
    struct ready ready;
    uint32_t loop;
    MUST(op_inbox(handle, WAIT, named("x.1!"), true) == OK);
    MUST(op_loop_open(handle, WAIT, &loop) == OK && loop == 0);
    uint32_t others[] = {1, LOOPS - 1, LOOPS, SLOTS * LOOPS, UINT32_MAX - 1};
    for (uint32_t i = 0; i < sizeof others / sizeof *others; i++) {
        MUST(quiet_pop(handle, "a", others[i], &taken) == STALE && !taken.asleep);
        MUST(op_wait(handle, WAIT, named("a"), others[i]) == STALE);
        MUST(op_drain(handle, WAIT, named("x.1!"), others[i], &taken) == STALE);
        MUST(collect(handle, others[i], true, &ready) == STALE);
        MUST(op_repoll(handle, WAIT, others[i]) == STALE);
    }
    MUST(check(handle)[TOTAL_CHANNELS] == 1 && !handle->header->damaged); /* the inbox; no channel was left behind */
    MUST(op_wait(handle, WAIT, named("a"), loop) == EMPTY);
    MUST(quiet_loop_close(handle, loop) == OK);
    MUST(op_wait(handle, WAIT, named("a"), loop) == STALE);
    MUST(check(handle)[TOTAL_WAITERS] == 0);
}

/* A large payload is read although all loans are taken, and no loan is named for it. */
static void all_loans_taken(void) {
    struct handle *handle = join(new_segment(8 * 1024 * KIB, 64 * KIB));
    struct taken taken = {.buffer = bytes, .size = sizeof bytes};
    struct wakeups wakeups;
    uint32_t loan;
    wakeups_open(&wakeups);
    MUST(op_inbox(handle, WAIT, named("x.1!"), true) == OK);
    fill_payload(bytes, LARGE + 100, 7);
    MUST(send_large(handle, "a", &wakeups) == OK && send_large(handle, "x.1!", &wakeups) == OK);
    for (uint32_t i = 0; i < LOANS; i++)
        MUST(op_loan_reserve(handle, WAIT, 0, LARGE + 1, false, &loan) == OK);
    memset(bytes, 0, sizeof bytes);
    MUST(op_pop(handle, WAIT, named("a"), NO_LOOP, &taken, &wakeups) == OK);
    MUST(taken.loan == NO_LOAN && taken.used == LARGE + 100 && is_payload(bytes, LARGE + 100, &loan) && loan == 7);
    MUST(op_drain(handle, WAIT, named("x.1!"), NO_LOOP, &taken) == OK && taken.loan == NO_LOAN);
    check(handle);
}

/* What a process could not give back before it lost its slot is not taken from who has the same loan in its next one.
 */
static void loans_of_another_slot(void) {
    struct handle *handle = join(new_segment(8 * 1024 * KIB, 64 * KIB));
    uint32_t loan;
    MUST(op_loan_reserve(handle, WAIT, 0, LARGE + 1, false, &loan) == OK && loan == 0);
    loan_abandon(handle, loan);
    MUST(segment_leave(handle) == OK && segment_join(handle) == OK);
    MUST(handle->abandoned == 0);
    check(handle);
}

int main(int argc, char **argv) {
    begin(argc, argv, "handles");
    loops_without_a_place();
    all_loans_taken();
    loans_of_another_slot();
    return 0;
}
