/* The machine's streams: entries taken in, renewals, and what the servers know of groups. */
#include "scenes.h"

#include "epochs.h"
#include "shards.h"

#define SHARD 3
#define RUN_ID 9

static char bytes[BIG];

static struct view look(struct handle *handle) {
    struct view view;
    MUST(op_look(handle, WAIT, SHARD, &view) == OK);
    return view;
}

static enum status renew(struct handle *handle, const struct view *view, uint64_t run, uint64_t last, uint32_t flushes,
                         uint64_t registration) {
    struct answer answer = {
        .run = run, .registration = registration, .last = {last, 0}, .incarnation = 7, .flushes = flushes};
    return op_renewed(handle, WAIT, SHARD, view, &answer);
}

/* The position is 10.0, the turn 5, the epoch 7.1, R is 77. */
static void known(struct handle *s) {
    s->shards[SHARD].turn = 4; /* not the random one */
    struct view view = look(s);
    MUST(renew(s, &view, RUN_ID, 10, 1, 77) == OK);
}

static enum status put_one(struct handle *handle, struct arrival *arrival, size_t size, enum outcome expected) {
    struct wakeups wakeups;
    struct view view = look(handle);
    uint32_t loan = NO_LOAN;
    bool is_shared = arrival->kind == ARRIVAL_GROUP;
    struct name local = is_shared ? named("") : arrival->push.local;
    fill_payload(bytes, size, 9);
    if (size > LARGE) {
        MUST(op_loan_reserve(handle, WAIT, local.length, size, is_shared, &loan) == OK);
        MUST(loan_fill(handle, loan, local, bytes, size, is_shared));
    }
    arrival->shard = SHARD;
    arrival->turn = view.turn;
    arrival->id = (struct position){11, 0};
    arrival->incarnation = 7;
    arrival->push.payload = arrival->send.payload = bytes;
    arrival->push.size = arrival->send.size = size;
    arrival->push.capacity = arrival->send.capacity = 3;
    arrival->push.expiry_ns = arrival->send.expiry_ns = arrival->joining.expiry_ns = LONG;
    arrival->push.loan = arrival->send.loan = loan;
    arrival->joining.shard = NO_SHARD;
    wakeups_open(&wakeups);
    enum status status = op_put(handle, WAIT, arrival, &wakeups);
    for (uint32_t i = 0; i < wakeups.count; i++)
        wakeup_succeeded(handle, &wakeups.items[i]);
    wakeups_close(&wakeups);
    if (loan != NO_LOAN && !arrival->has_taken_loan)
        MUST(op_loan_release(handle, WAIT, loan) == OK);
    return status == OK && arrival->outcome != expected ? EMPTY : status;
}

static enum status put_direct(struct handle *handle, const char *inbox, size_t size, uint32_t flushes) {
    struct arrival arrival = {
        .flushes = flushes, .kind = ARRIVAL_DIRECT, .push = {.channel = named(inbox), .local = named("x")}};
    return put_one(handle, &arrival, size, PUT_DONE);
}

static enum status put_to_group(struct handle *handle, size_t size, uint64_t t, enum outcome expected) {
    struct arrival arrival = {.flushes = 1, .kind = ARRIVAL_GROUP, .send = {.group = named("g")}, .t = t};
    return put_one(handle, &arrival, size, expected);
}

static enum status put_note(struct handle *handle, enum arrival_kind kind) {
    struct arrival arrival = {
        .flushes = 1,
        .kind = kind,
        .joining = {.group = named("g"), .target = named("s.1!"), .local = named("x")},
    };
    return put_one(handle, &arrival, 8, PUT_DONE);
}

static enum status put_medium(struct handle *v) { return put_direct(v, "s.1!", MEDIUM, 1); }
static enum status put_large(struct handle *v) { return put_direct(v, "s.1!", BIG, 1); }
static enum status put_for_nobody(struct handle *v) { return put_direct(v, "nobody.1!", MEDIUM, 1); }
static enum status put_into_a_queue(struct handle *v) { return put_direct(v, "b", MEDIUM, 1); }
static enum status put_after_a_flush(struct handle *v) { return put_direct(v, "s.1!", MEDIUM, 2); }
static enum status put_before_the_flush(struct handle *v) { return put_direct(v, "s.1!", MEDIUM, 0); }
static enum status put_group(struct handle *v) { return put_to_group(v, MEDIUM, 5, PUT_DONE); }
static enum status put_large_group(struct handle *v) { return put_to_group(v, BIG, 5, PUT_DONE); }
static enum status put_to_no_member(struct handle *v) { return put_to_group(v, MEDIUM, 5, PUT_FORGET); }
static enum status put_add(struct handle *v) { return put_note(v, ARRIVAL_ADD); }
static enum status put_discard(struct handle *v) { return put_note(v, ARRIVAL_DISCARD); }

static void own_inbox(struct handle *v) { open_inbox(v, "v.1!"); }

static void full_inbox(struct handle *s) {
    known(s);
    for (uint32_t id = 1; id <= 3; id++)
        put(s, "s.1!", "y", id, SMALL, LONG);
}

static enum status store(struct handle *handle, uint64_t t) {
    struct view view = look(handle);
    struct registered registered = {
        .shard = SHARD, .turn = view.turn, .registration = view.registration, .t = t, .life_ns = LONG};
    return op_record(handle, WAIT, named("g"), &registered);
}

static void members(struct handle *s) {
    known(s);
    become_member(s, "g", "s.1!", "y", LONG);
    become_member(s, "g", "b", "", LONG);
    become_member(s, "g", "n", "", LONG);
    MUST(store(s, 5) == OK);
    for (uint32_t id = 1; id <= 3; id++)
        put(s, "n", "", id, SMALL, LONG);
}

static void idle_group(struct handle *s) {
    known(s);
    become_member(s, "g", "s.1!", "y", LONG);
    MUST(store(s, 5) == OK);
    stop_being_member(s, "g", "s.1!", "y");
}

/* Its record is newer than the entry. */
static void registered_anew(struct handle *s) {
    known(s);
    become_member(s, "g", "s.1!", "y", LONG);
    MUST(store(s, 6) == OK);
    stop_being_member(s, "g", "s.1!", "y");
}

static void member(struct handle *s) {
    known(s);
    become_member(s, "g", "s.1!", "x", LONG);
}

static void everything(struct handle *s) {
    members(s);
    put(s, "s.1!", "y", 1, SMALL, LONG);
    put(s, "a", "", 2, SMALL, LONG);
}

static enum status renew_first(struct handle *v) {
    struct view view = look(v);
    return renew(v, &view, RUN_ID, 10, 1, 77);
}

static void with_small_turn(struct handle *s) { s->shards[SHARD].turn = 4; }

static enum status renew_with_another(struct handle *v) {
    struct view view = look(v);
    return renew(v, &view, RUN_ID + 1, 8, 0, 78);
}

static enum status renew_after_a_flush(struct handle *v) {
    struct view view = look(v);
    return renew(v, &view, RUN_ID, 10, 2, 78);
}

static enum status renew_after_lost_ids(struct handle *v) {
    struct view view = look(v);
    return renew(v, &view, RUN_ID, 4, 1, 77);
}

static enum status store_act(struct handle *v) { return store(v, 5); }
static enum status store_newer(struct handle *v) { return store(v, 6); }

static enum status forget_act(struct handle *v) {
    bool is_done;
    enum status status = op_forget(v, WAIT, named("g"), SHARD, 5, &is_done);
    return status == OK && !is_done ? EMPTY : status;
}

static enum status discard_last(struct handle *v) {
    return op_group_discard(v, WAIT, named("g"), named("s.1!"), named("y"));
}

static void one_member(struct handle *s) {
    known(s);
    become_member(s, "g", "s.1!", "y", LONG);
    MUST(store(s, 5) == OK);
}

static enum status join_again(struct handle *v) {
    struct joining joining = {
        .group = named("g"), .target = named("s.1!"), .local = named("y"), .expiry_ns = LONG / 2, .shard = SHARD};
    enum status status = op_group_join(v, WAIT, &joining);
    return status == OK && !(joining.is_new && joining.is_recorded) ? EMPTY : status;
}

static enum status restore_act(struct handle *v) {
    struct joining joining = {.group = named("new"),
                              .target = named("s.1!"),
                              .local = named("y"),
                              .expiry_ns = LONG,
                              .shard = NO_SHARD,
                              .is_restored = true,
                              .epoch = epoch_read(v->header)};
    return op_group_join(v, WAIT, &joining);
}

#define AT(position) "#3" position " #3e7.1 #3r77 #3t5"
#define BEFORE AT(":10.0")
#define AFTER AT(":11.0")
#define FORGOTTEN "#3:11.0 #3e7.1 #3f5 #3r77 #3t5"
#define MOVED "#3:11.0"
#define MEMBERS " g:b g:n g:s.1!y g@5 n=1,2,3 s.1!="

const struct scene stream_scenes[] = {
    {"put", BEFORE " s.1!=", AFTER " s.1!=9>x", known, .act = put_medium, .at_least = 20, .in_steps = true,
     .first = MOVED},
    {"put, large", BEFORE " s.1!=", AFTER " s.1!=9>x", known, .act = put_large, .at_least = 1000, .in_steps = true,
     .first = MOVED},
    {"put for nobody", BEFORE " s.1!=", AFTER " s.1!=", known, .act = put_for_nobody, .at_least = 5},
    {"put into a queue", BEFORE " s.1!=", AFTER " s.1!=", known, .act = put_into_a_queue, .at_least = 5},
    {"put into a full inbox", BEFORE " s.1!=1>y,2>y,3>y", AFTER " s.1!=1>y,2>y,3>y", full_inbox, .act = put_medium,
     .at_least = 5},
    {"put from before a flush", BEFORE " s.1!=", AFTER " s.1!=", known, .act = put_before_the_flush, .at_least = 5},
    {"put from after a flush", "#3:10.0 #3e7.1 #3r77 #3t5 a=2 g:b g:n g:s.1!y g@5 n=1,2,3 s.1!=1>y v.1!=",
     "#3:11.0 #3e7.2 #3t5 s.1!=9>x v.1!=", everything, own_inbox, put_after_a_flush, .at_least = 80, .in_steps = true},
    {"put to a group", BEFORE MEMBERS, AFTER " b=9" MEMBERS "9>y", members, .act = put_group, .at_least = 30,
     .in_steps = true, .first = MOVED},
    {"put to a group, large", BEFORE MEMBERS, AFTER " b=9" MEMBERS "9>y", members, .act = put_large_group,
     .at_least = 1000, .in_steps = true, .first = MOVED},
    {"put to no group", BEFORE " s.1!=", FORGOTTEN " s.1!=", known, .act = put_to_no_member, .at_least = 5,
     .in_steps = true, .first = MOVED},
    {"put to a group without members", BEFORE " g@5 s.1!=", FORGOTTEN " s.1!=", idle_group, .act = put_to_no_member,
     .at_least = 15, .in_steps = true, .first = MOVED},
    {"put to a group without members that is registered anew", BEFORE " g@6 s.1!=", FORGOTTEN " g@6 s.1!=",
     registered_anew, .act = put_to_no_member, .at_least = 10, .in_steps = true, .first = MOVED},
    {"put a new member", BEFORE " s.1!=", AFTER " g:s.1!x s.1!=", known, .act = put_add, .at_least = 30,
     .in_steps = true},
    {"put the end of a member", BEFORE " g:s.1!x s.1!=", AFTER " s.1!=", member, .act = put_discard, .at_least = 15,
     .in_steps = true, .first = MOVED},
    {"renew for the first time", "s.1!=", BEFORE " s.1!=", with_small_turn, .act = renew_first, .at_least = 8,
     .in_steps = true},
    {"renew with another server", BEFORE " s.1!=", "#3:8.0 #3e7.0 #3r78 #3t6 s.1!=", known, .act = renew_with_another,
     .at_least = 8, .in_steps = true, .first = "#3t6"},
    {"renew after lost ids", BEFORE " s.1!=", "#3:4.0 #3e7.1 #3r77 #3t6 s.1!=", known, .act = renew_after_lost_ids,
     .at_least = 6, .in_steps = true, .first = "#3t6"},
    {"renew after a flush", "#3:10.0 #3e7.1 #3r77 #3t5 a=2 g:b g:n g:s.1!y g@5 n=1,2,3 s.1!=1>y",
     "#3:10.0 #3e7.2 #3r78 #3t5 s.1!=", everything, .act = renew_after_a_flush, .at_least = 60, .in_steps = true},
    {"store a record", BEFORE " g:s.1!x s.1!=", "#3:10.0 #3e7.1 #3r77 #3t5 g:s.1!x g@5 s.1!=", member, .act = store_act,
     .at_least = 7},
    {"store a newer record", BEFORE " g:s.1!y g@5 s.1!=", BEFORE " g:s.1!y g@6 s.1!=", one_member, .act = store_newer,
     .at_least = 6, .in_steps = true},
    {"forget a group", BEFORE " g@5 s.1!=", "#3:10.0 #3e7.1 #3f5 #3r77 #3t5 s.1!=", idle_group, .act = forget_act,
     .at_least = 10, .in_steps = true, .first = "#3f5"},
    {"discard the last of a group with a record", BEFORE " g:s.1!y g@5 s.1!=", BEFORE " g@5 s.1!=", one_member,
     .act = discard_last, .at_least = 12},
    {"join a group with a record", BEFORE " g@5 s.1!=", BEFORE " g:s.1!y g@5 s.1!=", idle_group, .act = join_again,
     .at_least = 15},
    {"restore a membership", BEFORE " s.1!=", "#3:10.0 #3e7.1 #3t5 new:s.1!y s.1!=", known, .act = restore_act,
     .at_least = 30, .in_steps = true},
    {.name = NULL},
};
