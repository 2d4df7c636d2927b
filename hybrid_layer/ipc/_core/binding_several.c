/* SPDX-License-Identifier: BSD-3-Clause */
/* The methods that carry several payloads in one critical section. */
#include "binding.h"

#include <stdlib.h>

#include "loans.h"

/* How many payloads a tuple has, and memory for what is made of each, which the caller frees. NULL: an exception is
 * set. */
static void *room_for_each(PyObject *payloads, size_t size, size_t *number) {
    Py_ssize_t length = PyTuple_Size(payloads); /* a tuple, as nobody can change it while the bytes are read */
    if (length < 0)
        return NULL;
    *number = (size_t)length;
    void *room = calloc(*number + 1, size);
    return room != NULL ? room : PyErr_NoMemory();
}

/* Whether what was done is the result. What could not be done is tried by itself: that says why. */
static bool is_result(enum status status, size_t done) { return status == OK || (status != DAMAGED && done > 0); }

/* (loops to wake, how many are stored) */
PyObject *method_push_several(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct push each = {.loan = 0, .is_one_of_several = true};
    struct pushes pushes = {.done = 0};
    if (!wants("push_several", count_of_args, 5) || !channel_of(args[0], &each.channel) ||
        !name_of(args[1], &each.local, NAME_MAX_LENGTH) || !u32_of(args[3], &each.capacity) ||
        !u64_of(args[4], &each.expiry_ns))
        return NULL;
    pushes.items = room_for_each(args[2], sizeof *pushes.items, &pushes.number);
    if (pushes.items == NULL)
        return NULL;
    for (size_t i = 0; i < pushes.number; i++) {
        pushes.items[i] = each;
        if (!payload_of(PyTuple_GetItem(args[2], (Py_ssize_t)i), &pushes.items[i].payload, &pushes.items[i].size)) {
            free(pushes.items);
            return NULL;
        }
    }
    enum status status;
    struct wakeups wakeups;
    wakeups_open(&wakeups);
    RUN(op_push_several, &pushes, &wakeups);
    free(pushes.items);
    wakeups_merge(&wakeups);
    unsigned long own = deliver_wakeups(self, &wakeups);
    return is_result(status, pushes.done) ? Py_BuildValue("(kn)", own, (Py_ssize_t)pushes.done) : raise_status(status);
}

static bool locals_of(PyObject *locals, struct excluded *excluded) {
    struct name *names = room_for_each(locals, sizeof *names, &excluded->locals_count);
    excluded->locals = names;
    for (size_t i = 0; names != NULL && i < excluded->locals_count; i++)
        if (!name_of(PyTuple_GetItem(locals, (Py_ssize_t)i), &names[i], NAME_MAX_LENGTH))
            return false;
    return names != NULL;
}

void excluded_free(struct group_send *send) {
    for (size_t i = 0; send->excluded != NULL && i < send->excluded_count; i++)
        free((void *)send->excluded[i].locals);
    free(send->excluded);
    send->excluded = NULL;
}

bool excluded_of(PyObject *argument, struct group_send *send) {
    Py_ssize_t position = 0, number = PyDict_Size(argument);
    PyObject *target, *locals;
    send->excluded = NULL;
    send->excluded_count = 0;
    if (number <= 0)
        return number == 0;
    if ((send->excluded = calloc((size_t)number, sizeof *send->excluded)) == NULL) {
        PyErr_NoMemory();
        return false;
    }
    while (PyDict_Next(argument, &position, &target, &locals)) {
        struct excluded *excluded = &send->excluded[send->excluded_count++];
        if (!channel_of(target, &excluded->target) || !locals_of(locals, excluded)) {
            excluded_free(send);
            return false;
        }
    }
    return true;
}

static bool payloads_of(PyObject *payloads, const struct group_send *each, struct group_sends *sends) {
    bool is_right = (sends->items = room_for_each(payloads, sizeof *sends->items, &sends->number)) != NULL;
    for (size_t i = 0; is_right && i < sends->number; i++) {
        sends->items[i] = *each;
        is_right =
            payload_of(PyTuple_GetItem(payloads, (Py_ssize_t)i), &sends->items[i].payload, &sends->items[i].size);
    }
    return is_right;
}

static PyObject *send_all(Segment *self, struct group_sends *sends) {
    struct name no_local = {"", 0};
    struct wakeups wakeups;
    enum status status = OK;
    struct group_send *first = sends->items;
    first->loan = NO_LOAN;
    if (sends->number == 1) /* several are small */
        status = loan_large(self, no_local, first->payload, first->size, true, &first->loan);
    uint32_t loan = first->loan;
    wakeups_open(&wakeups);
    if (status == OK)
        RUN(op_group_send_several, sends, &wakeups);
    if (status != OK)
        let_go(self, loan);
    wakeups_merge(&wakeups);
    unsigned long own = deliver_wakeups(self, &wakeups);
    return is_result(status, sends->done)
               ? Py_BuildValue("(kIsn)", own, sends->dropped, self->handle.machine, (Py_ssize_t)sends->done)
               : raise_status(status);
}

/* (loops to wake, how many queues were at capacity, the machine's id, how many are sent) */
PyObject *method_group_send_several(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct group_send each = {.loan = NO_LOAN};
    struct group_sends sends = {.done = 0};
    PyObject *result = NULL;
    if (!wants("group_send_several", count_of_args, 6) || !channel_of(args[0], &each.group) ||
        !u32_of(args[2], &each.capacity) || !u64_of(args[4], &each.expiry_ns) || !capacities_of(args[3], &each))
        return NULL;
    if (excluded_of(args[5], &each)) {
        if (payloads_of(args[1], &each, &sends))
            result = send_all(self, &sends);
        free(sends.items);
        excluded_free(&each);
    }
    free((void *)each.others);
    return result;
}
