/* The module: its beginning, starting and stopping, and what the other files of the bindings share. */

#include "address_space.h"
#include "bindings.h"
#include "clock.h"
#include "current.h"
#include "dispatcher.h"
#include "foreign.h"
#include "heap.h"
#include "pools.h"
#include "lifecycle.h"
#include "logs.h"
#include "owners.h"
#include "timeline.h"

#ifndef THAG_SOURCE_HASH
#error "setup.py passes THAG_SOURCE_HASH"
#endif

static uint64_t origin_ns;      /* when the dispatcher was first started; times in Python count from here */

long long
thag_since_origin(uint64_t time_ns)
{
    return origin_ns != 0 && time_ns > origin_ns ? (long long)(time_ns - origin_ns) : 0;
}

/* Stands for every context whose record was given back. */
static thag_context forgotten;

thag_context *
thag_context_argument(PyObject *argument)
{
    unsigned long long id = PyLong_AsUnsignedLongLong(argument);
    if (id == (unsigned long long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    if (id < THAG_ROOT_ID || id >= thag_contexts.next_id) {
        return PyErr_Format(PyExc_ValueError, "no context has the id %llu", id), NULL;
    }
    thag_context *context = thag_context_by_id(id);
    return context == NULL ? &forgotten : context;
}

bool
thag_is_tuple_type(PyObject *type)
{
    return PyType_Check(type) && PyType_IsSubtype((PyTypeObject *)type, &PyTuple_Type);
}

bool
thag_are_tuple_types(PyObject *types, Py_ssize_t count)
{
    bool are = PyTuple_Check(types) && PyTuple_GET_SIZE(types) == count;
    for (Py_ssize_t i = 0; are && i < count; i++) {
        are = thag_is_tuple_type(PyTuple_GET_ITEM(types, i));
    }
    return are;
}

PyObject *
thag_named_tuple(PyObject *type, PyObject *fields)
{
    PyObject *arguments = fields == NULL ? NULL : PyTuple_Pack(1, fields);
    Py_XDECREF(fields);
    PyObject *named = arguments == NULL ? NULL : PyTuple_Type.tp_new((PyTypeObject *)type, arguments, NULL);
    Py_XDECREF(arguments);
    return named;
}

PyObject *
thag_plain_named_tuple(PyObject *type, PyObject *const *fields, Py_ssize_t count)
{
    PyTypeObject *of = (PyTypeObject *)type;
    PyObject *named = of == &PyTuple_Type ? PyTuple_New(count) : of->tp_alloc(of, count);
    bool made = named != NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        made = made && fields[i] != NULL;
        if (made) {
            PyTuple_SET_ITEM(named, i, fields[i]);
        }
        else {
            Py_XDECREF(fields[i]);
        }
    }
    if (!made) {
        Py_XDECREF(named);
        return NULL;
    }
#if PY_VERSION_HEX >= 0x030E0000
    ((PyTupleObject *)named)->ob_hash = -1;     /* as for any new tuple: not known yet */
#endif
    PyObject_GC_UnTrack(named);
    return named;
}

/* ---- hooks ---- */

static int64_t reattached;      /* domains that were hooked again after somebody had removed us while it recorded. GIL */

/* How many domains were hooked; -1 if one was wrapped too often for that. */
static int
hooks_put(void)
{
    bool regained = thag_heap_update();     /* first: others may run meanwhile, and stop the recording */
    int hooked = thag_dispatcher_hook();
    reattached += thag_is_recording() ? (hooked > 0 ? hooked : 0) + regained : 0;
    return hooked;
}

bool
thag_recording_goes_on(void)
{
    return thag_is_recording() && hooks_put() >= 0 && thag_is_recording();
}

static PyObject *
native_start(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    if (origin_ns == 0) {
        origin_ns = thag_clock_read();
        thag_lifecycle_restart(thag_contexts.root);
        thag_lifecycle_restart(thag_contexts.system);
    }
    int hooked = hooks_put();
    if (hooked < 0) {
        (void)thag_dispatcher_unhook();
        PyErr_SetString(PyExc_RuntimeError, "an allocator domain was wrapped too often to be hooked again");
        return NULL;
    }
    if (!thag_is_recording()) {
        thag_contexts_record(true);
    }
    return PyLong_FromLong(hooked);
}

static PyObject *
native_stop(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    thag_contexts_record(false);
    thag_heap_detach();
    int reached = thag_dispatcher_unhook();
    if (reached < THAG_CPYTHON_DOMAINS) {
        (void)thag_numpy_detach();
    }
    return PyLong_FromLong(reached);
}

static PyObject *
native_now(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    int collector_was_on = thag_bookkeeping_begin();
    PyObject *now_ns = PyLong_FromLongLong(thag_since_origin(thag_clock_read()));
    thag_bookkeeping_end(collector_was_on);
    return now_ns;
}

static PyObject *
native_is_recording(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(thag_is_recording());
}

static const char *
hook_name(thag_hook hook)
{
    switch (hook) {
    case THAG_HOOK_ON_TOP:
        return "on top";
    case THAG_HOOK_BURIED:
        return "wrapped";
    default:
        return "absent";
    }
}

static PyObject *
native_hooks(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("{s:s,s:s,s:s,s:s,s:s}", "raw", hook_name(thag_dispatcher_hook_of(THAG_RAW)), "mem",
                         hook_name(thag_dispatcher_hook_of(THAG_MEM)), "obj",
                         hook_name(thag_dispatcher_hook_of(THAG_OBJ)), "numpy", hook_name(thag_numpy_hook()),
                         "native", hook_name(thag_heap_hook()));
}

static PyObject *
native_allocators(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *addresses = PyTuple_New(THAG_CPYTHON_DOMAINS);
    for (int domain = 0; addresses != NULL && domain < (int)THAG_CPYTHON_DOMAINS; domain++) {
        PyMemAllocatorEx found;
        PyMem_GetAllocator((PyMemAllocatorDomain)domain, &found);
        PyObject *row = Py_BuildValue("KKKKK", (unsigned long long)(uintptr_t)found.ctx,
                                      (unsigned long long)(uintptr_t)found.malloc,
                                      (unsigned long long)(uintptr_t)found.calloc,
                                      (unsigned long long)(uintptr_t)found.realloc,
                                      (unsigned long long)(uintptr_t)found.free);
        if (row == NULL) {
            Py_CLEAR(addresses);
            break;
        }
        PyTuple_SET_ITEM(addresses, domain, row);
    }
    return addresses;
}

static PyObject *
native_attach_numpy(PyObject *Py_UNUSED(module), PyObject *api)
{
    enum { DEFAULT_HANDLER = 306 };     /* slot of PyDataMem_DefaultHandler, from NumPy's __multiarray_api.h */
    void **table = PyCapsule_GetPointer(api, NULL);
    if (table == NULL) {
        return NULL;
    }
    PyObject *capsule = *(PyObject **)table[DEFAULT_HANDLER];
    thag_numpy_handler *handler = PyCapsule_GetPointer(capsule, "mem_handler");
    if (handler == NULL) {
        return NULL;
    }
    if (!thag_numpy_supported(handler)) {
        PyErr_SetString(PyExc_ValueError, "this NumPy's data handler has a layout that thag_nb does not know");
        return NULL;
    }
    return PyBool_FromLong(thag_numpy_attach(handler));
}

static PyObject *
native_attach_native(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(thag_heap_attach());
}

static PyObject *
native_detach_native(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    thag_heap_detach();
    Py_RETURN_NONE;
}

static PyObject *
native_show_polars(PyObject *Py_UNUSED(module), PyObject *capsule)
{
    void *const *functions = NULL;
    if (!Py_IsNone(capsule) && (functions = PyCapsule_GetPointer(capsule, "polars.polars._allocator")) == NULL) {
        return NULL;
    }
    thag_heap_show_polars(functions);
    Py_RETURN_NONE;
}

static PyObject *
native_pools(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    static const char *const words[] = {
        [THAG_POOL_ABSENT] = "absent", [THAG_POOL_SEEN] = "seen", [THAG_POOL_UNFIT] = "unfit"};
    return Py_BuildValue("{s:s,s:s,s:s}", "Arrow", words[thag_pools_state(THAG_ARROW)], "Polars",
                         words[thag_pools_state(THAG_POLARS)], "DuckDB", words[thag_pools_state(THAG_DUCKDB)]);
}

static PyObject *
native_unwritable(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyUnicode_DecodeFSDefault(thag_heap_found().unwritable_name);
}

static PyObject *
native_slots(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    thag_redirected found = thag_heap_found();
    return Py_BuildValue("{s:i,s:i,s:i}", "redirected", found.redirected, "foreign", found.foreign, "unwritable",
                         found.unwritable);
}

static void
address_space_tell(const char *path, size_t bytes, void *list)
{
    PyObject *row = Py_BuildValue("Nn", PyUnicode_DecodeFSDefault(path), (Py_ssize_t)bytes);
    if (row != NULL) {
        (void)PyList_Append(list, row);
        Py_DECREF(row);
    }
}

static PyObject *
native_address_space(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *list = PyList_New(0);
    if (list != NULL) {
        thag_heap_visit_address_space(address_space_tell, list);
    }
    if (PyErr_Occurred()) {
        Py_CLEAR(list);
    }
    return list;
}

static PyObject *
native_mapper_of(PyObject *Py_UNUSED(module), PyObject *number)
{
    const void *address = PyLong_AsVoidPtr(number);
    const char *path = PyErr_Occurred() ? NULL : thag_heap_mapper_of(address);
    if (PyErr_Occurred()) {
        return NULL;
    }
    return path == NULL ? Py_NewRef(Py_None) : PyUnicode_DecodeFSDefault(path);
}

/* ---- how it goes ---- */

static PyObject *
native_health(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue(
        "{s:L,s:L,s:L,s:L,s:L,s:L,s:L,s:L,s:L}", "dropped", (long long)thag_load(&thag_events.dropped), "stale_records",
        (long long)thag_load(&thag_events.stale_records), "stale_lookups",
        (long long)thag_load(&thag_flow_state.stale_lookups), "orphaned_guards",
        (long long)thag_load(&thag_flow_state.orphans), "failed_restores",
        (long long)thag_load(&thag_flow_state.failed_restores), "coarse_buckets", (long long)thag_timeline_coarser(),
        "reattached", (long long)reattached, "given_back", (long long)thag_contexts.given_back, "untold_sites",
        (long long)(thag_sites_dropped() + thag_accounts_dropped()));
}

static PyObject *
native_overhead(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("{s:n,s:n,s:n,s:n,s:n,s:n}", "owners", (Py_ssize_t)thag_owners_in_use(), "contexts",
                         (Py_ssize_t)thag_contexts_mapped(), "timelines", (Py_ssize_t)thag_timeline_mapped(), "logs",
                         (Py_ssize_t)thag_logs_mapped(), "address_space", (Py_ssize_t)thag_address_space_in_use(), "call_sites",
                         (Py_ssize_t)(thag_sites_mapped() + thag_accounts_mapped()));
}

/* ---- the module ---- */

static PyMethodDef module_methods[] = {
    {"start", native_start, METH_NOARGS, NULL},
    {"stop", native_stop, METH_NOARGS, NULL},
    {"now", native_now, METH_NOARGS, NULL},
    {"is_recording", native_is_recording, METH_NOARGS, NULL},
    {"hooks", native_hooks, METH_NOARGS, NULL},
    {"allocators", native_allocators, METH_NOARGS, NULL},
    {"attach_numpy", native_attach_numpy, METH_O, NULL},
    {"attach_native", native_attach_native, METH_NOARGS, NULL},
    {"detach_native", native_detach_native, METH_NOARGS, NULL},
    {"slots", native_slots, METH_NOARGS, NULL},
    {"show_polars", native_show_polars, METH_O, NULL},
    {"pools", native_pools, METH_NOARGS, NULL},
    {"unwritable", native_unwritable, METH_NOARGS, NULL},
    {"address_space", native_address_space, METH_NOARGS, NULL},
    {"mapper_of", native_mapper_of, METH_O, NULL},
    {"health", native_health, METH_NOARGS, NULL},
    {"overhead", native_overhead, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* The contexts that are there from the beginning have their labels from here. */
static bool
built_in_label(thag_context *context, const char *name)
{
    PyObject *label = context->label == NULL ? Py_BuildValue("(ss)", name, name) : context->label;
    context->label = label;
    return label != NULL;
}

static int
module_exec(PyObject *module)
{
    /* The slot below says so from 3.12 on. */
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "thag_nb does not support sub-interpreters; import it in the main one");
        return -1;
    }
    thag_clock_look_for_counter();
    if (!thag_contexts_init()) {
        PyErr_NoMemory();
        return -1;
    }
    if (!built_in_label(thag_contexts.root, "root") || !built_in_label(thag_contexts.system, "system")) {
        return -1;
    }
    atomic_store(&forgotten.heir, thag_contexts.root);
    if (PyModule_AddFunctions(module, thag_contexts_methods) < 0
        || PyModule_AddFunctions(module, thag_guard_methods) < 0
        || PyModule_AddFunctions(module, thag_recording_methods) < 0
        || PyModule_AddFunctions(module, thag_call_sites_methods) < 0
        || PyModule_AddFunctions(module, thag_collector_methods) < 0
        || PyModule_AddFunctions(module, thag_carrier_methods) < 0
        || PyModule_AddFunctions(module, thag_handover_methods) < 0
        || PyModule_AddFunctions(module, thag_resumes_methods) < 0) {
        return -1;
    }
    if (thag_guard_init(module) < 0 || thag_scope_init(module) < 0 || thag_carrier_init(module) < 0
        || thag_handover_init(module) < 0 || thag_resumes_init(module) < 0) {
        return -1;
    }
    if (thag_current_init() < 0 || PyModule_AddType(module, &thag_entering_type) < 0
        || PyModule_AddType(module, &thag_frame_type) < 0 || PyModule_AddType(module, &thag_walk_type) < 0
        || PyType_Ready(&thag_buffer_type) < 0) {
        return -1;
    }
    if (PyModule_AddIntConstant(module, "ROOT_ID", THAG_ROOT_ID) < 0
        || PyModule_AddIntConstant(module, "SYSTEM_ID", THAG_SYSTEM_ID) < 0) {
        return -1;
    }
    return PyModule_AddStringConstant(module, "SOURCE_HASH", THAG_SOURCE_HASH);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)(uintptr_t)module_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "thag_nb._native",
    .m_doc = "The native core of thag_nb; _native.pyi is its manual.",
    .m_methods = module_methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
