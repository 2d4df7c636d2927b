/* SPDX-License-Identifier: BSD-3-Clause */
/* The inbox: buffers by channel name, and the coroutines that wait for them. This file has the source's side. */
#include "inbox.h"

static PyObject *create(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"policy", "statistics", "generations", NULL};
    PyObject *policy, *statistics, *generations = NULL;
    State *state = state_of(type);
    if (state == NULL ||
        !PyArg_ParseTupleAndKeywords(arguments, keywords, "OO|O", names, &policy, &statistics, &generations))
        return NULL;
    Inbox *self = (Inbox *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->policy = Py_NewRef(policy);
    self->statistics = Py_NewRef(statistics);
    self->generations = Py_XNewRef(generations);
    self->most = FEW_CHANNELS;
    self->turns = TURNS;
    self->capacity_for = PyObject_GetAttr(policy, state->capacity_for);
    self->count_event = self->capacity_for != NULL ? PyObject_GetAttr(statistics, state->count) : NULL;
    self->channels = self->count_event != NULL ? PyDict_New() : NULL;
    self->loops = self->channels != NULL ? PyDict_New() : NULL;
    if (self->loops == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

#define OWNED(each) \
    each(policy) each(statistics) each(capacity_for) each(count_event) each(generations) each(channels) each(loops)

static int traverse(Inbox *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    OWNED(VISIT)
    return 0;
}

/* Emptied, and not given up: coroutines that still wait leave later. */
static int clear(Inbox *self) {
    if (self->channels != NULL)
        PyDict_Clear(self->channels);
    if (self->loops != NULL)
        PyDict_Clear(self->loops);
    self->wholes = 0;
    return 0;
}

static void drop(Inbox *self) { OWNED(CLEAR) }

/* Delivering */

/* 1: the oldest message of a consumer that is too slow was dropped. Runs Python code. */
static int hold_to_capacity(Inbox *self, PyObject *name, Channel *channel) {
    PyObject *answer = PyObject_CallFunctionObjArgs(self->capacity_for, name, NULL);
    Py_ssize_t capacity = answer != NULL ? PyLong_AsSsize_t(answer) : -1;
    Py_XDECREF(answer);
    if (capacity == -1 && PyErr_Occurred())
        return -1;
    if (channel->count <= capacity)
        return 0;
    struct message *oldest = channel_take(channel);
    if (oldest != NULL)
        message_release(oldest);
    return 1;
}

/* The message is in the buffer, and a waiter woken, before any Python code runs but that of the wake itself. */
static int deliver_to(State *state, Inbox *self, PyObject *name, struct message *message, Waker **waker,
                      PyObject **slow) {
    if (!PyUnicode_CheckExact(name)) {
        PyErr_SetString(PyExc_TypeError, "the name of a channel is a str");
        return -1;
    }
    Channel *channel = channel_find_or_add(state, self, name);
    int status = channel != NULL ? channel_put(channel, message) : -1;
    bool may_be_full = status == 0 && channel->count > 1;
    if (status == 0)
        status = wake(state, self, name, channel, waker);
    if (status == 0 && may_be_full)
        status = hold_to_capacity(self, name, channel);
    if (status > 0) {
        if (*slow == NULL)
            *slow = PyList_New(0);
        status = *slow != NULL ? PyList_Append(*slow, name) : -1;
    }
    Py_XDECREF((PyObject *)channel);
    return status;
}

static int tell_slow(State *state, Inbox *self, PyObject *slow) {
    for (Py_ssize_t i = 0; slow != NULL && i < PyList_Size(slow); i++) {
        PyObject *name = PyList_GetItem(slow, i);
        PyObject *result = PyObject_CallFunctionObjArgs(state->tell_slow, self->statistics, self->policy, name, NULL);
        if (result == NULL)
            return -1;
        Py_DECREF(result);
    }
    return 0;
}

static int deliver_to_all(State *state, Inbox *self, PyObject *names, struct message *message) {
    Waker *waker = NULL;
    PyObject *slow = NULL;
    int status = 0;
    bool is_tuple = PyTuple_Check(names);
    for (Py_ssize_t i = 0; status == 0 && i < PySequence_Size(names); i++) {
        PyObject *name = Py_NewRef(is_tuple ? PyTuple_GetItem(names, i) : PyList_GetItem(names, i));
        status = deliver_to(state, self, name, message, &waker, &slow);
        Py_DECREF(name);
    }
    Py_XDECREF((PyObject *)waker);
    if (status == 0)
        status = tell_slow(state, self, slow);
    Py_XDECREF(slow);
    return status;
}

static PyObject *deliver(Inbox *self, PyObject *const *arguments, Py_ssize_t given) {
    State *state = state_of(Py_TYPE((PyObject *)self));
    if (state == NULL)
        return NULL;
    if (given < 3 || given > 4 || !PyBytes_CheckExact(arguments[1]) ||
        (given == 4 && !PyLong_CheckExact(arguments[3]))) {
        PyErr_SetString(PyExc_TypeError, "deliver takes names, bytes, a deadline and perhaps a generation");
        return NULL;
    }
    double deadline = PyFloat_AsDouble(arguments[2]);
    if (deadline == -1.0 && PyErr_Occurred())
        return NULL;
    if (sweep_if_due(state, self) < 0)
        return NULL;
    PyObject *names = PySequence_Fast(arguments[0], "the names of channels are not iterable");
    PyObject *generation = given == 4 ? Py_NewRef(arguments[3]) : PyLong_FromLong(0);
    struct message *message =
        names != NULL && generation != NULL ? message_new(++self->arrivals, deadline, generation, arguments[1]) : NULL;
    int status = message != NULL ? deliver_to_all(state, self, names, message) : -1;
    if (message != NULL)
        message_release(message);
    Py_XDECREF(generation);
    Py_XDECREF(names);
    return status == 0 ? Py_NewRef(Py_None) : NULL;
}

/* The other methods */

static PyObject *receive(Inbox *self, PyObject *const *arguments, Py_ssize_t given) {
    State *state = state_of(Py_TYPE((PyObject *)self));
    if (state == NULL)
        return NULL;
    if (given != 3 || !PyUnicode_CheckExact(arguments[0])) {
        PyErr_SetString(PyExc_TypeError, "receive takes the name of a channel, a source and an event loop");
        return NULL;
    }
    return receive_new(state, self, arguments);
}

static PyObject *unserved_loop(Inbox *self, PyObject *preferred) {
    State *state = state_of(Py_TYPE((PyObject *)self));
    return state != NULL ? loops_unserved(state, self, preferred) : NULL;
}

static PyObject *is_awaited(Inbox *self, PyObject *loop) {
    Loop *counts = (Loop *)PyDict_GetItemWithError(self->loops, loop);
    return counts == NULL && PyErr_Occurred() ? NULL : PyBool_FromLong(counts != NULL && counts->waiting > 0);
}

static PyObject *is_waited_on(Inbox *self, PyObject *name) {
    Channel *channel = channel_find(self, name);
    return channel == NULL && PyErr_Occurred() ? NULL : PyBool_FromLong(channel != NULL && channel->waiters.length > 0);
}

static PyObject *clear_messages(Inbox *self, PyObject *Py_UNUSED(unused)) {
    PyObject *name, *channel;
    Py_ssize_t position = 0;
    while (PyDict_Next(self->channels, &position, &name, &channel))
        channel_clear_messages((Channel *)channel);
    return Py_NewRef(Py_None);
}

static PyObject *sweep_now(Inbox *self, PyObject *Py_UNUSED(unused)) {
    State *state = state_of(Py_TYPE((PyObject *)self));
    double now = state != NULL ? monotonic(state) : -1.0;
    return now < 0 || sweep(state, self, now) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *describe(Channel *channel) {
    PyObject *deadlines = PyList_New(channel->count);
    for (Py_ssize_t i = 0; deadlines != NULL && i < channel->count && i < PyList_Size(deadlines); i++) {
        PyObject *deadline = PyFloat_FromDouble(channel->ring[(channel->first + i) % channel->room]->deadline);
        if (deadline == NULL || PyList_SetItem(deadlines, i, deadline) < 0)
            Py_CLEAR(deadlines);
    }
    return deadlines != NULL ? Py_BuildValue("(Nn)", deadlines, channel->waiters.length) : NULL;
}

static PyObject *contents(Inbox *self, PyObject *Py_UNUSED(unused)) {
    PyObject *names = PyDict_Keys(self->channels), *all = PyDict_New();
    bool has_failed = names == NULL || all == NULL;
    for (Py_ssize_t i = 0; !has_failed && i < PyList_Size(names); i++) {
        PyObject *name = PyList_GetItem(names, i);
        Channel *channel = (Channel *)Py_XNewRef((PyObject *)channel_find(self, name));
        if (channel == NULL)
            continue;
        PyObject *entry = describe(channel);
        has_failed = entry == NULL || PyDict_SetItem(all, name, entry) < 0;
        Py_XDECREF(entry);
        Py_DECREF((PyObject *)channel);
    }
    Py_XDECREF(names);
    if (has_failed)
        Py_CLEAR(all);
    return all;
}

static PyMethodDef methods[] = {
    {"deliver", METHOD(deliver), METH_FASTCALL, NULL},
    {"receive", METHOD(receive), METH_FASTCALL, NULL},
    {"unserved_loop", METHOD(unserved_loop), METH_O, NULL},
    {"is_awaited", METHOD(is_awaited), METH_O, NULL},
    {"is_waited_on", METHOD(is_waited_on), METH_O, NULL},
    {"clear", METHOD(clear_messages), METH_NOARGS, NULL},
    {"sweep", METHOD(sweep_now), METH_NOARGS, NULL},
    {"contents", METHOD(contents), METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"_next_sweep", T_DOUBLE, (Py_ssize_t)offsetof(Inbox, next_sweep), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

DEFINE_TYPE(inbox_spec, Inbox, PUBLIC, drop, {Py_tp_new, SLOT(create)}, {Py_tp_methods, methods},
            {Py_tp_members, members}, {0, NULL});
