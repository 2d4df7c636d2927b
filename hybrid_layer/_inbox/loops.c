/* SPDX-License-Identifier: BSD-3-Clause */
/* How many coroutines of each event loop wait in an inbox. */
#include "inbox.h"

static int traverse(Loop *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->loop);
    return 0;
}

static int clear(Loop *self) {
    Py_CLEAR(self->loop);
    return 0;
}

DEFINE_TYPE(loop_spec, Loop, PRIVATE, clear, {0, NULL});

/* 1 or 0, -1 with an exception. Runs Python code. */
int is_closed(State *state, PyObject *loop) {
    PyObject *answer = loop != NULL ? PyObject_CallMethodObjArgs(loop, state->is_closed, NULL) : NULL;
    if (answer == NULL)
        return loop != NULL ? -1 : 1; /* the collector has taken apart what waited there */
    int closed = PyObject_IsTrue(answer);
    Py_DECREF(answer);
    return closed;
}

/* Those of `loop`, which are made if there are none; a new reference. Runs Python code. */
Loop *loops_of(State *state, Inbox *inbox, PyObject *loop) {
    PyObject *found = PyDict_GetItemWithError(inbox->loops, loop);
    if (found != NULL)
        return (Loop *)Py_NewRef(found);
    if (PyErr_Occurred() || loops_forget_closed(state, inbox) < 0)
        return NULL;
    Loop *counts = (Loop *)PyType_GenericAlloc(state->loop_type, 0);
    if (counts == NULL)
        return NULL;
    counts->loop = Py_NewRef(loop);
    found = PyDict_GetItemWithError(inbox->loops, loop); /* a coroutine of the same loop may have come meanwhile */
    if (found == NULL && !PyErr_Occurred() && PyDict_SetItem(inbox->loops, loop, (PyObject *)counts) == 0)
        return counts;
    Py_DECREF((PyObject *)counts);
    return (Loop *)Py_XNewRef(found);
}

/* Loops may have been closed under their waiters, which will never leave. Runs Python code. */
int loops_forget_closed(State *state, Inbox *inbox) {
    PyObject *loops = PyDict_Keys(inbox->loops);
    int status = loops != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; status >= 0 && i < PyList_Size(loops); i++) {
        PyObject *loop = PyList_GetItem(loops, i);
        status = is_closed(state, loop);
        if (status > 0 && PyDict_GetItemWithError(inbox->loops, loop) != NULL)
            status = PyDict_DelItem(inbox->loops, loop);
    }
    Py_XDECREF(loops);
    return status < 0 ? -1 : 0;
}

/* A loop in which a coroutine waits with nothing there to take, if possible `preferred`, or None. Runs Python code if
 * it is not that one. */
PyObject *loops_unserved(State *state, Inbox *inbox, PyObject *preferred) {
    Loop *counts = (Loop *)PyDict_GetItemWithError(inbox->loops, preferred);
    if (counts == NULL && PyErr_Occurred())
        return NULL;
    if (counts != NULL && counts->unserved > 0)
        return Py_NewRef(preferred);
    if (PyDict_Size(inbox->loops) == (counts != NULL))
        return Py_NewRef(Py_None);
    PyObject *others = PyDict_Values(inbox->loops), *found = NULL;
    bool has_failed = others == NULL;
    for (Py_ssize_t i = 0; !has_failed && found == NULL && i < PyList_Size(others); i++) {
        counts = (Loop *)PyList_GetItem(others, i);
        int closed = counts->unserved > 0 ? is_closed(state, counts->loop) : 1;
        has_failed = closed < 0;
        if (closed == 0)
            found = Py_NewRef(counts->loop);
    }
    Py_XDECREF(others);
    return has_failed ? NULL : found != NULL ? found : Py_NewRef(Py_None);
}
