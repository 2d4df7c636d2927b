/* Waiting, sleeping, ringing. */
#include "scenes.h"

static struct ready ready;

static void one_in_b(struct handle *s) { put(s, "b", "", 1, SMALL, LONG); }

static void loop_waits(struct handle *v) {
    open_loop(v);
    open_inbox(v, "v.1!");
    wait_for(v, "v.1!");
    wait_for(v, "a");
    wait_for(v, "b");
    wait_for(v, LONG_NAME);
}

static void loop_is_ready(struct handle *v) {
    loop_waits(v);
    put(v, "v.1!", "x", 1, SMALL, LONG);
    put(v, "b", "", 2, SMALL, LONG);
    put(v, LONG_NAME, "", 3, SMALL, LONG);
}

static void loop_sleeps(struct handle *v) {
    loop_waits(v);
    sleep_now(v);
}

static void loop_sleeps_and_is_ready(struct handle *v) {
    loop_sleeps(v);
    put(v, "v.1!", "x", 1, SMALL, LONG);
    put(v, "b", "", 2, SMALL, LONG);
    put(v, LONG_NAME, "", 3, SMALL, LONG);
}

static enum status unwait(struct handle *v) { return quiet_unwait(v, "b", 0); }
static enum status unwait_a(struct handle *v) { return quiet_unwait(v, "a", 0); }

static void rung_for_a(struct handle *v) {
    loop_waits(v);
    put(v, "a", "", 1, SMALL, LONG);
}

static enum status loop_open_act(struct handle *v) {
    uint32_t loop;
    return op_loop_open(v, WAIT, &loop);
}

static enum status loop_close_act(struct handle *v) { return quiet_loop_close(v, 0); }

static enum status wait_act(struct handle *v) { return op_wait(v, WAIT, named("b"), 0); }
static enum status wait_long(struct handle *v) { return op_wait(v, WAIT, named(LONG_NAME), 0); }
static enum status go_to_sleep(struct handle *v) { return collect(v, 0, true, &ready); }
static enum status wake_up(struct handle *v) { return collect(v, 0, false, &ready); }
static enum status repoll(struct handle *v) { return op_repoll(v, WAIT, 0); }

/* The doorbell of loop 0 in a slot cannot be rung. */
static enum status ring(struct handle *v, uint32_t slot) {
    struct wakeup wakeup = {.slot = slot,
                            .generation = v->slots[slot].generation,
                            .loop = 0,
                            .sleep = SLEEP_OF(v->slots[slot].loops[0].state)};
    struct wakeups wakeups;
    wakeups_open(&wakeups);
    enum status status = op_wakeup_failed(v, WAIT, &wakeup, &wakeups);
    wakeups_close(&wakeups);
    return status;
}

static enum status ring_the_survivor(struct handle *v) { return ring(v, 0); }
static enum status ring_the_dead(struct handle *v) { return ring(v, 2); }

static void dead_sleeper(struct handle *v) {
    nobody_does_housekeeping(v);
    somebody_died(v, loop_sleeps);
    put(v, "b", "", 1, SMALL, LONG);
}

/* A loop was rung, has not answered, and its process has died. */
static void dead_and_silent(struct handle *v) {
    nobody_does_housekeeping(v);
    somebody_died(v, loop_sleeps);
    struct loop_slot *loop = &v->slots[2].loops[0];
    loop->state = STATE_WORD(LOOP_RUNG, SLEEP_OF(loop->state), now_ms() - 1000);
}

static enum status push_to_the_dead(struct handle *v) { return act_push(v, "b", "", 9, SMALL, 10); }

#define READY LONG_NAME "=3 b=2 s.1!= v.1!=1>x"

const struct scene waiting_scenes[] = {
    {"a loop begins", "s.1!=", NULL, .act = loop_open_act, .at_least = 5},
    {"a loop ends", READY, NULL, .ready = loop_is_ready, .act = loop_close_act, .at_least = 20},
    {"wait for a new channel", "s.1!=", NULL, .ready = open_loop, .act = wait_act, .result = EMPTY, .at_least = 15},
    {"wait for a channel with a long name", "s.1!=", NULL, .ready = open_loop, .act = wait_long, .result = EMPTY,
     .at_least = 18},
    {"wait where messages are", "b=1 s.1!=", NULL, one_in_b, open_loop, wait_act, EMPTY, .at_least = 10},
    {"wait no longer", "s.1!= v.1!=", NULL, .ready = loop_waits, .act = unwait, .at_least = 10},
    {"wait no longer, although rung", "a=1 s.1!= v.1!=", NULL, .ready = rung_for_a, .act = unwait_a, .at_least = 10},
    {"go to sleep", "s.1!= v.1!=", NULL, .ready = loop_waits, .act = go_to_sleep, .result = EMPTY, .at_least = 5},
    {"collect before sleep", READY, NULL, .ready = loop_is_ready, .act = go_to_sleep, .at_least = 8},
    {"collect after sleep", READY, NULL, .ready = loop_sleeps_and_is_ready, .act = wake_up, .at_least = 8},
    {"housekeeping", READY, NULL, .ready = loop_sleeps_and_is_ready, .act = repoll, .at_least = 5},
    {"a doorbell cannot be rung", "b=1 s.1!=", NULL, one_in_b, .act = ring_the_survivor, .at_least = 5},
    {"a doorbell of the dead", "b=1 s.1!= v.1!=", NULL, .ready = dead_sleeper, .act = ring_the_dead, .at_least = 10},
    {"push past a dead waiter", "s.1!= v.1!=", "b=9 s.1!=", .ready = dead_and_silent, .act = push_to_the_dead,
     .at_least = 20, .in_steps = true},
    {.name = NULL},
};
