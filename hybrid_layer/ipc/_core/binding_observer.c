/* SPDX-License-Identifier: BSD-3-Clause */
/* The type Observer: a look at a segment without a slot in it. Each call releases the interpreter's lock. */
#include "binding.h"

#include <stdlib.h>
#include <string.h>

#include "observer.h"
#include "segment.h"

#define FIRST_SIZE 65536u
#define MOST_PEEKED 1000u

static PyObject *observer_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords)) {
    int fd, lock_fd;
    unsigned int own_slot;
    const char *reason;
    if (!PyArg_ParseTuple(args, "iiI", &fd, &lock_fd, &own_slot))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Segment *self = (Segment *)allocate(type, 0);
    if (self == NULL)
        return NULL;
    enum status status = segment_map_to_observe(fd, lock_fd, &self->handle, &reason);
    if (status == OK) {
        self->handle.own_slot = own_slot;
        return (PyObject *)self;
    }
    Py_DECREF(self);
    return raise_reason(status, reason);
}

static PyObject *text_of(const char *bytes, size_t size) {
    return PyUnicode_DecodeUTF8(bytes, (Py_ssize_t)size, "replace");
}

/* Reads a part with a buffer that is large enough, and lists what is in it. */
static PyObject *list_part(Segment *self, PyObject *argument,
                           enum status (*observe)(struct handle *handle, uint32_t *bucket, struct sight *sight),
                           PyObject *(*item)(const char *bytes, size_t *at)) {
    enum status status;
    uint32_t bucket;
    struct sight sight = {.size = FIRST_SIZE};
    if (!u32_of(argument, &bucket))
        return NULL;
    do {
        free(sight.buffer);
        sight.buffer = malloc(sight.size);
        if (sight.buffer == NULL)
            return PyErr_NoMemory();
        UNLOCKED(status = observe(&self->handle, &bucket, &sight));
        sight.size = sight.used > sight.size ? 2 * sight.used : sight.size;
    } while (status == NO_SPACE);
    PyObject *list = status == OK || status == EMPTY ? PyList_New(0) : raise_status(status);
    for (size_t at = 0; list != NULL && status == OK && at < sight.used;) {
        PyObject *each = item(sight.buffer, &at);
        if (each == NULL || PyList_Append(list, each) < 0)
            Py_CLEAR(list);
        Py_XDECREF(each);
    }
    free(sight.buffer);
    if (list == NULL)
        return NULL;
    return status == EMPTY ? Py_BuildValue("(ON)", Py_None, list) : Py_BuildValue("(IN)", bucket, list);
}

static PyObject *channel_item(const char *bytes, size_t *at) {
    struct seen_channel seen;
    memcpy(&seen, bytes + *at, sizeof seen);
    *at += sizeof seen;
    PyObject *name = text_of(bytes + *at, seen.name_length);
    *at += seen.name_length;
    PyObject *slots = PyList_New(seen.waiters);
    for (uint32_t i = 0; slots != NULL && i < seen.waiters; i++, *at += sizeof(uint32_t)) {
        uint32_t slot;
        memcpy(&slot, bytes + *at, sizeof slot);
        PyObject *number = PyLong_FromUnsignedLong(slot);
        if (number == NULL || PyList_SetItem(slots, i, number) < 0)
            Py_CLEAR(slots);
    }
    PyObject *item = NULL;
    if (name != NULL && slots != NULL)
        item = Py_BuildValue("(OiIIdOO)", name, (int)seen.owner - 1, seen.owner_generation, seen.unread,
                             seen.oldest_ms / 1e3, seen.was_read ? Py_True : Py_False, slots);
    Py_XDECREF(name);
    Py_XDECREF(slots);
    return item;
}

static PyObject *method_observe_channels(Segment *self, PyObject *argument) {
    return list_part(self, argument, observe_channels, channel_item);
}

static PyObject *member_item(const char *bytes, size_t *at) {
    struct seen_member seen;
    memcpy(&seen, bytes + *at, sizeof seen);
    *at += sizeof seen;
    size_t target = (size_t)seen.target_length + seen.local_length;
    PyObject *group = text_of(bytes + *at, seen.group_length);
    PyObject *channel = text_of(bytes + *at + seen.group_length, target);
    *at += seen.group_length + target;
    PyObject *item =
        group != NULL && channel != NULL ? Py_BuildValue("(OOd)", group, channel, (double)seen.left_ns / 1e9) : NULL;
    Py_XDECREF(group);
    Py_XDECREF(channel);
    return item;
}

static PyObject *method_observe_members(Segment *self, PyObject *argument) {
    return list_part(self, argument, observe_members, member_item);
}

static PyObject *method_areas(Segment *self, PyObject *Py_UNUSED(unused)) {
    enum status status;
    struct seen_area areas[2];
    UNLOCKED(status = observe_areas(&self->handle, areas));
    if (status != OK)
        return raise_status(status);
    return Py_BuildValue("((KKK)(KKK))", (unsigned long long)areas[0].used, (unsigned long long)areas[0].reserved,
                         (unsigned long long)areas[0].limit, (unsigned long long)areas[1].used,
                         (unsigned long long)areas[1].reserved, (unsigned long long)areas[1].limit);
}

/* (local name, size, age, seconds left, whether it went to a group, payload or None); NULL without an exception: it was
 * taken meanwhile. */
static PyObject *peeked(Segment *self, struct name name, const struct seen_message *message, uint64_t now, bool body) {
    enum status status;
    size_t size = message->local_length + (body ? message->size : 0u);
    char *data = malloc(size + 1);
    if (data == NULL)
        return PyErr_NoMemory();
    UNLOCKED(status = observe_data(&self->handle, name, message, data, size));
    PyObject *item = NULL;
    if (status == OK) {
        PyObject *payload = body ? PyBytes_FromStringAndSize(data + message->local_length, (Py_ssize_t)message->size)
                                 : Py_NewRef(Py_None);
        PyObject *local = text_of(data, message->local_length);
        if (payload != NULL && local != NULL)
            item = Py_BuildValue("(OIddOO)", local, message->size, message->age_ms / 1e3,
                                 (double)(message->deadline - now) / 1e9, message->is_shared ? Py_True : Py_False,
                                 payload);
        Py_XDECREF(payload);
        Py_XDECREF(local);
    } else if (status != EMPTY) {
        raise_status(status);
    }
    free(data);
    return item;
}

static PyObject *method_peek(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct name name;
    uint32_t most, number;
    enum status status;
    if (!wants("peek", count_of_args, 3) || !channel_of(args[0], &name) || !u32_of(args[1], &most))
        return NULL;
    int body = PyObject_IsTrue(args[2]);
    most = most < MOST_PEEKED ? most : MOST_PEEKED;
    struct seen_message *messages = body < 0 ? NULL : calloc(most + 1u, sizeof *messages);
    if (messages == NULL)
        return body < 0 ? NULL : PyErr_NoMemory();
    uint64_t now;
    UNLOCKED(status = observe_queue(&self->handle, name, messages, most, &number, &now));
    PyObject *list = status == OK ? PyList_New(0) : raise_status(status);
    for (uint32_t i = 0; list != NULL && i < number; i++) {
        PyObject *item = peeked(self, name, &messages[i], now, body != 0);
        if (item != NULL ? PyList_Append(list, item) < 0 : PyErr_Occurred() != NULL)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    free(messages);
    return list;
}

static PyObject *method_waits(Segment *self, PyObject *Py_UNUSED(unused)) {
    struct header *header = self->handle.header;
    PyObject *list = PyList_New(WAITS);
    for (uint32_t i = 0; list != NULL && i < WAITS; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(atomic_load(&header->waits[i]));
        if (number == NULL || PyList_SetItem(list, i, number) < 0)
            Py_CLEAR(list);
    }
    return list == NULL ? NULL : Py_BuildValue("(Nd)", list, (double)atomic_load(&header->waited) / 1e3);
}

/* (name, capacity, sent, received, full) of each channel that is counted by name, and last, with the name "", of all
 * others. */
static PyObject *method_tallies(Segment *self, PyObject *Py_UNUSED(unused)) {
    PyObject *list = PyList_New(0);
    for (uint32_t place = 0; list != NULL && place <= TALLIES; place++) {
        struct tally *tally = &self->handle.tallies[place];
        uint32_t length = *(const volatile uint32_t *)&tally->name_length;
        if ((length == 0) != (place == TALLY_OTHER) || length > NAME_MAX_LENGTH)
            continue;
        PyObject *name = text_of(tally->name, length);
        PyObject *item = name == NULL ? NULL
                                      : Py_BuildValue("(OIKKK)", name, (unsigned int)atomic_load(&tally->capacity),
                                                      (unsigned long long)atomic_load(&tally->sent),
                                                      (unsigned long long)atomic_load(&tally->received),
                                                      (unsigned long long)atomic_load(&tally->full));
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
        Py_XDECREF(name);
    }
    return list;
}

static PyObject *method_observe_processes(Segment *self, PyObject *Py_UNUSED(unused)) {
    return processes_list(&self->handle, self->handle.own_slot);
}

#define ENTRY(name, function, flags) {name, (PyCFunction)(void (*)(void))function, flags, NULL}

static PyMethodDef observer_methods[] = {
    ENTRY("channels", method_observe_channels, METH_O),
    ENTRY("members", method_observe_members, METH_O),
    ENTRY("areas", method_areas, METH_NOARGS),
    ENTRY("peek", method_peek, METH_FASTCALL),
    ENTRY("counters", method_counters, METH_NOARGS),
    ENTRY("remote_counters", method_remote_counters, METH_NOARGS),
    ENTRY("waits", method_waits, METH_NOARGS),
    ENTRY("tallies", method_tallies, METH_NOARGS),
    ENTRY("processes", method_observe_processes, METH_NOARGS),
    {NULL, NULL, 0, NULL},
};

static PyType_Slot observer_slots[] = {
    {Py_tp_new, (void *)observer_new},
    {Py_tp_dealloc, (void *)segment_dealloc},
    {Py_tp_methods, observer_methods},
    {Py_tp_getset, observer_getters},
    {0, NULL},
};

PyType_Spec observer_spec = {
    .name = "hybrid_layer.ipc._core.Observer",
    .basicsize = sizeof(Segment),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = observer_slots,
};
