/* Random operations of one process, each compared with a plain model, the whole segment checked after each. */
#include "observer.h"
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUEUES 8 /* the first ones are normal channels, the others inboxes */
#define NORMAL 5
#define GROUPS 4
#define LOCALS 6
#define DEPTH 12
#define BIGGEST (80 * KIB)

static const char *const queue_names[QUEUES] = {
    "a",
    "b.c",
    "a.name.that.is.longer.than.one.block.of.the.message.area.can.hold-and_a_bit_more_than_that.oh",
    "d",
    "e",
    "specific.AAAAAAAAAA!",
    "other.AAAAAAAAAA!",
    "not.open!",
};
static const char *const group_names[GROUPS] = {
    "g",
    "h",
    "a.group.whose.name.needs.several.blocks.of.the.group.area.to.be.stored.there.because.it.is.long",
    "i",
};
static const char *const locals[LOCALS] = {
    "", "1", "2", "3", "a.local.name.that.does.not.fit.into.the.first.block", "44444444444444445",
};

struct expected {
    uint32_t id;
    size_t size;
    uint32_t recipients; /* bit for each local name */
};

struct queue {
    bool is_open;
    uint32_t count;
    struct expected items[DEPTH];
    uint32_t members[GROUPS]; /* bit for each local name; of a normal channel only bit 0 */
    bool waits[LOOPS];
    uint64_t sent, full; /* of a normal channel */
};

static struct queue queues[QUEUES];
static struct handle *handle;
static uint32_t loops_open, next_id = 1;
static char bytes[BIGGEST];

static bool is_inbox(uint32_t queue) { return queue >= NORMAL; }

static size_t random_size(void) {
    switch (below(8)) {
    case 0:
        return 8 + below(2000);
    case 1:
        return below(4) == 0 ? LARGE + below(BIGGEST - LARGE) : 8 + below(500);
    default:
        return 8 + below(300);
    }
}

static void forget_all(void) {
    enum status status = op_flush(handle, WAIT);
    MUST(status == OK);
    for (uint32_t queue = 0; queue < QUEUES; queue++) {
        queues[queue].count = 0;
        memset(queues[queue].members, 0, sizeof queues[queue].members);
    }
}

static uint64_t counter(enum counter which) { return atomic_load(&handle->header->counters[HALF_LOCAL][which]); }

static struct queue_state look_at(uint32_t queue) {
    struct queue_state state;
    MUST(op_state(handle, WAIT, named(queue_names[queue]), &state) == OK);
    return state;
}

/* What is told of each channel is what has been done to it, and an observer sees what is there. */
static void look(void) {
    struct sight sight = {.buffer = bytes, .size = sizeof bytes};
    struct seen_channel seen;
    uint32_t unread = 0, expected = 0, bucket = 0;
    for (uint32_t queue = 0; queue < QUEUES; queue++) {
        struct queue_state state = look_at(queue);
        MUST(state.unread == queues[queue].count);
        MUST(is_inbox(queue) ? !state.is_counted
                             : (state.sent == queues[queue].sent && state.full == queues[queue].full));
        expected += queues[queue].count;
    }
    for (enum status status; (status = observe_channels(handle, &bucket, &sight)) != EMPTY;) {
        MUST(status == OK);
        for (size_t at = 0; at < sight.used; at += sizeof seen + seen.name_length + seen.waiters * sizeof(uint32_t)) {
            memcpy(&seen, bytes + at, sizeof seen);
            unread += seen.unread;
        }
    }
    MUST(unread == expected);
}

static uint32_t capacity_of(uint32_t queue) { return queue == 1 ? 2 : DEPTH; }

static void do_push(uint32_t queue) {
    struct wakeups wakeups;
    bool lives = below(6) != 0;
    uint32_t local = is_inbox(queue) ? below(LOCALS) : 0;
    struct expected item = {next_id++, random_size(), 1u << local};
    fill_payload(bytes, item.size, item.id);
    struct push push = {
        .channel = named(queue_names[queue]),
        .local = named(locals[local]),
        .payload = bytes,
        .size = item.size,
        .capacity = capacity_of(queue),
        .expiry_ns = lives ? LONG : 0,
    };
    wakeups_open(&wakeups);
    enum status status = send(handle, &push, &wakeups);
    wakeups_close(&wakeups);
    struct queue *model = &queues[queue];
    if (status == NO_MEMORY)
        return;
    if (is_inbox(queue) && !model->is_open) {
        MUST(status == GONE);
    } else if (model->count == capacity_of(queue)) {
        MUST(status == FULL);
        model->full++;
    } else {
        MUST(status == OK);
        model->sent++;
        if (lives)
            model->items[model->count++] = item;
    }
}

static void do_push_several(uint32_t queue) {
    static char payloads[3][400];
    struct push items[3];
    struct wakeups wakeups;
    struct queue *model = &queues[queue];
    uint32_t local = is_inbox(queue) ? below(LOCALS) : 0, stored = 0;
    struct pushes pushes = {.items = items, .number = below(4)};
    for (uint32_t i = 0; i < pushes.number; i++) {
        size_t size = 8 + below(300);
        fill_payload(payloads[i], size, next_id + i);
        items[i] = (struct push){
            .channel = named(queue_names[queue]),
            .local = named(locals[local]),
            .payload = payloads[i],
            .size = size,
            .capacity = capacity_of(queue),
            .expiry_ns = LONG,
        };
    }
    wakeups_open(&wakeups);
    enum status status = op_push_several(handle, WAIT, &pushes, &wakeups);
    wakeups_merge(&wakeups);
    wakeups_close(&wakeups);
    for (; stored < pushes.done && !(is_inbox(queue) && !model->is_open); stored++)
        model->items[model->count++] = (struct expected){next_id + stored, items[stored].size, 1u << local};
    model->sent += stored;
    model->full += status == OK && pushes.done < pushes.number;
    MUST(model->count <= capacity_of(queue));
    MUST(status == NO_MEMORY || (status == OK && (pushes.done == pushes.number || model->count == capacity_of(queue))));
    next_id += (uint32_t)pushes.number;
}

static void take_first(struct queue *model) {
    model->count--;
    memmove(model->items, model->items + 1, model->count * sizeof *model->items);
}

static void do_pop(uint32_t queue) {
    static char buffer[BIGGEST];
    struct taken taken = {.buffer = buffer, .size = below(3) == 0 ? below(200) : sizeof buffer};
    uint32_t loop = loops_open != 0 && below(2) == 0 ? below(loops_open) : NO_LOOP, id;
    struct queue *model = &queues[queue];
    enum status status = quiet_pop(handle, queue_names[queue], loop, &taken);
    if (status == NO_MEMORY)
        return;
    if (status == NO_SPACE) {
        MUST(model->count > 0 && model->items[0].size == taken.used && taken.used > taken.size);
        return;
    }
    if (model->count == 0) {
        MUST(status == EMPTY);
        if (loop != NO_LOOP)
            model->waits[loop] = true;
        return;
    }
    MUST(status == OK);
    size_t size = taken.used;
    if (taken.loan != NO_LOAN) {
        MUST(taken.loan_size > LARGE);
        size = taken.loan_size;
        read_loan(handle, taken.loan, bytes, size);
    } else {
        memcpy(bytes, buffer, size);
    }
    MUST(size == model->items[0].size && is_payload(bytes, size, &id) && id == model->items[0].id);
    take_first(model);
    MUST(taken.left || model->count == 0); /* expired ones may be left, too */
}

/* The locals named in a drained item, as bits. */
static uint32_t recipients_of(const char *names, uint32_t size, uint32_t number) {
    uint32_t found = 0;
    const char *end = names + size;
    for (; number > 0; number--) {
        size_t length = (unsigned char)*names;
        uint32_t local = 0;
        while (strlen(locals[local]) != length || memcmp(locals[local], names + 1, length) != 0)
            MUST(++local < LOCALS);
        MUST((found & (1u << local)) == 0);
        found |= 1u << local;
        names += 1 + length;
    }
    MUST(names == end);
    return found;
}

static void do_drain(uint32_t queue) {
    static char buffer[4 * BIGGEST];
    struct taken taken = {.buffer = buffer, .size = below(2) == 0 ? below(1500) : sizeof buffer};
    uint32_t loop = loops_open != 0 && below(2) == 0 ? below(loops_open) : NO_LOOP, id;
    struct queue *model = &queues[queue];
    enum status status = op_drain(handle, WAIT, named(queue_names[queue]), loop, &taken);
    if (status == NO_MEMORY)
        return;
    if (!model->is_open) {
        MUST(status == GONE);
        return;
    }
    if (status == NO_SPACE) {
        MUST(model->count > 0 && taken.used > taken.size);
        return;
    }
    if (model->count == 0) {
        MUST(status == OK && taken.used == 0);
        if (loop != NO_LOOP)
            model->waits[loop] = true;
        return;
    }
    MUST(status == OK && taken.used > 0 && taken.used <= taken.size);
    for (size_t at = 0; at < taken.used;) {
        struct drained item;
        memcpy(&item, buffer + at, sizeof item);
        at += sizeof item;
        MUST(model->count > 0);
        struct expected *expected = &model->items[0];
        MUST(item.size == expected->size);
        MUST(recipients_of(buffer + at, item.names_size, item.names) == expected->recipients);
        at += item.names_size;
        if (item.is_loaned) {
            MUST(taken.loan_size == item.size);
            read_loan(handle, taken.loan, bytes, item.size);
        } else {
            memcpy(bytes, buffer + at, item.size);
            at += item.size;
        }
        MUST(is_payload(bytes, item.size, &id) && id == expected->id);
        take_first(model);
    }
    MUST(taken.left || model->count == 0);
    if (!taken.left && loop != NO_LOOP)
        model->waits[loop] = true;
}

static void do_inbox(uint32_t queue) {
    struct queue *model = &queues[queue];
    if (queue == QUEUES - 1)
        return; /* stays closed */
    bool open = !model->is_open || below(4) != 0;
    enum status status = op_inbox(handle, WAIT, named(queue_names[queue]), open);
    if (status == NO_MEMORY)
        return;
    MUST(status == OK);
    if (!open)
        memset(model, 0, sizeof *model);
    model->is_open = open;
}

static void do_group_add(uint32_t group, uint32_t queue) {
    struct queue *model = &queues[queue];
    uint32_t local = is_inbox(queue) ? 1 + below(LOCALS - 1) : 0;
    /* With a member of an inbox that has expired, an entry for nobody may take up a place for a while; see
     * memberships.c. */
    bool lives = is_inbox(queue) || below(5) != 0;
    enum status status = op_group_add(handle, WAIT, named(group_names[group]), named(queue_names[queue]),
                                      named(locals[local]), lives ? LONG : 0);
    if (status == NO_MEMORY || status == NO_GROUP_MEMORY)
        return;
    MUST(status == OK);
    if (is_inbox(queue) && !model->is_open)
        return;
    if (lives)
        model->members[group] |= 1u << local;
    else
        model->members[group] &= ~(1u << local);
}

static void do_group_discard(uint32_t group, uint32_t queue) {
    uint32_t local = is_inbox(queue) ? 1 + below(LOCALS - 1) : 0;
    MUST(op_group_discard(handle, WAIT, named(group_names[group]), named(queue_names[queue]), named(locals[local])) ==
         OK);
    queues[queue].members[group] &= ~(1u << local);
}

static void do_group_send(uint32_t group) {
    struct wakeups wakeups;
    bool lives = below(6) != 0;
    struct expected item = {next_id++, random_size(), 0};
    fill_payload(bytes, item.size, item.id);
    struct capacity_of others = {named(queue_names[1]), capacity_of(1)};
    struct group_send group_send = {
        .group = named(group_names[group]),
        .payload = bytes,
        .size = item.size,
        .capacity = DEPTH,
        .others = &others,
        .others_count = 1,
        .expiry_ns = lives ? LONG : 0,
    };
    uint64_t missed = counter(COUNT_MEMORY), full = counter(COUNT_FULL);
    wakeups_open(&wakeups);
    enum status status = send_to_group(handle, &group_send, &wakeups);
    wakeups_close(&wakeups);
    if (counter(COUNT_MEMORY) != missed) {
        forget_all(); /* some have it: which ones is nobody's business */
        for (uint32_t queue = 0; queue < NORMAL; queue++) {
            struct queue_state state = look_at(queue);
            queues[queue].sent = state.sent;
            queues[queue].full = state.full;
        }
        return;
    }
    if (status == NO_MEMORY)
        return;
    MUST(status == OK);
    for (uint32_t queue = 0; queue < QUEUES; queue++) {
        struct queue *model = &queues[queue];
        item.recipients = model->members[group];
        if (item.recipients == 0)
            continue;
        if (model->count == capacity_of(queue)) {
            full++;
            model->full++;
            continue;
        }
        model->sent++;
        if (lives)
            model->items[model->count++] = item;
    }
    MUST(counter(COUNT_FULL) == full);
}

static void close_last_loop(void) {
    MUST(quiet_loop_close(handle, --loops_open) == OK);
    for (uint32_t queue = 0; queue < QUEUES; queue++)
        queues[queue].waits[loops_open] = false;
}

static void do_loop(void) {
    if (loops_open < LOOPS && below(3) != 0) {
        uint32_t loop;
        MUST(op_loop_open(handle, WAIT, &loop) == OK && loop == loops_open);
        loops_open++;
    } else if (loops_open > 0) {
        close_last_loop();
    }
}

static void do_collect(void) {
    struct ready ready;
    if (loops_open == 0)
        return;
    uint32_t loop = below(loops_open);
    if (below(2) == 0)
        MUST(op_repoll(handle, WAIT, loop) == OK);
    enum status status = collect(handle, loop, below(2) == 0, &ready);
    MUST(status == OK || (status == EMPTY && ready.used == 0));
    for (size_t at = 0; at < ready.used; at += 1 + (size_t)ready.names[at]) {
        uint32_t queue = 0;
        while (strlen(queue_names[queue]) != (size_t)ready.names[at] ||
               memcmp(queue_names[queue], ready.names + at + 1, (size_t)ready.names[at]) != 0)
            MUST(++queue < QUEUES);
        MUST(queues[queue].waits[loop]);
    }
}

static void do_unwait(uint32_t queue) {
    if (loops_open == 0)
        return;
    uint32_t loop = below(loops_open);
    MUST(quiet_unwait(handle, queue_names[queue], loop) == OK);
    queues[queue].waits[loop] = false;
}

/* As after the death of a process inside an operation, or after damage: everything derived is made again. */
static void do_rebuild(void) {
    atomic_store(below(2) == 0 ? &handle->header->dirty : &handle->header->damaged, 1);
    for (uint32_t queue = 0; queue < QUEUES; queue++)
        memset(queues[queue].waits, 0, sizeof queues[queue].waits);
}

static void step(void) {
    uint32_t what = below(100), queue = below(QUEUES), group = below(GROUPS);
    if (what < 25)
        do_push(queue);
    else if (what < 28)
        do_push_several(queue);
    else if (what < 50)
        is_inbox(queue) ? do_drain(queue) : do_pop(queue);
    else if (what < 62)
        do_group_send(group);
    else if (what < 72)
        do_group_add(group, queue);
    else if (what < 79)
        do_group_discard(group, queue);
    else if (what < 83)
        do_loop();
    else if (what < 90)
        do_collect();
    else if (what < 93)
        do_unwait(queue);
    else if (what < 97)
        do_inbox(NORMAL + below(QUEUES - NORMAL));
    else if (what < 99)
        do_rebuild();
    else if (below(20) == 0)
        forget_all();
}

/* With everything taken out again, every block is free. */
static void take_all_out(void) {
    for (uint32_t queue = 0; queue < QUEUES; queue++) {
        while (queues[queue].count > 0)
            is_inbox(queue) ? do_drain(queue) : do_pop(queue);
        for (uint32_t group = 0; group < GROUPS; group++)
            for (uint32_t local = 0; local < LOCALS; local++)
                MUST(op_group_discard(handle, WAIT, named(group_names[group]), named(queue_names[queue]),
                                      named(locals[local])) == OK);
        memset(queues[queue].members, 0, sizeof queues[queue].members);
        if (is_inbox(queue))
            MUST(op_inbox(handle, WAIT, named(queue_names[queue]), false) == OK);
        queues[queue].is_open = false;
    }
    while (loops_open > 0)
        close_last_loop();
    bool needed;
    MUST(op_is_needed(handle, WAIT, &needed) == OK && !needed);
    const uint64_t *totals = check(handle);
    MUST(totals[TOTAL_CHANNELS] == 0 && totals[TOTAL_MESSAGES] == 0 && totals[TOTAL_WAITERS] == 0);
    MUST(totals[TOTAL_GROUPS] == 0 && totals[TOTAL_PAIRS] == 0 && totals[TOTAL_MEMBERS] == 0);
    MUST(totals[TOTAL_MESSAGE_BLOCKS] == totals[TOTAL_MESSAGE_BLOCKS_FREE]);
}

int main(int argc, char **argv) {
    begin(argc, argv, "model");
    /* Small enough that memory, too, runs out at times. */
    handle = join(new_segment(below(2) == 0 ? 64 * KIB : 512 * KIB, below(2) == 0 ? 2 * KIB : 64 * KIB));
    for (uint64_t number = 0; number < steps; number++) {
        step();
        check(handle);
        if (below(20) == 0)
            look();
        if (below(500) == 0)
            take_all_out();
    }
    take_all_out();
    MUST(segment_leave(handle) == OK);
    printf("%u messages\n", next_id - 1);
    return 0;
}
