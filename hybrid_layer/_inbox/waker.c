/* SPDX-License-Identifier: BSD-3-Clause */
/* Wakes any number of waiters at one moment. The waker is the callback that resumes those of the loop that runs there.
 */
#include "inbox.h"

/* `here` is the loop that runs in this thread, or None; with NULL it is asked for. Runs Python code. */
Waker *waker_new(State *state, PyObject *here) {
    here = here != NULL ? Py_NewRef(here) : PyObject_CallNoArgs(state->get_running_loop);
    Waker *self = here != NULL ? (Waker *)PyType_GenericAlloc(state->waker_type, 0) : NULL;
    if (self != NULL)
        self->here = here;
    else
        Py_XDECREF(here);
    return self;
}

static PyObject *create(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"here", NULL};
    PyObject *here;
    State *state = state_of(type);
    if (state == NULL || !PyArg_ParseTupleAndKeywords(arguments, keywords, "O", names, &here))
        return NULL;
    return (PyObject *)waker_new(state, here);
}

static int traverse(Waker *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->here);
    for (Py_ssize_t i = self->next; i < self->count; i++)
        Py_VISIT(self->waiters[i]);
    return 0;
}

static int clear(Waker *self) {
    Waiter **waiters = self->waiters;
    Py_ssize_t next = self->next, count = self->count;
    self->waiters = NULL;
    self->next = self->count = self->room = 0;
    for (Py_ssize_t i = next; i < count; i++)
        Py_DECREF((PyObject *)waiters[i]);
    PyMem_Free(waiters);
    Py_CLEAR(self->here);
    return 0;
}

static bool put(Waker *self, Waiter *waiter) {
    if (self->next == self->count)
        self->next = self->count = 0;
    if (self->count == self->room) {
        Py_ssize_t room = self->room > 0 ? 2 * self->room : 4;
        Waiter **waiters = PyMem_Realloc(self->waiters, (size_t)room * sizeof(Waiter *));
        if (waiters == NULL) {
            PyErr_NoMemory();
            return false;
        }
        self->waiters = waiters;
        self->room = room;
    }
    self->waiters[self->count++] = (Waiter *)Py_NewRef((PyObject *)waiter);
    return true;
}

/* Have the loop call back, also if a signal handler raises meanwhile: a waiter marked as woken is not woken again. A
 * callback that is called twice does nothing the second time. */
static int surely(PyObject *loop, PyObject *call_soon, PyObject *callback) {
    PyObject *type, *value, *traceback;
    PyObject *handle = PyObject_CallMethodObjArgs(loop, call_soon, callback, NULL);
    Py_XDECREF(handle);
    if (handle != NULL)
        return 0;
    PyErr_Fetch(&type, &value, &traceback);
    handle = PyObject_CallMethodObjArgs(loop, call_soon, callback, NULL);
    Py_XDECREF(handle);
    PyErr_Restore(type, value, traceback); /* in place of what was raised the second time, if anything */
    return -1;
}

static int call_soon(State *state, Waker *self) { return surely(self->here, state->call_soon, (PyObject *)self); }

/* 1: woken. 0: its loop is closed. -1: an exception. With `behind`, it goes on after those that other threads have
 * woken and the loop has not yet seen. Runs Python code, but not before the waiter is marked. */
int waker_wake(State *state, Waker *self, Waiter *waiter, bool behind) {
    if (!waiter->woken && waiter->counts != NULL)
        waiter->counts->unserved--;
    waiter->woken = true;
    if (!behind && waiter->loop == self->here) {
        if (waiter->ready)
            return 1;
        bool is_first = self->next == self->count;
        if (!put(self, waiter))
            return -1;
        waiter->ready = true;
        return !is_first || call_soon(state, self) == 0 ? 1 : -1;
    }
    PyObject *seen = PyObject_GetAttr((PyObject *)waiter, state->seen);
    if (seen == NULL)
        return -1;
    int status = surely(waiter->loop, state->call_soon_threadsafe, seen);
    Py_DECREF(seen);
    if (status == 0)
        return 1;
    if (!PyErr_ExceptionMatches(PyExc_RuntimeError))
        return -1;
    PyErr_Clear(); /* the loop is closed */
    return 0;
}

static PyObject *wake_waiter(Waker *self, PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"waiter", "behind", NULL};
    PyObject *waiter;
    int behind = 0;
    State *state = state_of(Py_TYPE((PyObject *)self));
    if (state == NULL ||
        !PyArg_ParseTupleAndKeywords(arguments, keywords, "O!|p", names, state->waiter_type, &waiter, &behind))
        return NULL;
    int status = waker_wake(state, self, (Waiter *)waiter, behind != 0);
    return status < 0 ? NULL : PyBool_FromLong(status);
}

/* The callback. If one of the coroutines that go on runs the loop again, as with nest_asyncio, or lets
 * KeyboardInterrupt through, the rest goes on in another callback. */
static PyObject *call(Waker *self, PyObject *Py_UNUSED(arguments), PyObject *Py_UNUSED(keywords)) {
    State *state = state_of(Py_TYPE((PyObject *)self));
    if (state == NULL || (self->count - self->next > 1 && call_soon(state, self) < 0))
        return NULL;
    while (self->next < self->count) {
        Waiter *waiter = self->waiters[self->next++];
        int status = waiter_resume(state, waiter);
        Py_DECREF((PyObject *)waiter);
        if (status < 0)
            return NULL;
    }
    return Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"wake", METHOD(wake_waiter), METH_VARARGS | METH_KEYWORDS, NULL},
    {NULL, NULL, 0, NULL},
};

DEFINE_TYPE(waker_spec, Waker, PUBLIC, clear, {Py_tp_new, SLOT(create)}, {Py_tp_call, SLOT(call)},
            {Py_tp_methods, methods}, {0, NULL});
