/* SPDX-License-Identifier: BSD-3-Clause */
/* The methods of inboxes, waiting loops and groups. */
#include "binding.h"

#include <stdlib.h>

/* Names, waiting, groups */

static PyObject *open_or_close(Segment *self, PyObject *argument, bool open) {
    enum status status;
    struct name name;
    if (!channel_of(argument, &name))
        return NULL;
    RUN(op_inbox, name, open);
    return nothing(self, status);
}

PyObject *method_open_inbox(Segment *self, PyObject *argument) { return open_or_close(self, argument, true); }
PyObject *method_close_inbox(Segment *self, PyObject *argument) { return open_or_close(self, argument, false); }

PyObject *method_wait(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    enum status status;
    struct name name;
    uint32_t loop;
    if (!wants("wait", count_of_args, 2) || !channel_of(args[0], &name) || !loop_of(self, args[1], &loop))
        return NULL;
    RUN(op_wait, name, loop);
    return nothing(self, status == EMPTY ? OK : status);
}

PyObject *method_unwait(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    enum status status;
    struct name name;
    uint32_t loop;
    if (!wants("unwait", count_of_args, 2) || !channel_of(args[0], &name) || !loop_of(self, args[1], &loop))
        return NULL;
    struct wakeups wakeups;
    wakeups_open(&wakeups);
    RUN(op_unwait, name, loop, &wakeups);
    return own_loops(self, status, &wakeups);
}

PyObject *method_group_discard(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    enum status status;
    struct name group, target, local;
    if (!wants("group_discard", count_of_args, 3) || !channel_of(args[0], &group) || !channel_of(args[1], &target) ||
        !name_of(args[2], &local, NAME_MAX_LENGTH))
        return NULL;
    RUN(op_group_discard, group, target, local);
    return nothing(self, status);
}

PyObject *method_group_targets(Segment *self, PyObject *argument) {
    enum status status;
    struct name group;
    char small[4096];
    struct taken names = {.buffer = small, .size = sizeof small};
    if (!channel_of(argument, &group))
        return NULL;
    do
        RUN(op_group_targets, group, names.buffer, names.size, &names.used);
    while (enlarge(status, &names, small, 0));
    wake_after_rebuild(self);
    PyObject *list = status == OK ? names_list(names.buffer, names.used, UINT32_MAX) : raise_status(status);
    if (names.buffer != small)
        free(names.buffer);
    return list;
}

PyObject *method_group_members(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    enum status status;
    struct name group, target;
    char small[4096];
    struct taken names = {.buffer = small, .size = sizeof small};
    if (!wants("group_members", count_of_args, 3) || !channel_of(args[0], &group) || !channel_of(args[1], &target))
        return NULL;
    int ends = PyObject_IsTrue(args[2]);
    if (ends < 0)
        return NULL;
    do
        RUN(op_group_members, group, target, ends, names.buffer, names.size, &names.used);
    while (enlarge(status, &names, small, 0));
    wake_after_rebuild(self);
    PyObject *list = status == OK ? names_list(names.buffer, names.used, UINT32_MAX) : raise_status(status);
    if (names.buffer != small)
        free(names.buffer);
    return list;
}

/* Loops */

PyObject *method_open_loop(Segment *self, PyObject *Py_UNUSED(unused)) {
    enum status status;
    uint32_t loop;
    RUN(op_loop_open, &loop);
    wake_after_rebuild(self);
    return status == OK ? loop_object(self, loop) : raise_status(status);
}

PyObject *method_close_loop(Segment *self, PyObject *argument) {
    enum status status;
    uint32_t loop;
    if (!loop_of(self, argument, &loop))
        return NULL;
    uint64_t opening = atomic_load(&self->openings[loop]);
    struct wakeups wakeups;
    wakeups_open(&wakeups);
    RUN(op_loop_close, loop, &wakeups);
    if (status != BUSY) /* unless another thread has opened it again already */
        (void)atomic_compare_exchange_strong(&self->openings[loop], &opening, 0);
    unsigned long own = deliver_wakeups(self, &wakeups) & ~(1ul << loop);
    return status == OK ? PyLong_FromUnsignedLong(own) : raise_status(status);
}

PyObject *method_collect(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    enum status status;
    uint32_t loop;
    char names[8192];
    size_t used;
    bool left;
    if (!wants("collect", count_of_args, 2) || !loop_of(self, args[0], &loop))
        return NULL;
    int sleep = PyObject_IsTrue(args[1]);
    if (sleep < 0)
        return NULL;
    RUN(op_collect, loop, sleep != 0, names, sizeof names, &used, &left);
    wake_after_rebuild(self);
    if (status == EMPTY)
        Py_RETURN_NONE;
    return status == OK ? names_list(names, used, UINT32_MAX) : raise_status(status);
}

PyObject *method_repoll(Segment *self, PyObject *argument) {
    enum status status;
    uint32_t loop;
    if (!loop_of(self, argument, &loop))
        return NULL;
    RUN(op_repoll, loop);
    return nothing(self, status);
}

PyObject *method_doorbell(Segment *self, PyObject *argument) {
    uint32_t loop;
    char path[4096];
    struct private_page *page = self->handle.private;
    if (!loop_of(self, argument, &loop))
        return NULL;
    if (!doorbell_path(&self->doorbells, page->slot, page->generation, loop, path, sizeof path)) {
        PyErr_SetString(PyExc_ValueError, "the doorbell's path is too long");
        return NULL;
    }
    return PyUnicode_DecodeFSDefault(path);
}
