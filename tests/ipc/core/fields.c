/* One field is damaged. Operations may find that and say so; what they do from then on is bounded: nothing is full,
 * silent, asleep or lost for ever. Each function is one field. */
#include "support.h"

#include <signal.h>
#include <unistd.h>

#include "blocks.h"
#include "lock.h"
#include "memberships.h"

#define INBOX "in.1!"

static char bytes[64 * KIB];

static enum status push(struct handle *handle, const char *channel, const char *local, uint32_t capacity) {
    return quiet_push(handle, channel, local, bytes, 100, capacity);
}

static enum status pop(struct handle *handle, const char *channel, uint32_t loop) {
    static char buffer[64 * KIB];
    struct taken taken = {.buffer = buffer, .size = sizeof buffer};
    enum status status = quiet_pop(handle, channel, loop, &taken);
    MUST(status != NO_SPACE || taken.used <= handle->size); /* the caller asks for so much memory */
    if (status == OK && taken.loan != NO_LOAN) {
        static char large[256 * KIB];
        MUST(taken.loan_size <= sizeof large);
        bool is_whole = loan_read(handle, taken.loan, large, taken.loan_size);
        status = op_loan_release(handle, WAIT, taken.loan);
        return is_whole ? status : DAMAGED;
    }
    return status;
}

/* How many messages came out of the inbox; *status is that of the last call. */
static uint32_t drain(struct handle *handle, enum status *status) {
    static char buffer[64 * KIB];
    struct taken taken = {.buffer = buffer, .size = sizeof buffer};
    *status = op_drain(handle, WAIT, named(INBOX), NO_LOOP, &taken);
    return *status == OK ? number_drained(&taken) : 0;
}

static enum status group_send_one(struct handle *handle) { return quiet_group_send(handle, "g", bytes, 100, 9); }

/* A process with an inbox that is a member of "g", and a normal channel "a" with two messages. */
static struct handle *fresh(void) {
    struct handle *handle = join(new_segment(256 * KIB, 64 * KIB));
    MUST(op_inbox(handle, WAIT, named(INBOX), true) == OK);
    MUST(op_group_add(handle, WAIT, named("g"), named(INBOX), named("1"), LONG) == OK);
    MUST(push(handle, "a", "", 9) == OK && push(handle, "a", "", 9) == OK);
    return handle;
}

static struct channel *channel_named(struct handle *handle, const char *name) {
    uint32_t reference;
    MUST(channel_find(handle, named(name), &reference) == OK);
    return block_raw(handle, &handle->messages, reference);
}

static struct pair *only_pair(struct handle *handle) {
    struct pair *pair = pair_at(handle, channel_named(handle, INBOX)->pairs);
    MUST(pair != NULL);
    return pair;
}

/* After at most a few failures, a message to the group and one to the inbox arrive. */
static void all_is_well(struct handle *handle) {
    enum status status;
    uint32_t got = 0;
    for (uint32_t tries = 0; tries < 4 && got < 2; tries++) { /* what was there before may come along */
        (void)group_send_one(handle);
        (void)push(handle, INBOX, "1", 9);
        got = drain(handle, &status);
    }
    MUST(got >= 2);
    MUST(push(handle, "z", "", 9) == OK && pop(handle, "z", NO_LOOP) == OK);
    check(handle);
}

static void counts(void) {
    uint32_t values[] = {0, 1, 3, 1000, UINT32_MAX};
    for (uint32_t i = 0; i < 5; i++) {
        struct handle *handle = fresh();
        enum status status;
        MUST(push(handle, INBOX, "1", 5) == OK && push(handle, INBOX, "1", 5) == OK);
        channel_named(handle, INBOX)->count = values[i];
        for (uint32_t tries = 0; tries < 4; tries++)
            (void)drain(handle, &status);
        MUST(push(handle, INBOX, "1", 5) == OK);
        all_is_well(handle);
        /* The same in queues that are empty: no reader would ever take anything from them. */
        while (drain(handle, &status) != 0 || pop(handle, "a", NO_LOOP) == OK)
            ;
        MUST(op_group_add(handle, WAIT, named("g"), named("a"), named(""), LONG) == OK); /* keeps the channel */
        channel_named(handle, INBOX)->count = channel_named(handle, "a")->count = values[i];
        all_is_well(handle);
        status = push(handle, "a", "", 5);
        MUST(status == OK || (status == DAMAGED && push(handle, "a", "", 5) == OK));
        MUST(pop(handle, "a", NO_LOOP) == OK);
        channel_named(handle, "a")->tail = channel_named(handle, INBOX)->head; /* of another queue, or of none */
        status = push(handle, "a", "", 5);
        MUST(status == OK || (status == DAMAGED && push(handle, "a", "", 5) == OK));
        MUST(pop(handle, "a", NO_LOOP) == OK);
    }
}

static void sequence(void) {
    uint64_t values[] = {0, 5, UINT64_MAX, UINT64_MAX / 2 + 7};
    for (uint32_t i = 0; i < 4; i++) {
        struct handle *handle = fresh();
        handle->header->sequence = 1000;
        MUST(op_group_add(handle, WAIT, named("g"), named(INBOX), named("2"), LONG) == OK);
        handle->header->sequence = values[i];
        all_is_well(handle);
        struct member *member = member_at(handle, only_pair(handle)->members);
        member->joined = UINT64_MAX - 1;
        all_is_well(handle);
    }
}

static void members_of_a_pair(void) {
    struct handle *handle = fresh();
    only_pair(handle)->live = 0;
    all_is_well(handle);
    only_pair(handle)->last_deadline = 0;
    all_is_well(handle);
}

/* A reader does not hand a message to others than the group's members, nor to some of them. */
static void list_of_members(void) {
    for (uint32_t what = 0; what < 3; what++) {
        struct handle *handle = fresh();
        enum status status;
        MUST(op_group_add(handle, WAIT, named("other"), named(INBOX), named("2"), LONG) == OK);
        struct pair *others = only_pair(handle); /* the one that came last */
        struct pair *pair = pair_at(handle, others->target_next);
        MUST(pair != NULL);
        MUST(op_group_add(handle, WAIT, named("g"), named(INBOX), named("3"), LONG) == OK);
        MUST(op_group_add(handle, WAIT, named("other"), named(INBOX), named("4"), LONG) == OK); /* as many as of "g" */
        MUST(group_send_one(handle) == OK);
        struct member *first = member_at(handle, pair->members);
        if (what == 0)
            pair->members = others->members;
        else if (what == 1)
            first->next = 0;
        else
            first->deadline = 0;
        MUST(drain(handle, &status) == 0 && status == DAMAGED);
    }
}

static void waiters(void) {
    for (uint32_t what = 0; what < 5; what++) {
        struct handle *handle = fresh();
        struct ready ready;
        uint32_t loop;
        MUST(op_loop_open(handle, WAIT, &loop) == OK);
        MUST(pop(handle, "b", loop) == EMPTY); /* waits */
        MUST(collect(handle, loop, true, &ready) == EMPTY);
        struct loop_slot *own = &handle->slots[handle->private->slot].loops[loop];
        struct waiter *waiter = block_at(handle, &handle->messages, own->waiters, KIND_WAITER);
        MUST(waiter != NULL);
        if (what == 0)
            waiter->is_ready = 1;
        else if (what == 1)
            waiter->slot = 5000;
        else if (what == 2)
            channel_named(handle, "b")->waiters = 0;
        else if (what == 3)
            *channel_bucket(handle, "b", 1) = 0;
        else
            own->waiters = 0;
        uint32_t rebuilds = handle->header->rebuilds;
        (void)push(handle, "b", "", 9);
        /* What a loop does in its housekeeping: it looks by the channel's name, and at its list. */
        enum status status = EMPTY;
        for (uint32_t tries = 0; tries < 3 && status != OK; tries++) {
            (void)op_wait(handle, WAIT, named("b"), loop);
            (void)op_repoll(handle, WAIT, loop);
            status = collect(handle, loop, true, &ready);
            if (status != OK &&
                handle->header->rebuilds != rebuilds) /* it was forgotten; then the process looks at once */
                status = pop(handle, "b", loop) == OK ? OK : EMPTY;
        }
        MUST(status == OK);
        own->in_use = 0;
        MUST(op_repoll(handle, WAIT, loop) == STALE);
    }
}

static void sizes(void) {
    for (uint32_t what = 0; what < 3; what++) {
        struct handle *handle = fresh();
        struct message *message = block_at(handle, &handle->messages, channel_named(handle, "a")->head, KIND_MESSAGE);
        MUST(message != NULL);
        if (what == 0)
            message->size = 0xfffffff0u;
        else if (what == 1)
            message->size = LARGE + 1;
        else
            message->local_length = 255;
        for (uint32_t tries = 0; tries < 3; tries++)
            (void)pop(handle, "a", NO_LOOP);
        all_is_well(handle);
    }
}

static void books(void) {
    for (uint32_t what = 0; what < 5; what++) {
        struct handle *handle = fresh();
        struct area_books *books = &handle->header->messages;
        uint32_t channel;
        MUST(channel_find(handle, named("a"), &channel) == OK);
        if (what == 0)
            books->fresh = 1;
        else if (what == 1)
            books->fresh += 64;
        else if (what == 2)
            books->free_head = channel, books->free_count = 1;
        else if (what == 3)
            books->free_count = 1000;
        else
            atomic_store(&books->reserved, UINT32_MAX);
        for (uint32_t tries = 0; tries < 3; tries++)
            (void)push(handle, "c", "", 9);
        MUST(pop(handle, "a", NO_LOOP) == OK && pop(handle, "a", NO_LOOP) == OK); /* nothing was written over them */
        all_is_well(handle);
    }
}

/* It seems to belong to another process, or to none. */
static void owner(void) {
    uint32_t values[] = {0, 2, SLOTS, SLOTS + 1, UINT32_MAX};
    for (uint32_t i = 0; i < 5; i++) {
        struct handle *handle = fresh();
        enum status status = GONE;
        channel_named(handle, INBOX)->owner = values[i];
        (void)drain(handle, &status);
        for (uint32_t tries = 0; tries < 3 && status != OK; tries++) /* what a process does then */
            status = op_inbox(handle, WAIT, named(INBOX), true);
        MUST(status == OK);
        MUST(op_group_add(handle, WAIT, named("g"), named(INBOX), named("1"), LONG) == OK);
        all_is_well(handle);
    }
}

/* Entries that lead in a circle, and of which none is kept: the rebuild comes to its end. */
static void circles(void) {
    struct handle *handle = fresh();
    MUST(group_send_one(handle) == OK && group_send_one(handle) == OK);
    struct channel *inbox = channel_named(handle, INBOX);
    struct entry *first = block_at(handle, &handle->messages, inbox->head, KIND_ENTRY);
    MUST(first != NULL);
    struct entry *second = block_at(handle, &handle->messages, first->next, KIND_ENTRY);
    MUST(second != NULL);
    first->pair = second->pair = 777;
    second->next = inbox->head;
    atomic_store(&handle->header->damaged, 1);
    all_is_well(handle);
}

static void marks_and_clocks(void) {
    struct handle *handle = fresh();
    for (uint32_t bit = 0; bit < 32; bit++) {
        atomic_store(&handle->header->retired, 1u << bit);
        MUST(push(handle, "a", "", 99) == OK);
    }
    MUST(segment_retire(handle) && !segment_retire(handle));
    MUST(push(handle, "a", "", 99) == RETIRED);
    atomic_store(&handle->header->retired, 0);
    handle->header->next_look = UINT64_MAX;
    MUST(push(handle, "a", "", 99) == OK);
    MUST(handle->header->next_look < now_ns() + 1000000000ull);
    handle->header->probe_cursor = handle->header->sweep_cursor = handle->header->group_cursor = UINT32_MAX;
    handle->header->next_look = 0;
    all_is_well(handle);
    for (uint32_t counter = 0; counter < COUNTERS; counter++)
        handle->header->counters[HALF_LOCAL][counter] = UINT64_MAX;
    all_is_well(handle);
}

static void sealed(void) {
    struct handle *handle = fresh();
    unsigned char *header = (unsigned char *)handle->header;
    for (size_t at = 0; at < offsetof(struct header, seal) + sizeof(uint64_t); at++) {
        MUST(segment_is_sealed(handle));
        header[at] ^= 1;
        MUST(!segment_is_sealed(handle));
        struct handle other;
        const char *reason;
        MUST(segment_map(handle->fd, handle->fd, &other, &reason) == DAMAGED && reason != NULL);
        header[at] ^= 1;
    }
}

/* The lock seems to be held by a process that lives and knows nothing of it. It finds that out in its housekeeping. */
static void lock_of_another(void) {
    int fd = new_segment(256 * KIB, 64 * KIB), done[2];
    struct handle *handle = join(fd);
    uint32_t word;
    MUST(pipe(done) == 0);
    pid_t pid = fork_child();
    if (pid == 0) {
        struct handle *own = join(fd);
        uint32_t loop;
        MUST(op_loop_open(own, WAIT, &loop) == OK);
        MUST(write(done[1], &own->word, sizeof own->word) == sizeof own->word);
        for (;;) {
            pause_for(250000);
            (void)op_repoll(own, WAIT, loop);
        }
    }
    MUST(read(done[0], &word, sizeof word) == sizeof word);
    MUST(push(handle, "a", "", 9) == OK);
    uint64_t begin_of_wait = now_ns();
    atomic_store(&handle->header->lock_word, word);
    enum status status;
    PATIENTLY(status, push(handle, "a", "", 9));
    MUST(status == OK && now_ns() - begin_of_wait < 4000000000ull); /* 0.25 s, and a busy machine */
    check(handle);
    kill(pid, SIGKILL);
    must_be_killed(pid);
}

int main(int argc, char **argv) {
    begin(argc, argv, "fields");
    fill_payload(bytes, 100, 1);
    counts();
    sequence();
    members_of_a_pair();
    list_of_members();
    waiters();
    sizes();
    books();
    owner();
    circles();
    marks_and_clocks();
    sealed();
    lock_of_another();
    return 0;
}
