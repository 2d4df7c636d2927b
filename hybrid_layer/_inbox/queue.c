/* SPDX-License-Identifier: BSD-3-Clause */
/* Waiters in the order of their arrival: the list itself, and the type around it for users other than an inbox. */
#include "inbox.h"

void queue_append(struct queue *queue, Waiter *waiter) {
    waiter->queue = queue;
    waiter->previous = queue->last;
    waiter->next = NULL;
    if (queue->last != NULL)
        queue->last->next = waiter;
    else
        queue->first = waiter;
    queue->last = waiter;
    queue->length++;
    Py_INCREF((PyObject *)waiter);
}

/* Does nothing if it has left already. The caller holds `waiter`, so that this runs no Python code. */
void queue_remove(struct queue *queue, Waiter *waiter) {
    if (waiter->queue != queue)
        return;
    if (waiter->previous != NULL)
        waiter->previous->next = waiter->next;
    else
        queue->first = waiter->next;
    if (waiter->next != NULL)
        waiter->next->previous = waiter->previous;
    else
        queue->last = waiter->previous;
    waiter->queue = NULL;
    waiter->previous = waiter->next = NULL;
    queue->length--;
    Py_DECREF((PyObject *)waiter);
}

/* Runs Python code, as what the waiters held goes. */
void queue_empty(struct queue *queue) {
    while (queue->first != NULL) {
        Waiter *waiter = (Waiter *)Py_NewRef((PyObject *)queue->first);
        queue_remove(queue, waiter);
        Py_DECREF((PyObject *)waiter);
    }
}

int queue_traverse(struct queue *queue, visitproc visit, void *arg) {
    for (Waiter *waiter = queue->first; waiter != NULL; waiter = waiter->next)
        Py_VISIT(waiter);
    return 0;
}

/* Drop the waiters in front whose loop was closed without notice: they never leave by themselves. Runs Python code; the
 * caller holds what has the queue. */
int queue_forget_closed(State *state, struct queue *queue) {
    while (queue->first != NULL) {
        Waiter *waiter = (Waiter *)Py_NewRef((PyObject *)queue->first);
        int closed = is_closed(state, waiter->loop);
        if (closed > 0)
            queue_remove(queue, waiter);
        Py_DECREF((PyObject *)waiter);
        if (closed <= 0)
            return closed;
    }
    return 0;
}

/* Wake the oldest waiter that was not woken yet; a new reference to it, or NULL if there is none, or with an exception.
 * Makes `*waker` if it is needed. Runs Python code; the caller holds what has the queue. */
Waiter *queue_wake_next(State *state, struct queue *queue, Waker **waker) {
    bool behind = false;
    Waiter *waiter = queue->first;
    while (waiter != NULL) {
        if (waiter->woken) {
            behind = behind || !waiter->ready;
            waiter = waiter->next;
            continue;
        }
        Py_INCREF((PyObject *)waiter);
        if (*waker == NULL && (*waker = waker_new(state, NULL)) == NULL) {
            Py_DECREF((PyObject *)waiter);
            return NULL;
        }
        /* If it has left while the waker was made, it is woken for nothing, and the search goes on. */
        bool waits = waiter->queue == queue && !waiter->woken;
        int status = waits ? waker_wake(state, *waker, waiter, behind) : 0;
        if (status > 0)
            return waiter;
        if (waits && status == 0)
            queue_remove(queue, waiter); /* its loop is closed */
        Py_DECREF((PyObject *)waiter);
        if (status < 0)
            return NULL;
        behind = false;
        waiter = queue->first;
    }
    return NULL;
}

/* The type */

typedef struct {
    PyObject_HEAD
    struct queue queue;
} WaitQueue;

static PyObject *create(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "", names))
        return NULL;
    return PyType_GenericAlloc(type, 0);
}

static int traverse(WaitQueue *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    return queue_traverse(&self->queue, visit, arg);
}

static int clear(WaitQueue *self) {
    queue_empty(&self->queue);
    return 0;
}

static Py_ssize_t length(WaitQueue *self) { return self->queue.length; }

/* The waiter that a method was given, or NULL. */
static Waiter *waiter_of(State *state, PyObject *argument) {
    if (state == NULL)
        return NULL;
    if (Py_IS_TYPE(argument, state->waiter_type))
        return (Waiter *)argument;
    PyErr_SetString(PyExc_TypeError, "a Waiter is wanted");
    return NULL;
}

static PyObject *join(WaitQueue *self, PyObject *loop) {
    State *state = state_of(Py_TYPE((PyObject *)self));
    if (state == NULL || queue_forget_closed(state, &self->queue) < 0)
        return NULL;
    Waiter *waiter = waiter_new(state, loop);
    if (waiter != NULL)
        queue_append(&self->queue, waiter);
    return (PyObject *)waiter;
}

static PyObject *forget_closed(WaitQueue *self, PyObject *Py_UNUSED(unused)) {
    State *state = state_of(Py_TYPE((PyObject *)self));
    return state != NULL && queue_forget_closed(state, &self->queue) == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *leave_queue(WaitQueue *self, PyObject *argument) {
    Waiter *waiter = waiter_of(state_of(Py_TYPE((PyObject *)self)), argument);
    if (waiter == NULL)
        return NULL;
    queue_remove(&self->queue, waiter);
    return Py_NewRef(Py_None);
}

static PyObject *wake_next(WaitQueue *self, PyObject *argument) {
    State *state = state_of(Py_TYPE((PyObject *)self));
    if (state == NULL)
        return NULL;
    if (!Py_IS_TYPE(argument, state->waker_type)) {
        PyErr_SetString(PyExc_TypeError, "a Waker is wanted");
        return NULL;
    }
    Waker *waker = (Waker *)argument;
    Waiter *waiter = queue_wake_next(state, &self->queue, &waker);
    return waiter != NULL || PyErr_Occurred() ? (PyObject *)waiter : Py_NewRef(Py_None);
}

static PyObject *is_first(WaitQueue *self, PyObject *waiter) {
    return PyBool_FromLong(waiter == (PyObject *)self->queue.first);
}

static PyMethodDef methods[] = {
    {"join", METHOD(join), METH_O, NULL},         {"forget_closed", METHOD(forget_closed), METH_NOARGS, NULL},
    {"leave", METHOD(leave_queue), METH_O, NULL}, {"wake_next", METHOD(wake_next), METH_O, NULL},
    {"is_first", METHOD(is_first), METH_O, NULL}, {NULL, NULL, 0, NULL},
};

DEFINE_TYPE(queue_spec, WaitQueue, PUBLIC, clear, {Py_tp_new, SLOT(create)}, {Py_sq_length, SLOT(length)},
            {Py_tp_methods, methods}, {0, NULL});
