/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of the binding share. The binding is the Python side of the core: it reads the arguments, runs one
 * operation and makes the result. Its only logic is the delivery of wakeups afterwards.
 *
 * The interpreter's lock: RUN tries the operation while the caller holds it. If the segment's lock is busy, RUN
 * releases the interpreter's lock for the whole operation, and acquires it again after the segment's lock was released.
 * No thread ever waits for the interpreter while it holds the segment's lock, and none touches a Python object under
 * it. RUN and UNLOCKED are the only places that release the interpreter's lock.
 */
#pragma once

#include "operations.h" /* before Python.h: it asks for the system's extensions */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "doorbells.h"

#define RUN(operation, ...)                                                              \
    do {                                                                                 \
        status = operation(&self->handle, TRY, __VA_ARGS__);                             \
        if (status == BUSY) {                                                            \
            Py_BEGIN_ALLOW_THREADS status = operation(&self->handle, WAIT, __VA_ARGS__); \
            Py_END_ALLOW_THREADS                                                         \
        }                                                                                \
    } while (0)

#define UNLOCKED(statement)               \
    do {                                  \
        Py_BEGIN_ALLOW_THREADS statement; \
        Py_END_ALLOW_THREADS              \
    } while (0)

typedef struct {
    PyObject_HEAD
    struct handle handle;
    struct doorbells doorbells;
    _Atomic uint64_t openings[LOOPS]; /* which opening holds each place of our slot; 0: none */
    uint64_t epoch_offset;            /* of the epochs that this process sees, modulo 2^64 */
} Segment;

/* binding.c */

void segment_dealloc(Segment *self);

/* binding_common.c */

/* By status; NULL where a status has no exception of its own. */
extern const char *const error_names[SYSTEM_ERROR];
extern PyObject *errors[SYSTEM_ERROR];

/* Sets the exception for a status and returns NULL. */
PyObject *raise_status(enum status status);

/* The same, but Damaged with the reason if there is one. */
PyObject *raise_reason(enum status status, const char *reason);

/* Arguments: false with an exception set. */
bool name_of(PyObject *object, struct name *name, size_t most);
bool channel_of(PyObject *object, struct name *name);
bool u32_of(PyObject *object, uint32_t *value);
bool u64_of(PyObject *object, uint64_t *value);

/* In Python a loop is a number that no other loop of this process ever gets, in any segment or slot: its opening, and
 * its place in the slot. So a loop that has lost its place is told from the loop that has the place now. */
PyObject *loop_object(Segment *self, uint32_t place);
bool loop_of(Segment *self, PyObject *object, uint32_t *place);         /* raises Stale */
bool loop_or_none_of(Segment *self, PyObject *object, uint32_t *place); /* -1 is NO_LOOP */
bool wants(const char *function, Py_ssize_t given, Py_ssize_t expected);

/* Rings the doorbells of other processes' loops. The result is a bit for each loop of our own, which the caller wakes
 * without a doorbell. */
unsigned long deliver_wakeups(Segment *self, struct wakeups *wakeups);

/* For operations without wakeups: if this operation has repaired the segment, rings every loop, our own included. */
void wake_after_rebuild(Segment *self);

/* The end of a method without wakeups and without a result: None, or an exception. */
PyObject *nothing(Segment *self, enum status status);

/* Whether an operation is to be tried again, since what there is did not fit, and now has a larger buffer. The status
 * stays NO_SPACE where there is no memory for one. */
bool enlarge(enum status status, struct taken *taken, const char *small, size_t at_least);

/* The same as deliver_wakeups, as a method's result; raises if the operation has failed. */
PyObject *own_loops(Segment *self, enum status status, struct wakeups *wakeups);

/* Names that are written as length and bytes each. */
PyObject *names_list(const char *names, size_t size, uint32_t most);

/* binding_messages.c */

/* Copies a large payload into blocks of its own, without any lock. Leaves NO_LOAN where the operation has to copy the
 * payload itself. */
enum status loan_large(Segment *self, struct name local, const void *payload, size_t size, bool is_payload,
                       uint32_t *loan);
void let_go(Segment *self, uint32_t loan);

/* More arguments. The capacities are in memory that the caller frees. */
bool payload_of(PyObject *argument, const void **payload, size_t *size);
bool capacities_of(PyObject *argument, struct group_send *send);

/* binding_several.c */

/* {target: (local, ...)}, in memory that the caller frees by excluded_free. */
bool excluded_of(PyObject *argument, struct group_send *send);
void excluded_free(struct group_send *send);

/* The methods: how each is called, and its name in Python. `method_<name>` does it, in binding_messages.c,
 * binding_several.c, binding_waiting.c, binding_machine.c and binding_life.c. */
#define METHODS(NONE, ONE, FAST) \
    FAST(push)                   \
    FAST(push_several)           \
    FAST(group_send)             \
    FAST(group_send_several)     \
    FAST(pop)                    \
    FAST(drain)                  \
    ONE(open_inbox)              \
    ONE(close_inbox)             \
    FAST(wait)                   \
    FAST(unwait)                 \
    FAST(group_add)              \
    FAST(group_restore)          \
    FAST(group_join)             \
    FAST(group_discard)          \
    ONE(group_targets)           \
    FAST(group_members)          \
    NONE(open_loop)              \
    ONE(close_loop)              \
    FAST(collect)                \
    ONE(repoll)                  \
    ONE(doorbell)                \
    NONE(flush)                  \
    NONE(join)                   \
    NONE(leave)                  \
    NONE(is_deserted)            \
    NONE(is_needed)              \
    NONE(lost)                   \
    FAST(count)                  \
    NONE(counters)               \
    NONE(remote_counters)        \
    ONE(state)                   \
    NONE(check)                  \
    NONE(processes)              \
    NONE(retire)                 \
    NONE(take_repairs)           \
    NONE(take_unread)            \
    FAST(meet_remote_flush)      \
    FAST(record)                 \
    FAST(forget)                 \
    ONE(groups)                  \
    NONE(has_groups)             \
    ONE(look)                    \
    FAST(renewed)                \
    FAST(put)                    \
    FAST(walked)                 \
    ONE(void)                    \
    ONE(leases)                  \
    FAST(take_lease)             \
    FAST(drop_lease)             \
    ONE(outages)                 \
    FAST(set_outage)             \
    NONE(bequeath)               \
    ONE(continue_epoch)

#define DECLARE_ONE(name) PyObject *method_##name(Segment *self, PyObject *argument);
#define DECLARE_FAST(name) PyObject *method_##name(Segment *self, PyObject *const *args, Py_ssize_t count_of_args);
METHODS(DECLARE_ONE, DECLARE_ONE, DECLARE_FAST)

/* binding_life.c */
extern PyGetSetDef segment_getters[], observer_getters[];

/* (slot, generation, pid, alive) of each published slot; pid 0: it is dead, or lives in another pid namespace. */
PyObject *processes_list(struct handle *handle, uint32_t own_slot);

/* binding_observer.c */
extern PyType_Spec observer_spec;
