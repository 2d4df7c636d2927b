/* SPDX-License-Identifier: BSD-3-Clause */
/* The methods for the machine as an addressee: its streams, what the servers know of it, and who reads. */
#include "binding.h"

#include <stdlib.h>
#include <string.h>

#include "groups.h"
#include "leases.h"
#include "segment.h"

#define BUCKETS 512u /* of groups that are looked at under the lock at a time */

/* Groups */

static bool join_group(Segment *self, PyObject *const *args, struct joining *joining) {
    enum status status;
    if (!channel_of(args[0], &joining->group) || !channel_of(args[1], &joining->target) ||
        !name_of(args[2], &joining->local, NAME_MAX_LENGTH) || !u64_of(args[3], &joining->expiry_ns))
        return false;
    RUN(op_group_join, joining);
    wake_after_rebuild(self);
    joining->epoch += self->epoch_offset;
    return status == OK || raise_status(status) != NULL;
}

PyObject *method_group_add(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct joining joining = {.shard = NO_SHARD};
    if (!wants("group_add", count_of_args, 4) || !join_group(self, args, &joining))
        return NULL;
    return PyLong_FromUnsignedLongLong(joining.epoch);
}

PyObject *method_group_restore(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct joining joining = {.shard = NO_SHARD, .is_restored = true};
    if (!wants("group_restore", count_of_args, 5) || !u64_of(args[4], &joining.epoch))
        return NULL;
    joining.epoch -= self->epoch_offset;
    if (!join_group(self, args, &joining))
        return NULL;
    Py_RETURN_NONE;
}

PyObject *method_group_join(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct joining joining = {.shard = NO_SHARD};
    if (!wants("group_join", count_of_args, 5) || !u32_of(args[4], &joining.shard) || !join_group(self, args, &joining))
        return NULL;
    return Py_BuildValue("(OOK)", joining.is_new ? Py_True : Py_False, joining.is_recorded ? Py_True : Py_False,
                         (unsigned long long)joining.epoch);
}

PyObject *method_record(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    enum status status;
    struct name group;
    struct registered registered;
    if (!wants("record", count_of_args, 6) || !channel_of(args[0], &group) || !u32_of(args[1], &registered.shard) ||
        !u64_of(args[2], &registered.turn) || !u64_of(args[3], &registered.registration) ||
        !u64_of(args[4], &registered.t) || !u64_of(args[5], &registered.life_ns))
        return NULL;
    RUN(op_record, group, &registered);
    return nothing(self, status);
}

PyObject *method_forget(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    enum status status;
    struct name group;
    uint32_t shard;
    uint64_t t;
    bool is_done;
    if (!wants("forget", count_of_args, 3) || !channel_of(args[0], &group) || !u32_of(args[1], &shard) ||
        !u64_of(args[2], &t))
        return NULL;
    RUN(op_forget, group, shard, t, &is_done);
    wake_after_rebuild(self);
    return status == OK ? PyBool_FromLong(is_done) : raise_status(status);
}

static PyObject *list_of_groups(const char *groups, size_t size) {
    PyObject *list = PyList_New(0);
    for (size_t at = 0; list != NULL && at < size;) {
        struct listed listed;
        memcpy(&listed, groups + at, sizeof listed);
        at += sizeof listed;
        PyObject *name = PyUnicode_DecodeUTF8(groups + at, listed.name_length, "replace"), *item = NULL;
        at += listed.name_length;
        if (name != NULL)
            item = Py_BuildValue("(NIKd)", name, (unsigned)listed.shard, (unsigned long long)listed.t,
                                 listed.idle_ms / 1e3);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

/* (next place or None, [(name, shard, t, idle seconds)]) */
PyObject *method_groups(Segment *self, PyObject *argument) {
    enum status status;
    uint32_t bucket;
    char small[8192];
    struct taken groups = {.buffer = small, .size = sizeof small};
    if (!u32_of(argument, &bucket))
        return NULL;
    do
        RUN(op_groups, bucket, BUCKETS, groups.buffer, groups.size, &groups.used);
    while (enlarge(status, &groups, small, 0));
    wake_after_rebuild(self);
    PyObject *result = NULL, *list = status == OK ? list_of_groups(groups.buffer, groups.used) : raise_status(status);
    bool is_last = self->handle.groups.bucket_mask < BUCKETS || bucket > self->handle.groups.bucket_mask - BUCKETS;
    if (list != NULL)
        result = is_last ? Py_BuildValue("(ON)", Py_None, list) : Py_BuildValue("(IN)", bucket + BUCKETS, list);
    if (groups.buffer != small)
        free(groups.buffer);
    return result;
}

PyObject *method_has_groups(Segment *self, PyObject *Py_UNUSED(unused)) {
    return PyBool_FromLong(groups_exist(&self->handle));
}

/* Streams */

/* The fields of `View`, but for the machine. */
PyObject *method_look(Segment *self, PyObject *argument) {
    enum status status;
    uint32_t shard;
    struct view view;
    if (!u32_of(argument, &shard))
        return NULL;
    RUN(op_look, shard, &view);
    wake_after_rebuild(self);
    if (status != OK)
        return raise_status(status);
    PyObject *position = !view.is_known ? Py_NewRef(Py_None)
                                        : Py_BuildValue("(KK)", (unsigned long long)view.position.ms,
                                                        (unsigned long long)view.position.sequence);
    if (position == NULL)
        return NULL;
    return Py_BuildValue("(NKKIIKKKI)", position, (unsigned long long)view.turn, (unsigned long long)view.run,
                         view.incarnation, view.flushes, (unsigned long long)view.registration,
                         (unsigned long long)view.walked, (unsigned long long)view.forgotten, view.inboxes);
}

static bool position_of(PyObject *const args[2], struct position *position) {
    return u64_of(args[0], &position->ms) && u64_of(args[1], &position->sequence);
}

/* (shard, turn, known ms and sequence, or None and None, registration, and the answer's: run, ms, sequence,
 * incarnation, flushes, registration) */
PyObject *method_renewed(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    enum status status;
    uint32_t shard;
    struct view view = {.is_known = false};
    struct answer answer;
    if (!wants("renewed", count_of_args, 11) || !u32_of(args[0], &shard) || !u64_of(args[1], &view.turn) ||
        !u64_of(args[4], &view.registration) || !u64_of(args[5], &answer.run) || !position_of(args + 6, &answer.last) ||
        !u32_of(args[8], &answer.incarnation) || !u32_of(args[9], &answer.flushes) ||
        !u64_of(args[10], &answer.registration))
        return NULL;
    view.is_known = args[2] != Py_None;
    if (view.is_known && !position_of(args + 2, &view.position))
        return NULL;
    RUN(op_renewed, shard, &view, &answer);
    return nothing(self, status);
}

/* What an entry is and what it says, as the arguments from `args[8]` on have it. */
static bool content_of(PyObject *const *args, struct arrival *arrival) {
    uint64_t life_ns;
    uint32_t capacity;
    const void *payload;
    size_t size;
    struct name group, channel, local;
    if (!u64_of(args[0], &life_ns) || !name_of(args[1], &group, NAME_MAX_LENGTH) ||
        !name_of(args[2], &channel, NAME_MAX_LENGTH) || !name_of(args[3], &local, NAME_MAX_LENGTH) ||
        !u64_of(args[4], &arrival->t) || !payload_of(args[5], &payload, &size) || !u32_of(args[6], &capacity) ||
        !capacities_of(args[7], &arrival->send))
        return false;
    if (!excluded_of(args[8], &arrival->send)) {
        free((void *)arrival->send.others);
        return false;
    }
    bool has_channel = channel.length != 0, has_group = group.length != 0;
    if ((arrival->kind == ARRIVAL_DIRECT && !has_channel) || (arrival->kind == ARRIVAL_GROUP && !has_group) ||
        ((arrival->kind == ARRIVAL_ADD || arrival->kind == ARRIVAL_DISCARD) && !(has_channel && has_group)))
        arrival->kind = ARRIVAL_NOTHING; /* what makes no sense is passed over, or it would be read for ever */
    arrival->push = (struct push){.channel = channel,
                                  .local = local,
                                  .payload = payload,
                                  .size = size,
                                  .capacity = capacity,
                                  .expiry_ns = life_ns,
                                  .loan = NO_LOAN};
    arrival->send.group = group;
    arrival->send.payload = payload;
    arrival->send.size = size;
    arrival->send.capacity = capacity;
    arrival->send.expiry_ns = life_ns;
    arrival->send.loan = NO_LOAN;
    arrival->joining =
        (struct joining){.group = group, .target = channel, .local = local, .expiry_ns = life_ns, .shard = NO_SHARD};
    return true;
}

static enum status put(Segment *self, struct arrival *arrival, struct wakeups *wakeups) {
    enum status status = OK;
    uint32_t loan = NO_LOAN;
    if (arrival->kind == ARRIVAL_DIRECT || arrival->kind == ARRIVAL_GROUP)
        status = loan_large(self, arrival->push.local, arrival->push.payload, arrival->push.size,
                            arrival->kind == ARRIVAL_GROUP, &loan);
    if (status == OK) {
        arrival->push.loan = arrival->send.loan = loan;
        RUN(op_put, arrival, wakeups);
    }
    if (status != OK || !arrival->has_taken_loan)
        let_go(self, loan);
    return status;
}

/* (machine, shard, turn, ms, sequence, incarnation, flushes, kind, life_ns, group, channel, local, t, payload,
 * capacity, capacities): (outcome, own loops to wake, queues at capacity, whether there will never be room for it) */
PyObject *method_put(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    struct arrival arrival = {.has_taken_loan = false};
    struct name machine;
    uint32_t kind;
    if (!wants("put", count_of_args, 17) || !name_of(args[0], &machine, NAME_MAX_LENGTH) ||
        !u32_of(args[1], &arrival.shard) || !u64_of(args[2], &arrival.turn) || !position_of(args + 3, &arrival.id) ||
        !u32_of(args[5], &arrival.incarnation) || !u32_of(args[6], &arrival.flushes) || !u32_of(args[7], &kind))
        return NULL;
    arrival.kind = kind < ARRIVAL_NOTHING ? (enum arrival_kind)kind : ARRIVAL_NOTHING;
    if (!content_of(args + 8, &arrival))
        return NULL;
    struct wakeups wakeups;
    wakeups_open(&wakeups);
    enum status status = OK;
    arrival.outcome = PUT_STALE;
    if (strcmp(self->handle.machine, machine.bytes) == 0)
        status = put(self, &arrival, &wakeups);
    free((void *)arrival.send.others);
    excluded_free(&arrival.send);
    unsigned long own = deliver_wakeups(self, &wakeups);
    return status == OK ? Py_BuildValue("(ikIO)", (int)arrival.outcome, own, arrival.dropped,
                                        arrival.is_out_of_memory ? Py_True : Py_False)
                        : raise_status(status);
}

PyObject *method_walked(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    enum status status;
    uint32_t shard;
    uint64_t registration;
    if (!wants("walked", count_of_args, 2) || !u32_of(args[0], &shard) || !u64_of(args[1], &registration))
        return NULL;
    RUN(op_walked, shard, registration);
    return nothing(self, status);
}

PyObject *method_void(Segment *self, PyObject *argument) {
    enum status status;
    uint32_t shard;
    if (!u32_of(argument, &shard))
        return NULL;
    RUN(op_void, shard);
    return nothing(self, status);
}

/* Whether the segment was flushed: the server was, and no other server has told of that before. */
PyObject *method_meet_remote_flush(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    enum status status;
    uint32_t shard, incarnation, flushes;
    bool has_flushed;
    if (!wants("meet_remote_flush", count_of_args, 3) || !u32_of(args[0], &shard) || !u32_of(args[1], &incarnation) ||
        !u32_of(args[2], &flushes))
        return NULL;
    RUN(op_meet_flush, shard, incarnation, flushes, &has_flushed);
    wake_after_rebuild(self);
    return status == OK ? PyBool_FromLong(has_flushed) : raise_status(status);
}

/* Leases and outages: without the lock */

/* One number for each of the first `argument` shards. */
static PyObject *numbers_of_shards(Segment *self, PyObject *argument,
                                   uint64_t (*number)(struct handle *handle, uint32_t shard)) {
    uint32_t shards;
    if (!u32_of(argument, &shards))
        return NULL;
    PyObject *list = PyList_New(0);
    for (uint32_t shard = 0; list != NULL && shard < shards && shard < REMOTE_SHARDS; shard++) {
        PyObject *item = PyLong_FromUnsignedLongLong(number(&self->handle, shard));
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

static uint64_t outages(struct handle *handle, uint32_t shard) { return outages_of(handle, shard); }

PyObject *method_leases(Segment *self, PyObject *argument) { return numbers_of_shards(self, argument, lease_of); }
PyObject *method_outages(Segment *self, PyObject *argument) { return numbers_of_shards(self, argument, outages); }

static bool lease_arguments(const char *name, PyObject *const *args, Py_ssize_t count_of_args, uint32_t *shard,
                            uint64_t *seen) {
    return wants(name, count_of_args, 2) && u32_of(args[0], shard) && u64_of(args[1], seen);
}

PyObject *method_take_lease(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    uint32_t shard;
    uint64_t seen;
    if (!lease_arguments("take_lease", args, count_of_args, &shard, &seen))
        return NULL;
    return PyLong_FromUnsignedLongLong(lease_take(&self->handle, shard, seen));
}

PyObject *method_drop_lease(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    uint32_t shard;
    uint64_t seen;
    if (!lease_arguments("drop_lease", args, count_of_args, &shard, &seen))
        return NULL;
    lease_drop(&self->handle, shard, seen);
    Py_RETURN_NONE;
}

PyObject *method_set_outage(Segment *self, PyObject *const *args, Py_ssize_t count_of_args) {
    uint32_t shard;
    if (!wants("set_outage", count_of_args, 2) || !u32_of(args[0], &shard))
        return NULL;
    int is_lost = PyObject_IsTrue(args[1]);
    if (is_lost < 0)
        return NULL;
    outage_set(&self->handle, shard, is_lost != 0);
    Py_RETURN_NONE;
}

/* What the successor of this segment, which is retired, is to be made with; see `format`. */
PyObject *method_bequeath(Segment *self, PyObject *Py_UNUSED(unused)) {
    enum status status;
    struct heritage heritage;
    UNLOCKED(status = segment_bequeath(&self->handle, &heritage));
    return status == OK ? PyBytes_FromStringAndSize((const char *)&heritage, sizeof heritage) : raise_status(status);
}
