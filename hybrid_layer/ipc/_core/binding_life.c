/* SPDX-License-Identifier: BSD-3-Clause */
/* The methods of a segment's life: format, attach, leave, flush, counters, check. */
#include "binding.h"

#include <string.h>
#include <unistd.h>

#include "checker.h"
#include "counters.h"
#include "epochs.h"
#include "liveness.h"
#include "memory.h"
#include "segment.h"
#include "sweep.h"

PyObject *method_flush(Segment *self, PyObject *Py_UNUSED(unused)) {
    enum status status = op_flush(&self->handle, TRY);
    if (status == BUSY)
        UNLOCKED(status = op_flush(&self->handle, WAIT));
    return nothing(self, status);
}

/* Another slot, or none: no loop has a place any more. */
static PyObject *change_slot(Segment *self, enum status (*change)(struct handle *handle)) {
    enum status status;
    for (uint32_t loop = 0; loop < LOOPS; loop++)
        atomic_store(&self->openings[loop], 0);
    UNLOCKED(status = change(&self->handle));
    return nothing(self, status);
}

PyObject *method_join(Segment *self, PyObject *Py_UNUSED(unused)) { return change_slot(self, segment_join); }
PyObject *method_leave(Segment *self, PyObject *Py_UNUSED(unused)) { return change_slot(self, segment_leave); }

PyObject *method_is_deserted(Segment *self, PyObject *Py_UNUSED(unused)) {
    return PyBool_FromLong(liveness_is_alone(self->handle.lock_fd));
}

PyObject *method_is_needed(Segment *self, PyObject *Py_UNUSED(unused)) {
    enum status status;
    bool needed;
    RUN(op_is_needed, &needed);
    wake_after_rebuild(self);
    return status == OK ? PyBool_FromLong(needed) : raise_status(status);
}

/* None: all is well. Otherwise why this process has to attach anew. */
PyObject *method_lost(Segment *self, PyObject *Py_UNUSED(unused)) {
    struct handle *handle = &self->handle;
    bool linked = true;
    if (!private_is_attached(handle->private))
        return PyUnicode_FromString("fork");
    if (!liveness_descriptor_is_ours(handle, &linked))
        return PyUnicode_FromString("descriptor");
    if (!segment_is_whole(handle)) /* before anything of it is touched */
        return PyUnicode_FromString("truncated");
    if (!linked)
        return PyUnicode_FromString("unlinked");
    if (atomic_load(&handle->header->retired) == RETIRED_MARK)
        return PyUnicode_FromString("retired");
    if (!segment_is_sealed(handle))
        return PyUnicode_FromString("damaged");
    /* The kernel grants a record lock that is ours already. It also grants one that this process lost when some code
     * closed a descriptor of the same file, unless another process has taken it since. */
    struct slot *slot = &handle->slots[handle->private->slot];
    if (liveness_claim(handle, handle->private->slot) ==
            EMPTY || /* without an answer from the kernel nothing is known to be lost */
        atomic_load(&slot->generation) != handle->private->generation ||
        slot->published != handle->private->generation + 1)
        return PyUnicode_FromString("slot");
    Py_RETURN_NONE;
}

PyObject *method_count(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    uint32_t counter;
    uint64_t number;
    if (!wants("count", count_of_args, 2) || !u32_of(args[0], &counter) || !u64_of(args[1], &number))
        return NULL;
    if (counter >= HALVES * COUNTERS) {
        PyErr_SetString(PyExc_ValueError, "no such counter");
        return NULL;
    }
    atomic_fetch_add_explicit(&self->handle.header->counters[counter / COUNTERS][counter % COUNTERS], number,
                              memory_order_relaxed);
    Py_RETURN_NONE;
}

static PyObject *numbers_list(const uint64_t *numbers, Py_ssize_t length) {
    PyObject *list = PyList_New(length);
    for (Py_ssize_t i = 0; list != NULL && i < length; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(numbers[i]);
        if (number == NULL || PyList_SetItem(list, i, number) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *counters_of(Segment *self, enum half half) {
    uint64_t counters[COUNTERS];
    for (uint32_t i = 0; i < COUNTERS; i++)
        counters[i] = atomic_load(&self->handle.header->counters[half][i]);
    return numbers_list(counters, COUNTERS);
}

PyObject *method_counters(Segment *self, PyObject *Py_UNUSED(unused)) { return counters_of(self, HALF_LOCAL); }
PyObject *method_remote_counters(Segment *self, PyObject *Py_UNUSED(unused)) { return counters_of(self, HALF_REMOTE); }

/* (unread, age of the oldest, sent, full) of a channel; the last two are None if it is not counted by name. */
PyObject *method_state(Segment *self, PyObject *argument) {
    enum status status;
    struct name name;
    struct queue_state state;
    if (!channel_of(argument, &name))
        return NULL;
    RUN(op_state, name, &state);
    wake_after_rebuild(self);
    if (status != OK)
        return raise_status(status);
    if (!state.is_counted)
        return Py_BuildValue("(IdOO)", state.unread, state.oldest_ms / 1e3, Py_None, Py_None);
    return Py_BuildValue("(IdKK)", state.unread, state.oldest_ms / 1e3, (unsigned long long)state.sent,
                         (unsigned long long)state.full);
}

PyObject *method_check(Segment *self, PyObject *Py_UNUSED(unused)) {
    enum status status;
    char error[160];
    uint64_t totals[TOTALS];
    RUN(op_check, error, sizeof error, totals);
    wake_after_rebuild(self);
    if (status != OK)
        return raise_status(status);
    PyObject *list = numbers_list(totals, TOTALS);
    return list == NULL ? NULL : Py_BuildValue("(sN)", error, list);
}

PyObject *processes_list(struct handle *handle, uint32_t own_slot) {
    PyObject *list = PyList_New(0);
    for (uint32_t slot = 0; list != NULL && slot < SLOTS; slot++) {
        uint32_t published = handle->slots[slot].published, generation = published - 1;
        if (published == 0)
            continue;
        bool own = slot + 1 == own_slot;
        bool alive = own || !liveness_is_dead(handle, slot, generation);
        pid_t pid = own ? getpid() : alive ? liveness_pid(handle, slot) : 0;
        PyObject *item = Py_BuildValue("(IIiO)", slot, generation, (int)pid, alive ? Py_True : Py_False);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

PyObject *method_processes(Segment *self, PyObject *Py_UNUSED(unused)) {
    struct private_page *page = self->handle.private;
    return processes_list(&self->handle, private_is_attached(page) ? page->slot + 1 : 0);
}

/* How many messages were unread in it; None if another process has retired it, which counts them. */
PyObject *method_retire(Segment *self, PyObject *Py_UNUSED(unused)) {
    uint64_t unread;
    if (!segment_retire(&self->handle))
        Py_RETURN_NONE;
    UNLOCKED(unread = channels_unread(&self->handle));
    return PyLong_FromUnsignedLongLong(unread);
}

/* The repairs that this process has made since the last call, and what was lost in them. */
PyObject *method_take_repairs(Segment *self, PyObject *Py_UNUSED(unused)) {
    return Py_BuildValue("(kK)", (unsigned long)atomic_exchange(&self->handle.repairs, 0),
                         (unsigned long long)atomic_exchange(&self->handle.lost, 0));
}

/* The name of a normal channel whose messages expired although no process has ever read there, or None. Then forgets
 * it. */
PyObject *method_take_unread(Segment *self, PyObject *Py_UNUSED(unused)) {
    char name[sizeof self->handle.unread];
    if (self->handle.unread[0] == '\0')
        Py_RETURN_NONE;
    memcpy(name, self->handle.unread, sizeof name);
    name[sizeof name - 1] = '\0';
    self->handle.unread[0] = '\0';
    return PyUnicode_DecodeUTF8(name, (Py_ssize_t)strlen(name), "replace");
}

static PyObject *get_epoch(Segment *self, void *Py_UNUSED(unused)) {
    return PyLong_FromUnsignedLongLong(epoch_read(self->handle.header) + self->epoch_offset);
}

/* Makes the epoch that this process sees go on from that of its previous segment: messages that it has drained there
 * are older than the next flush, and no older than this moment. */
PyObject *method_continue_epoch(Segment *self, PyObject *argument) {
    uint64_t epoch;
    if (!u64_of(argument, &epoch))
        return NULL;
    self->epoch_offset = epoch - epoch_read(self->handle.header);
    Py_RETURN_NONE;
}

static PyObject *get_retired(Segment *self, void *Py_UNUSED(unused)) {
    return PyBool_FromLong(atomic_load(&self->handle.header->retired) == RETIRED_MARK);
}

static PyObject *get_attached(Segment *self, void *Py_UNUSED(unused)) {
    return PyBool_FromLong(self->handle.private != NULL && private_is_attached(self->handle.private));
}

static PyObject *get_slot(Segment *self, void *Py_UNUSED(unused)) {
    return PyLong_FromUnsignedLong(self->handle.private->slot);
}

static PyObject *fixed_string(const char *field, size_t size) {
    char copy[PROJECT_MAX + 1]; /* of the longest one; a process may be writing to the original */
    memcpy(copy, field, size);
    return PyUnicode_DecodeUTF8(copy, (Py_ssize_t)strnlen(copy, size), "replace");
}

static PyObject *get_machine(Segment *self, void *Py_UNUSED(unused)) {
    return fixed_string(self->handle.machine, sizeof self->handle.machine);
}

static PyObject *get_project(Segment *self, void *Py_UNUSED(unused)) {
    return fixed_string(self->handle.header->project, sizeof self->handle.header->project);
}

static PyObject *get_prefix(Segment *self, void *Py_UNUSED(unused)) {
    return fixed_string(self->handle.header->prefix, sizeof self->handle.header->prefix);
}

/* Numbers of the header, by their place there. */

static PyObject *get_u32(Segment *self, void *offset) {
    void *field = (char *)self->handle.header + (size_t)offset;
    return PyLong_FromUnsignedLong(atomic_load((_Atomic uint32_t *)field));
}

static PyObject *get_u64(Segment *self, void *offset) {
    void *field = (char *)self->handle.header + (size_t)offset;
    return PyLong_FromUnsignedLongLong(*(uint64_t *)field);
}

#define GETTER(name, function) {name, (getter)(void (*)(void))function, NULL, NULL, NULL}
#define NUMBER(field, function) \
    {#field, (getter)(void (*)(void))function, NULL, NULL, (void *)offsetof(struct header, field)}

PyGetSetDef observer_getters[] = {
    NUMBER(message_bytes, get_u64), NUMBER(group_bytes, get_u64), GETTER("machine", get_machine),
    GETTER("project", get_project), GETTER("prefix", get_prefix), GETTER("retired", get_retired),
    NUMBER(rebuilds, get_u32),      NUMBER(lock_word, get_u32),   NUMBER(progress, get_u32),
    {NULL, NULL, NULL, NULL, NULL},
};

PyGetSetDef segment_getters[] = {
    GETTER("epoch", get_epoch),     NUMBER(rebuilds, get_u32),      NUMBER(lock_word, get_u32),
    NUMBER(progress, get_u32),      GETTER("retired", get_retired), GETTER("attached", get_attached),
    GETTER("slot", get_slot),       NUMBER(message_bytes, get_u64), NUMBER(group_bytes, get_u64),
    GETTER("machine", get_machine), GETTER("project", get_project), GETTER("prefix", get_prefix),
    {NULL, NULL, NULL, NULL, NULL},
};
