/* The module: its state, and how it comes into being. */
#include "inbox.h"

State *state_of(PyTypeObject *type) { return PyType_GetModuleState(type); }

static bool add_type(PyObject *module, PyTypeObject **type, PyType_Spec *spec, bool is_public) {
    *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *type != NULL && (!is_public || PyModule_AddType(module, *type) == 0);
}

static bool add_name(PyObject **name, const char *text) {
    *name = PyUnicode_InternFromString(text);
    return *name != NULL;
}

static bool add_attribute(PyObject **attribute, const char *module_name, const char *name) {
    PyObject *module = PyImport_ImportModule(module_name);
    *attribute = module != NULL ? PyObject_GetAttrString(module, name) : NULL;
    Py_XDECREF(module);
    return *attribute != NULL;
}

static int module_exec(PyObject *module) {
    State *state = PyModule_GetState(module);
    bool is_complete =
        add_type(module, &state->channel_type, &channel_spec, false) &&
        add_type(module, &state->inbox_type, &inbox_spec, true) &&
        add_type(module, &state->loop_type, &loop_spec, false) &&
        add_type(module, &state->queue_type, &queue_spec, true) &&
        add_type(module, &state->receive_type, &receive_spec, false) &&
        add_type(module, &state->waiter_type, &waiter_spec, true) &&
        add_type(module, &state->waker_type, &waker_spec, true) &&
        add_attribute(&state->cancelled_error, "asyncio", "CancelledError") &&
        add_attribute(&state->copy_context, "contextvars", "copy_context") &&
        add_attribute(&state->get_running_loop, "asyncio", "_get_running_loop") &&
        add_attribute(&state->monotonic, "hybrid_layer.clock", "monotonic") &&
        add_attribute(&state->tell_slow, "hybrid_layer.statistics", "tell_slow") &&
        add_name(&state->call_soon, "call_soon") && add_name(&state->call_soon_threadsafe, "call_soon_threadsafe") &&
        add_name(&state->capacity_for, "capacity_for") && add_name(&state->count, "count") &&
        add_name(&state->expired, "expired") && add_name(&state->is_closed, "is_closed") &&
        add_name(&state->poll, "poll") && add_name(&state->received, "received") &&
        add_name(&state->on_cancel, "on_cancel") && add_name(&state->run, "run") && add_name(&state->seen, "seen");
    return is_complete ? 0 : -1;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    State *state = PyModule_GetState(module);
    if (state == NULL)
        return 0;
    Py_VISIT(state->channel_type);
    Py_VISIT(state->inbox_type);
    Py_VISIT(state->loop_type);
    Py_VISIT(state->queue_type);
    Py_VISIT(state->receive_type);
    Py_VISIT(state->waiter_type);
    Py_VISIT(state->waker_type);
    Py_VISIT(state->cancelled_error);
    Py_VISIT(state->copy_context);
    Py_VISIT(state->get_running_loop);
    Py_VISIT(state->monotonic);
    Py_VISIT(state->tell_slow);
    return 0;
}

/* There is no clear(): what the state holds is there until nothing has the module any more, not only until the
 * collector has begun to take it apart. The cycle of module and types is broken by the types, which give the module up.
 */
static void module_free(void *module) {
    State *state = PyModule_GetState(module);
    if (state == NULL)
        return;
    Py_CLEAR(state->channel_type);
    Py_CLEAR(state->inbox_type);
    Py_CLEAR(state->loop_type);
    Py_CLEAR(state->queue_type);
    Py_CLEAR(state->receive_type);
    Py_CLEAR(state->waiter_type);
    Py_CLEAR(state->waker_type);
    Py_CLEAR(state->cancelled_error);
    Py_CLEAR(state->copy_context);
    Py_CLEAR(state->get_running_loop);
    Py_CLEAR(state->monotonic);
    Py_CLEAR(state->tell_slow);
    PyObject **names[] = {&state->call_soon,    &state->call_soon_threadsafe,
                          &state->capacity_for, &state->count,
                          &state->expired,      &state->is_closed,
                          &state->poll,         &state->received,
                          &state->on_cancel,    &state->run,
                          &state->seen};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        Py_CLEAR(*names[i]);
}

/* Python 3.12 asks whether a module is for interpreters with a lock of their own. The headers of 3.11 have no names for
 * question and answer, and its interpreter refuses what it does not know. */
#define MULTIPLE_INTERPRETERS 3
#define PER_INTERPRETER_LOCK ((void *)2)
#define PYTHON_3_12 0x030C0000UL

static PyModuleDef_Slot slots_3_11[] = {{Py_mod_exec, SLOT(module_exec)}, {0, NULL}};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, SLOT(module_exec)}, {MULTIPLE_INTERPRETERS, PER_INTERPRETER_LOCK}, {0, NULL}};

#define DEFINITION(its_slots)   \
    {PyModuleDef_HEAD_INIT,     \
     "hybrid_layer._inbox",     \
     NULL,                      \
     (Py_ssize_t)sizeof(State), \
     NULL,                      \
     (its_slots),               \
     module_traverse,           \
     NULL,                      \
     module_free}

static struct PyModuleDef definition_3_11 = DEFINITION(slots_3_11);
static struct PyModuleDef definition = DEFINITION(slots);

PyMODINIT_FUNC PyInit__inbox(void);

PyMODINIT_FUNC PyInit__inbox(void) {
    return PyModuleDef_Init(Py_Version < PYTHON_3_12 ? &definition_3_11 : &definition);
}
