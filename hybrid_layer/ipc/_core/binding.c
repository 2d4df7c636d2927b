/* SPDX-License-Identifier: BSD-3-Clause */
/* The module and its type Segment. What the methods do is in the other files of the binding. */
#include "binding.h"

#include <string.h>

#include "liveness.h"
#include "memory.h"
#include "segment.h"

static PyObject *segment_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    int fd, lock_fd;
    const char *directory, *reason;
    if (keywords != NULL && PyDict_Size(keywords) != 0) {
        PyErr_SetString(PyExc_TypeError, "Segment takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "iis", &fd, &lock_fd, &directory))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Segment *self = (Segment *)allocate(type, 0);
    if (self == NULL)
        return NULL;
    enum status status = segment_map(fd, lock_fd, &self->handle, &reason);
    if (status == OK && !doorbells_open(&self->doorbells, directory)) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    if (status == OK)
        return (PyObject *)self;
    Py_DECREF(self);
    return raise_reason(status, reason);
}

/* No thread is inside: a thread in a method holds a reference, even a daemon thread that never returns from it. */
void segment_dealloc(Segment *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    if (self->doorbells.directory != NULL)
        doorbells_close(&self->doorbells);
    segment_unmap(&self->handle);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

#define ENTRY(name, flags) {#name, (PyCFunction)(void (*)(void))method_##name, flags, NULL},
#define NONE(name) ENTRY(name, METH_NOARGS)
#define ONE(name) ENTRY(name, METH_O)
#define FAST(name) ENTRY(name, METH_FASTCALL)

static PyMethodDef segment_methods[] = {METHODS(NONE, ONE, FAST){NULL, NULL, 0, NULL}};

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

static PyObject *core_format(PyObject *Py_UNUSED(module), PyObject *args) {
    int fd, lock_fd, is_successor = 0;
    unsigned long long message_bytes, group_bytes, first, second;
    const char *bequeathed = NULL;
    Py_ssize_t size = 0;
    struct beginning beginning;
    struct heritage heritage;
    if (!PyArg_ParseTuple(args, "iiKKsss(KK)|pz#", &fd, &lock_fd, &message_bytes, &group_bytes, &beginning.prefix,
                          &beginning.project, &beginning.machine, &first, &second, &is_successor, &bequeathed, &size))
        return NULL;
    if (bequeathed != NULL && size != sizeof heritage) {
        PyErr_SetString(PyExc_ValueError, "not what `bequeath` returns");
        return NULL;
    }
    beginning.message_bytes = message_bytes;
    beginning.group_bytes = group_bytes;
    beginning.seed[0] = first;
    beginning.seed[1] = second;
    beginning.is_successor = is_successor != 0;
    beginning.heritage = NULL;
    if (bequeathed != NULL) {
        memcpy(&heritage, bequeathed, sizeof heritage);
        beginning.heritage = &heritage;
    }
    enum status status;
    UNLOCKED(status = segment_format(fd, lock_fd, &beginning));
    return status == OK ? Py_NewRef(Py_None) : raise_status(status);
}

static PyObject *core_record_lock_pid(PyObject *Py_UNUSED(module), PyObject *argument) {
    int fd = PyObject_AsFileDescriptor(argument);
    return fd < 0 ? NULL : PyLong_FromLong(record_lock_pid(fd));
}

static PyObject *core_is_inhabited(PyObject *Py_UNUSED(module), PyObject *argument) {
    int fd = PyObject_AsFileDescriptor(argument);
    return fd < 0 ? NULL : PyBool_FromLong(!liveness_is_alone(fd));
}

static PyMethodDef core_functions[] = {
    {"record_lock_pid", core_record_lock_pid, METH_O, NULL},
    {"is_inhabited", core_is_inhabited, METH_O, NULL},
    {"format", core_format, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* When the module is imported a second time, callers still catch the errors of the first time. */
static bool add_error(PyObject *module, const char *full_name, PyObject **error) {
    if (*error == NULL)
        *error = PyErr_NewException(full_name, PyExc_Exception, NULL);
    return *error != NULL && PyModule_AddObjectRef(module, strrchr(full_name, '.') + 1, *error) == 0;
}

/* Record locks tell processes apart, not the interpreters of one process: two interpreters would take each other's
 * slot. */
static bool is_main_interpreter(void) {
    if (PyInterpreterState_GetID(PyInterpreterState_Get()) == 0)
        return true;
    PyObject *name = PyUnicode_FromString("hybrid_layer.ipc");
    PyObject *text = PyUnicode_FromString(
        "The machine-local layer runs in a process's main interpreter only, and this is a sub-interpreter. With "
        "mod_wsgi, set WSGIApplicationGroup %{GLOBAL}; elsewhere use processes, or hybrid_layer.remote");
    if (name != NULL && text != NULL)
        PyErr_SetImportError(text, name, NULL);
    Py_XDECREF(name);
    Py_XDECREF(text);
    return false;
}

static int core_exec(PyObject *module) {
    PyObject *type = is_main_interpreter() ? PyType_FromSpec(&segment_spec) : NULL;
    PyObject *observer = type != NULL ? PyType_FromSpec(&observer_spec) : NULL;
    bool is_complete = observer != NULL && PyModule_AddObjectRef(module, "Segment", type) == 0 &&
                       PyModule_AddObjectRef(module, "Observer", observer) == 0 &&
                       PyModule_AddIntConstant(module, "LAYOUT_VERSION", LAYOUT_VERSION) == 0 &&
                       PyModule_AddIntConstant(module, "SLOTS", SLOTS) == 0 &&
                       PyModule_AddIntConstant(module, "LOOPS", LOOPS) == 0 &&
                       PyModule_AddIntConstant(module, "COUNTERS", COUNTERS) == 0 &&
                       PyModule_AddIntConstant(module, "REMOTE_SHARDS", REMOTE_SHARDS) == 0 &&
                       PyModule_AddObjectRef(module, "PORTABLE", is_portable ? Py_True : Py_False) == 0;
    for (uint32_t i = 0; is_complete && i < SYSTEM_ERROR; i++)
        is_complete = error_names[i] == NULL || add_error(module, error_names[i], &errors[i]);
    Py_XDECREF(type);
    Py_XDECREF(observer);
    return is_complete ? 0 : -1;
}

/* Python 3.12 asks whether a module supports interpreters with a lock of their own; without an answer it refuses the
 * module there with a message of its own. The headers of 3.11 have no names for question and answer, and its
 * interpreter knows neither. */
#define MULTIPLE_INTERPRETERS 3
#define PER_INTERPRETER_LOCK ((void *)2)
#define PYTHON_3_12 0x030C0000UL

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)core_exec}, {MULTIPLE_INTERPRETERS, PER_INTERPRETER_LOCK}, {0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "hybrid_layer.ipc._core",
                                        .m_methods = core_functions, .m_slots = slots};

PyMODINIT_FUNC PyInit__core(void) {
    if (Py_Version < PYTHON_3_12)
        slots[1] = (PyModuleDef_Slot){0, NULL};
    return PyModuleDef_Init(&definition);
}
