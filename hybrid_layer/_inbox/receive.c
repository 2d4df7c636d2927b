/* SPDX-License-Identifier: BSD-3-Clause */
/* A receive(): the awaitable that waits for the next payload of a channel. It follows the protocol of coroutines, and
 * takes its payload in one step with its return, so that a cancellation has nothing to put back. */
#include "inbox.h"

enum stage { NEW, JOINED, DONE };

typedef struct {
    PyObject_HEAD
    Inbox *inbox;
    PyObject *name, *source, *loop;
    Channel *channel; /* from here on: once it has joined */
    Waiter *waiter;
    enum stage stage;
    bool is_running;
} Receive;

PyObject *receive_new(State *state, Inbox *inbox, PyObject *const *arguments) {
    Receive *self = (Receive *)PyType_GenericAlloc(state->receive_type, 0);
    if (self == NULL)
        return NULL;
    self->inbox = (Inbox *)Py_NewRef((PyObject *)inbox);
    self->name = Py_NewRef(arguments[0]);
    self->source = Py_NewRef(arguments[1]);
    self->loop = Py_NewRef(arguments[2]);
    return (PyObject *)self;
}

#define OWNED(each) each(inbox) each(name) each(source) each(loop) each(channel) each(waiter)

static int traverse(Receive *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    OWNED(VISIT)
    return 0;
}

/* Its place is given up: by finalize(), or as it was left. */
static int clear(Receive *self) {
    self->stage = DONE;
    OWNED(CLEAR)
    return 0;
}

/* Leaving */

/* Give the place up without having taken. Runs Python code, but not before that is done. */
static int give_up(State *state, Receive *self) {
    Waiter *waiter = self->waiter;
    bool has_joined = self->stage == JOINED;
    self->stage = DONE;
    if (!has_joined)
        return 0;
    waiter->counts->waiting--;
    if (!waiter->woken)
        waiter->counts->unserved--;
    return leave(state, self->inbox, self->name, self->channel, waiter);
}

/* Nothing awaits it any more. Called by the collector, perhaps while the interpreter ends, or as its last owner goes.
 */
static void finalize(Receive *self) {
    PyObject *type, *value, *traceback;
    if (self->stage != JOINED)
        return;
    PyErr_Fetch(&type, &value, &traceback);
    if (give_up(state_of(Py_TYPE((PyObject *)self)), self) < 0)
        PyErr_WriteUnraisable((PyObject *)self->inbox);
    PyErr_Restore(type, value, traceback);
}

/* Finalized here unless the collector has done that. */
static void drop(Receive *self) {
    finalize(self);
    (void)clear(self);
}

/* The exception that is set ends it. One that its clean-up raises takes its place, and has it as its context. */
static void fail(State *state, Receive *self) {
    PyObject *type, *value, *traceback, *new_type, *new_value, *new_traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    int status = give_up(state, self);
    if (status == 0 && PyErr_GivenExceptionMatches(type, state->cancelled_error)) {
        PyObject *result = PyObject_CallMethodObjArgs(self->source, state->on_cancel, self->loop, NULL);
        status = result != NULL ? 0 : -1;
        Py_XDECREF(result);
    }
    if (status == 0) {
        PyErr_Restore(type, value, traceback);
        return;
    }
    PyErr_Fetch(&new_type, &new_value, &new_traceback);
    PyErr_NormalizeException(&new_type, &new_value, &new_traceback);
    if (new_value != value)
        PyException_SetContext(new_value, value); /* which takes the reference */
    else
        Py_DECREF(value);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    PyErr_Restore(new_type, new_value, new_traceback);
}

/* Taking */

/* The next payload, if no other coroutine waits and this consumer need not give the loop a turn first. */
static PyObject *take_now(State *state, Receive *self) {
    Inbox *inbox = self->inbox;
    Channel *channel = channel_find_or_add(state, inbox, self->name);
    PyObject *payload = NULL;
    if (channel != NULL && inbox->turns > 0 && channel->waiters.length == 0)
        payload = take(state, inbox, self->name, channel);
    if (payload != NULL)
        inbox->turns--;
    Py_XDECREF((PyObject *)channel);
    return payload;
}

/* A channel may be forgotten, and a message come, whenever Python code runs. So everything is made first, and then one
 * step both takes the place and looks whether there is something to take. */
static int join(State *state, Receive *self) {
    Inbox *inbox = self->inbox;
    Loop *counts = loops_of(state, inbox, self->loop);
    self->waiter = counts != NULL ? waiter_new(state, self->loop) : NULL;
    if (self->waiter == NULL) {
        Py_XDECREF((PyObject *)counts);
        return -1;
    }
    self->waiter->counts = counts;
    Channel *channel = channel_find(inbox, self->name);
    if (channel != NULL && channel->waiters.length > 0) {
        Py_INCREF((PyObject *)channel);
        int status = queue_forget_closed(state, &channel->waiters);
        Py_DECREF((PyObject *)channel);
        if (status < 0)
            return -1;
    }
    self->channel = channel = channel_find_or_add(state, inbox, self->name);
    if (channel == NULL)
        return -1;
    queue_append(&channel->waiters, self->waiter);
    self->stage = JOINED;
    counts->waiting++;
    bool has_one = channel->count >= channel->waiters.length ||
                   (channel->is_whole && (inbox->turns <= 0 || channel_oldest(inbox, self->name) != NULL));
    inbox->turns = TURNS;
    if (!has_one) {
        counts->unserved++;
        return 0;
    }
    /* There is one for it, but it gives the loop a turn first: a channel that is never empty would otherwise keep its
     * consumer, and so the loop, busy for ever. */
    return waiter_wake_later(state, self->waiter);
}

/* A payload, or NULL: it has joined, or there is an exception. */
static PyObject *begin(State *state, Receive *self) {
    Channel *channel = channel_find(self->inbox, self->name);
    if (channel == NULL && (PyErr_Occurred() || sweep_if_due(state, self->inbox) < 0))
        return NULL;
    PyObject *payload = channel == NULL || channel->count > 0 || channel->is_whole ? take_now(state, self) : NULL;
    if (payload == NULL && !PyErr_Occurred())
        (void)join(state, self);
    return payload;
}

/* A payload and the place given up, or NULL: it waits again, or there is an exception. */
static PyObject *take_and_leave(State *state, Receive *self) {
    Waiter *waiter = self->waiter;
    PyObject *payload = take(state, self->inbox, self->name, self->channel);
    if (payload == NULL) {
        /* One step with the look: a message that came in between would find the waiter marked as woken, wake no other,
         * and stay. */
        if (!PyErr_Occurred()) {
            if (waiter->woken)
                waiter->counts->unserved++;
            waiter->woken = waiter->ready = false;
        }
        return NULL;
    }
    if (give_up(state, self) == 0)
        return payload;
    Py_DECREF(payload);
    return NULL;
}

static PySendResult finish(State *state, Receive *self, PyObject *payload, PyObject **result) {
    self->stage = DONE;
    if (count_event(self->inbox, state->received) < 0) {
        Py_DECREF(payload);
        return PYGEN_ERROR;
    }
    *result = payload;
    return PYGEN_RETURN;
}

static PySendResult go_on(State *state, Receive *self, PyObject **result) {
    PyObject *payload = self->stage == NEW ? begin(state, self) : take_and_leave(state, self);
    while (payload == NULL && !PyErr_Occurred()) {
        /* If what woke it has expired, was flushed or taken, the source is asked again: it believed it served. */
        if (!self->waiter->woken) {
            PyObject *polled = PyObject_CallMethodObjArgs(self->source, state->poll, self->loop, NULL);
            if (polled == NULL)
                break;
            Py_DECREF(polled);
        }
        if (!self->waiter->ready) {
            self->waiter->blocking = true;
            *result = Py_NewRef((PyObject *)self->waiter);
            return PYGEN_NEXT;
        }
        payload = take_and_leave(state, self);
    }
    if (payload != NULL)
        return finish(state, self, payload, result);
    fail(state, self);
    return PYGEN_ERROR;
}

/* What a coroutine has */

static bool may_run(Receive *self) {
    if (self->is_running)
        PyErr_SetString(PyExc_ValueError, "this receive() is already running");
    else if (self->stage == DONE)
        PyErr_SetString(PyExc_RuntimeError, "this receive() was awaited already");
    return !self->is_running && self->stage != DONE;
}

static PySendResult send_to(Receive *self, PyObject *Py_UNUSED(value), PyObject **result) {
    State *state = state_of(Py_TYPE((PyObject *)self));
    *result = NULL;
    if (state == NULL || !may_run(self))
        return PYGEN_ERROR;
    self->is_running = true;
    PySendResult outcome = go_on(state, self, result);
    self->is_running = false;
    return outcome;
}

static PyObject *next(Receive *self) {
    PyObject *result;
    if (send_to(self, Py_None, &result) != PYGEN_RETURN)
        return result;
    PyErr_SetObject(PyExc_StopIteration, result);
    Py_DECREF(result);
    return NULL;
}

static PyObject *send_method(Receive *self, PyObject *Py_UNUSED(value)) { return next(self); }

/* Set what throw() was given: an exception, or its type, value and traceback. */
static bool set_exception(PyObject *const *arguments, Py_ssize_t given) {
    PyObject *type = given > 0 ? arguments[0] : NULL;
    PyObject *value = given > 1 && arguments[1] != Py_None ? arguments[1] : NULL;
    PyObject *traceback = given > 2 && arguments[2] != Py_None ? Py_NewRef(arguments[2]) : NULL;
    if (type != NULL && PyExceptionInstance_Check(type)) {
        value = type;
        type = (PyObject *)Py_TYPE(value);
        if (traceback == NULL)
            traceback = PyException_GetTraceback(value);
    } else if (type == NULL || !PyExceptionClass_Check(type)) {
        Py_XDECREF(traceback);
        PyErr_SetString(PyExc_TypeError, "throw takes an exception");
        return false;
    }
    PyErr_Restore(Py_NewRef(type), Py_XNewRef(value), traceback);
    return true;
}

static PyObject *throw_method(Receive *self, PyObject *const *arguments, Py_ssize_t given) {
    State *state = state_of(Py_TYPE((PyObject *)self));
    if (state == NULL || !may_run(self) || !set_exception(arguments, given))
        return NULL;
    self->is_running = true;
    if (self->stage == JOINED)
        fail(state, self);
    self->stage = DONE;
    self->is_running = false;
    return NULL;
}

static PyObject *close_method(Receive *self, PyObject *Py_UNUSED(unused)) {
    if (self->is_running) {
        (void)may_run(self);
        return NULL;
    }
    if (self->stage != JOINED) {
        self->stage = DONE;
        return Py_NewRef(Py_None);
    }
    return give_up(state_of(Py_TYPE((PyObject *)self)), self) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"send", METHOD(send_method), METH_O, NULL},
    {"throw", METHOD(throw_method), METH_FASTCALL, NULL},
    {"close", METHOD(close_method), METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

DEFINE_TYPE(receive_spec, Receive, PRIVATE, drop, {Py_tp_finalize, SLOT(finalize)},
            {Py_tp_iter, SLOT(PyObject_SelfIter)}, {Py_tp_iternext, SLOT(next)}, {Py_am_await, SLOT(PyObject_SelfIter)},
            {Py_am_send, SLOT(send_to)}, {Py_tp_methods, methods}, {0, NULL});
