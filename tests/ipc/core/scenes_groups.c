/* Groups: members, and messages to them. */
#include "scenes.h"

static void inbox_of_v(struct handle *v) { open_inbox(v, "v.1!"); }

static void other_members(struct handle *s) {
    become_member(s, "g", "s.1!", "y", LONG);
    become_member(s, "g", "b", "", LONG);
}

static enum status add_to_new(struct handle *v) {
    return op_group_add(v, WAIT, named(LONG_GROUP), named("v.1!"), named(LONG_LOCAL), LONG);
}

static enum status add(struct handle *v) { return op_group_add(v, WAIT, named("g"), named("v.1!"), named("x"), LONG); }

static enum status add_normal(struct handle *v) {
    return op_group_add(v, WAIT, named("g"), named("n"), named(""), LONG);
}

static enum status add_survivor(struct handle *v) {
    return op_group_add(v, WAIT, named("g"), named("s.1!"), named("x"), LONG);
}

static enum status add_nobody(struct handle *v) {
    return op_group_add(v, WAIT, named("g"), named("nobody.1!"), named("x"), LONG);
}

static void member(struct handle *v) {
    inbox_of_v(v);
    become_member(v, "g", "v.1!", "x", LONG);
}

static void expired_member(struct handle *v) {
    inbox_of_v(v);
    become_member(v, "g", "v.1!", "x", LONG);
    put_for_all(v, "g", 1, SMALL, LONG);
    become_member(v, "g", "v.1!", "x", 0);
}

/* It has left, and a message of before is still unread. */
static void left_member(struct handle *v) {
    member(v);
    put_for_all(v, "g", 1, SMALL, LONG);
    stop_being_member(v, "g", "v.1!", "x");
}

/* The same, and since then the group was sent another message. */
static void left_long_ago(struct handle *v) {
    left_member(v);
    put_for_all(v, "g", 2, SMALL, LONG);
}

static void two_members(struct handle *v) {
    member(v);
    become_member(v, "g", "v.1!", LONG_LOCAL, LONG);
}

static void member_with_message(struct handle *v) {
    member(v);
    put_for_all(v, "g", 1, SMALL, LONG);
}

static enum status discard(struct handle *v) {
    return op_group_discard(v, WAIT, named("g"), named("v.1!"), named("x"));
}

static enum status discard_normal(struct handle *v) {
    return op_group_discard(v, WAIT, named("g"), named("b"), named(""));
}

static void normal_member(struct handle *s) { become_member(s, "g", "b", "", LONG); }

static enum status group_send_medium(struct handle *v) { return act_group_send(v, "g", 9, MEDIUM, 3); }
static enum status group_send_two(struct handle *v) { return act_group_send_two(v, "g", 8, MEDIUM, 9, NULL); }
static enum status group_send_but_b(struct handle *v) { return act_group_send_two(v, "g", 8, MEDIUM, 9, "b"); }
static enum status group_send_large(struct handle *v) { return act_group_send(v, "g", 9, BIG, 3); }

/* One queue at capacity, one with expired messages, one with expired members, one asleep. */
static void varied_members(struct handle *s) {
    other_members(s);
    become_member(s, "g", "a", "", LONG);
    become_member(s, "g", "n", "", LONG);
    become_member(s, "g", LONG_NAME, "", 0);
    put(s, LONG_NAME, "", 8, SMALL, LONG);
    for (uint32_t id = 1; id <= 3; id++)
        put(s, "n", "", id, SMALL, LONG);
    for (uint32_t id = 4; id <= 6; id++)
        put(s, "b", "", id, MEDIUM, 0);
    put(s, "s.1!", "z", 7, SMALL, LONG);
}

static void dead_members(struct handle *d) {
    open_inbox(d, "d.1!");
    open_inbox(d, "e.d.1!");
    become_member(d, "g", "d.1!", "x", LONG);
    become_member(d, "g", "e.d.1!", "x", LONG);
    for (uint32_t id = 1; id <= 3; id++) {
        put(d, "d.1!", "x", id, SMALL, LONG);
        put(d, "e.d.1!", "x", id, SMALL, LONG);
    }
}

static void dead_reader(struct handle *v) { somebody_died(v, dead_members); }

#define OTHERS "g:b g:s.1!y "
#define TO_OTHERS "b=1 g:b g:s.1!y "
#define VARIED_BEFORE LONG_NAME "=8 g:a g:b g:n g:s.1!y g:v.1!x n=1,2,3 s.1!=7>z v.1!="
#define VARIED_AFTER LONG_NAME "=8 a=9 b=9 g:a g:b g:n g:s.1!y g:v.1!x n=1,2,3 s.1!=7>z,9>y v.1!=9>x"
#define DEAD "d.1!=1>x,2>x,3>x e.d.1!=1>x,2>x,3>x g:b g:d.1!x g:e.d.1!x g:s.1!y s.1!="

const struct scene group_scenes[] = {
    {"group_add, all of it new", "s.1!= v.1!=", LONG_GROUP ":v.1!" LONG_LOCAL " s.1!= v.1!=", .ready = inbox_of_v,
     .act = add_to_new, .at_least = 50},
    {"group_add to a group", OTHERS "s.1!= v.1!=", OTHERS "g:v.1!x s.1!= v.1!=", other_members, inbox_of_v, add,
     .at_least = 25},
    {"group_add to a pair", OTHERS "s.1!=", "g:b g:s.1!x g:s.1!y s.1!=", other_members, .act = add_survivor,
     .at_least = 15},
    {"group_add of a normal channel", OTHERS "s.1!=", "g:b g:n g:s.1!y s.1!=", other_members, .act = add_normal,
     .at_least = 30},
    {"group_add of nobody", OTHERS "s.1!=", NULL, other_members, .act = add_nobody, .at_least = 3},
    {"group_add renews", OTHERS "g:v.1!x s.1!= v.1!=", NULL, other_members, member, add, .at_least = 4},
    {"group_add after expiry", TO_OTHERS "s.1!=1>y v.1!=1>x", TO_OTHERS "g:v.1!x s.1!=1>y v.1!=1>x", other_members,
     expired_member, add, .at_least = 15},
    {"group_add after leaving", TO_OTHERS "s.1!=1>y v.1!=1>x", TO_OTHERS "g:v.1!x s.1!=1>y v.1!=1>x", other_members,
     left_member, add, .at_least = 6},
    {"group_add after leaving long ago", "b=1,2 g:b g:s.1!y s.1!=1>y,2>y v.1!=1>x",
     "b=1,2 g:b g:s.1!y g:v.1!x s.1!=1>y,2>y v.1!=1>x", other_members, left_long_ago, add, .at_least = 12},
    {"group_discard", OTHERS "g:v.1!" LONG_LOCAL " g:v.1!x s.1!= v.1!=", OTHERS "g:v.1!" LONG_LOCAL " s.1!= v.1!=",
     other_members, two_members, discard, .at_least = 8},
    {"group_discard of the last of a queue", OTHERS "g:v.1!x s.1!= v.1!=", OTHERS "s.1!= v.1!=", other_members, member,
     discard, .at_least = 15},
    {"group_discard of the last", "g:b s.1!=", "s.1!=", normal_member, .act = discard_normal, .at_least = 20},
    {"group_discard with a message unread", TO_OTHERS "g:v.1!x s.1!=1>y v.1!=1>x", TO_OTHERS "s.1!=1>y v.1!=1>x",
     other_members, member_with_message, discard, .at_least = 5},
    {"group_send to nobody", "s.1!=", NULL, .act = group_send_medium, .at_least = 3},
    {"group_send to varied members", VARIED_BEFORE, VARIED_AFTER, varied_members, member, group_send_medium,
     .at_least = 80, .in_steps = true},
    {"group_send of two", OTHERS "s.1!=", "b=8,9 " OTHERS "s.1!=8>y,9>y", other_members, .act = group_send_two,
     .at_least = 60, .in_steps = true},
    {"group_send past who is excluded", OTHERS "s.1!=", OTHERS "s.1!=8>y,9>y", other_members, .act = group_send_but_b,
     .at_least = 40, .in_steps = true},
    {"large group_send", VARIED_BEFORE, VARIED_AFTER, varied_members, member, group_send_large, .at_least = 1000,
     .in_steps = true},
    {"large group_send without a loan", OTHERS "s.1!=", "b=9 " OTHERS "s.1!=9>y", other_members, use_all_loans,
     group_send_large, .at_least = 1000, .in_steps = true},
    {"group_send finds a reader dead", DEAD, "b=9 " OTHERS "s.1!=9>y", other_members, dead_reader, group_send_medium,
     .at_least = 80, .in_steps = true},
    {.name = NULL},
};
