/* What the test programs of the core share: a segment in memory, seeded chance, payloads that can be recognised.
 *
 * Each program takes a seed and a number of steps, and prints its seed when something is wrong.
 */
#pragma once

#include "operations.h"

#include "blocks.h"
#include "channels.h"
#include "checker.h"
#include "clock.h"
#include "loans.h"
#include "queues.h"
#include "segment.h"
#include "sweep.h"
#include "waiters.h"
#include "waking.h"

#define LONG 3600000000000ull /* an hour in nanoseconds */
#define KIB 1024u

extern uint64_t seed;
extern uint64_t steps;

/* Reads the two arguments; `name` is the program's. */
void begin(int argc, char **argv, const char *name);

/* Prints what is wrong, with the seed, and ends the program. */
_Noreturn void wrong(const char *file, int line, const char *what);

#define MUST(condition) ((condition) ? (void)0 : wrong(__FILE__, __LINE__, #condition))

uint32_t chance(void); /* 32 random bits */
uint32_t below(uint32_t limit);
void reseed(uint64_t with); /* another stream, for a thread or a child */

/* A formatted segment in an anonymous file. */
int new_segment(uint64_t message_bytes, uint64_t group_bytes);

/* A handle of this process on it, with a slot. */
struct handle *join(int fd);

struct name named(const char *text);

/* A message that lives for an hour, with its payload beside it. */
struct push push_of(const char *channel, const char *local, const char *payload, size_t size, uint32_t capacity);

void pause_for(uint32_t microseconds);

/* As fork(), but the child ends with its parent. */
pid_t fork_child(void);

/* Waits for a child that was killed, and did not end by itself or by a failure of its own. */
void must_be_killed(pid_t pid);

/* One operation with patience for its lock; BUSY only if that was not had for seconds. */
#define PATIENTLY(status, call)                             \
    do {                                                    \
        for (uint32_t tries_ = 0; tries_ < 100; tries_++) { \
            (status) = (call);                              \
            if ((status) != BUSY)                           \
                break;                                      \
            pause_for(10000);                               \
        }                                                   \
    } while (0)

/* The same for one that must go well. */
#define SURELY(call)              \
    do {                          \
        enum status status_;      \
        PATIENTLY(status_, call); \
        MUST(status_ == OK);      \
    } while (0)

/* Fails unless every invariant holds; the totals of the walk. */
const uint64_t *check(struct handle *handle);

/* A payload of `size` bytes, at least 8, that says which message it is; and whether it is whole. */
void fill_payload(char *bytes, size_t size, uint32_t id);
bool is_payload(const char *bytes, size_t size, uint32_t *id);

/* Reads a loan as the binding does, and gives it back. */
void read_loan(struct handle *handle, uint32_t loan, char *to, size_t size);

/* Pushes as the binding does: large payloads by a loan. */
enum status send(struct handle *handle, struct push *push, struct wakeups *wakeups);
enum status send_to_group(struct handle *handle, struct group_send *group_send, struct wakeups *wakeups);

/* What op_collect says. */
struct ready {
    char names[2 * (NAME_MAX_LENGTH + 1)];
    size_t used;
    bool left;
};

enum status collect(struct handle *handle, uint32_t loop, bool sleep, struct ready *ready);

/* Operations that ring nobody. What is sent lives for an hour. */
enum status quiet_push(struct handle *handle, const char *channel, const char *local, const char *payload, size_t size,
                       uint32_t capacity);
enum status quiet_group_send(struct handle *handle, const char *group, const char *payload, size_t size,
                             uint32_t capacity);
enum status quiet_pop(struct handle *handle, const char *channel, uint32_t loop, struct taken *taken);
enum status quiet_unwait(struct handle *handle, const char *channel, uint32_t loop);
enum status quiet_loop_close(struct handle *handle, uint32_t loop);

/* How many messages were drained, none of which is on loan. */
uint32_t number_drained(const struct taken *taken);
