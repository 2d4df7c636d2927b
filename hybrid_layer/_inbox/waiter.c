/* SPDX-License-Identifier: BSD-3-Clause */
/* One coroutine that waits, awaited in place of an `asyncio.Future`. */
#include "inbox.h"

Waiter *waiter_new(State *state, PyObject *loop) {
    Waiter *self = (Waiter *)PyType_GenericAlloc(state->waiter_type, 0);
    if (self != NULL)
        self->loop = Py_NewRef(loop);
    return self;
}

static PyObject *create(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"loop", NULL};
    PyObject *loop;
    State *state = state_of(type);
    if (state == NULL || !PyArg_ParseTupleAndKeywords(arguments, keywords, "O", names, &loop))
        return NULL;
    return (PyObject *)waiter_new(state, loop);
}

#define OWNED(each) each(loop) each(counts) each(callback) each(context) each(further) each(message)

static int traverse(Waiter *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    OWNED(VISIT)
    return 0;
}

static int clear(Waiter *self) {
    OWNED(CLEAR)
    return 0;
}

static PyObject *repr(Waiter *self) {
    const char *state = self->cancelled ? "cancelled" : self->ready ? "ready" : self->woken ? "woken" : "waiting";
    return PyUnicode_FromFormat("<Waiter %s>", state);
}

/* Called by the loop, and by the loop alone. Runs Python code. */
int waiter_resume(State *state, Waiter *self) {
    if (!self->ready || self->callback == NULL)
        return 0;
    PyObject *callback = self->callback, *context = self->context, *further = self->further;
    self->callback = self->context = self->further = NULL;
    PyObject *result = PyObject_CallMethodObjArgs(context, state->run, callback, (PyObject *)self, NULL);
    for (Py_ssize_t i = 0; result != NULL && further != NULL && i < PyList_Size(further); i++) {
        PyObject *entry = PyList_GetItem(further, i);
        Py_DECREF(result);
        result = PyObject_CallMethodObjArgs(PyTuple_GetItem(entry, 1), state->run, PyTuple_GetItem(entry, 0),
                                            (PyObject *)self, NULL);
    }
    Py_DECREF(callback);
    Py_DECREF(context);
    Py_XDECREF(further);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

static int call_soon(State *state, Waiter *self, const char *method_name) {
    PyObject *method = PyObject_GetAttrString((PyObject *)self, method_name);
    if (method == NULL)
        return -1;
    PyObject *handle = PyObject_CallMethodObjArgs(self->loop, state->call_soon, method, NULL);
    Py_DECREF(method);
    Py_XDECREF(handle);
    return handle != NULL ? 0 : -1;
}

/* Wake it after the loop has had a turn. Called in the loop. Runs Python code. */
int waiter_wake_later(State *state, Waiter *self) {
    self->woken = true;
    return call_soon(state, self, "seen");
}

static PyObject *wake_later(Waiter *self, PyObject *Py_UNUSED(unused)) {
    State *state = state_of(Py_TYPE((PyObject *)self));
    return state != NULL && waiter_wake_later(state, self) == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *rearm(Waiter *self, PyObject *Py_UNUSED(unused)) {
    self->woken = self->ready = false;
    return Py_NewRef(Py_None);
}

static PyObject *resume(Waiter *self, PyObject *Py_UNUSED(unused)) {
    State *state = state_of(Py_TYPE((PyObject *)self));
    return state != NULL && waiter_resume(state, self) == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *seen(Waiter *self, PyObject *unused) {
    self->ready = true;
    return resume(self, unused);
}

/* What a task asks of a future */

/* The waiter is its own iterator, as one task at a time awaits it. */
static PyObject *await(Waiter *self) {
    self->awaited = false;
    return Py_NewRef((PyObject *)self);
}

static PyObject *next(Waiter *self) {
    if (self->awaited || self->ready) {
        self->awaited = false;
        return NULL; /* the end: StopIteration, without a value */
    }
    self->awaited = self->blocking = true;
    return Py_NewRef((PyObject *)self);
}

static PyObject *get_loop(Waiter *self, PyObject *Py_UNUSED(unused)) {
    return Py_NewRef(self->loop != NULL ? self->loop : Py_None);
}

static PyObject *add_done_callback(Waiter *self, PyObject *const *arguments, Py_ssize_t given, PyObject *keywords) {
    State *state = state_of(Py_TYPE((PyObject *)self));
    Py_ssize_t named = keywords != NULL ? PyTuple_Size(keywords) : 0;
    if (state == NULL)
        return NULL;
    if (given != 1 || named > 1 ||
        (named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GetItem(keywords, 0), "context") != 0)) {
        PyErr_SetString(PyExc_TypeError, "add_done_callback takes a callback and perhaps context=");
        return NULL;
    }
    PyObject *context = named == 1 && arguments[1] != Py_None ? Py_NewRef(arguments[1]) : NULL;
    if (context == NULL)
        context = PyObject_CallNoArgs(state->copy_context);
    if (context == NULL)
        return NULL;
    if (self->callback == NULL) {
        self->callback = Py_NewRef(arguments[0]);
        self->context = context;
        return Py_NewRef(Py_None);
    }
    PyObject *entry = PyTuple_Pack(2, arguments[0], context);
    Py_DECREF(context);
    if (entry != NULL && self->further == NULL)
        self->further = PyList_New(0);
    int status = entry != NULL && self->further != NULL ? PyList_Append(self->further, entry) : -1;
    Py_XDECREF(entry);
    return status == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *cancel(Waiter *self, PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"msg", NULL};
    PyObject *message = Py_None;
    State *state = state_of(Py_TYPE((PyObject *)self));
    if (state == NULL || !PyArg_ParseTupleAndKeywords(arguments, keywords, "|O", names, &message))
        return NULL;
    if (self->ready)
        return Py_NewRef(Py_False);
    self->ready = self->cancelled = true;
    PyObject *old = self->message;
    self->message = Py_NewRef(message);
    Py_XDECREF(old);
    return call_soon(state, self, "resume") == 0 ? Py_NewRef(Py_True) : NULL;
}

static PyObject *result(Waiter *self, PyObject *Py_UNUSED(unused)) {
    State *state = state_of(Py_TYPE((PyObject *)self));
    if (state == NULL)
        return NULL;
    if (!self->cancelled)
        return Py_NewRef(Py_None);
    if (self->message == NULL || self->message == Py_None)
        PyErr_SetNone(state->cancelled_error);
    else
        PyErr_SetObject(state->cancelled_error, self->message);
    return NULL;
}

static PyMethodDef methods[] = {
    {"wake_later", METHOD(wake_later), METH_NOARGS, NULL},
    {"rearm", METHOD(rearm), METH_NOARGS, NULL},
    {"seen", METHOD(seen), METH_NOARGS, NULL},
    {"resume", METHOD(resume), METH_NOARGS, NULL},
    {"get_loop", METHOD(get_loop), METH_NOARGS, NULL},
    {"add_done_callback", METHOD(add_done_callback), METH_FASTCALL | METH_KEYWORDS, NULL},
    {"cancel", METHOD(cancel), METH_VARARGS | METH_KEYWORDS, NULL},
    {"result", METHOD(result), METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

#define FIELD(name, type, field, flags) {name, type, (Py_ssize_t)offsetof(Waiter, field), flags, NULL}

static PyMemberDef members[] = {
    FIELD("_asyncio_future_blocking", T_BOOL, blocking, 0),
    FIELD("woken", T_BOOL, woken, 0),
    FIELD("ready", T_BOOL, ready, READONLY),
    FIELD("loop", T_OBJECT, loop, READONLY),
    {NULL, 0, 0, 0, NULL},
};

DEFINE_TYPE(waiter_spec, Waiter, PUBLIC, clear, {Py_tp_new, SLOT(create)}, {Py_tp_repr, SLOT(repr)},
            {Py_tp_iternext, SLOT(next)}, {Py_am_await, SLOT(await)}, {Py_tp_methods, methods},
            {Py_tp_members, members}, {0, NULL});
