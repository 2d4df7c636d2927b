/* The methods of inboxes, waiting loops and groups. */
#include "binding.h"

#include <stdlib.h>

/* Names, waiting, groups */

#define CHECKED(call)                    \
    do {                                 \
        call;                            \
        wake_after_rebuild(self);        \
        if (status != OK)                \
            return raise_status(status); \
        Py_RETURN_NONE;                  \
    } while (0)

static PyObject *open_or_close(Segment *self, PyObject *argument, bool open) {
    enum status status;
    struct name name;
    if (!channel_of(argument, &name))
        return NULL;
    CHECKED(RUN(op_inbox, name, open));
}

PyObject *segment_open_inbox(Segment *self, PyObject *argument) { return open_or_close(self, argument, true); }
PyObject *segment_close_inbox(Segment *self, PyObject *argument) { return open_or_close(self, argument, false); }

PyObject *segment_wait(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    enum status status;
    struct name name;
    uint32_t loop;
    if (!wants("wait", count_of_args, 2) || !channel_of(args[0], &name) || !loop_of(self, args[1], &loop))
        return NULL;
    RUN(op_wait, name, loop);
    wake_after_rebuild(self);
    if (status != EMPTY)
        return raise_status(status);
    Py_RETURN_NONE;
}

PyObject *segment_unwait(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
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

PyObject *segment_group_add(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    enum status status;
    struct name group, target, local;
    uint64_t expiry_ns;
    if (!wants("group_add", count_of_args, 4) || !channel_of(args[0], &group) || !channel_of(args[1], &target) ||
        !name_of(args[2], &local, NAME_MAX_LENGTH) || !u64_of(args[3], &expiry_ns))
        return NULL;
    CHECKED(RUN(op_group_add, group, target, local, expiry_ns));
}

PyObject *segment_group_discard(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    enum status status;
    struct name group, target, local;
    if (!wants("group_discard", count_of_args, 3) || !channel_of(args[0], &group) || !channel_of(args[1], &target) ||
        !name_of(args[2], &local, NAME_MAX_LENGTH))
        return NULL;
    CHECKED(RUN(op_group_discard, group, target, local));
}

PyObject *segment_group_targets(Segment *self, PyObject *argument) {
    enum status status;
    struct name group;
    char small[4096], *names = small;
    size_t size = sizeof small, used;
    if (!channel_of(argument, &group))
        return NULL;
    RUN(op_group_targets, group, names, size, &used);
    while (status == NO_SPACE) {
        size = used;
        if (names != small)
            free(names);
        names = malloc(size);
        if (names == NULL)
            return PyErr_NoMemory();
        RUN(op_group_targets, group, names, size, &used);
    }
    wake_after_rebuild(self);
    PyObject *list = status == OK ? names_list(names, used, UINT32_MAX) : raise_status(status);
    if (names != small)
        free(names);
    return list;
}

/* Loops */

PyObject *segment_open_loop(Segment *self, PyObject *Py_UNUSED(unused)) {
    enum status status;
    uint32_t loop;
    RUN(op_loop_open, &loop);
    wake_after_rebuild(self);
    return status == OK ? loop_object(self, loop) : raise_status(status);
}

PyObject *segment_close_loop(Segment *self, PyObject *argument) {
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

PyObject *segment_collect(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
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

PyObject *segment_repoll(Segment *self, PyObject *argument) {
    enum status status;
    uint32_t loop;
    if (!loop_of(self, argument, &loop))
        return NULL;
    CHECKED(RUN(op_repoll, loop));
}

PyObject *segment_doorbell(Segment *self, PyObject *argument) {
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
