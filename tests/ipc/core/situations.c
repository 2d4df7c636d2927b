/* Situations that random operations seldom meet, one function each. */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "liveness.h"
#include "lock.h"
#include "memory.h"

static char bytes[4 * KIB];
static struct handle *joined_last;

static enum status push(struct handle *handle, const char *channel, const char *local, uint32_t capacity) {
    return quiet_push(handle, channel, local, bytes, 100, capacity);
}

static void send_group(struct handle *handle, const char *group, uint32_t capacity) {
    MUST(quiet_group_send(handle, group, bytes, 100, capacity) == OK);
}

static bool pop(struct handle *handle, const char *channel) {
    struct taken taken = {.buffer = bytes, .size = sizeof bytes};
    enum status status = quiet_pop(handle, channel, NO_LOOP, &taken);
    MUST(status == OK || status == EMPTY);
    return status == OK;
}

/* How many messages are in the inbox. */
static uint32_t drain(struct handle *handle, const char *inbox) {
    static char buffer[64 * KIB];
    struct taken taken = {.buffer = buffer, .size = sizeof buffer};
    MUST(op_drain(handle, WAIT, named(inbox), NO_LOOP, &taken) == OK);
    return number_drained(&taken);
}

/* Another process that does something and is killed, or stays. */
struct other {
    pid_t pid;
    int done, go_on;
};

static struct other other_process(int fd, void (*work)(struct handle *)) {
    int done[2], go_on[2];
    char byte;
    MUST(pipe(done) == 0 && pipe(go_on) == 0);
    pid_t pid = fork_child();
    if (pid == 0) {
        work(join(fd));
        MUST(write(done[1], "", 1) == 1);
        MUST(read(go_on[0], &byte, 1) >= 0);
        _exit(0);
    }
    MUST(read(done[0], &byte, 1) == 1);
    return (struct other){pid, done[0], go_on[1]};
}

static void end(struct other *other) {
    kill(other->pid, SIGKILL);
    must_be_killed(other->pid);
}

static void housekeep_now(struct handle *handle) {
    uint32_t loop;
    handle->header->next_look = 0;
    MUST(op_loop_open(handle, WAIT, &loop) == OK && op_repoll(handle, WAIT, loop) == OK);
    MUST(quiet_loop_close(handle, loop) == OK);
}

/* A process with two inboxes in a group has died; the group's other members get their message all the same. */
static void two_inboxes(struct handle *handle) {
    MUST(op_inbox(handle, WAIT, named("x.1!"), true) == OK && op_inbox(handle, WAIT, named("y.1!"), true) == OK);
    MUST(op_group_add(handle, WAIT, named("g"), named("x.1!"), named("1"), LONG) == OK);
    MUST(op_group_add(handle, WAIT, named("g"), named("y.1!"), named("1"), LONG) == OK);
}

static void the_dead_in_a_group(void) {
    int fd = new_segment(256 * KIB, 64 * KIB);
    struct handle *handle = join(fd);
    struct name members[] = {named("m.1!"), named("m.2!"), named("m.3!")};
    for (uint32_t i = 0; i < 3; i++)
        MUST(op_inbox(handle, WAIT, members[i], true) == OK);
    MUST(op_group_add(handle, WAIT, named("g"), members[0], named("1"), LONG) == OK);
    struct other other = other_process(fd, two_inboxes);
    MUST(op_group_add(handle, WAIT, named("g"), members[1], named("1"), LONG) == OK);
    MUST(op_group_add(handle, WAIT, named("g"), members[2], named("1"), LONG) == OK);
    send_group(handle, "g", 1); /* fills the other's inboxes */
    for (uint32_t i = 0; i < 3; i++)
        MUST(drain(handle, members[i].bytes) == 1);
    end(&other);
    handle->header->next_look = now_ns() + 100000000; /* nobody has noticed yet */
    send_group(handle, "g", 1);
    for (uint32_t i = 0; i < 3; i++)
        MUST(drain(handle, members[i].bytes) == 1);
    const uint64_t *totals = check(handle);
    MUST(totals[TOTAL_CHANNELS] == 3 && totals[TOTAL_PAIRS] == 3);
}

/* Processes that were rung, have not answered, and have died: each operation passes them over, and reaps one. */
static void sleep_on_a(struct handle *handle) {
    struct taken taken = {.buffer = bytes, .size = sizeof bytes};
    uint32_t loop;
    MUST(op_loop_open(handle, WAIT, &loop) == OK);
    MUST(quiet_pop(handle, "a", loop, &taken) == EMPTY && taken.asleep);
}

static void do_not_answer(struct handle *handle) {
    sleep_on_a(handle);
    _Atomic uint64_t *state = &handle->slots[handle->private->slot].loops[0].state;
    *state = STATE_WORD(LOOP_RUNG, SLEEP_OF(*state), now_ms() - 1000);
}

static void the_dead_among_waiters(void) {
    int fd = new_segment(256 * KIB, 64 * KIB);
    struct handle *handle = join(fd);
    struct other others[3];
    struct wakeups wakeups;
    for (uint32_t i = 0; i < 3; i++)
        others[i] = other_process(fd, do_not_answer);
    sleep_on_a(handle);
    end(&others[0]);
    end(&others[1]);
    handle->header->next_look = now_ns() + 100000000;
    for (uint32_t reaped = 1; reaped <= 2; reaped++) {
        wakeups_open(&wakeups);
        struct push one = push_of("a", "", bytes, 100, 10);
        MUST(op_push(handle, WAIT, &one, &wakeups) == OK);
        MUST(wakeups.count == 1 && wakeups.items[0].slot == handle->private->slot);
        MUST(handle->header->counters[HALF_LOCAL][COUNT_REAPED] == reaped &&
             check(handle)[TOTAL_WAITERS] == 4 - reaped);
    }
    MUST(handle->header->rebuilds == 0);
    end(&others[2]); /* which was only stopped, for all that the others knew */
}

/* What the dead had opened can be opened by another at once: a process that lost its slot does that with its own. */
static void one_inbox(struct handle *handle) { MUST(op_inbox(handle, WAIT, named("x.1!"), true) == OK); }

static void inbox_of_the_dead(void) {
    int fd = new_segment(256 * KIB, 64 * KIB);
    struct handle *handle = join(fd);
    struct other other = other_process(fd, one_inbox);
    end(&other);
    handle->header->next_look = now_ns() + 100000000;
    MUST(op_inbox(handle, WAIT, named("x.1!"), true) == OK);
    MUST(push(handle, "x.1!", "1", 10) == OK);
    MUST(drain(handle, "x.1!") == 1);
    MUST(handle->header->rebuilds == 0);
    check(handle);
}

/* A process is killed with the lock in its hand; the next one has it at once. */
static void take_lock(struct handle *handle) { MUST(lock_take(handle, WAIT) == OK); }

static void killed_with_the_lock(void) {
    int fd = new_segment(256 * KIB, 64 * KIB);
    struct handle *handle = join(fd);
    struct wakeups wakeups;
    wakeups_open(&wakeups);
    for (uint32_t i = 0; i < 5; i++)
        MUST(push(handle, "a", "", 100) == OK);
    struct other other = other_process(fd, take_lock);
    MUST(push(handle, "a", "", 100) == BUSY); /* it lives, and so keeps it */
    end(&other);
    struct push at_once = push_of("a", "", bytes, 100, 100);
    MUST(op_push(handle, GLANCE, &at_once, &wakeups) == OK); /* with that, nobody waits */
    MUST(handle->header->rebuilds == 1);
    for (uint32_t i = 0; i < 6; i++)
        MUST(pop(handle, "a"));
    MUST(!pop(handle, "a"));
    check(handle);
}

/* A loop whose doorbell cannot be rung although its process lives: it has to find its messages in its housekeeping. */
static void doorbell_gone(void) {
    struct handle *handle = join(new_segment(256 * KIB, 64 * KIB));
    struct ready ready;
    struct wakeups wakeups, others;
    uint32_t loop;
    struct taken taken = {.buffer = bytes, .size = sizeof bytes};
    struct push one = push_of("a", "", bytes, 100, 10);
    wakeups_open(&wakeups);
    wakeups_open(&others);
    MUST(op_loop_open(handle, WAIT, &loop) == OK);
    MUST(quiet_pop(handle, "a", loop, &taken) == EMPTY);
    MUST(collect(handle, loop, true, &ready) == EMPTY);
    MUST(op_push(handle, WAIT, &one, &wakeups) == OK && wakeups.count == 1);
    MUST(op_wakeup_failed(handle, WAIT, &wakeups.items[0], &others) == OK);
    MUST(op_repoll(handle, WAIT, loop) == OK);
    MUST(collect(handle, loop, true, &ready) == OK && ready.used == 2 && ready.names[1] == 'a');
    MUST(pop(handle, "a"));
    MUST(push(handle, "a", "", 10) == OK);
    MUST(op_repoll(handle, WAIT, loop) == OK);
    MUST(collect(handle, loop, true, &ready) == OK && ready.used == 2);
    check(handle);
}

/* A membership expired, with a message unread from before, and was renewed. */
static void renewed_membership(void) {
    struct handle *handle = join(new_segment(256 * KIB, 64 * KIB));
    MUST(op_inbox(handle, WAIT, named("x.1!"), true) == OK);
    MUST(op_group_add(handle, WAIT, named("g"), named("x.1!"), named("1"), LONG) == OK);
    send_group(handle, "g", 10);
    MUST(op_group_add(handle, WAIT, named("g"), named("x.1!"), named("1"), 0) == OK);
    send_group(handle, "g", 10); /* not for it */
    MUST(op_group_add(handle, WAIT, named("g"), named("x.1!"), named("1"), LONG) == OK);
    send_group(handle, "g", 10);
    MUST(drain(handle, "x.1!") == 2);
    check(handle);
    MUST(op_group_discard(handle, WAIT, named("g"), named("x.1!"), named("1")) == OK);
    MUST(check(handle)[TOTAL_PAIRS] == 0);
}

/* A former member whose last message was taken just when its process died is freed all the same. */
static void left_without_messages(void) {
    struct handle *handle = join(new_segment(256 * KIB, 64 * KIB));
    MUST(op_inbox(handle, WAIT, named("x.1!"), true) == OK);
    MUST(op_group_add(handle, WAIT, named("g"), named("x.1!"), named("1"), LONG) == OK);
    send_group(handle, "g", 10);
    MUST(op_group_discard(handle, WAIT, named("g"), named("x.1!"), named("1")) == OK);
    MUST(check(handle)[TOTAL_MEMBERS] == 1);
    uint32_t channel;
    MUST(lock_take(handle, WAIT) == OK);
    MUST(channel_find(handle, named("x.1!"), &channel) == OK);
    channel_at(handle, channel)->head = 0; /* the commit of taking it out; then it dies */
    handle->header->damaged = 1;
    lock_give(handle);
    check(handle);
    for (uint32_t i = 0; i < 10; i++)
        housekeep_now(handle);
    const uint64_t *totals = check(handle);
    MUST(totals[TOTAL_MEMBERS] == 0 && totals[TOTAL_PAIRS] == 0 && totals[TOTAL_GROUPS] == 0);
}

/* Some code closes all descriptors and opens a file of its own under our number: nothing is done to that file. */
static void foreign_descriptor(void) {
    int fd = new_segment(1024 * KIB, 64 * KIB);
    struct handle *handle = join(fd);
    FILE *file = tmpfile();
    MUST(file != NULL && dup2(fileno(file), fd) == fd);
    enum status status = OK;
    for (uint32_t i = 0; i < 5000 && status == OK; i++)
        status = push(handle, "a", "", 10000);
    /* Where the record locks alone keep others out, nothing is even begun. */
    MUST(status == RETIRED);
    MUST(fseek(file, 0, SEEK_END) == 0 && ftell(file) == 0);
    fclose(file);
}

/* The kernel gives no memory, and meanwhile something else happens. In place of the C library's. */
static int refusal;
static void (*meanwhile)(void);

int posix_fallocate(int fd, off_t from, off_t size) {
    if (meanwhile != NULL)
        meanwhile();
    return refusal != 0 ? refusal : fallocate(fd, 0, from, size) == 0 ? 0 : errno;
}

static void grow(struct handle *handle) {
    for (uint32_t i = 0; i < 3000; i++)
        MUST(push(handle, "a", "", 10000) == OK);
}

/* A process that cannot map for a while what others have grown takes nothing of it for damage. */
static void not_seen(void) {
    int fd = new_segment(1024 * KIB, 64 * KIB);
    struct handle *handle = join(fd);
    struct other other = other_process(fd, grow);
    handle->header->damaged = 1;
    refusal = ENOMEM;
    MUST(push(handle, "a", "", 10000) == BUSY);
    refusal = 0;
    MUST(check(handle)[TOTAL_MESSAGES] == 3000);
    MUST(handle->header->counters[HALF_LOCAL][COUNT_DAMAGED] == 0);
    end(&other);
}

static int crowded;
static struct other holder;

static void hold(struct handle *handle) { MUST(lock_take(handle, WAIT) == OK); }

static void hold_the_lock(void) {
    meanwhile = NULL;
    holder = other_process(crowded, hold);
}

/* There is no room to grow into, and whether anything has expired cannot be looked at now: that is not yet "full". */
static void busy_while_growing(void) {
    struct handle *handle = join(crowded = new_segment(1024 * KIB, 64 * KIB));
    refusal = ENOSPC;
    MUST(push(handle, "a", "", 10) == NO_SHM);
    meanwhile = hold_the_lock;
    MUST(push(handle, "a", "", 10) == BUSY);
    end(&holder);
    refusal = 0;
    MUST(push(handle, "a", "", 10) == OK);
}

/* A mark of damage counts as a repair, also where the rebuild finds nothing to cut off, and is gone with it. */
static void marked_as_damaged(void) {
    struct handle *handle = join(new_segment(256 * KIB, 64 * KIB));
    atomic_store(&handle->header->damaged, 1);
    check(handle);
    MUST(handle->repairs == 1 && handle->header->rebuilds == 1 && handle->header->damaged == 0);
    check(handle);
    MUST(handle->repairs == 1 && handle->header->rebuilds == 1);
}

/* A thread waits for its turn while another one leaves the segment: it does not go in under a slot that is no longer
 * ours. */
static void *push_one(void *argument) {
    *(enum status *)argument = push(joined_last, "a", "", 10);
    return NULL;
}

static void left_by_another_thread(void) {
    struct handle *handle = joined_last = join(new_segment(256 * KIB, 64 * KIB));
    enum status status = OK;
    pthread_t thread;
    MUST(pthread_mutex_lock(&handle->private->mutex) == 0);
    MUST(pthread_create(&thread, NULL, push_one, &status) == 0);
    pause_for(20000); /* it has asked whether the process is attached, and waits for its turn */
    handle->private->attached = 0;
    MUST(pthread_mutex_unlock(&handle->private->mutex) == 0 && pthread_join(thread, NULL) == 0);
    MUST(status == DETACHED || status == BUSY); /* busy: this machine was, and the thread's time is over */
    MUST(handle->header->progress == 1);
}

/* Waiting for an inbox that is not there makes none. */
static void no_inbox_to_wait_for(void) {
    struct handle *handle = join(new_segment(256 * KIB, 64 * KIB));
    uint32_t loop;
    MUST(op_loop_open(handle, WAIT, &loop) == OK);
    MUST(op_wait(handle, WAIT, named("x.1!"), loop) == GONE);
    MUST(push(handle, "x.1!", "1", 10) == GONE);
    MUST(check(handle)[TOTAL_CHANNELS] == 0);
}

int main(int argc, char **argv) {
    begin(argc, argv, "situations");
    fill_payload(bytes, 100, 1);
    the_dead_in_a_group();
    the_dead_among_waiters();
    inbox_of_the_dead();
    killed_with_the_lock();
    doorbell_gone();
    renewed_membership();
    left_without_messages();
    marked_as_damaged();
    left_by_another_thread();
    no_inbox_to_wait_for();
    foreign_descriptor();
    if (!is_portable) { /* where memory is reserved */
        not_seen();
        busy_while_growing();
    }
    return 0;
}
