/* Processes that come and go, what they leave behind, what expires; a segment's birth and its repair. */
#include "scenes.h"

#include <string.h>
#include <unistd.h>

#include "segment.h"

/* A process with something of each kind. */
static void own_everything(struct handle *handle, const char *inbox) {
    uint32_t loan;
    open_inbox(handle, inbox);
    open_loop(handle);
    wait_for(handle, inbox);
    wait_for(handle, "a");
    wait_for(handle, "b");
    become_member(handle, "g", inbox, "x", LONG);
    become_member(handle, "g", inbox, LONG_LOCAL, LONG);
    become_member(handle, LONG_GROUP, inbox, "x", LONG);
    put_for_all(handle, "g", 1, MEDIUM, LONG);
    stop_being_member(handle, "g", inbox, "x");
    put(handle, inbox, "x", 2, MEDIUM, LONG);
    put(handle, "b", "", 3, SMALL, LONG);
    MUST(op_loan_reserve(handle, WAIT, 3, MEDIUM, false, &loan) == OK);
    MUST(op_loan_reserve(handle, WAIT, 0, MEDIUM, true, &loan) == OK);
    sleep_now(handle);
}

static void own_as_v(struct handle *v) { own_everything(v, "v.1!"); }
static void own_as_d(struct handle *d) { own_everything(d, "d.1!"); }
static void somebody_with_everything_died(struct handle *v) { somebody_died(v, own_as_d); }

static void survivor_is_member(struct handle *s) { become_member(s, "g", "s.1!", "y", LONG); }

/* The next process that joins gets the slot of a dead one. */
static void slot_of_the_dead(struct handle *s) {
    survivor_is_member(s);
    somebody_died(s, own_as_d);
}

static enum status join_act(struct handle *v) { return segment_join(v); }
static enum status leave_act(struct handle *v) { return segment_leave(v); }
static enum status open_act(struct handle *v) { return op_inbox(v, WAIT, named("v.1!"), true); }
static enum status open_of_the_dead(struct handle *v) { return op_inbox(v, WAIT, named("d.1!"), true); }
static enum status close_act(struct handle *v) { return op_inbox(v, WAIT, named("v.1!"), false); }
static enum status flush_act(struct handle *v) { return op_flush(v, WAIT); }

static enum status housekeep_act(struct handle *v) {
    v->header->next_look = 0;
    return op_repoll(v, WAIT, 0);
}

static void with_loop(struct handle *v) {
    somebody_with_everything_died(v);
    open_loop(v);
}

/* Messages and memberships that have expired, some in front of others, some as the last of their kind. */
static void expired_things(struct handle *s) {
    become_member(s, "g", "s.1!", "y", LONG);
    become_member(s, "g", "s.1!", LONG_LOCAL, 0);
    become_member(s, "h", "s.1!", "y", 0);
    become_member(s, LONG_GROUP, "n", "", 0);
    put_for_all(s, "g", 1, MEDIUM, 0);
    put_for_all(s, "g", 2, MEDIUM, LONG);
    put(s, "a", "", 3, SMALL, 0);
    put(s, "b", "", 4, MEDIUM, 0);
    put(s, "b", "", 5, SMALL, LONG);
    put(s, LONG_NAME, "", 6, MEDIUM, 0);
}

static enum status sweep_act(struct handle *v) {
    bool needed;
    return op_is_needed(v, WAIT, &needed);
}

/* The survivor has all of the first extent but one block. */
static void full_extent(struct handle *s) {
    uint32_t loan, left = EXTENT / BLOCK - s->messages.books->fresh - 1;
    MUST(s->messages.books->free_count == 0);
    MUST(op_loan_reserve(s, WAIT, 0, left * (BLOCK - 5) - 50, true, &loan) == OK);
    MUST(s->messages.books->fresh == EXTENT / BLOCK - 1);
}

static enum status push_beyond(struct handle *v) { return act_push(v, "b", "", 9, MEDIUM, 10); }

static void damaged(struct handle *s) {
    slot_of_the_dead(s);
    s->header->damaged = 1;
}

static enum status check_act(struct handle *v) {
    char error[100];
    uint64_t totals[TOTALS];
    enum status status = op_check(v, WAIT, error, sizeof error, totals);
    MUST(error[0] == '\0');
    return status;
}

static enum status loan_act(struct handle *v) {
    uint32_t loan;
    enum status status = op_loan_reserve(v, WAIT, 5, MEDIUM, false, &loan);
    return status == OK ? op_loan_release(v, WAIT, loan) : status;
}

static void servers_are_met(struct handle *v) {
    bool has_flushed;
    own_as_v(v);
    MUST(op_meet_flush(v, WAIT, 0, 7, 1, &has_flushed) == OK && !has_flushed);
}

static enum status servers_were_flushed(struct handle *v) {
    bool has_flushed;
    enum status status = op_meet_flush(v, WAIT, 0, 7, 2, &has_flushed);
    return status == OK && !has_flushed ? EMPTY : status;
}

#define EVERYTHING LONG_GROUP ":v.1!x b=3 g:s.1!y g:v.1!" LONG_LOCAL " s.1!=1>y v.1!=1>" LONG_LOCAL "+x,2>x"
#define DEAD LONG_GROUP ":d.1!x b=3 d.1!=1>" LONG_LOCAL "+x,2>x g:d.1!" LONG_LOCAL " g:s.1!y s.1!=1>y"
#define WITHOUT "b=3 g:s.1!y s.1!=1>y"

const struct scene life_scenes[] = {
    {"join", "s.1!=", NULL, .act = join_act, .attaches = true, .at_least = 5},
    {"join in the slot of the dead", DEAD, WITHOUT, slot_of_the_dead, .act = join_act, .attaches = true, .at_least = 80,
     .in_steps = true},
    {"join what is damaged", DEAD, WITHOUT, damaged, .act = join_act, .attaches = true, .at_least = 150,
     .in_steps = true},
    {"leave", EVERYTHING, WITHOUT, survivor_is_member, own_as_v, leave_act, .at_least = 80, .in_steps = true},
    {"open an inbox", "s.1!=", "s.1!= v.1!=", .act = open_act, .at_least = 15},
    {"open an inbox again", EVERYTHING, NULL, survivor_is_member, own_as_v, open_act, .at_least = 3},
    {"open an inbox of the dead", DEAD, "b=3 d.1!= g:s.1!y s.1!=1>y", survivor_is_member, somebody_with_everything_died,
     open_of_the_dead, .at_least = 80, .in_steps = true},
    {"close an inbox", EVERYTHING, WITHOUT, survivor_is_member, own_as_v, close_act, .at_least = 60, .in_steps = true},
    {"housekeeping for the dead", DEAD, WITHOUT, survivor_is_member, with_loop, housekeep_act, .at_least = 80,
     .in_steps = true},
    {"sweep what has expired", "b=5 g:s.1!y s.1!=2>y", NULL, expired_things, .act = sweep_act, .at_least = 40},
    {"flush", EVERYTHING, "s.1!= v.1!=", survivor_is_member, own_as_v, flush_act, .at_least = 80, .in_steps = true},
    {"grow by an extent", "s.1!=", "b=9 s.1!=", full_extent, .act = push_beyond, .at_least = 40},
    {"reserve and release a loan", "s.1!=", NULL, .act = loan_act, .at_least = 25},
    {"check", EVERYTHING, NULL, survivor_is_member, own_as_v, check_act, .at_least = 3},
    {"hear of a flush of the servers", "#0e7.1 " EVERYTHING, "#0e7.2 s.1!= v.1!=", survivor_is_member, servers_are_met,
     servers_were_flushed, .at_least = 80, .in_steps = true},
    {.name = NULL},
};
