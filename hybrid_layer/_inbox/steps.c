/* SPDX-License-Identifier: BSD-3-Clause */
/* What an inbox does on both of its sides: take, wake, leave, sweep. */
#include "inbox.h"

#include <time.h>

#define SWEEP_INTERVAL 1.0 /* seconds between two looks for expired messages that are not received */

/* Seconds on the clock of `hybrid_layer.clock`, or -1 with an exception. */
double monotonic(State *state) {
#ifdef CLOCK_MONOTONIC
    struct timespec now;
    (void)state;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#else
    PyObject *now = PyObject_CallNoArgs(state->monotonic);
    double seconds = now != NULL ? PyFloat_AsDouble(now) : -1.0;
    Py_XDECREF(now);
    return seconds;
#endif
}

/* Runs Python code. */
int count_event(Inbox *inbox, PyObject *event) {
    PyObject *result = PyObject_CallFunctionObjArgs(inbox->count_event, event, NULL);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

/* 1: a waiter is woken. 0: there is none. -1: an exception. Runs Python code. */
static int wake_next(State *state, Channel *channel, Waker **waker) {
    if (channel->waiters.length == 0)
        return 0;
    Waiter *waiter = queue_wake_next(state, &channel->waiters, waker);
    if (waiter == NULL)
        return PyErr_Occurred() ? -1 : 0;
    Py_DECREF((PyObject *)waiter);
    return 1;
}

/* The channel of all of the part that `name` is in: a new reference, or NULL, perhaps with an exception. */
static Channel *whole_of(Inbox *inbox, PyObject *name) {
    Py_ssize_t length = PyUnicode_GetLength(name);
    Py_ssize_t mark = PyUnicode_FindChar(name, '!', 0, length, 1);
    if (mark < 0 || mark == length - 1)
        return NULL;
    PyObject *part = PyUnicode_Substring(name, 0, mark + 1);
    Channel *whole = part != NULL ? channel_find(inbox, part) : NULL;
    Py_XINCREF((PyObject *)whole);
    Py_XDECREF(part);
    return whole;
}

/* Wake the coroutine that has waited longest for `name`, else one that waits for its whole part. Runs Python code; the
 * caller holds the channel. */
int wake(State *state, Inbox *inbox, PyObject *name, Channel *channel, Waker **waker) {
    int status = wake_next(state, channel, waker);
    if (status != 0 || inbox->wholes == 0)
        return status < 0 ? -1 : 0;
    Channel *whole = whole_of(inbox, name);
    if (whole == NULL)
        return PyErr_Occurred() ? -1 : 0;
    status = wake_next(state, whole, waker);
    Py_DECREF((PyObject *)whole);
    return status < 0 ? -1 : 0;
}

/* A wake is one message's; a waiter that leaves with more to take, or without having taken, passes it on. Runs Python
 * code, but not before the place is given up; the caller holds channel and waiter. */
int leave(State *state, Inbox *inbox, PyObject *name, Channel *channel, Waiter *waiter) {
    Waker *waker = NULL;
    int status = 0;
    queue_remove(&channel->waiters, waiter);
    if (state == NULL)
        PyErr_Clear(); /* the collector has taken the module apart: no waiter is left to be woken */
    else if (channel->count > 0)
        status = wake(state, inbox, name, channel, &waker);
    else if (channel->is_whole && channel->waiters.length > 0 && channel_oldest(inbox, name) != NULL)
        status = wake_next(state, channel, &waker);
    Py_XDECREF((PyObject *)waker);
    return status < 0 ? -1 : 0;
}

/* 1: it may be handed out. 0: it was flushed or has expired, which is counted. -1: an exception. Runs Python code if it
 * has expired. */
static int is_good(State *state, Inbox *inbox, struct message *message, PyObject *generations) {
    int good = generations == NULL ? 1 : PySequence_Contains(generations, message->generation);
    if (good <= 0)
        return good;
    double now = monotonic(state);
    if (now < 0 && PyErr_Occurred())
        return -1;
    if (message->deadline > now)
        return 1;
    return count_event(inbox, state->expired);
}

/* The next payload that is neither expired nor flushed; NULL if there is none, or with an exception. Runs Python code,
 * but none after it has found that there is nothing. */
PyObject *take(State *state, Inbox *inbox, PyObject *name, Channel *channel) {
    for (;;) {
        Channel *from = channel->is_whole ? channel_oldest(inbox, name) : channel;
        if (from == NULL || from->count == 0)
            return NULL;
        /* Before the message is taken: a signal handler may raise, and then it has to stay. */
        PyObject *generations = inbox->generations != NULL ? PyObject_CallNoArgs(inbox->generations) : NULL;
        if (generations == NULL && inbox->generations != NULL)
            return NULL;
        from = channel->is_whole ? channel_oldest(inbox, name) : channel;
        struct message *message = from != NULL ? channel_take(from) : NULL;
        if (message == NULL) { /* another coroutine has taken it meanwhile */
            Py_XDECREF(generations);
            continue;
        }
        int good = is_good(state, inbox, message, generations);
        Py_XDECREF(generations);
        PyObject *payload = good > 0 ? Py_NewRef(message->payload) : NULL;
        message_release(message);
        if (good != 0)
            return payload;
    }
}

static int drop_expired(State *state, Inbox *inbox, Channel *channel, double now) {
    long number = 0;
    for (; channel->count > 0 && channel->ring[channel->first]->deadline <= now; number++)
        message_release(channel_take(channel));
    if (number == 0)
        return 0;
    PyObject *n = PyLong_FromLong(number);
    PyObject *result = n != NULL ? PyObject_CallFunctionObjArgs(inbox->count_event, state->expired, n, NULL) : NULL;
    Py_XDECREF(n);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

static int sweep_channel(State *state, Inbox *inbox, PyObject *name, Channel *channel, double now, Waker **waker) {
    if (drop_expired(state, inbox, channel, now) < 0 || queue_forget_closed(state, &channel->waiters) < 0)
        return -1;
    if (channel->count > 0)
        return wake(state, inbox, name, channel, waker); /* a message's waiter may just have been forgotten */
    if (channel->waiters.length > 0 || channel_find(inbox, name) != channel)
        return 0;
    inbox->wholes -= channel->is_whole;
    return PyDict_DelItem(inbox->channels, name);
}

/* Free what expired unread, so that a closed consumer's messages do not stay for ever, and what is idle. Nothing else
 * forgets a channel. Runs Python code. */
int sweep(State *state, Inbox *inbox, double now) {
    Waker *waker = NULL;
    inbox->next_sweep = now + SWEEP_INTERVAL;
    PyObject *names = PyDict_Keys(inbox->channels);
    int status = names != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; status == 0 && i < PyList_Size(names); i++) {
        PyObject *name = PyList_GetItem(names, i);
        Channel *channel = channel_find(inbox, name);
        if (channel == NULL)
            continue;
        Py_INCREF((PyObject *)channel);
        status = sweep_channel(state, inbox, name, channel, now, &waker);
        Py_DECREF((PyObject *)channel);
    }
    Py_XDECREF(names);
    Py_XDECREF((PyObject *)waker);
    inbox->most = 2 * PyDict_Size(inbox->channels) + FEW_CHANNELS;
    return status == 0 ? loops_forget_closed(state, inbox) : -1;
}

/* As a channel comes, or a message: if it is time, or if there are so many that some may be idle. Runs Python code. */
int sweep_if_due(State *state, Inbox *inbox) {
    double now = monotonic(state);
    if (now < 0 && PyErr_Occurred())
        return -1;
    return now >= inbox->next_sweep || PyDict_Size(inbox->channels) >= inbox->most ? sweep(state, inbox, now) : 0;
}
