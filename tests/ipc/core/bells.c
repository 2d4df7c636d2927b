/* Sleeping and ringing, step by step: no ring is lost, whichever process dies or gives up at any step.
 *
 * The sleeper of the tests never does housekeeping where it should be rung, so a lost ring is a test that ends
 * with an error and not one that merely takes longer.
 */
#include "support.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "doorbells.h"

static struct handle *handle;
static struct doorbells doorbells;
static int segment_fd, bell_fd = -1;
static uint32_t loop;
static bool fell_asleep; /* in the last pop */
static char directory[] = "bells.XXXXXX", bytes[200];

static void push(struct handle *sender, const char *channel, struct wakeups *wakeups) {
    struct push push = push_of(channel, "", bytes, 100, 10);
    wakeups_open(wakeups);
    SURELY(op_push(sender, WAIT, &push, wakeups));
}

/* As a wait set does: with nothing there, the loop is the channel's waiter, and asleep if nothing else is ready. */
static bool pop(const char *channel) {
    struct taken taken = {.buffer = bytes, .size = sizeof bytes};
    enum status status;
    PATIENTLY(status, quiet_pop(handle, channel, loop, &taken));
    MUST(status == OK || status == EMPTY);
    fell_asleep = taken.asleep;
    return status == OK;
}

static void unwait(const char *channel) { SURELY(quiet_unwait(handle, channel, loop)); }

/* How many channels are ready; with none the loop is asleep. */
static uint32_t number_ready(void) {
    struct ready ready;
    enum status status;
    uint32_t number = 0;
    PATIENTLY(status, collect(handle, loop, true, &ready));
    MUST(status == OK || status == EMPTY);
    for (size_t at = 0; status == OK && at < ready.used; at += 1 + (size_t)ready.names[at])
        number++;
    return number;
}

static void fall_asleep(void) {
    while (number_ready() != 0)
        ;
}

/* Whether the doorbell was rung; empties it. */
static bool is_rung(void) {
    struct pollfd bell = {.fd = bell_fd, .events = POLLIN};
    char rung[64];
    if (poll(&bell, 1, 0) == 0)
        return false;
    MUST(read(bell_fd, rung, sizeof rung) > 0);
    return true;
}

static void wakeup(struct wakeups *wakeups) {
    for (uint32_t i = 0; i < wakeups->count; i++) {
        MUST(doorbell_ring(&doorbells, &wakeups->items[i]));
        wakeup_succeeded(handle, &wakeups->items[i]);
    }
    wakeups_close(wakeups);
}

/* A message for which the sleeper has to be rung. */
static void push_and_ring(const char *channel) {
    struct wakeups wakeups;
    push(handle, channel, &wakeups);
    MUST(wakeups.count == 1);
    wakeup(&wakeups);
}

static uint64_t state_of_loop(void) { return atomic_load(&handle->slots[handle->private->slot].loops[loop].state); }

static void begin_to_wait(void) {
    char path[200];
    handle = join(segment_fd = new_segment(256 * KIB, 64 * KIB));
    MUST(doorbells_open(&doorbells, directory));
    SURELY(op_loop_open(handle, WAIT, &loop));
    MUST(doorbell_path(&doorbells, handle->private->slot, handle->private->generation, loop, path, sizeof path));
    (void)unlink(path);
    MUST(mkfifo(path, 0600) == 0);
    bell_fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    MUST(bell_fd >= 0);
    MUST(!pop("x") && !pop("y"));
    fall_asleep();
}

static void end_waiting(void) {
    char path[200];
    check(handle);
    MUST(doorbell_path(&doorbells, handle->private->slot, handle->private->generation, loop, path, sizeof path));
    MUST(unlink(path) == 0 && close(bell_fd) == 0);
    doorbells_close(&doorbells);
}

enum step { STORED, WRITTEN, MARKED };

/* Another process stores a message for "x", and is killed after a step. */
static void a_sender_dies(enum step last) {
    pid_t pid = fork_child();
    if (pid == 0) {
        struct wakeups wakeups;
        struct handle *sender = join(segment_fd);
        push(sender, "x", &wakeups);
        MUST(wakeups.count == 1); /* it has decided to ring */
        if (last >= WRITTEN)
            MUST(doorbell_ring(&doorbells, &wakeups.items[0]));
        if (last >= MARKED)
            wakeup_succeeded(sender, &wakeups.items[0]);
        raise(SIGKILL);
    }
    must_be_killed(pid);
}

/* It dies between storing and ringing. The next sender's message rings, and both are there. */
static void dies_before_it_rings(void) {
    begin_to_wait();
    a_sender_dies(STORED);
    MUST(!is_rung() && STATE_OF(state_of_loop()) == LOOP_ASLEEP);
    push_and_ring("x");
    MUST(is_rung() && number_ready() == 1 && pop("x") && pop("x") && !pop("x"));
    end_waiting();
}

/* The same, and no process sends any more: the sleeper's housekeeping finds the message. */
static void dies_as_the_last(void) {
    begin_to_wait();
    a_sender_dies(STORED);
    MUST(!is_rung());
    SURELY(op_repoll(handle, WAIT, loop));
    MUST(number_ready() == 1 && pop("x"));
    end_waiting();
}

/* It dies between ringing and noting that: the sleeper is rung, and perhaps once more. */
static void dies_before_it_marks(void) {
    begin_to_wait();
    a_sender_dies(WRITTEN);
    push_and_ring("x"); /* before the sleeper has got up */
    MUST(is_rung() && number_ready() == 1 && pop("x") && pop("x") && !pop("x"));
    fall_asleep();
    push_and_ring("x");
    MUST(is_rung() && number_ready() == 1 && pop("x"));
    end_waiting();
}

/* It dies after all is done. The sleeper is on its way, so the next sender does not ring; and rings again if it did not
 * come. */
static void dies_after_it_marked(void) {
    begin_to_wait();
    a_sender_dies(MARKED);
    MUST(STATE_OF(state_of_loop()) == LOOP_RUNG);
    pause_for(2 * HINT_MS * 1000);
    push_and_ring("x");
    MUST(is_rung() && number_ready() == 1 && pop("x") && pop("x"));
    end_waiting();
}

/* A loop is rung for a channel that it gives up in this moment. That it counts as rung must not silence the other
 * channel. */
static void rung_for_nothing(void) {
    begin_to_wait();
    push_and_ring("x");
    MUST(STATE_OF(state_of_loop()) == LOOP_RUNG);
    MUST(is_rung());
    unwait("x");
    fall_asleep();
    push_and_ring("y");
    MUST(is_rung() && number_ready() == 1 && pop("y"));
    end_waiting();
}

/* The same, with a ringer that notes its ring only after the loop has answered and sleeps again. */
static void rung_late(void) {
    struct wakeups late;
    begin_to_wait();
    push(handle, "x", &late);
    MUST(late.count == 1 && doorbell_ring(&doorbells, &late.items[0]));
    MUST(is_rung());
    unwait("x");
    fall_asleep();
    wakeup_succeeded(handle, &late.items[0]);
    wakeups_close(&late);
    MUST(STATE_OF(state_of_loop()) == LOOP_ASLEEP);
    push_and_ring("y");
    MUST(is_rung() && number_ready() == 1 && pop("y"));
    end_waiting();
}

/* A message comes between the last pop that found something and going to sleep: the loop does not sleep. */
static void last_look(void) {
    struct wakeups wakeups;
    begin_to_wait();
    push_and_ring("x");
    MUST(is_rung() && number_ready() == 1 && pop("x"));
    push(handle, "x", &wakeups);
    MUST(wakeups.count == 0); /* it is awake, and will look */
    MUST(number_ready() == 1 && STATE_OF(state_of_loop()) == LOOP_AWAKE && pop("x"));
    end_waiting();
}

/* A pop that finds nothing goes to sleep: the next message rings. Not with another channel ready, of which it was not
 * told. */
static void sleeps_after_a_pop(void) {
    struct wakeups wakeups;
    begin_to_wait();
    push_and_ring("x");
    MUST(is_rung() && number_ready() == 1 && pop("x") && STATE_OF(state_of_loop()) == LOOP_AWAKE);
    MUST(!pop("x") && fell_asleep && STATE_OF(state_of_loop()) == LOOP_ASLEEP);
    push_and_ring("x");
    MUST(is_rung() && number_ready() == 1 && pop("x"));
    push(handle, "y", &wakeups);
    MUST(wakeups.count == 0 && !pop("x") && !fell_asleep && STATE_OF(state_of_loop()) == LOOP_AWAKE);
    MUST(number_ready() == 1 && pop("y"));
    end_waiting();
}

/* A reader that pops and leaves messages wakes the next. */
static void messages_are_left(void) {
    struct wakeups wakeups;
    struct taken taken = {.buffer = bytes, .size = sizeof bytes};
    begin_to_wait();
    a_sender_dies(STORED);
    a_sender_dies(STORED);
    wakeups_open(&wakeups);
    MUST(op_pop(handle, WAIT, named("x"), NO_LOOP, &taken, &wakeups) == OK && wakeups.count == 1);
    wakeup(&wakeups);
    MUST(is_rung() && number_ready() == 1 && pop("x"));
    end_waiting();
}

int main(int argc, char **argv) {
    begin(argc, argv, "bells");
    fill_payload(bytes, 100, 1);
    MUST(mkdtemp(directory) != NULL);
    dies_before_it_rings();
    dies_as_the_last();
    dies_before_it_marks();
    dies_after_it_marked();
    rung_for_nothing();
    rung_late();
    last_look();
    sleeps_after_a_pop();
    messages_are_left();
    MUST(rmdir(directory) == 0);
    return 0;
}
