/* SPDX-License-Identifier: BSD-3-Clause */
/* The module: its state, and how it comes into being. */
#include "inbox.h"

State *state_of(PyTypeObject *type) { return PyType_GetModuleState(type); }

/* What the state holds. */

static const struct {
    size_t at;
    PyType_Spec *spec;
} types[] = {
    {offsetof(State, channel_type), &channel_spec}, {offsetof(State, inbox_type), &inbox_spec},
    {offsetof(State, loop_type), &loop_spec},       {offsetof(State, queue_type), &queue_spec},
    {offsetof(State, receive_type), &receive_spec}, {offsetof(State, waiter_type), &waiter_spec},
    {offsetof(State, waker_type), &waker_spec},
};

static const struct {
    size_t at;
    const char *module, *name;
} attributes[] = {
    {offsetof(State, cancelled_error), "asyncio", "CancelledError"},
    {offsetof(State, copy_context), "contextvars", "copy_context"},
    {offsetof(State, get_running_loop), "asyncio", "_get_running_loop"},
    {offsetof(State, monotonic), "hybrid_layer.clock", "monotonic"},
    {offsetof(State, tell_slow), "hybrid_layer.statistics", "tell_slow"},
};

#define NAME(name) {offsetof(State, name), #name}

static const struct {
    size_t at;
    const char *text;
} names[] = {
    NAME(call_soon),    NAME(call_soon_threadsafe),
    NAME(capacity_for), NAME(count),
    NAME(expired),      NAME(is_closed),
    NAME(poll),         NAME(received),
    NAME(on_cancel),    NAME(run),
    NAME(seen),
};

#define EACH(table, i)                      \
    size_t i = 0;                           \
    i < sizeof(table) / sizeof((table)[0]); \
    i++
#define EACH_OBJECT(at) \
    size_t at = 0;      \
    at < sizeof(State); \
    at += sizeof(PyObject *) /* the state holds nothing else */

static PyObject **object_in(State *state, size_t at) { return (PyObject **)(void *)((char *)state + at); }

static bool add_type(PyObject *module, PyObject **type, PyType_Spec *spec) {
    *type = PyType_FromModuleAndSpec(module, spec, NULL);
    return *type != NULL && (spec->flags == PRIVATE || PyModule_AddType(module, (PyTypeObject *)*type) == 0);
}

static bool add_attribute(PyObject **attribute, const char *module_name, const char *name) {
    PyObject *module = PyImport_ImportModule(module_name);
    *attribute = module != NULL ? PyObject_GetAttrString(module, name) : NULL;
    Py_XDECREF(module);
    return *attribute != NULL;
}

static int module_exec(PyObject *module) {
    State *state = PyModule_GetState(module);
    for (EACH(types, i))
        if (!add_type(module, object_in(state, types[i].at), types[i].spec))
            return -1;
    for (EACH(attributes, i))
        if (!add_attribute(object_in(state, attributes[i].at), attributes[i].module, attributes[i].name))
            return -1;
    for (EACH(names, i))
        if ((*object_in(state, names[i].at) = PyUnicode_InternFromString(names[i].text)) == NULL)
            return -1;
    return 0;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    State *state = PyModule_GetState(module);
    if (state == NULL)
        return 0;
    for (EACH_OBJECT(at))
        Py_VISIT(*object_in(state, at));
    return 0;
}

/* There is no clear(): what the state holds is there until nothing has the module any more, not only until the
 * collector has begun to take it apart. The cycle of module and types is broken by the types, which give the module up.
 */
static void module_free(void *module) {
    State *state = PyModule_GetState(module);
    if (state == NULL)
        return;
    for (EACH_OBJECT(at))
        Py_CLEAR(*object_in(state, at));
}

/* Python 3.12 asks whether a module is for interpreters with a lock of their own. The headers of 3.11 have no names for
 * question and answer, and its interpreter refuses what it does not know. */
#define MULTIPLE_INTERPRETERS 3
#define PER_INTERPRETER_LOCK ((void *)2)
#define PYTHON_3_12 0x030C0000UL

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, SLOT(module_exec)}, {MULTIPLE_INTERPRETERS, PER_INTERPRETER_LOCK}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "hybrid_layer._inbox", .m_size = (Py_ssize_t)sizeof(State),
    .m_slots = slots,      .m_traverse = module_traverse,   .m_free = module_free,
};

PyMODINIT_FUNC PyInit__inbox(void) {
    if (Py_Version < PYTHON_3_12)
        slots[1] = (PyModuleDef_Slot){0, NULL};
    return PyModuleDef_Init(&definition);
}
