/* SPDX-License-Identifier: BSD-3-Clause */
/* The methods that carry payloads: push, pop, drain, group_send. */
#include "binding.h"

#include <stdlib.h>
#include <string.h>

#include "counters.h"
#include "loans.h"

#define SMALL_BUFFER (LARGE + 256u) /* every payload that is not on loan fits */

/* Sending */

enum status loan_large(Segment *self, struct name local, const void *payload, size_t size, bool is_payload,
                       uint32_t *loan) {
    enum status status;
    *loan = NO_LOAN;
    if (size <= LARGE)
        return OK;
    uint32_t reserved;
    RUN(op_loan_reserve, local.length, size, is_payload, &reserved);
    if (status == NO_SLOT)
        return OK;
    if (status != OK)
        return status;
    bool filled;
    UNLOCKED(filled = loan_fill(&self->handle, reserved, local, payload, size, is_payload));
    *loan = reserved;
    return filled ? OK : DAMAGED;
}

void let_go(Segment *self, uint32_t loan) {
    enum status status;
    if (loan == NO_LOAN)
        return;
    RUN(op_loan_release, loan);
    if (status == BUSY)
        loan_abandon(&self->handle, loan);
}

bool payload_of(PyObject *argument, const void **payload, size_t *size) {
    char *bytes;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(argument, &bytes, &length) < 0)
        return false;
    if ((uint64_t)length > UINT32_MAX / 2) {
        PyErr_SetString(PyExc_ValueError, "a payload of more than 2 GiB");
        return false;
    }
    *payload = bytes;
    *size = (size_t)length;
    return true;
}

bool capacities_of(PyObject *argument, struct group_send *send) {
    struct capacity_of *others = NULL;
    Py_ssize_t position = 0, number = PyDict_Size(argument);
    PyObject *key, *value;
    send->others_count = 0;
    send->others = NULL;
    if (number < 0)
        return false;
    if (number > 0 && (others = malloc((size_t)number * sizeof *others)) == NULL) {
        PyErr_NoMemory();
        return false;
    }
    for (; PyDict_Next(argument, &position, &key, &value); send->others_count++)
        if (!channel_of(key, &others[send->others_count].target) ||
            !u32_of(value, &others[send->others_count].capacity)) {
            free(others);
            return false;
        }
    send->others = others;
    return true;
}

PyObject *method_push(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct push push = {.loan = NO_LOAN};
    if (!wants("push", count_of_args, 5) || !channel_of(args[0], &push.channel) ||
        !name_of(args[1], &push.local, NAME_MAX_LENGTH) || !payload_of(args[2], &push.payload, &push.size) ||
        !u32_of(args[3], &push.capacity) || !u64_of(args[4], &push.expiry_ns))
        return NULL;
    uint32_t loan;
    struct wakeups wakeups;
    enum status status = loan_large(self, push.local, push.payload, push.size, false, &loan);
    wakeups_open(&wakeups);
    if (status == OK) {
        push.loan = loan;
        RUN(op_push, &push, &wakeups);
    }
    if (status != OK)
        let_go(self, loan);
    if (status == GONE) /* counted; the sender cannot know */
        status = OK;
    return own_loops(self, status, &wakeups);
}

PyObject *method_group_send(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct group_send send = {.is_forwarded = false};
    if (!wants("group_send", count_of_args, 5) || !channel_of(args[0], &send.group) ||
        !payload_of(args[1], &send.payload, &send.size) || !u32_of(args[2], &send.capacity) ||
        !u64_of(args[4], &send.expiry_ns) || !capacities_of(args[3], &send))
        return NULL;
    struct name no_local = {"", 0};
    struct wakeups wakeups;
    wakeups_open(&wakeups);
    enum status status = loan_large(self, no_local, send.payload, send.size, true, &send.loan);
    uint32_t loan = send.loan;
    if (status == OK)
        RUN(op_group_send, &send, &wakeups);
    if (status != OK)
        let_go(self, loan);
    free((void *)send.others);
    unsigned long own = deliver_wakeups(self, &wakeups);
    return status == OK ? Py_BuildValue("(kIs)", own, send.dropped, self->handle.machine) : raise_status(status);
}

/* Receiving */

static PyObject *read_loan(Segment *self, uint32_t loan, size_t size) {
    PyObject *payload = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    bool read = false;
    if (payload != NULL) {
        char *bytes = PyBytes_AsString(payload); /* no other code knows this object yet */
        UNLOCKED(read = loan_read(&self->handle, loan, bytes, size));
    }
    let_go(self, loan);
    if (payload != NULL && !read) {
        count(&self->handle, COUNT_DAMAGED, 1); /* its message is in no queue any more */
        Py_DECREF(payload);
        return raise_status(DAMAGED);
    }
    return payload;
}

/* Gives back what was taken out and will not be read. */
static void lose_loan(Segment *self, struct taken *taken) {
    if (taken->loan != NO_LOAN)
        let_go(self, taken->loan);
    taken->loan = NO_LOAN;
}

PyObject *method_pop(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct name name;
    uint32_t loop;
    char small[4096];
    if (!wants("pop", count_of_args, 2) || !channel_of(args[0], &name) || !loop_or_none_of(self, args[1], &loop))
        return NULL;
    struct taken taken = {.buffer = small, .size = sizeof small, .loan = NO_LOAN};
    struct wakeups wakeups;
    enum status status;
    wakeups_open(&wakeups);
    do
        RUN(op_pop, name, loop, &taken, &wakeups);
    while (enlarge(status, &taken, small, 0));
    PyObject *payload = NULL;
    if (status == OK)
        payload = taken.loan != NO_LOAN ? read_loan(self, taken.loan, taken.loan_size)
                                        : PyBytes_FromStringAndSize(taken.buffer, (Py_ssize_t)taken.used);
    else if (status == EMPTY)
        payload = Py_NewRef(Py_None);
    if (taken.buffer != small)
        free(taken.buffer);
    if (status != OK) /* taken out, and then the segment was found damaged */
        lose_loan(self, &taken);
    unsigned long own = deliver_wakeups(self, &wakeups);
    if (status != OK && status != EMPTY)
        return raise_status(status);
    PyObject *result = NULL;
    if (payload != NULL)
        result = Py_BuildValue("(NkO)", payload, own, taken.asleep ? Py_True : Py_False);
    if (result == NULL && status == OK && PyErr_ExceptionMatches(PyExc_MemoryError)) /* it is in no queue any more */
        count(&self->handle, COUNT_MEMORY, 1);
    return result;
}

static uint64_t drained_number(const struct taken *taken) {
    struct drained item;
    uint64_t number = 0;
    for (size_t at = 0; at < taken->used; number++) {
        memcpy(&item, taken->buffer + at, sizeof item);
        at += sizeof item + item.names_size + (item.is_loaned ? 0 : item.size);
    }
    return number;
}

static PyObject *drained_list(Segment *self, struct taken *taken) {
    PyObject *list = PyList_New(0);
    size_t at = 0;
    while (list != NULL && at < taken->used) {
        struct drained item;
        memcpy(&item, taken->buffer + at, sizeof item);
        at += sizeof item;
        PyObject *names = names_list(taken->buffer + at, item.names_size, item.names);
        at += item.names_size;
        PyObject *payload;
        if (item.is_loaned) {
            payload = read_loan(self, taken->loan, taken->loan_size);
            taken->loan = NO_LOAN;
        } else {
            payload = PyBytes_FromStringAndSize(taken->buffer + at, (Py_ssize_t)item.size);
            at += item.size;
        }
        if (payload == NULL && PyErr_ExceptionMatches(errors[DAMAGED])) { /* counted; the others are sound */
            PyErr_Clear();
            Py_XDECREF(names);
            continue;
        }
        PyObject *tuple = NULL;
        if (names != NULL && payload != NULL)
            tuple = Py_BuildValue("(OOd)", names, payload, (double)item.deadline / 1e9);
        Py_XDECREF(names);
        Py_XDECREF(payload);
        if (tuple == NULL || PyList_Append(list, tuple) < 0)
            Py_CLEAR(list);
        Py_XDECREF(tuple);
    }
    return list;
}

PyObject *method_drain(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct name name;
    uint32_t loop;
    if (!wants("drain", count_of_args, 2) || !channel_of(args[0], &name) || !loop_or_none_of(self, args[1], &loop))
        return NULL;
    char small[8192];
    struct taken taken = {.buffer = small, .size = sizeof small, .loan = NO_LOAN};
    enum status status;
    do
        RUN(op_drain, name, loop, &taken);
    while (enlarge(status, &taken, small, SMALL_BUFFER));
    wake_after_rebuild(self);
    PyObject *result = NULL;
    if (status == OK) {
        PyObject *messages = drained_list(self, &taken);
        if (messages != NULL)
            result = Py_BuildValue("(NO)", messages, taken.left ? Py_True : Py_False);
        if (result == NULL) /* Python has no memory for them, and they are in no queue any more */
            count(&self->handle, COUNT_MEMORY, drained_number(&taken));
    } else {
        raise_status(status);
    }
    lose_loan(self, &taken);
    if (taken.buffer != small)
        free(taken.buffer);
    return result;
}
