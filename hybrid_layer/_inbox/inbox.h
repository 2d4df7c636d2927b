/* SPDX-License-Identifier: BSD-3-Clause */
/* The types of the extension `hybrid_layer._inbox`: what `hybrid_layer/interpreted` does in Python, for speed.
 *
 * Nothing here is global: the module's state holds what the code needs of other modules, so that it is there for as
 * long as an object of these types is, even while the interpreter ends, and for each interpreter on its own.
 *
 * There is no lock. Under the interpreter's own lock, code that runs no Python code is one step. Each function tells
 * where it may run some: there, another thread may use the same objects, and the collector may close a coroutine, which
 * leaves. So nothing that was read before is believed afterwards. */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <structmember.h>

typedef struct {
    PyTypeObject *channel_type, *inbox_type, *loop_type, *queue_type, *receive_type, *waiter_type, *waker_type;
    PyObject *cancelled_error;  /* asyncio.CancelledError */
    PyObject *copy_context;     /* contextvars.copy_context */
    PyObject *get_running_loop; /* asyncio._get_running_loop: None where none runs */
    PyObject *monotonic;        /* hybrid_layer.clock.monotonic */
    PyObject *tell_slow;        /* hybrid_layer.statistics.tell_slow */
    PyObject *call_soon, *call_soon_threadsafe, *capacity_for, *count, *expired, *is_closed, *poll, *received,
        *on_cancel, *run, *seen; /* names */
} State;

/* NULL, with an exception, once the collector has taken the module of `type` apart. */
State *state_of(PyTypeObject *type);

typedef struct waiter Waiter;

/* Waiters in the order of their arrival. Each link owns its waiter. */
struct queue {
    Waiter *first, *last;
    Py_ssize_t length;
};

/* How many coroutines of one event loop wait in an inbox, and how many of them with nothing to take. */
typedef struct {
    PyObject_HEAD
    PyObject *loop;
    Py_ssize_t waiting, unserved;
} Loop;

/* One coroutine that waits; awaited in place of an asyncio.Future. */
struct waiter {
    PyObject_HEAD
    PyObject *loop;
    Loop *counts; /* NULL outside an inbox */
    PyObject *callback, *context;
    PyObject *further; /* a list of (callback, context), or NULL: a task adds one callback */
    PyObject *message; /* of the cancellation */
    struct queue *queue;
    Waiter *previous, *next;
    char woken, ready, cancelled, blocking, awaited;
};

/* Wakes any number of waiters at one moment. Those of the loop that runs there go on in one callback: this object. */
typedef struct {
    PyObject_HEAD
    PyObject *here; /* a loop, or None */
    Waiter **waiters;
    Py_ssize_t next, count, room;
} Waker;

/* What was delivered at one moment, to any number of channels. */
struct message {
    Py_ssize_t references;
    unsigned long long arrival;
    double deadline;
    PyObject *generation, *payload;
};

/* Buffer and waiters of one full name. */
typedef struct {
    PyObject_HEAD
    struct queue waiters;
    struct message **ring;
    Py_ssize_t first, count, room;
    bool is_whole;
} Channel;

#define TURNS 16        /* messages that receive() hands out without giving the event loop a turn */
#define FEW_CHANNELS 64 /* idle ones that are not worth a sweep */

typedef struct {
    PyObject_HEAD
    PyObject *policy, *statistics;
    PyObject *capacity_for, *count_event; /* their methods */
    PyObject *generations;                /* NULL: messages are never flushed */
    PyObject *channels;                   /* dict: name -> Channel */
    PyObject *loops;                      /* dict: event loop -> Loop */
    unsigned long long arrivals;
    Py_ssize_t wholes, most;
    int turns;
    double next_sweep;
} Inbox;

/* waiter.c */
extern PyType_Spec waiter_spec;
Waiter *waiter_new(State *state, PyObject *loop);
int waiter_resume(State *state, Waiter *waiter);
int waiter_wake_later(State *state, Waiter *waiter);

/* queue.c */
extern PyType_Spec queue_spec;
void queue_append(struct queue *queue, Waiter *waiter);
void queue_remove(struct queue *queue, Waiter *waiter);
void queue_empty(struct queue *queue);
int queue_traverse(struct queue *queue, visitproc visit, void *arg);
int queue_forget_closed(State *state, struct queue *queue);
Waiter *queue_wake_next(State *state, struct queue *queue, Waker **waker);

/* waker.c */
extern PyType_Spec waker_spec;
Waker *waker_new(State *state, PyObject *here);
int waker_wake(State *state, Waker *waker, Waiter *waiter, bool behind);

/* loops.c */
extern PyType_Spec loop_spec;
int is_closed(State *state, PyObject *loop);
Loop *loops_of(State *state, Inbox *inbox, PyObject *loop);
int loops_forget_closed(State *state, Inbox *inbox);
PyObject *loops_unserved(State *state, Inbox *inbox, PyObject *preferred);

/* channel.c */
extern PyType_Spec channel_spec;
struct message *message_new(unsigned long long arrival, double deadline, PyObject *generation, PyObject *payload);
void message_release(struct message *message);
Channel *channel_find(Inbox *inbox, PyObject *name);
Channel *channel_find_or_add(State *state, Inbox *inbox, PyObject *name);
int channel_put(Channel *channel, struct message *message);
struct message *channel_take(Channel *channel);
void channel_clear_messages(Channel *channel);
Channel *channel_oldest(Inbox *inbox, PyObject *part);

/* steps.c */
double monotonic(State *state);
int count_event(Inbox *inbox, PyObject *event);
int wake(State *state, Inbox *inbox, PyObject *name, Channel *channel, Waker **waker);
int leave(State *state, Inbox *inbox, PyObject *name, Channel *channel, Waiter *waiter);
PyObject *take(State *state, Inbox *inbox, PyObject *name, Channel *channel);
int sweep(State *state, Inbox *inbox, double now);
int sweep_if_due(State *state, Inbox *inbox);

/* inbox.c and receive.c */
extern PyType_Spec inbox_spec, receive_spec;
PyObject *receive_new(State *state, Inbox *inbox, PyObject *const *arguments);

/* Casts that the tables of types want. */
#define METHOD(function) ((PyCFunction)(void (*)(void))(function))
#define SLOT(function) ((void *)(function))

/* What is done to each object that another one owns: a file lists them in OWNED, so that none is forgotten. */
#define VISIT(field) Py_VISIT(self->field);
#define CLEAR(field) Py_CLEAR(self->field);

#define PUBLIC (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE)
#define PRIVATE (PUBLIC | Py_TPFLAGS_DISALLOW_INSTANTIATION) /* made by functions of this module only */

/* The specification of a type. Its file has traverse(), clear(), and `drop`, which gives up what an object has as it
 * goes. The slots that not every type has follow. */
#define DEFINE_TYPE(spec, type, type_flags, drop, ...)      \
    static void dealloc(type *self) {                       \
        PyTypeObject *its_type = Py_TYPE((PyObject *)self); \
        PyObject_GC_UnTrack(self);                          \
        (void)drop(self);                                   \
        PyObject_GC_Del(self);                              \
        Py_DECREF(its_type);                                \
    }                                                       \
    static PyType_Slot slots[] = {                          \
        {Py_tp_dealloc, SLOT(dealloc)},                     \
        {Py_tp_traverse, SLOT(traverse)},                   \
        {Py_tp_clear, SLOT(clear)},                         \
        __VA_ARGS__,                                        \
    };                                                      \
    PyType_Spec spec = {                                    \
        .name = "hybrid_layer._inbox." #type,               \
        .basicsize = sizeof(type),                          \
        .flags = type_flags,                                \
        .slots = slots,                                     \
    }
