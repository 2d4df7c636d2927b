/* Each word of each record of a group is overwritten, one at a time. Within one housekeeping and a few messages,
 * whatever was written, all members get what is sent once more, each once. */
#include "support.h"

#include <stdio.h>
#include <string.h>

#include "blocks.h"
#include "groups.h"
#include "memberships.h"

#define FIRST "in.1!"
#define SECOND "in.2!"
#define LONG_NAME "a.name.that.does.not.fit.into.the.first.block.of.a.record-nor.into.the.second.one"

static const struct {
    const char *group, *target, *local;
} memberships[] = {
    {"g", FIRST, "1"}, {"g", FIRST, LONG_NAME}, {"g", SECOND, "1"},
    {"g", "a", ""},    {LONG_NAME, FIRST, "1"}, {"h", SECOND, "2"},
};
#define MEMBERSHIPS (sizeof memberships / sizeof *memberships)

static char bytes[100];

/* What a process does at first, and when damage may have cost something. */
static enum status put(struct handle *handle) {
    enum status status = op_inbox(handle, WAIT, named(FIRST), true);
    if (status == OK)
        status = op_inbox(handle, WAIT, named(SECOND), true);
    for (size_t i = 0; status == OK && i < MEMBERSHIPS; i++)
        status = op_group_add(handle, WAIT, named(memberships[i].group), named(memberships[i].target),
                              named(memberships[i].local), LONG);
    return status;
}

static enum status send_to(struct handle *handle, const char *group) {
    return quiet_group_send(handle, group, bytes, sizeof bytes, 100);
}

static bool is_member(const char *inbox, const char *local, size_t length) {
    for (size_t i = 0; i < MEMBERSHIPS; i++)
        if (strcmp(memberships[i].target, inbox) == 0 && strlen(memberships[i].local) == length &&
            memcmp(memberships[i].local, local, length) == 0)
            return true;
    return false;
}

/* How many members of an inbox got something; many, if another one did. */
static enum status drain(struct handle *handle, const char *inbox, uint32_t *names) {
    static char buffer[64 * KIB];
    struct taken taken = {.buffer = buffer, .size = sizeof buffer};
    struct drained item;
    enum status status = op_drain(handle, WAIT, named(inbox), NO_LOOP, &taken);
    for (size_t at = 0; status == OK && at < taken.used; at += sizeof item + item.names_size + item.size) {
        memcpy(&item, buffer + at, sizeof item);
        for (size_t name = at + sizeof item, end = name + item.names_size; name < end;
             name += 1u + (unsigned char)buffer[name])
            *names += is_member(inbox, buffer + name + 1, (unsigned char)buffer[name]) ? 1 : 100;
    }
    return status;
}

static enum status pop(struct handle *handle, uint32_t *number) {
    static char buffer[KIB];
    struct taken taken = {.buffer = buffer, .size = sizeof buffer};
    enum status status;
    while ((status = quiet_pop(handle, "a", NO_LOOP, &taken)) == OK)
        ++*number;
    return status == EMPTY ? OK : status;
}

/* One message to each group; OK if all calls worked. */
static enum status round_of_messages(struct handle *handle, uint32_t got[3]) {
    enum status all[] = {send_to(handle, "g"),          send_to(handle, LONG_NAME),     send_to(handle, "h"),
                         drain(handle, FIRST, &got[0]), drain(handle, SECOND, &got[1]), pop(handle, &got[2])};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i] != OK)
            return all[i];
    return OK;
}

static bool all_get_it(struct handle *handle, uint32_t got[3]) {
    memset(got, 0, 3 * sizeof *got);
    return round_of_messages(handle, got) == OK && got[0] == 3 && got[1] == 2 && got[2] == 1;
}

/* By what a record is found: with another key of the same bucket it is a sound one, so a few of these pass. */
static bool is_in_key(const struct block *block, size_t word) {
    switch (block->kind) {
    case KIND_GROUP:
        return word == 0 || word == 1 || 4 * word + 3 >= offsetof(struct group, name);
    case KIND_PAIR:
        return 4 * word == offsetof(struct pair, group) || 4 * word == offsetof(struct pair, target);
    case KIND_MEMBER:
        return word == 0 || word == 1 || 4 * word == offsetof(struct member, pair) ||
               4 * word + 3 >= offsetof(struct member, name);
    default:
        return true;
    }
}

static struct handle *fresh(void) {
    struct handle *handle = join(new_segment(64 * KIB, 256 * KIB));
    MUST(put(handle) == OK);
    return handle;
}

/* The segment, or another one. */
static struct handle *recover(struct handle *handle, uint32_t reference, bool is_key, const char *what) {
    static uint64_t passed;
    uint64_t lost = atomic_load(&handle->lost);
    uint32_t got[3] = {0};
    for (uint32_t tries = 0; tries < 4; tries++) {
        handle->header->next_look = 0;
        enum status status = round_of_messages(handle, got);
        if (status != OK || lost != atomic_load(&handle->lost)) {
            lost = atomic_load(&handle->lost);
            (void)put(handle);
        }
    }
    if (all_get_it(handle, got))
        return handle;
    if (is_key && passed++ < 5 * steps)
        return fresh();
    fprintf(stderr, "block %u, %s: %u, %u and %u arrive\n", reference, what, got[0], got[1], got[2]);
    wrong(__FILE__, __LINE__, "all members get what is sent");
}

static struct handle *overwrite(struct handle *handle, uint32_t reference, size_t word, uint32_t value) {
    struct block *block = block_raw(handle, &handle->groups, reference);
    bool is_key = is_in_key(block, word);
    char what[100];
    snprintf(what, sizeof what, "kind %u, word %zu set to %u", block->kind, word, value);
    memcpy((char *)block + 4 * word, &value, sizeof value);
    return recover(handle, reference, is_key, what);
}

int main(int argc, char **argv) {
    begin(argc, argv, "words");
    struct handle *handle = fresh();
    for (uint64_t round = 0; round < steps; round++)
        for (uint32_t reference = 1; reference < handle->groups.books->fresh; reference++)
            for (size_t word = 0; word < BLOCK / 4; word++) {
                uint32_t old, used = handle->groups.books->fresh;
                memcpy(&old, (char *)block_raw(handle, &handle->groups, reference) + 4 * word, sizeof old);
                uint32_t values[] = {0, chance(), old ^ 1u << below(32), below(used), below(300)};
                for (size_t i = 0; i < sizeof values / sizeof *values; i++)
                    handle = overwrite(handle, reference, word, values[i]);
            }
    atomic_store(&handle->header->damaged, 1); /* the free chain may still hold what nobody has met */
    MUST(put(handle) == OK);
    check(handle);
    return 0;
}
