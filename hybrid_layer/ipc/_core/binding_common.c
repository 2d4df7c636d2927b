/* SPDX-License-Identifier: BSD-3-Clause */
/* What all methods of the module share: arguments, errors, and the delivery of wakeups after the lock was released. */
#include "binding.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "waking.h"

#define WAKING_ROUNDS 8u

const char *const error_names[SYSTEM_ERROR] = {
    [FULL] = "hybrid_layer.ipc._core.Full",       [NO_MEMORY] = "hybrid_layer.ipc._core.NoMemory",
    [NO_SLOT] = "hybrid_layer.ipc._core.NoSlot",  [GONE] = "hybrid_layer.ipc._core.Gone",
    [STALE] = "hybrid_layer.ipc._core.Stale",     [BUSY] = "hybrid_layer.ipc._core.Busy",
    [DAMAGED] = "hybrid_layer.ipc._core.Damaged", [DETACHED] = "hybrid_layer.ipc._core.Detached",
    [RETIRED] = "hybrid_layer.ipc._core.Retired",
};
PyObject *errors[SYSTEM_ERROR];

PyObject *raise_status(enum status status) {
    if (status == SYSTEM_ERROR)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (status == NO_SPACE) /* nor is there memory for a larger buffer */
        return PyErr_NoMemory();
    if (status == NO_MEMORY || status == NO_GROUP_MEMORY || status == NO_SHM)
        PyErr_SetString(errors[NO_MEMORY], status == NO_MEMORY         ? "message_memory"
                                           : status == NO_GROUP_MEMORY ? "group_memory"
                                                                       : memory_place);
    else
        PyErr_SetNone(errors[status] != NULL ? errors[status] : errors[DAMAGED]);
    return NULL;
}

PyObject *raise_reason(enum status status, const char *reason) {
    if (reason == NULL)
        return raise_status(status);
    PyErr_SetString(errors[DAMAGED], reason);
    return NULL;
}

/* Arguments */

bool name_of(PyObject *object, struct name *name, size_t most) {
    Py_ssize_t length;
    name->bytes = PyUnicode_AsUTF8AndSize(object, &length);
    if (name->bytes == NULL)
        return false;
    if ((size_t)length > most) {
        PyErr_Format(PyExc_ValueError, "a name of %zd bytes", length);
        return false;
    }
    name->length = (size_t)length;
    return true;
}

bool channel_of(PyObject *object, struct name *name) {
    if (!name_of(object, name, NAME_MAX_LENGTH))
        return false;
    if (name->length == 0)
        PyErr_SetString(PyExc_ValueError, "an empty name");
    return name->length != 0;
}

bool u32_of(PyObject *object, uint32_t *value) {
    unsigned long number = PyLong_AsUnsignedLong(object);
    if (number == (unsigned long)-1 && PyErr_Occurred())
        return false;
    *value = number > UINT32_MAX - 1 ? UINT32_MAX - 1 : (uint32_t)number;
    return true;
}

bool u64_of(PyObject *object, uint64_t *value) {
    *value = PyLong_AsUnsignedLongLong(object);
    return !(*value == (uint64_t)-1 && PyErr_Occurred());
}

/* Loops */

PyObject *loop_object(Segment *self, uint32_t place) {
    static _Atomic uint64_t openings; /* of all segments of this process and its parents */
    uint64_t opening = atomic_fetch_add(&openings, 1) + 1;
    atomic_store(&self->openings[place], opening);
    return PyLong_FromUnsignedLongLong(opening * LOOPS + place);
}

bool loop_or_none_of(Segment *self, PyObject *object, uint32_t *place) {
    long long number = PyLong_AsLongLong(object);
    *place = NO_LOOP;
    if (number == -1)
        return !PyErr_Occurred();
    uint64_t opening = (uint64_t)number / LOOPS;
    *place = (uint32_t)((uint64_t)number % LOOPS);
    if (opening != 0 && atomic_load_explicit(&self->openings[*place], memory_order_relaxed) == opening)
        return true;
    raise_status(STALE);
    return false;
}

bool loop_of(Segment *self, PyObject *object, uint32_t *place) {
    if (!loop_or_none_of(self, object, place))
        return false;
    if (*place == NO_LOOP)
        raise_status(STALE);
    return *place != NO_LOOP;
}

bool wants(const char *function, Py_ssize_t given, Py_ssize_t expected) {
    if (given != expected)
        PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, %zd given", function, expected, given);
    return given == expected;
}

/* Ringing */

static void wakeups_of_everybody(struct handle *handle, struct wakeups *wakeups) {
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        for (uint32_t loop = 0; handle->slots[slot].published && loop < LOOPS; loop++) {
            struct loop_slot *waiting = &handle->slots[slot].loops[loop];
            if (waiting->in_use)
                wakeups_add(wakeups, slot, atomic_load(&handle->slots[slot].generation), loop,
                            atomic_load(&waiting->state));
        }
}

unsigned long deliver_wakeups(Segment *self, struct wakeups *wakeups) {
    struct handle *handle = &self->handle;
    unsigned long own = 0;
    if (atomic_exchange(&handle->wake_everybody, false))
        wakeups_of_everybody(handle, wakeups);
    for (uint32_t round = 0; wakeups->count > 0 && round < WAKING_ROUNDS; round++) {
        struct wakeups failed;
        wakeups_open(&failed);
        for (uint32_t i = 0; i < wakeups->count; i++) {
            struct wakeup *wakeup = &wakeups->items[i];
            if (wakeup->slot == handle->private->slot) {
                own |= 1ul << wakeup->loop;
            } else if (doorbell_ring(&self->doorbells, wakeup)) {
                wakeup_succeeded(handle, wakeup);
            } else {
                /* That loop is gone. Its waiters are dropped, and other loops are woken for the messages that these
                 * were to take. */
                enum status status;
                RUN(op_wakeup_failed, wakeup, &failed);
                (void)status; /* if this fails, another loop finds the message in its next housekeeping */
            }
        }
        wakeups_close(wakeups);
        *wakeups = failed;
        if (failed.items == failed.few)
            wakeups->items = wakeups->few;
    }
    wakeups_close(wakeups);
    return own;
}

void wake_after_rebuild(Segment *self) {
    struct wakeups wakeups;
    if (!atomic_load_explicit(&self->handle.wake_everybody, memory_order_relaxed))
        return;
    wakeups_open(&wakeups);
    unsigned long own = deliver_wakeups(self, &wakeups);
    struct private_page *page = self->handle.private;
    for (uint32_t loop = 0; loop < LOOPS; loop++)
        if (own & (1ul << loop))
            (void)doorbell_ring(&self->doorbells, &(struct wakeup){page->slot, page->generation, loop, 0});
}

PyObject *nothing(Segment *self, enum status status) {
    wake_after_rebuild(self);
    return status == OK ? Py_NewRef(Py_None) : raise_status(status);
}

PyObject *own_loops(Segment *self, enum status status, struct wakeups *wakeups) {
    unsigned long own = deliver_wakeups(self, wakeups);
    return status == OK ? PyLong_FromUnsignedLong(own) : raise_status(status);
}

bool enlarge(enum status status, struct taken *taken, const char *small, size_t at_least) {
    if (status != NO_SPACE)
        return false;
    if (taken->buffer != small)
        free(taken->buffer);
    taken->size = taken->used > at_least ? taken->used : at_least;
    taken->buffer = malloc(taken->size);
    return taken->buffer != NULL;
}

PyObject *names_list(const char *names, size_t size, uint32_t most) {
    PyObject *list = PyList_New(0);
    for (size_t at = 0; list != NULL && at < size && most > 0; at += 1 + (unsigned char)names[at], most--) {
        PyObject *name = PyUnicode_DecodeUTF8(names + at + 1, (unsigned char)names[at], "replace");
        if (name == NULL || PyList_Append(list, name) < 0)
            Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}
