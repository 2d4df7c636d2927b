/* SPDX-License-Identifier: BSD-3-Clause */
/* Buffer and waiters of one full name. One that has neither stays until the next sweep: its consumer is likely to come
 * back at once. */
#include "inbox.h"

#define FIRST_ROOM 4

struct message *message_new(unsigned long long arrival, double deadline, PyObject *generation, PyObject *payload) {
    struct message *message = PyMem_Malloc(sizeof(*message));
    if (message == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    message->references = 1;
    message->arrival = arrival;
    message->deadline = deadline;
    message->generation = Py_NewRef(generation);
    message->payload = Py_NewRef(payload);
    return message;
}

/* Runs no Python code: what a message holds are bytes and a number. */
void message_release(struct message *message) {
    if (--message->references > 0)
        return;
    Py_DECREF(message->generation);
    Py_DECREF(message->payload);
    PyMem_Free(message);
}

static int traverse(Channel *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    return queue_traverse(&self->waiters, visit, arg);
}

static int clear(Channel *self) {
    queue_empty(&self->waiters);
    channel_clear_messages(self);
    return 0;
}

static void drop(Channel *self) {
    (void)clear(self);
    PyMem_Free(self->ring);
}

DEFINE_TYPE(channel_spec, Channel, PRIVATE, drop, {0, NULL});

/* Borrowed; NULL if there is none, or with an exception. */
Channel *channel_find(Inbox *inbox, PyObject *name) {
    return (Channel *)PyDict_GetItemWithError(inbox->channels, name);
}

/* A new reference. May run Python code, but not after it has found the channel or put it there. */
Channel *channel_find_or_add(State *state, Inbox *inbox, PyObject *name) {
    Channel *found = channel_find(inbox, name);
    if (found != NULL || PyErr_Occurred())
        return (Channel *)Py_XNewRef((PyObject *)found);
    Channel *channel = (Channel *)PyType_GenericAlloc(state->channel_type, 0);
    if (channel == NULL)
        return NULL;
    Py_ssize_t length = PyUnicode_GetLength(name);
    channel->is_whole = length > 0 && PyUnicode_ReadChar(name, length - 1) == '!';
    found = channel_find(inbox, name); /* another thread may have put it there meanwhile */
    if (found == NULL && !PyErr_Occurred() && PyDict_SetItem(inbox->channels, name, (PyObject *)channel) == 0) {
        inbox->wholes += channel->is_whole;
        return channel;
    }
    Py_XINCREF((PyObject *)found);
    Py_DECREF((PyObject *)channel);
    return found;
}

int channel_put(Channel *self, struct message *message) {
    if (self->count == self->room) {
        Py_ssize_t room = self->room > 0 ? 2 * self->room : FIRST_ROOM;
        struct message **ring = PyMem_Malloc((size_t)room * sizeof(*ring));
        if (ring == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        for (Py_ssize_t i = 0; i < self->count; i++)
            ring[i] = self->ring[(self->first + i) % self->room];
        PyMem_Free(self->ring);
        self->ring = ring;
        self->room = room;
        self->first = 0;
    }
    self->ring[(self->first + self->count++) % self->room] = message;
    message->references++;
    return 0;
}

/* The oldest message, which the caller now owns, or NULL. */
struct message *channel_take(Channel *self) {
    if (self->count == 0)
        return NULL;
    struct message *message = self->ring[self->first];
    self->first = (self->first + 1) % self->room;
    if (--self->count == 0 && self->room > FIRST_ROOM) { /* a backlog that is over keeps no memory */
        PyMem_Free(self->ring);
        self->ring = NULL;
        self->room = self->first = 0;
    }
    return message;
}

void channel_clear_messages(Channel *self) {
    for (struct message *message; (message = channel_take(self)) != NULL;)
        message_release(message);
}

/* The channel of `part` whose first message arrived first, borrowed, or NULL. Linear, for a form of receive() that is
 * rare. */
Channel *channel_oldest(Inbox *inbox, PyObject *part) {
    Channel *best = NULL;
    PyObject *name, *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(inbox->channels, &position, &name, &value)) {
        Channel *channel = (Channel *)value;
        if (channel->count > 0 &&
            (best == NULL || channel->ring[channel->first]->arrival < best->ring[best->first]->arrival) &&
            PyUnicode_Tailmatch(name, part, 0, PY_SSIZE_T_MAX, -1) > 0)
            best = channel;
    }
    return best;
}
