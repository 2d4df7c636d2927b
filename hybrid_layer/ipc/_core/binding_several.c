/* SPDX-License-Identifier: BSD-3-Clause */
/* The methods that carry several payloads in one critical section. */
#include "binding.h"

#include <stdlib.h>

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
static bool is_result(enum status status, size_t done) {
    return status == OK || status == NO_MEMORY || status == NO_SHM || (status != DAMAGED && done > 0);
}

/* (loops to wake, how many are stored) */
PyObject *method_push_several(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct push each = {.loan = 0};
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

/* (loops to wake, how many queues were at capacity, the machine's id, how many are sent) */
PyObject *method_group_send_several(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct group_send each = {.is_forwarded = false};
    struct group_sends sends = {.done = 0};
    if (!wants("group_send_several", count_of_args, 5) || !channel_of(args[0], &each.group) ||
        !u32_of(args[2], &each.capacity) || !u64_of(args[4], &each.expiry_ns) || !capacities_of(args[3], &each))
        return NULL;
    bool is_right = (sends.items = room_for_each(args[1], sizeof *sends.items, &sends.number)) != NULL;
    for (size_t i = 0; is_right && i < sends.number; i++) {
        sends.items[i] = each;
        is_right = payload_of(PyTuple_GetItem(args[1], (Py_ssize_t)i), &sends.items[i].payload, &sends.items[i].size);
    }
    PyObject *result = NULL;
    if (is_right) {
        enum status status;
        struct wakeups wakeups;
        wakeups_open(&wakeups);
        RUN(op_group_send_several, &sends, &wakeups);
        wakeups_merge(&wakeups);
        unsigned long own = deliver_wakeups(self, &wakeups);
        result = is_result(status, sends.done)
                     ? Py_BuildValue("(kIsn)", own, sends.dropped, self->handle.machine, (Py_ssize_t)sends.done)
                     : raise_status(status);
    }
    free(sends.items);
    free((void *)each.others);
    return result;
}
