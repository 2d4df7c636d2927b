/* The Python side of the core: arguments in, one operation, result out. No logic of its own but the ringing afterwards.
 *
 * The interpreter's lock: RUN tries the operation while it is held; if the segment's lock is busy, it is released for the
 * whole operation and taken back after the segment's lock was given back. Nobody ever waits for the interpreter with the
 * segment's lock in hand, and no Python object is touched under it. RUN and UNLOCKED are the only places that release it.
 */
#include "operations.h" /* before Python.h: it asks for the system's extensions */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "checker.h"
#include "doorbells.h"
#include "holds.h"
#include "liveness.h"
#include "segment.h"

#define SMALL_BUFFER (LARGE + 256u) /* every payload that is not held fits */
#define RINGING_ROUNDS 8u

#define RUN(operation, ...)                                                                                                \
    do {                                                                                                                   \
        status = operation(handle, TRY, __VA_ARGS__);                                                                      \
        if (status == BUSY) {                                                                                              \
            Py_BEGIN_ALLOW_THREADS status = operation(handle, WAIT, __VA_ARGS__);                                          \
            Py_END_ALLOW_THREADS                                                                                           \
        }                                                                                                                  \
    } while (0)

#define UNLOCKED(statement)                                                                                                \
    do {                                                                                                                   \
        Py_BEGIN_ALLOW_THREADS statement;                                                                                  \
        Py_END_ALLOW_THREADS                                                                                               \
    } while (0)

typedef struct {
    PyObject_HEAD
    struct handle handle;
    struct doorbells doorbells;
} Segment;

static PyObject *error_busy, *error_damaged, *error_detached, *error_full, *error_gone, *error_no_memory, *error_no_slot;

static PyObject *raise_status(enum status status) {
    switch (status) {
    case BUSY:
        PyErr_SetNone(error_busy);
        break;
    case FULL:
        PyErr_SetNone(error_full);
        break;
    case NO_MEMORY:
        PyErr_SetNone(error_no_memory);
        break;
    case NO_SLOT:
        PyErr_SetNone(error_no_slot);
        break;
    case GONE:
        PyErr_SetNone(error_gone);
        break;
    case DETACHED:
        PyErr_SetNone(error_detached);
        break;
    case SYSTEM_ERROR:
        PyErr_SetFromErrno(PyExc_OSError);
        break;
    default:
        PyErr_SetNone(error_damaged);
    }
    return NULL;
}

/* Arguments */

static bool name_of(PyObject *object, struct name *name, size_t most) {
    Py_ssize_t length;
    name->bytes = PyUnicode_AsUTF8AndSize(object, &length);
    if (name->bytes == NULL)
        return false;
    if ((size_t)length > most) {
        PyErr_Format(PyExc_ValueError, "a name of %zd bytes", length);
        return false;
    }
    name->length = (size_t)length;
    return true;
}

static bool channel_of(PyObject *object, struct name *name) {
    if (!name_of(object, name, NAME_MAX_LENGTH))
        return false;
    if (name->length == 0)
        PyErr_SetString(PyExc_ValueError, "an empty name");
    return name->length != 0;
}

static bool u32_of(PyObject *object, uint32_t *value) {
    unsigned long number = PyLong_AsUnsignedLong(object);
    if (number == (unsigned long)-1 && PyErr_Occurred())
        return false;
    *value = number > UINT32_MAX - 1 ? UINT32_MAX - 1 : (uint32_t)number;
    return true;
}

static bool u64_of(PyObject *object, uint64_t *value) {
    *value = PyLong_AsUnsignedLongLong(object);
    return !(*value == (uint64_t)-1 && PyErr_Occurred());
}

static bool loop_number_of(PyObject *object, uint32_t *loop) {
    long number = PyLong_AsLong(object);
    if (number == -1 && PyErr_Occurred())
        return false;
    *loop = number >= 0 && number < (long)LOOPS ? (uint32_t)number : NO_LOOP;
    return true;
}

static bool wants(const char *function, Py_ssize_t given, Py_ssize_t expected) {
    if (given != expected)
        PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, %zd given", function, expected, given);
    return given == expected;
}

/* Ringing */

static void rings_of_everybody(struct handle *handle, struct rings *rings) {
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        for (uint32_t loop = 0; handle->slots[slot].published && loop < LOOPS; loop++) {
            struct loop_slot *waiting = &handle->slots[slot].loops[loop];
            if (waiting->in_use)
                rings_add_loop(rings, slot, atomic_load(&handle->slots[slot].generation), loop,
                               atomic_load(&waiting->state));
        }
}

/* Rings other processes' loops. The result is a bit for each loop of our own, which the caller wakes without a doorbell. */
static unsigned long ring_all(Segment *self, struct rings *rings) {
    struct handle *handle = &self->handle;
    unsigned long own = 0;
    if (atomic_exchange(&handle->ring_everybody, false))
        rings_of_everybody(handle, rings);
    for (uint32_t round = 0; rings->count > 0 && round < RINGING_ROUNDS; round++) {
        struct rings failed;
        rings_open(&failed);
        for (uint32_t i = 0; i < rings->count; i++) {
            struct ring *ring = &rings->items[i];
            if (ring->slot == handle->private->slot) {
                own |= 1ul << ring->loop;
            } else if (doorbell_ring(&self->doorbells, ring)) {
                ring_succeeded(handle, ring);
            } else {
                /* That loop is gone. Its waiters go, and others are woken for what they were to take. */
                enum status status;
                RUN(op_ring_failed, ring, &failed);
                (void)status; /* if this fails, the others' next look around finds the message */
            }
        }
        rings_close(rings);
        *rings = failed;
        if (failed.items == failed.few)
            rings->items = rings->few;
    }
    rings_close(rings);
    return own;
}

static PyObject *own_loops(Segment *self, enum status status, struct rings *rings) {
    unsigned long own = ring_all(self, rings);
    return status == OK ? PyLong_FromUnsignedLong(own) : raise_status(status);
}

/* Sending */

/* Copies a large payload into blocks of its own, without any lock. Leaves NO_HOLD where the operation has to copy itself. */
static enum status hold_large(struct handle *handle, struct name local, const void *payload, size_t size, bool is_payload,
                              uint32_t *hold) {
    enum status status;
    *hold = NO_HOLD;
    if (size <= LARGE)
        return OK;
    uint32_t reserved;
    RUN(op_hold_reserve, local.length, size, is_payload, &reserved);
    if (status == NO_SLOT)
        return OK;
    if (status != OK)
        return status;
    bool filled;
    UNLOCKED(filled = hold_fill(handle, reserved, local, payload, size, is_payload));
    *hold = reserved;
    return filled ? OK : DAMAGED;
}

static void let_go(struct handle *handle, uint32_t hold) {
    enum status status;
    if (hold != NO_HOLD)
        RUN(op_hold_release, hold);
}

static PyObject *segment_push(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct handle *handle = &self->handle;
    struct push push;
    char *payload;
    Py_ssize_t size;
    if (!wants("push", count_of_args, 5) || !channel_of(args[0], &push.channel) ||
        !name_of(args[1], &push.local, NAME_MAX_LENGTH) || PyBytes_AsStringAndSize(args[2], &payload, &size) < 0 ||
        !u32_of(args[3], &push.capacity) || !u64_of(args[4], &push.expiry_ns))
        return NULL;
    if ((uint64_t)size > UINT32_MAX / 2) {
        PyErr_SetString(PyExc_ValueError, "a payload of more than 2 GiB");
        return NULL;
    }
    push.payload = payload;
    push.size = (size_t)size;
    uint32_t hold;
    struct rings rings;
    enum status status = hold_large(handle, push.local, payload, push.size, false, &hold);
    rings_open(&rings);
    if (status == OK) {
        push.held = hold;
        RUN(op_push, &push, &rings);
    }
    if (status != OK)
        let_go(handle, hold);
    if (status == GONE) /* counted; the sender cannot know */
        status = OK;
    return own_loops(self, status, &rings);
}

static PyObject *segment_group_send(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct handle *handle = &self->handle;
    struct group_send send;
    struct capacity_of *others = NULL;
    char *payload;
    Py_ssize_t size, position = 0, number;
    PyObject *key, *value;
    if (!wants("group_send", count_of_args, 5) || !channel_of(args[0], &send.group) ||
        PyBytes_AsStringAndSize(args[1], &payload, &size) < 0 || !u32_of(args[2], &send.capacity) ||
        !u64_of(args[4], &send.expiry_ns) || (number = PyDict_Size(args[3])) < 0)
        return NULL;
    send.payload = payload;
    send.size = (size_t)size;
    if (number > 0 && (others = malloc((size_t)number * sizeof *others)) == NULL)
        return PyErr_NoMemory();
    for (send.others_count = 0; PyDict_Next(args[3], &position, &key, &value); send.others_count++)
        if (!channel_of(key, &others[send.others_count].target) || !u32_of(value, &others[send.others_count].capacity)) {
            free(others);
            return NULL;
        }
    send.others = others;
    struct name no_local = {"", 0};
    struct rings rings;
    rings_open(&rings);
    enum status status = hold_large(handle, no_local, payload, send.size, true, &send.held);
    uint32_t hold = send.held;
    if (status == OK)
        RUN(op_group_send, &send, &rings);
    if (status != OK)
        let_go(handle, hold);
    free(others);
    return own_loops(self, status, &rings);
}

/* Receiving */

static PyObject *read_held(struct handle *handle, uint32_t hold, size_t size) {
    PyObject *payload = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    bool read = false;
    if (payload != NULL) {
        char *bytes = PyBytes_AsString(payload); /* nobody else knows this object yet */
        UNLOCKED(read = hold_read(handle, hold, bytes, size));
    }
    let_go(handle, hold);
    if (payload != NULL && !read) {
        Py_DECREF(payload);
        return raise_status(DAMAGED);
    }
    return payload;
}

static PyObject *segment_pop(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct handle *handle = &self->handle;
    struct name name;
    uint32_t loop;
    char small[4096];
    if (!wants("pop", count_of_args, 2) || !channel_of(args[0], &name) || !loop_number_of(args[1], &loop))
        return NULL;
    struct taken taken = {.buffer = small, .size = sizeof small, .hold = NO_HOLD};
    struct rings rings;
    enum status status;
    rings_open(&rings);
    RUN(op_pop, name, loop, &taken, &rings);
    while (status == NO_SPACE) {
        size_t size = taken.used;
        if (taken.buffer != small)
            free(taken.buffer);
        taken.buffer = malloc(size);
        taken.size = size;
        if (taken.buffer == NULL) {
            rings_close(&rings);
            return PyErr_NoMemory();
        }
        RUN(op_pop, name, loop, &taken, &rings);
    }
    PyObject *payload = NULL;
    if (status == OK)
        payload = taken.hold != NO_HOLD ? read_held(handle, taken.hold, taken.held)
                                        : PyBytes_FromStringAndSize(taken.buffer, (Py_ssize_t)taken.used);
    else if (status == EMPTY)
        payload = Py_NewRef(Py_None);
    if (taken.buffer != small)
        free(taken.buffer);
    unsigned long own = ring_all(self, &rings);
    if (payload == NULL)
        return PyErr_Occurred() ? NULL : raise_status(status);
    return Py_BuildValue("(Nk)", payload, own);
}

static PyObject *names_list(const char *names, size_t size, uint32_t most) {
    PyObject *list = PyList_New(0);
    for (size_t at = 0; list != NULL && at < size && most > 0; at += 1 + (unsigned char)names[at], most--) {
        PyObject *name = PyUnicode_DecodeUTF8(names + at + 1, (unsigned char)names[at], "replace");
        if (name == NULL || PyList_Append(list, name) < 0)
            Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}

static PyObject *drained_list(struct handle *handle, const struct taken *taken) {
    PyObject *list = PyList_New(0);
    size_t at = 0;
    while (list != NULL && at < taken->used) {
        struct drained item;
        memcpy(&item, taken->buffer + at, sizeof item);
        at += sizeof item;
        PyObject *names = names_list(taken->buffer + at, item.names_size, item.names);
        at += item.names_size;
        PyObject *payload;
        if (item.is_held) {
            payload = read_held(handle, taken->hold, taken->held);
        } else {
            payload = PyBytes_FromStringAndSize(taken->buffer + at, (Py_ssize_t)item.size);
            at += item.size;
        }
        PyObject *tuple = NULL;
        if (names != NULL && payload != NULL)
            tuple = Py_BuildValue("(OOd)", names, payload, (double)item.deadline / 1e9);
        Py_XDECREF(names);
        Py_XDECREF(payload);
        if (tuple == NULL || PyList_Append(list, tuple) < 0)
            Py_CLEAR(list);
        Py_XDECREF(tuple);
    }
    return list;
}

static PyObject *segment_drain(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct handle *handle = &self->handle;
    struct name name;
    uint32_t loop;
    if (!wants("drain", count_of_args, 2) || !channel_of(args[0], &name) || !loop_number_of(args[1], &loop))
        return NULL;
    char small[8192];
    struct taken taken = {.buffer = small, .size = sizeof small, .hold = NO_HOLD};
    enum status status;
    RUN(op_drain, name, loop, &taken);
    while (status == NO_SPACE) {
        size_t size = taken.used > SMALL_BUFFER ? taken.used : SMALL_BUFFER;
        if (taken.buffer != small)
            free(taken.buffer);
        taken.buffer = malloc(size);
        taken.size = size;
        if (taken.buffer == NULL)
            return PyErr_NoMemory();
        RUN(op_drain, name, loop, &taken);
    }
    PyObject *result = NULL;
    if (status == OK) {
        PyObject *messages = drained_list(handle, &taken);
        if (messages != NULL)
            result = Py_BuildValue("(NO)", messages, taken.left ? Py_True : Py_False);
    } else {
        raise_status(status);
    }
    if (taken.buffer != small)
        free(taken.buffer);
    return result;
}

/* Names, waiting, groups */

#define CHECKED(call)                                                                                                      \
    do {                                                                                                                   \
        call;                                                                                                              \
        if (status != OK)                                                                                                  \
            return raise_status(status);                                                                                   \
        Py_RETURN_NONE;                                                                                                    \
    } while (0)

static PyObject *segment_open_inbox(Segment *self, PyObject *argument) {
    struct handle *handle = &self->handle;
    enum status status;
    struct name name;
    if (!channel_of(argument, &name))
        return NULL;
    CHECKED(RUN(op_inbox, name, true));
}

static PyObject *segment_close_inbox(Segment *self, PyObject *argument) {
    struct handle *handle = &self->handle;
    enum status status;
    struct name name;
    if (!channel_of(argument, &name))
        return NULL;
    CHECKED(RUN(op_inbox, name, false));
}

static PyObject *segment_wait(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct handle *handle = &self->handle;
    enum status status;
    struct name name;
    uint32_t loop;
    if (!wants("wait", count_of_args, 2) || !channel_of(args[0], &name) || !loop_number_of(args[1], &loop))
        return NULL;
    RUN(op_wait, name, loop);
    if (status != EMPTY)
        return raise_status(status);
    Py_RETURN_NONE;
}

static PyObject *segment_unwait(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct handle *handle = &self->handle;
    enum status status;
    struct name name;
    uint32_t loop;
    if (!wants("unwait", count_of_args, 2) || !channel_of(args[0], &name) || !loop_number_of(args[1], &loop))
        return NULL;
    struct rings rings;
    rings_open(&rings);
    RUN(op_unwait, name, loop, &rings);
    return own_loops(self, status, &rings);
}

static PyObject *segment_group_add(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct handle *handle = &self->handle;
    enum status status;
    struct name group, target, local;
    uint64_t expiry_ns;
    if (!wants("group_add", count_of_args, 4) || !channel_of(args[0], &group) || !channel_of(args[1], &target) ||
        !name_of(args[2], &local, NAME_MAX_LENGTH) || !u64_of(args[3], &expiry_ns))
        return NULL;
    CHECKED(RUN(op_group_add, group, target, local, expiry_ns));
}

static PyObject *segment_group_discard(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct handle *handle = &self->handle;
    enum status status;
    struct name group, target, local;
    if (!wants("group_discard", count_of_args, 3) || !channel_of(args[0], &group) || !channel_of(args[1], &target) ||
        !name_of(args[2], &local, NAME_MAX_LENGTH))
        return NULL;
    CHECKED(RUN(op_group_discard, group, target, local));
}

static PyObject *segment_group_targets(Segment *self, PyObject *argument) {
    struct handle *handle = &self->handle;
    enum status status;
    struct name group;
    char small[4096], *names = small;
    size_t size = sizeof small, used;
    if (!channel_of(argument, &group))
        return NULL;
    RUN(op_group_targets, group, names, size, &used);
    while (status == NO_SPACE) {
        size = used;
        if (names != small)
            free(names);
        names = malloc(size);
        if (names == NULL)
            return PyErr_NoMemory();
        RUN(op_group_targets, group, names, size, &used);
    }
    PyObject *list = status == OK ? names_list(names, used, UINT32_MAX) : raise_status(status);
    if (names != small)
        free(names);
    return list;
}

/* Loops */

static PyObject *segment_open_loop(Segment *self, PyObject *unused) {
    struct handle *handle = &self->handle;
    enum status status;
    uint32_t loop;
    (void)unused;
    RUN(op_loop_open, &loop);
    return status == OK ? PyLong_FromUnsignedLong(loop) : raise_status(status);
}

static PyObject *segment_close_loop(Segment *self, PyObject *argument) {
    struct handle *handle = &self->handle;
    enum status status;
    uint32_t loop;
    if (!loop_number_of(argument, &loop))
        return NULL;
    struct rings rings;
    rings_open(&rings);
    RUN(op_loop_close, loop, &rings);
    return own_loops(self, status, &rings);
}

static PyObject *segment_collect(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct handle *handle = &self->handle;
    enum status status;
    uint32_t loop;
    char names[8192];
    size_t used;
    bool left;
    if (!wants("collect", count_of_args, 2) || !loop_number_of(args[0], &loop))
        return NULL;
    int sleep = PyObject_IsTrue(args[1]);
    if (sleep < 0)
        return NULL;
    RUN(op_collect, loop, sleep != 0, names, sizeof names, &used, &left);
    if (status == EMPTY)
        Py_RETURN_NONE;
    return status == OK ? names_list(names, used, UINT32_MAX) : raise_status(status);
}

static PyObject *segment_repoll(Segment *self, PyObject *argument) {
    struct handle *handle = &self->handle;
    enum status status;
    uint32_t loop;
    if (!loop_number_of(argument, &loop))
        return NULL;
    CHECKED(RUN(op_repoll, loop));
}

static PyObject *segment_doorbell(Segment *self, PyObject *argument) {
    uint32_t loop;
    char path[4096];
    struct private_page *page = self->handle.private;
    if (!loop_number_of(argument, &loop))
        return NULL;
    if (!doorbell_path(&self->doorbells, page->slot, page->generation, loop, path, sizeof path)) {
        PyErr_SetString(PyExc_ValueError, "the doorbell's path is too long");
        return NULL;
    }
    return PyUnicode_DecodeFSDefault(path);
}

/* The rest */

static PyObject *segment_flush(Segment *self, PyObject *unused) {
    struct handle *handle = &self->handle;
    enum status status = op_flush(handle, TRY);
    (void)unused;
    if (status == BUSY)
        UNLOCKED(status = op_flush(handle, WAIT));
    return status == OK ? Py_NewRef(Py_None) : raise_status(status);
}

static PyObject *segment_join_method(Segment *self, PyObject *unused) {
    enum status status;
    (void)unused;
    UNLOCKED(status = segment_join(&self->handle));
    return status == OK ? Py_NewRef(Py_None) : raise_status(status);
}

static PyObject *segment_leave_method(Segment *self, PyObject *unused) {
    enum status status;
    (void)unused;
    UNLOCKED(status = segment_leave(&self->handle));
    return status == OK ? Py_NewRef(Py_None) : raise_status(status);
}

static PyObject *segment_is_deserted_method(Segment *self, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(segment_is_deserted(&self->handle));
}

static PyObject *segment_is_needed_method(Segment *self, PyObject *unused) {
    struct handle *handle = &self->handle;
    enum status status;
    bool needed;
    (void)unused;
    RUN(op_is_needed, &needed);
    return status == OK ? PyBool_FromLong(needed) : raise_status(status);
}

/* None: all is well. Otherwise why this process has to attach anew. */
static PyObject *segment_lost(Segment *self, PyObject *unused) {
    struct handle *handle = &self->handle;
    bool linked = true;
    (void)unused;
    if (!handle->private->attached)
        return PyUnicode_FromString("fork");
    if (!liveness_descriptor_is_ours(handle, &linked))
        return PyUnicode_FromString("descriptor");
    if (!linked)
        return PyUnicode_FromString("unlinked");
    if (atomic_load(&handle->header->retired))
        return PyUnicode_FromString("retired");
    /* A record lock that is ours already is granted again; one that was lost when some code closed a descriptor of the same
     * file, and that nobody has taken, is ours anew. */
    if (liveness_claim(handle, handle->private->slot) != OK ||
        atomic_load(&handle->slots[handle->private->slot].generation) != handle->private->generation)
        return PyUnicode_FromString("slot");
    Py_RETURN_NONE;
}

static PyObject *segment_count(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    uint32_t counter;
    uint64_t number;
    if (!wants("count", count_of_args, 2) || !u32_of(args[0], &counter) || !u64_of(args[1], &number))
        return NULL;
    if (counter >= COUNTERS) {
        PyErr_SetString(PyExc_ValueError, "no such counter");
        return NULL;
    }
    count(&self->handle, (enum counter)counter, number);
    Py_RETURN_NONE;
}

static PyObject *segment_counters(Segment *self, PyObject *unused) {
    (void)unused;
    PyObject *list = PyList_New(COUNTERS);
    for (Py_ssize_t i = 0; list != NULL && i < (Py_ssize_t)COUNTERS; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(atomic_load(&self->handle.header->counters[i]));
        if (number == NULL || PyList_SetItem(list, i, number) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *segment_check(Segment *self, PyObject *unused) {
    struct handle *handle = &self->handle;
    enum status status;
    char error[160];
    uint64_t totals[TOTALS];
    (void)unused;
    RUN(op_check, error, sizeof error, totals);
    if (status != OK)
        return raise_status(status);
    PyObject *list = PyList_New(TOTALS);
    for (Py_ssize_t i = 0; list != NULL && i < (Py_ssize_t)TOTALS; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(totals[i]);
        if (number == NULL || PyList_SetItem(list, i, number) < 0)
            Py_CLEAR(list);
    }
    return list == NULL ? NULL : Py_BuildValue("(sN)", error, list);
}

/* (slot, generation, pid, alive) of each published slot; pid 0 tells nothing, it may be one of another pid namespace. */
static PyObject *segment_processes(Segment *self, PyObject *unused) {
    struct handle *handle = &self->handle;
    (void)unused;
    PyObject *list = PyList_New(0);
    for (uint32_t slot = 0; list != NULL && slot < SLOTS; slot++) {
        if (!handle->slots[slot].published)
            continue;
        uint32_t generation = atomic_load(&handle->slots[slot].generation);
        bool own = handle->private->attached && slot == handle->private->slot;
        PyObject *item = Py_BuildValue("(IIIO)", slot, generation, handle->slots[slot].pid,
                                       own || !liveness_is_dead(handle, slot, generation) ? Py_True : Py_False);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *segment_retire(Segment *self, PyObject *unused) {
    (void)unused;
    atomic_store(&self->handle.header->retired, 1);
    Py_RETURN_NONE;
}

static PyObject *segment_mark_members(Segment *self, PyObject *unused) {
    (void)unused;
    atomic_store(&self->handle.header->machine_members, 1);
    Py_RETURN_NONE;
}

static PyObject *fixed_string(const char *field, size_t size) {
    return PyUnicode_DecodeUTF8(field, (Py_ssize_t)strnlen(field, size), "replace");
}

static PyObject *get_epoch(Segment *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(atomic_load(&self->handle.header->epoch));
}

static PyObject *get_rebuilds(Segment *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLong(atomic_load(&self->handle.header->rebuilds));
}

static PyObject *get_lock_word(Segment *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLong(atomic_load(&self->handle.header->lock_word));
}

static PyObject *get_progress(Segment *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLong(atomic_load(&self->handle.header->progress));
}

static PyObject *get_machine_members(Segment *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(atomic_load(&self->handle.header->machine_members) != 0);
}

static PyObject *get_attached(Segment *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(self->handle.private != NULL && self->handle.private->attached);
}

static PyObject *get_slot(Segment *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLong(self->handle.private->slot);
}

static PyObject *get_message_bytes(Segment *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(self->handle.header->message_bytes);
}

static PyObject *get_group_bytes(Segment *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(self->handle.header->group_bytes);
}

static PyObject *get_machine(Segment *self, void *unused) {
    (void)unused;
    return fixed_string(self->handle.header->machine, sizeof self->handle.header->machine);
}

static PyObject *get_project(Segment *self, void *unused) {
    (void)unused;
    return fixed_string(self->handle.header->project, sizeof self->handle.header->project);
}

static PyObject *get_prefix(Segment *self, void *unused) {
    (void)unused;
    return fixed_string(self->handle.header->prefix, sizeof self->handle.header->prefix);
}

static PyObject *segment_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    int fd;
    const char *directory, *reason;
    if (keywords != NULL && PyDict_Size(keywords) != 0) {
        PyErr_SetString(PyExc_TypeError, "Segment takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "is", &fd, &directory))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Segment *self = (Segment *)allocate(type, 0);
    if (self == NULL)
        return NULL;
    enum status status = segment_map(fd, &self->handle, &reason);
    if (status == OK && !doorbells_open(&self->doorbells, directory)) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    if (status == OK)
        return (PyObject *)self;
    Py_DECREF(self);
    if (reason != NULL)
        PyErr_SetString(error_damaged, reason);
    else
        raise_status(status);
    return NULL;
}

/* The mapping stays: a daemon thread may be in the middle of an operation when the interpreter ends. */
static void segment_dealloc(Segment *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    if (self->doorbells.directory != NULL)
        doorbells_close(&self->doorbells);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

#define FAST(name, function) {name, (PyCFunction)(void (*)(void))function, METH_FASTCALL, NULL}
#define NONE(name, function) {name, (PyCFunction)(void (*)(void))function, METH_NOARGS, NULL}
#define ONE(name, function) {name, (PyCFunction)(void (*)(void))function, METH_O, NULL}

static PyMethodDef segment_methods[] = {
    FAST("push", segment_push),
    FAST("pop", segment_pop),
    FAST("drain", segment_drain),
    ONE("open_inbox", segment_open_inbox),
    ONE("close_inbox", segment_close_inbox),
    FAST("wait", segment_wait),
    FAST("unwait", segment_unwait),
    FAST("group_add", segment_group_add),
    FAST("group_discard", segment_group_discard),
    FAST("group_send", segment_group_send),
    ONE("group_targets", segment_group_targets),
    NONE("open_loop", segment_open_loop),
    ONE("close_loop", segment_close_loop),
    FAST("collect", segment_collect),
    ONE("repoll", segment_repoll),
    ONE("doorbell", segment_doorbell),
    NONE("flush", segment_flush),
    NONE("join", segment_join_method),
    NONE("leave", segment_leave_method),
    NONE("is_deserted", segment_is_deserted_method),
    NONE("is_needed", segment_is_needed_method),
    NONE("lost", segment_lost),
    FAST("count", segment_count),
    NONE("counters", segment_counters),
    NONE("check", segment_check),
    NONE("processes", segment_processes),
    NONE("retire", segment_retire),
    NONE("mark_members", segment_mark_members),
    {NULL, NULL, 0, NULL},
};

#define GETTER(name, function) {name, (getter)(void (*)(void))function, NULL, NULL, NULL}

static PyGetSetDef segment_getters[] = {
    GETTER("epoch", get_epoch),
    GETTER("rebuilds", get_rebuilds),
    GETTER("lock_word", get_lock_word),
    GETTER("progress", get_progress),
    GETTER("machine_members", get_machine_members),
    GETTER("attached", get_attached),
    GETTER("slot", get_slot),
    GETTER("message_bytes", get_message_bytes),
    GETTER("group_bytes", get_group_bytes),
    GETTER("machine", get_machine),
    GETTER("project", get_project),
    GETTER("prefix", get_prefix),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot segment_slots[] = {
    {Py_tp_new, (void *)segment_new},
    {Py_tp_dealloc, (void *)segment_dealloc},
    {Py_tp_methods, segment_methods},
    {Py_tp_getset, segment_getters},
    {0, NULL},
};

static PyType_Spec segment_spec = {
    .name = "hybrid_layer.ipc._core.Segment",
    .basicsize = sizeof(Segment),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = segment_slots,
};

static PyObject *core_format(PyObject *module, PyObject *args) {
    int fd;
    unsigned long long message_bytes, group_bytes, first, second;
    const char *prefix, *project, *machine;
    (void)module;
    if (!PyArg_ParseTuple(args, "iKKsss(KK)", &fd, &message_bytes, &group_bytes, &prefix, &project, &machine, &first,
                          &second))
        return NULL;
    uint64_t seed[2] = {first, second};
    enum status status;
    UNLOCKED(status = segment_format(fd, message_bytes, group_bytes, prefix, project, machine, seed));
    return status == OK ? Py_NewRef(Py_None) : raise_status(status);
}

static PyMethodDef core_functions[] = {
    {"format", core_format, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef core_module = {
    PyModuleDef_HEAD_INIT, "hybrid_layer.ipc._core", NULL, -1, core_functions, NULL, NULL, NULL, NULL,
};

static bool add_error(PyObject *module, const char *full_name, PyObject **error) {
    *error = PyErr_NewException(full_name, PyExc_Exception, NULL);
    return *error != NULL && PyModule_AddObjectRef(module, strrchr(full_name, '.') + 1, *error) == 0;
}

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC PyInit__core(void) {
    PyObject *module = PyModule_Create(&core_module);
    PyObject *type = module != NULL ? PyType_FromSpec(&segment_spec) : NULL;
    if (type == NULL || PyModule_AddObjectRef(module, "Segment", type) < 0 ||
        PyModule_AddIntConstant(module, "LAYOUT_VERSION", LAYOUT_VERSION) < 0 ||
        PyModule_AddIntConstant(module, "SLOTS", SLOTS) < 0 || PyModule_AddIntConstant(module, "LOOPS", LOOPS) < 0 ||
        !add_error(module, "hybrid_layer.ipc._core.Busy", &error_busy) ||
        !add_error(module, "hybrid_layer.ipc._core.Damaged", &error_damaged) ||
        !add_error(module, "hybrid_layer.ipc._core.Detached", &error_detached) ||
        !add_error(module, "hybrid_layer.ipc._core.Full", &error_full) ||
        !add_error(module, "hybrid_layer.ipc._core.Gone", &error_gone) ||
        !add_error(module, "hybrid_layer.ipc._core.NoMemory", &error_no_memory) ||
        !add_error(module, "hybrid_layer.ipc._core.NoSlot", &error_no_slot)) {
        Py_XDECREF(type);
        Py_XDECREF(module);
        return NULL;
    }
    Py_DECREF(type);
    return module;
}
