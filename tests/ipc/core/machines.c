/* What a machine's shard table and its groups' records say, against a model that is told by hand. And what the others
 * do not show: two handles, a predecessor, the system's refusals.
 */
#include "support.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "flushes.h"
#include "leases.h"
#include "lock.h"
#include "memory.h"
#include "shards.h"

#define GROUPS 4
#define MEMBERS 3
#define SHARD 2
#define INBOX "in.1!"

static const char *const groups[GROUPS] = {"g", "h", "a.group.with.a.name.that.does.not.fit.into.one.block", "i"};
static const char *const locals[MEMBERS] = {"1", "2", "a.local.name.that.does.not.fit.into.one.block.either"};

static char bytes[100 * KIB];

static struct {
    bool is_member[GROUPS][MEMBERS];
    uint64_t t[GROUPS], r[GROUPS]; /* records; t 0: none */
    bool exists[GROUPS];
    uint64_t forgotten, registration;
    uint32_t flushes;
    uint64_t position, turn, run;
} model;

static struct view look(struct handle *handle) {
    struct view view;
    SURELY(op_look(handle, WAIT, SHARD, &view));
    return view;
}

static void renew(struct handle *handle, const struct view *view, uint64_t last) {
    struct answer answer = {.run = model.run,
                            .registration = model.registration,
                            .last = {last, 7},
                            .incarnation = 9,
                            .flushes = model.flushes};
    SURELY(op_renewed(handle, WAIT, SHARD, view, &answer));
}

static enum status put(struct handle *handle, const struct view *view, uint64_t id, struct arrival *arrival) {
    struct wakeups nobody;
    enum status status;
    arrival->shard = SHARD;
    arrival->turn = view->turn;
    arrival->id = (struct position){id, 7};
    arrival->incarnation = 9;
    arrival->flushes = model.flushes;
    arrival->push.capacity = arrival->send.capacity = 5;
    arrival->push.expiry_ns = arrival->send.expiry_ns = arrival->joining.expiry_ns = LONG;
    arrival->push.loan = arrival->send.loan = NO_LOAN;
    arrival->joining.shard = NO_SHARD;
    wakeups_open(&nobody);
    PATIENTLY(status, op_put(handle, WAIT, arrival, &nobody));
    wakeups_close(&nobody);
    return status;
}

/* A number near those that count. */
static uint64_t some_t(void) { return (model.forgotten > 3 ? model.forgotten - 3 : 0) + 1 + below(9); }

static bool has_members(uint32_t group) {
    for (uint32_t local = 0; local < MEMBERS; local++)
        if (model.is_member[group][local])
            return true;
    return false;
}

static bool is_valid(uint32_t group) {
    return model.registration != 0 && model.t[group] != 0 && model.r[group] == (uint32_t)model.registration;
}

static void join_group(struct handle *handle, uint32_t group, uint32_t local) {
    struct joining joining = {.group = named(groups[group]),
                              .target = named(INBOX),
                              .local = named(locals[local]),
                              .expiry_ns = LONG,
                              .shard = SHARD};
    SURELY(op_group_join(handle, WAIT, &joining));
    MUST(joining.is_new == !model.is_member[group][local]);
    MUST(joining.is_recorded == is_valid(group));
    model.is_member[group][local] = model.exists[group] = true;
}

static void tidy(uint32_t group) {
    if (!has_members(group) && model.t[group] == 0)
        model.exists[group] = false;
}

static void leave_group(struct handle *handle, uint32_t group, uint32_t local) {
    SURELY(op_group_discard(handle, WAIT, named(groups[group]), named(INBOX), named(locals[local])));
    model.is_member[group][local] = false;
    tidy(group);
}

static void record(struct handle *handle, uint32_t group) {
    struct view view = look(handle);
    uint64_t t = some_t();
    uint64_t r = below(4) == 0 ? 1 + below(3) : view.registration;
    struct registered registered = {
        .shard = SHARD, .turn = view.turn - (below(8) == 0), .registration = r, .t = t, .life_ns = 2 * LONG};
    SURELY(op_record(handle, WAIT, named(groups[group]), &registered));
    bool is_late = (model.t[group] >= t || r != model.registration) && is_valid(group);
    if (!model.exists[group] || registered.turn != view.turn || r == 0 || t <= model.forgotten || is_late)
        return;
    model.t[group] = t;
    model.r[group] = (uint32_t)r;
}

static void forget(struct handle *handle, uint32_t group) {
    uint64_t t = some_t();
    bool is_done;
    SURELY(op_forget(handle, WAIT, named(groups[group]), SHARD, t, &is_done));
    MUST(is_done == (!has_members(group) && model.t[group] <= t));
    if (!is_done)
        return;
    if (model.forgotten < t)
        model.forgotten = t;
    model.t[group] = 0;
    tidy(group);
}

static void flushed(void) {
    memset(model.is_member, 0, sizeof model.is_member);
    memset(model.exists, 0, sizeof model.exists);
    memset(model.t, 0, sizeof model.t);
}

static void drain(struct handle *handle) {
    static char buffer[200 * KIB];
    struct taken taken = {.buffer = buffer, .size = sizeof buffer, .left = true};
    while (taken.left)
        SURELY(op_drain(handle, WAIT, named(INBOX), NO_LOOP, &taken));
}

static void entry(struct handle *handle) {
    struct view view = look(handle);
    uint32_t group = below(GROUPS);
    uint64_t t = below(8) == 0 ? 0 : some_t();
    bool is_new = below(5) == 0;
    if (below(20) == 0) {
        model.flushes++;
        model.registration = 0;
        flushed();
    }
    uint64_t id = is_new ? model.position + 1 + below(9) : model.position - below(3);
    struct arrival arrival = {.kind = below(4) == 0 ? ARRIVAL_DIRECT : ARRIVAL_GROUP,
                              .push = {.channel = named(INBOX), .local = named("1"), .payload = bytes, .size = 100},
                              .send = {.group = named(groups[group]), .payload = bytes, .size = 1000},
                              .t = t};
    if (view.flushes != (model.flushes & 0xfffff)) /* the one that tells of it is new */
        is_new = true, id = model.position + 1;
    MUST(put(handle, &view, id, &arrival) == OK);
    MUST((arrival.outcome == PUT_SEEN) == !is_new);
    if (!is_new)
        return;
    model.position = id;
    bool is_forgotten = arrival.kind == ARRIVAL_GROUP && !has_members(group) && t != 0;
    MUST(arrival.outcome == (is_forgotten ? PUT_FORGET : PUT_DONE));
    if (!is_forgotten)
        return;
    if (model.forgotten < t)
        model.forgotten = t;
    if (model.t[group] <= t)
        model.t[group] = 0;
    tidy(group);
}

static void lose_registration(struct handle *handle) {
    SURELY(op_void(handle, WAIT, SHARD));
    model.registration = 0;
}

static void renewal(struct handle *handle) {
    struct view view = look(handle);
    model.registration = (uint64_t)(1000 + below(1000000)) << (below(3) == 0 ? 32 : 0);
    if (below(3) == 0) { /* another server, whose stream ends before the position, or after */
        model.run++;
        uint64_t last = model.position - 5 + below(10);
        renew(handle, &view, last);
        model.position = last < model.position ? last : model.position;
    } else {
        renew(handle, &view, model.position + 3);
    }
}

/* All that can be seen is as the model has it. */
static void compare(struct handle *handle) {
    char listed_groups[4096];
    size_t used;
    bool seen[GROUPS] = {false};
    struct view view = look(handle);
    MUST(view.position.ms == model.position && view.registration == model.registration && view.run == model.run &&
         view.forgotten == model.forgotten && view.flushes == model.flushes);
    SURELY(op_groups(handle, WAIT, 0, UINT32_MAX, listed_groups, sizeof listed_groups, &used));
    for (size_t at = 0; at < used;) {
        struct listed listed;
        uint32_t group = 0;
        memcpy(&listed, listed_groups + at, sizeof listed);
        const char *name = listed_groups + at + sizeof listed;
        while (group < GROUPS &&
               (strlen(groups[group]) != listed.name_length || memcmp(groups[group], name, listed.name_length) != 0))
            group++;
        MUST(group < GROUPS && !seen[group]);
        seen[group] = true;
        MUST(listed.t == model.t[group] && (listed.t == 0 || listed.shard == SHARD));
        MUST(has_members(group) ? listed.idle_ms == 0 : true);
        at += sizeof listed + listed.name_length;
    }
    for (uint32_t group = 0; group < GROUPS; group++)
        MUST(seen[group] == model.exists[group]);
    MUST(groups_exist(handle) == (used > 0));
    check(handle);
}

static void by_chance(void) {
    struct handle *handle = join(new_segment(1024 * KIB, 128 * KIB));
    MUST(op_inbox(handle, WAIT, named(INBOX), true) == OK);
    memset(&model, 0, sizeof model);
    model.position = 1000;
    model.run = 1;
    model.flushes = 3;
    model.registration = 7;
    struct view first = look(handle);
    MUST(!first.is_known);
    renew(handle, &first, model.position);
    for (uint64_t step = 0; step < steps; step++) {
        uint32_t group = below(GROUPS), local = below(MEMBERS);
        switch (below(8)) {
        case 0:
        case 1:
            join_group(handle, group, local);
            break;
        case 2:
        case 3:
            leave_group(handle, group, local);
            break;
        case 4:
            record(handle, group);
            break;
        case 5:
            forget(handle, group);
            break;
        case 6:
            entry(handle);
            break;
        default:
            if (below(4) == 0)
                renewal(handle);
            else if (below(10) == 0)
                atomic_store(&handle->header->dirty, 1); /* as after a death: all is kept */
            else if (below(10) == 0)
                lose_registration(handle);
        }
        drain(handle); /* so that a pair goes with its last member */
        if (below(10) == 0)
            compare(handle);
    }
    compare(handle);
}

/* What is in the hands of processes that were stopped does not come back after a move; nor is anything taken in in the
 * old segment once it was read. */
static void successors(void) {
    struct handle *handle = join(new_segment(256 * KIB, 64 * KIB)), *guest;
    struct heritage heritage;
    struct arrival arrival = {.kind = ARRIVAL_NOTHING};
    struct view view = look(handle);
    model.run = 4, model.flushes = 6, model.registration = 8;
    renew(handle, &view, 100);
    view = look(handle);
    MUST(segment_bequeath(handle, &heritage) == STALE);
    MUST(segment_retire(handle));
    MUST(put(handle, &view, 101, &arrival) == RETIRED);
    MUST(segment_bequeath(handle, &heritage) == OK);
    MUST(heritage.shards[SHARD].is_known && heritage.shards[SHARD].position.ms == 100);
    MUST(!heritage.shards[SHARD + 1].is_known);
    /* A process that was never in it. */
    guest = calloc(1, sizeof *guest);
    const char *reason;
    MUST(guest != NULL && segment_map(handle->fd, handle->fd, guest, &reason) == OK);
    pid_t pid = fork_child();
    if (pid == 0) {
        struct heritage again;
        MUST(segment_bequeath(guest, &again) == OK);
        MUST(memcmp(&again, &heritage, sizeof again) == 0);
        MUST(!private_is_attached(guest->private));
        (void)kill(getpid(), SIGKILL);
    }
    must_be_killed(pid);
    segment_unmap(guest);
    free(guest);
    /* A header that something has overwritten is not believed. */
    handle->header->size ^= 1;
    MUST(segment_bequeath(handle, &heritage) == DAMAGED);
}

/* The owner of the lock has died in the old segment, or is stopped there. */
static void successor_of_an_owner(bool is_dead) {
    int fd = new_segment(256 * KIB, 64 * KIB), told[2];
    struct handle *handle = join(fd);
    struct heritage heritage;
    char byte;
    MUST(pipe(told) == 0);
    pid_t pid = fork_child();
    if (pid == 0) {
        struct handle *owner = join(fd);
        MUST(lock_take(owner, WAIT) == OK);
        MUST(write(told[1], "", 1) == 1);
        (void)kill(getpid(), is_dead ? SIGKILL : SIGSTOP);
    }
    MUST(read(told[0], &byte, 1) == 1);
    if (is_dead)
        must_be_killed(pid);
    MUST(segment_retire(handle));
    uint64_t before = now_ns();
    MUST(segment_bequeath(handle, &heritage) == (is_dead ? OK : BUSY));
    MUST(now_ns() - before < 1000000000ull);
    if (!is_dead) {
        kill(pid, SIGKILL);
        must_be_killed(pid);
    }
}

/* The segment is retired while an operation waits for its lock: it is refused, as what was read there is final. */
static void *wait_and_put(void *argument) {
    struct handle *handle = argument;
    struct view view = {.turn = handle->shards[SHARD].turn};
    struct arrival arrival = {.kind = ARRIVAL_NOTHING};
    MUST(put(handle, &view, 200, &arrival) == RETIRED);
    return NULL;
}

static void retired_meanwhile(void) {
    int fd = new_segment(256 * KIB, 64 * KIB);
    struct handle *handle = join(fd);
    struct view view = look(handle);
    pthread_t thread;
    renew(handle, &view, 100);
    MUST(lock_take(handle, WAIT) == OK);
    MUST(pthread_create(&thread, NULL, wait_and_put, handle) == 0);
    pause_for(20000); /* by now it waits; if not, it is refused at once */
    MUST(segment_retire(handle));
    lock_give(handle);
    MUST(pthread_join(thread, NULL) == 0);
    struct position position;
    MUST(position_read(&handle->shards[SHARD], &position) && position.ms == 100);
}

static void pauses(void) {
    struct handle *handle = join(new_segment(256 * KIB, 64 * KIB));
    struct arrival arrival = {.kind = ARRIVAL_NOTHING};
    struct view view = look(handle);
    renew(handle, &view, 100);
    view = look(handle);
    uint64_t values[] = {0, now_ns() - 1, now_ns() + 2 * PAUSE_NS, UINT64_MAX};
    for (uint32_t i = 0; i < 4; i++) { /* a stray write does not silence the machine */
        handle->header->readable_at = values[i];
        MUST(put(handle, &view, 101 + i, &arrival) == OK && arrival.outcome == PUT_DONE);
    }
    /* A repair that has cost something. */
    MUST(quiet_push(handle, "a", "", bytes, 100, 9) == OK);
    *channel_bucket(handle, "a", 1) = 5000;
    atomic_store(&handle->header->damaged, 1);
    MUST(put(handle, &view, 105, &arrival) == OK && arrival.outcome == PUT_LATER);
    MUST(handle->header->readable_at > now_ns() && handle->header->readable_at <= now_ns() + PAUSE_NS);
    handle->header->readable_at = 0;
    /* One that has cost nothing. */
    atomic_store(&handle->header->dirty, 1);
    MUST(put(handle, &view, 105, &arrival) == OK && arrival.outcome == PUT_DONE);
}

/* Numbers of flushes start again at 0, and that of all servers does so earlier. */
static void numbers_turn_over(void) {
    struct handle *handle = join(new_segment(256 * KIB, 64 * KIB));
    struct shard *shard = &handle->shards[SHARD];
    bool has_flushed, is_other;
    uint32_t flushes = 0xffffd;
    MUST(op_meet_flush(handle, WAIT, SHARD, 0, flushes, &has_flushed) == OK && !has_flushed);
    handle->header->followed = 0x7fffe;
    shard_set_epoch(shard, shard_epoch(shard) | (uint64_t)0x7fffe << 20);
    for (uint32_t i = 0; i < 6; i++) {
        shard->registration = 5;
        MUST(op_meet_flush(handle, WAIT, SHARD, 0, flushes, &has_flushed) == OK && !has_flushed);
        MUST(shard->registration == 5);
        flushes++;
        MUST(op_meet_flush(handle, WAIT, SHARD, 1u << 24, flushes, &has_flushed) == OK && has_flushed);
        MUST(shard->registration == 0);
        MUST(shard_compare_flushes(shard, 0, flushes - 1, &is_other) == -1 && !is_other);
        MUST(op_meet_flush(handle, WAIT, SHARD, 0, flushes - 1, &has_flushed) == OK && !has_flushed);
    }
    MUST(op_meet_flush(handle, WAIT, REMOTE_SHARDS, 0, 1, &has_flushed) == OK && !has_flushed);
}

static void odd_leases(void) {
    struct handle *handle = join(new_segment(256 * KIB, 64 * KIB));
    uint64_t values[] = {UINT64_MAX, 1ull << 63, 0x7ff, SLOTS, SLOTS + 1};
    for (uint32_t i = 0; i < 5; i++) { /* a stray write was there: it is nobody's */
        atomic_store(&handle->shards[SHARD].lease, values[i]);
        MUST(lease_of(handle, SHARD) == 0);
        MUST(lease_take(handle, SHARD, 0) != 0);
    }
    uint64_t lease = lease_take(handle, SHARD + 1, 0);
    MUST(segment_retire(handle));
    MUST(lease_take(handle, SHARD + 1, lease) == 0);
}

int main(int argc, char **argv) {
    begin(argc, argv, "machines");
    fill_payload(bytes, sizeof bytes, 1);
    by_chance();
    successors();
    successor_of_an_owner(true);
    successor_of_an_owner(false);
    retired_meanwhile();
    pauses();
    numbers_turn_over();
    odd_leases();
    return 0;
}
