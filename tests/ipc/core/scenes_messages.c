/* Messages put into queues and taken out. */
#include "scenes.h"

static void one_in_a(struct handle *v) { put(v, "a", "", 1, SMALL, LONG); }
static enum status push_a(struct handle *v) { return act_push(v, "a", "", 9, SMALL, 10); }
static enum status push_b(struct handle *v) { return act_push(v, "b", "", 9, SMALL, 10); }
static enum status push_long_name(struct handle *v) { return act_push(v, LONG_NAME, "", 9, MEDIUM, 10); }
static enum status push_survivor(struct handle *v) { return act_push(v, "s.1!", "x", 9, SMALL, 10); }
static enum status push_nobody(struct handle *v) { return act_push(v, "nobody.1!", "x", 9, SMALL, 10); }
static enum status push_b_full(struct handle *v) { return act_push(v, "b", "", 9, SMALL, 3); }
static enum status push_large(struct handle *v) { return act_push(v, "b", "", 9, BIG, 10); }
static enum status push_large_inbox(struct handle *v) { return act_push(v, "s.1!", LONG_LOCAL, 9, BIG, 10); }

static enum status push_two_a(struct handle *v) { return act_push_two(v, "a", "", 8, MEDIUM, 10); }
static enum status push_two_b(struct handle *v) { return act_push_two(v, "b", "", 8, MEDIUM, 4); }
static enum status push_two_survivor(struct handle *v) { return act_push_two(v, "s.1!", "x", 8, SMALL, 10); }

static void three_in_b(struct handle *s) {
    for (uint32_t id = 1; id <= 3; id++)
        put(s, "b", "", id, id == 2 ? MEDIUM : SMALL, LONG);
}

static void expired_heads_in_b(struct handle *s) {
    put(s, "b", "", 1, SMALL, 0);
    put(s, "b", "", 2, MEDIUM, 0);
    put(s, "b", "", 3, SMALL, LONG);
}

static void expired_here_and_there_in_b(struct handle *s) {
    put(s, "b", "", 1, SMALL, LONG);
    put(s, "b", "", 2, MEDIUM, 0);
    put(s, "b", "", 3, SMALL, 0);
}

static void one_large_in_b(struct handle *s) { put(s, "b", "", 1, BIG, LONG); }

static void large_and_small_in_b(struct handle *s) {
    one_large_in_b(s);
    put(s, "b", "", 2, SMALL, LONG);
}

static void one_large_for_group_in_b(struct handle *s) {
    become_member(s, "g", "b", "", LONG);
    become_member(s, "g", "n", "", LONG);
    put_for_all(s, "g", 1, BIG, LONG);
}

static void one_for_group_in_b(struct handle *s) {
    become_member(s, "g", "b", "", LONG);
    become_member(s, "g", "n", "", LONG);
    put_for_all(s, "g", 1, MEDIUM, LONG);
}

/* The full inbox of a dead process. */
static void full_inbox(struct handle *d) {
    open_inbox(d, "d.1!");
    become_member(d, "g", "d.1!", "x", LONG);
    put(d, "d.1!", "x", 1, SMALL, LONG);
    put_for_all(d, "g", 2, SMALL, LONG);
    put(d, "d.1!", "x", 3, SMALL, LONG);
}

static void dead_full_inbox(struct handle *v) { somebody_died(v, full_inbox); }

static enum status push_dead(struct handle *v) { return act_push(v, "d.1!", "x", 9, SMALL, 3); }

static enum status pop_b(struct handle *v) { return act_pop(v, "b", NO_LOOP); }
static enum status pop_a(struct handle *v) { return act_pop(v, "a", NO_LOOP); }
static enum status pop_b_or_wait(struct handle *v) { return act_pop(v, "b", 0); }

static void three_in_a(struct handle *v) {
    for (uint32_t id = 1; id <= 3; id++)
        put(v, "a", "", id, SMALL, LONG);
}

static void busy_inbox(struct handle *v) {
    open_inbox(v, "v.1!");
    open_loop(v);
    become_member(v, "g", "v.1!", "x", LONG);
    become_member(v, "g", "v.1!", LONG_LOCAL, LONG);
    become_member(v, "g", "b", "", LONG);
    put(v, "v.1!", "y", 1, MEDIUM, LONG);
    put(v, "v.1!", "y", 2, SMALL, 0);
    put_for_all(v, "g", 3, MEDIUM, LONG);
    stop_being_member(v, "g", "v.1!", "x");
    put_for_all(v, "g", 4, SMALL, LONG);
    stop_being_member(v, "g", "v.1!", LONG_LOCAL);
    put(v, "v.1!", LONG_LOCAL, 5, SMALL, LONG);
}

static void large_in_inbox(struct handle *v) {
    open_inbox(v, "v.1!");
    open_loop(v);
    become_member(v, "g", "v.1!", "x", LONG);
    put_for_all(v, "g", 1, BIG, LONG);
    put(v, "v.1!", "y", 2, BIG, LONG);
}

static enum status drain(struct handle *v) { return act_drain(v, "v.1!", 0); }

#define BUSY_BEFORE "b=3,4 g:b s.1!= v.1!=1>y,3>" LONG_LOCAL "+x,4>" LONG_LOCAL ",5>" LONG_LOCAL

const struct scene message_scenes[] = {
    {"push into an empty segment", "s.1!=", "b=9 s.1!=", .act = push_b, .at_least = 20},
    {"push wakes a sleeper", "s.1!=", "a=9 s.1!=", .act = push_a, .at_least = 20},
    {"push behind another", "a=1 s.1!=", "a=1,9 s.1!=", one_in_a, .act = push_a, .at_least = 15},
    {"push into a new channel", "a=1 s.1!=", "a=1 b=9 s.1!=", one_in_a, .act = push_b, .at_least = 20},
    {"push of several blocks into a channel with a long name", "a=1 s.1!=", LONG_NAME "=9 a=1 s.1!=", one_in_a,
     .act = push_long_name, .at_least = 40},
    {"push into an inbox", "a=1 s.1!=", "a=1 s.1!=9>x", one_in_a, .act = push_survivor, .at_least = 15},
    {"push to nobody", "a=1 s.1!=", NULL, one_in_a, .act = push_nobody, .result = GONE, .at_least = 3},
    {"push into a full queue", "b=1,2,3 s.1!=", NULL, three_in_b, .act = push_b_full, .result = FULL, .at_least = 3},
    {"push makes room at the front", "b=3 s.1!=", "b=3,9 s.1!=", expired_heads_in_b, .act = push_b_full,
     .at_least = 20},
    {"push makes room everywhere", "b=1 s.1!=", "b=1,9 s.1!=", expired_here_and_there_in_b, .act = push_b_full,
     .at_least = 20},
    {"push finds the reader dead", "d.1!=1>x,2>x,3>x g:d.1!x s.1!=", "s.1!=", .ready = dead_full_inbox,
     .act = push_dead, .result = GONE, .at_least = 30, .in_steps = true},
    {"push of two wakes a sleeper", "s.1!=", "a=8,9 s.1!=", .act = push_two_a, .at_least = 30, .in_steps = true},
    {"push of two into an inbox", "a=1 s.1!=", "a=1 s.1!=8>x,9>x", one_in_a, .act = push_two_survivor, .at_least = 25,
     .in_steps = true},
    {"push of two with room for one", "b=1,2,3 s.1!=", "b=1,2,3,8 s.1!=", three_in_b, .act = push_two_b,
     .at_least = 20},
    {"large push", "b=1,2,3 s.1!=", "b=1,2,3,9 s.1!=", three_in_b, .act = push_large, .at_least = 1000},
    {"large push into an inbox", "s.1!=", "s.1!=9>" LONG_LOCAL, .act = push_large_inbox, .at_least = 1000},
    {"large push without a loan", "b=1,2,3 s.1!=", "b=1,2,3,9 s.1!=", three_in_b, use_all_loans, push_large,
     .at_least = 1000},
    {"pop", "b=1,2,3 s.1!=", "b=2,3 s.1!=", three_in_b, .act = pop_b, .at_least = 8},
    {"pop wakes the next", "a=1,2,3 s.1!=", "a=2,3 s.1!=", .ready = three_in_a, .act = pop_a, .at_least = 8},
    {"pop of the last", "a=1 s.1!=", "s.1!=", one_in_a, .act = pop_a, .at_least = 8},
    {"pop behind expired ones", "b=3 s.1!=", "s.1!=", expired_heads_in_b, .act = pop_b, .at_least = 20},
    {"pop of nothing", "s.1!=", NULL, .act = pop_b, .result = EMPTY, .at_least = 3},
    {"pop and wait", "a=1 s.1!=", NULL, one_in_a, open_loop, pop_b_or_wait, EMPTY, .at_least = 12},
    {"large pop", "b=1,2 s.1!=", "b=2 s.1!=", large_and_small_in_b, .act = pop_b, .at_least = 10},
    {"large pop of the last", "b=1 s.1!=", "s.1!=", one_large_in_b, .act = pop_b, .at_least = 10},
    {"pop of a group's message", "b=1 g:b g:n n=1 s.1!=", "g:b g:n n=1 s.1!=", one_for_group_in_b, .act = pop_b,
     .at_least = 8},
    {"large pop of a group's message", "b=1 g:b g:n n=1 s.1!=", "g:b g:n n=1 s.1!=", one_large_for_group_in_b,
     .act = pop_b, .at_least = 10},
    {"drain", BUSY_BEFORE, "b=3,4 g:b s.1!= v.1!=", .ready = busy_inbox, .act = drain, .at_least = 40,
     .in_steps = true},
    {"large drain", "g:v.1!x s.1!= v.1!=1>x,2>y", "g:v.1!x s.1!= v.1!=2>y", .ready = large_in_inbox, .act = drain,
     .at_least = 10},
    {.name = NULL},
};
