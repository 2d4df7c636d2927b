/* A situation made by random operations of the survivor and the victim, and one more in which the victim is killed. */
#include "scenes.h"

#include <string.h>

static uint64_t situation, state;
static uint32_t id; /* of the last message */

void chance_situation(uint64_t number) { situation = number; }

/* A stream of its own, which is the same at each repetition. */
static void from_start(uint32_t stream) {
    state = (situation * 4 + stream) * 0x9e3779b97f4a7c15ull + 1;
    id = stream * 100;
}

static uint32_t pick(uint32_t limit) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 0x2545f4914f6cdd1dull) >> 33) % limit;
}

static const char *queue(void) {
    static const char *const names[] = {"a", "b", "n", LONG_NAME, "s.1!", "v.1!"};
    return names[pick(6)];
}

static const char *group(void) { return pick(3) == 0 ? LONG_GROUP : "g"; }

static bool is_inbox(const char *name) { return name[strlen(name) - 1] == '!'; }

static const char *local(const char *target) {
    static const char *const names[] = {"x", "y", LONG_LOCAL};
    return is_inbox(target) ? names[pick(3)] : "";
}

static uint64_t expiry(void) { return pick(4) == 0 ? 0 : LONG; }

static enum status add_or_discard(struct handle *handle) {
    const char *target = queue();
    struct name name = named(group()), of = named(target), member = named(local(target));
    if (pick(3) == 0)
        return op_group_discard(handle, WAIT, name, of, member);
    return op_group_add(handle, WAIT, name, of, member, expiry());
}

static enum status wait_or_not(struct handle *handle, bool is_v) {
    if (!is_v)
        return OK; /* the survivor's loop stays as it is: for what it waits is checked later */
    if (pick(2) == 0)
        return op_wait(handle, WAIT, named(queue()), 0);
    return quiet_unwait(handle, queue(), 0);
}

static enum status one(struct handle *handle, bool is_v) {
    const char *target = queue();
    bool needed;
    id++;
    switch (pick(is_v ? 18 : 13)) {
    case 0:
    case 1:
    case 2:
    case 3:
        return push_for(handle, target, local(target), id, pick(5) == 0 ? MEDIUM : SMALL, 2 + pick(5), expiry());
    case 4:
    case 5:
    case 6:
        return group_send_for(handle, group(), id, pick(5) == 0 ? MEDIUM : SMALL, 2 + pick(5), expiry());
    case 7:
    case 8:
    case 9:
        return add_or_discard(handle);
    case 10:
    case 11:
        return is_inbox(target) ? EMPTY : act_pop(handle, target, NO_LOOP);
    case 12:
        return op_is_needed(handle, WAIT, &needed);
    case 13:
    case 14:
        return act_drain(handle, "v.1!", 0);
    case 15:
    case 16:
        return wait_or_not(handle, is_v);
    default:
        return op_inbox(handle, WAIT, named("v.1!"), pick(4) != 0);
    }
}

static void some(struct handle *handle, bool is_v) {
    for (uint32_t number = 6 + pick(20); number > 0; number--) {
        enum status status = one(handle, is_v);
        MUST(status == OK || status == EMPTY || status == GONE || status == FULL);
    }
}

static void set(struct handle *s) {
    from_start(1);
    some(s, false);
}

static void ready(struct handle *v) {
    from_start(2);
    open_inbox(v, "v.1!");
    open_loop(v);
    some(v, true);
}

static enum status act(struct handle *v) {
    from_start(3);
    return one(v, true);
}

const struct scene chance_scenes[] = {
    {"chance", .set = set, .ready = ready, .act = act, .in_steps = true},
    {.name = NULL},
};
