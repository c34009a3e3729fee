/* The bindings: arguments in, plain Python data out. Nothing here is called from an allocation. */

#include "blocks.h"
#include "charges.h"
#include "clock.h"
#include "contexts.h"
#include "current.h"
#include "dispatcher.h"
#include "lifecycle.h"
#include "owners.h"
#include "visited.h"
#include "thag.h"
#include "timeline.h"

#include <stdlib.h>
#include <string.h>

#ifndef THAG_SOURCE_HASH
#error "setup.py passes THAG_SOURCE_HASH"
#endif

static uint64_t origin_ns;      /* when the dispatcher was first started; times in Python count from here */

static long long
since_origin(uint64_t time_ns)
{
    return origin_ns != 0 && time_ns > origin_ns ? (long long)(time_ns - origin_ns) : 0;
}

/* Stands for every context whose record was given back. */
static thag_context reclaimed;

/* The context of an id that Python passes, or NULL with ValueError or TypeError. */
static thag_context *
context_argument(PyObject *argument)
{
    unsigned long id = PyLong_AsUnsignedLong(argument);
    if (id == (unsigned long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    if (id < THAG_ROOT_ID || id >= atomic_load(&thag_contexts.next_id)) {
        return PyErr_Format(PyExc_ValueError, "no context has the id %lu", id), NULL;
    }
    return thag_context_is_reclaimed((uint32_t)id) ? &reclaimed : thag_context_by_id((uint32_t)id);
}

/* ---- hooks ---- */

/* A free-threaded interpreter may run with its GIL off; then nobody is alone in the attached lane. */
static bool
gil_is_off(void)
{
#ifdef Py_GIL_DISABLED
    PyObject *enabled = PyObject_CallMethod(PyImport_AddModule("sys"), "_is_gil_enabled", NULL);
    bool off = enabled == Py_False;
    Py_XDECREF(enabled);
    return off;
#else
    return false;
#endif
}

static PyObject *
native_start(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    thag_flow_state.gil_off = gil_is_off();
    if (origin_ns == 0) {
        origin_ns = thag_clock_read();
        thag_lifecycle_restart(thag_contexts.root);
        thag_lifecycle_restart(thag_contexts.system);
    }
    int put = thag_dispatcher_hook();
    if (put < 0) {
        (void)thag_dispatcher_unhook();
        PyErr_SetString(PyExc_RuntimeError, "an allocator domain was wrapped too often to be hooked again");
        return NULL;
    }
    if (!thag_is_recording()) {
        thag_contexts_record(true);
    }
    return PyLong_FromLong(put);
}

static PyObject *
native_stop(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    thag_contexts_record(false);
    int left = thag_dispatcher_unhook();
    if (left < THAG_CPYTHON_DOMAINS) {
        (void)thag_numpy_detach();
    }
    return PyLong_FromLong(left);
}

static PyObject *
native_now(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    int collector_was_on = thag_bookkeeping_begin();
    PyObject *now_ns = PyLong_FromLongLong(since_origin(thag_clock_read()));
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
    return Py_BuildValue("{s:s,s:s,s:s,s:s}", "raw", hook_name(thag_dispatcher_hook_of(THAG_RAW)), "mem",
                         hook_name(thag_dispatcher_hook_of(THAG_MEM)), "obj",
                         hook_name(thag_dispatcher_hook_of(THAG_OBJ)), "numpy", hook_name(thag_numpy_hook()));
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

/* ---- contexts ---- */

/* A new context under the one of an id, or under the innermost here that records; the parent itself if there have been too
   many contexts. */
static thag_context *
context_open(PyObject *parent_id, bool records, PyObject *name, PyObject *kind, thag_context **parent)
{
    *parent = parent_id == Py_None ? thag_current_parent() : context_argument(parent_id);
    if (*parent == NULL) {
        return NULL;
    }
    *parent = thag_context_today(*parent);      /* another thread's reset may have dropped it meanwhile */
    if (!(*parent)->records) {
        return PyErr_Format(PyExc_ValueError, "the context %lu is not recorded, so nothing can be under it",
                            (unsigned long)(*parent)->id), NULL;
    }
    if (thag_contexts_exhausted()) {
        (void)thag_add(&thag_dispatcher_state.dropped, 1);
        return records ? *parent : thag_contexts.system;
    }
    PyObject *label = PyTuple_Pack(2, name, kind);
    if (label == NULL) {
        return NULL;
    }
    thag_context *context = thag_context_create(*parent, records, label);
    Py_DECREF(label);
    return context == NULL ? (PyErr_NoMemory(), NULL) : context;
}

/* What `open_guard` makes: a guard of a given type, with its two slots filled, and nothing of Python run. */
static PyObject *
guard_new(PyTypeObject *type, PyObject *context)
{
    PyObject *nothing = PyTuple_New(0);
    PyObject *guard = nothing == NULL ? NULL : type->tp_new(type, nothing, NULL);
    Py_XDECREF(nothing);
    if (guard != NULL
        && (PyObject_SetAttrString(guard, "context", context) < 0
            || PyObject_SetAttrString(guard, "entering", Py_None) < 0)) {
        Py_CLEAR(guard);
    }
    return guard;
}

static bool
is_tuple_type(PyObject *type)
{
    return PyType_Check(type) && PyType_IsSubtype((PyTypeObject *)type, &PyTuple_Type);
}

/* A tuple of a type made by `collections.namedtuple`; takes over `fields`, which must be all of them. */
static PyObject *
named_tuple(PyObject *type, PyObject *fields)
{
    PyObject *arguments = fields == NULL ? NULL : PyTuple_Pack(1, fields);
    Py_XDECREF(fields);
    PyObject *named = arguments == NULL ? NULL : PyTuple_Type.tp_new((PyTypeObject *)type, arguments, NULL);
    Py_XDECREF(arguments);
    return named;
}

static PyObject *
guard_open(PyObject *const *arguments)
{
    enum { GUARD_TYPE, CONTEXT_TYPE, ALLOCATOR, RECORDS, NAME, KIND, PARENT };
    thag_context *parent;
    thag_context *context = context_open(arguments[PARENT], PyObject_IsTrue(arguments[RECORDS]), arguments[NAME],
                                         arguments[KIND], &parent);
    if (context == NULL) {
        return NULL;
    }
    PyObject *fields = Py_BuildValue("kOOOk", (unsigned long)context->id, arguments[ALLOCATOR], arguments[NAME],
                                     arguments[KIND], (unsigned long)parent->id);
    PyObject *described = named_tuple(arguments[CONTEXT_TYPE], fields);
    PyObject *guard = described == NULL ? NULL : guard_new((PyTypeObject *)arguments[GUARD_TYPE], described);
    Py_XDECREF(described);
    if (guard == NULL) {
        /* Nobody will ever enter it: it has ended. */
        thag_lifecycle_hold(context);
        thag_lifecycle_release(context);
    }
    return guard;
}

static PyObject *
native_open_guard(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 7 || !PyType_Check(arguments[0]) || !is_tuple_type(arguments[1])) {
        return PyErr_Format(PyExc_TypeError, "open_guard takes 2 types and 5 more arguments");
    }
    int collector_was_on = thag_bookkeeping_begin();
    PyObject *guard = guard_open(arguments);
    thag_bookkeeping_end(collector_was_on);
    return guard;
}

static PyObject *
native_enter(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2) {
        return PyErr_Format(PyExc_TypeError, "enter takes 2 arguments, not %zd", count);
    }
    thag_context *context = context_argument(arguments[0]);
    if (context == NULL) {
        return NULL;
    }
    if (atomic_load(&context->heir) != NULL) {
        return PyErr_Format(PyExc_ValueError, "the context %S has been dropped by a reset", arguments[0]);
    }
    return thag_current_enter(context, PyObject_IsTrue(arguments[1]) ? THAG_ENTER_DETACHED : THAG_ENTER_NESTED);
}

static PyObject *
native_flow(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    thag_frame *frame = thag_current_frame();
    if (frame == NULL && PyErr_Occurred()) {
        return NULL;
    }
    if (frame == NULL || thag_context_today(frame->context) == thag_contexts.root) {
        Py_RETURN_NONE;
    }
    return Py_NewRef((PyObject *)frame);
}

static PyObject *
native_adopt(PyObject *Py_UNUSED(module), PyObject *flow)
{
    if (flow == Py_None) {
        return thag_current_enter(thag_contexts.root, THAG_ENTER_ADOPTED);
    }
    if (!Py_IS_TYPE(flow, &thag_frame_type)) {
        return PyErr_Format(PyExc_TypeError, "adopt wants what flow() gave, not %R", flow);
    }
    return thag_current_enter(thag_context_today(((thag_frame *)flow)->context), THAG_ENTER_ADOPTED);
}

/* (id, parent id or 0, records, label) */
static PyObject *
context_description(const thag_context *context)
{
    unsigned long parent = context->parent == NULL ? 0 : thag_context_today(context->parent)->id;
    return Py_BuildValue("kkOO", (unsigned long)context->id, parent, context->records ? Py_True : Py_False,
                         context->label);
}

static PyObject *
native_context(PyObject *Py_UNUSED(module), PyObject *id)
{
    thag_context *context = context_argument(id);
    if (context == NULL) {
        return NULL;
    }
    if (atomic_load(&context->heir) != NULL) {
        Py_RETURN_NONE;
    }
    return context_description(context);
}

static PyObject *
native_hold(PyObject *Py_UNUSED(module), PyObject *id)
{
    thag_context *context = context_argument(id);
    if (context == NULL) {
        return NULL;
    }
    thag_lifecycle_hold(context);
    Py_RETURN_NONE;
}

static PyObject *
native_release(PyObject *Py_UNUSED(module), PyObject *id)
{
    thag_context *context = context_argument(id);
    if (context == NULL) {
        return NULL;
    }
    thag_lifecycle_release(context);
    Py_RETURN_NONE;
}

static PyObject *
native_current_id(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    thag_flow flow = thag_current_flow(&thag_this_thread, true);
    thag_context *context = flow.context == NULL ? thag_current_context() : flow.context;
    if (PyErr_Occurred()) {
        return NULL;
    }
    int collector_was_on = thag_bookkeeping_begin();
    PyObject *id = PyLong_FromUnsignedLong(thag_context_today(context)->id);
    thag_bookkeeping_end(collector_was_on);
    return id;
}

/* A frame's address is used again when it is done; with its code, only a call of the same function could be mistaken. */
static long long
frame_number(PyFrameObject *frame)
{
    PyCodeObject *code = PyFrame_GetCode(frame);
    uintptr_t number = (uintptr_t)frame ^ (uintptr_t)code << 16;
    Py_DECREF((PyObject *)code);
    return (long long)number;
}

static PyObject *
native_caller_id(PyObject *Py_UNUSED(module), PyObject *levels)
{
    long back = PyLong_AsLong(levels);
    if (back == -1 && PyErr_Occurred()) {
        return NULL;
    }
    /* A frame becomes an object only when it is asked for. */
    int collector_was_on = thag_bookkeeping_begin();
    PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
    while (frame != NULL && back-- > 0) {
        PyFrameObject *caller = PyFrame_GetBack(frame);
        Py_DECREF((PyObject *)frame);
        frame = caller;
    }
    PyObject *id = PyLong_FromLongLong(frame == NULL ? 0 : frame_number(frame));
    Py_XDECREF((PyObject *)frame);
    thag_bookkeeping_end(collector_was_on);
    return id;
}

static PyObject *
native_base_id(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLong(thag_current_base()->id);
}

static PyObject *
native_set_foreground(PyObject *Py_UNUSED(module), PyObject *id)
{
    thag_context *context = context_argument(id);
    if (context == NULL) {
        return NULL;
    }
    atomic_store(&thag_flow_state.foreground, context);
    Py_RETURN_NONE;
}

static PyObject *
native_reset(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    thag_lifecycle_reset();
    Py_RETURN_NONE;
}

static PyObject *
native_forget(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLongLong(thag_lifecycle_forget_blocks());
}

static PyObject *
native_after_fork(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    thag_lifecycle_after_fork();
    Py_RETURN_NONE;
}

/* ---- reading ---- */

typedef struct {
    thag_figures own;
    int64_t live_bytes;         /* these five with what was started below */
    int64_t total_bytes;
    int64_t allocations;
    int64_t frees;
    int64_t foreign_frees;
} context_row;

static void
rows_copy(context_row *rows, uint32_t end)
{
    thag_lifecycle_pass_on_late_charges();
    for (uint32_t id = THAG_ROOT_ID; id < end; id = thag_next_live_id(id + 1)) {
        thag_figures own = thag_charges_figures(thag_context_by_id(id));
        rows[id] = (context_row){own, own.self_live_bytes, own.self_total_bytes, own.allocations, own.frees, own.foreign_frees};
    }
}

/* A parent is always older than its children, so one pass from the youngest adds everything up. Live bytes are added up
   too, though every context counts them: so the sums hold even if threads without the GIL never let us read in peace. */
static void
rows_add_up(context_row *rows, uint32_t end)
{
    for (uint32_t id = thag_previous_live_id(end - 1); id > THAG_ROOT_ID;
         id = thag_previous_live_id(id - 1)) {
        context_row *parent = &rows[thag_context_by_id(id)->parent->id];
        parent->live_bytes += rows[id].live_bytes;
        parent->total_bytes += rows[id].total_bytes;
        parent->allocations += rows[id].allocations;
        parent->frees += rows[id].frees;
        parent->foreign_frees += rows[id].foreign_frees;
    }
}

/* Figures of all contexts as of one moment: copied again if a thread without the GIL was in the middle of an event. */
static context_row *
rows_read(uint32_t end)
{
    enum { TRIES = 100 };
    context_row *rows = calloc(end, sizeof(*rows));
    for (int i = 0; rows != NULL && i < TRIES; i++) {
        int64_t begun = atomic_load(&thag_contexts.detached_begun);
        bool quiet = begun == atomic_load(&thag_contexts.detached_finished);
        rows_copy(rows, end);
        if (quiet && begun == atomic_load(&thag_contexts.detached_begun)) {
            break;
        }
    }
    if (rows != NULL) {
        rows_add_up(rows, end);
    }
    return rows;
}

typedef struct {
    int64_t start_ns, low_bytes, high_bytes, live_bytes, self_live_bytes;
} bucket_row;

static bucket_row
bucket_row_of(const thag_bucket *bucket)
{
    return (bucket_row){since_origin(bucket->start_ns), bucket->low_bytes, bucket->high_bytes, bucket->live_bytes,
                        bucket->self_live_bytes};
}

static PyObject *
timeline_bytes(const thag_context *context, const context_row *row)
{
    uint32_t count = context->timeline.count;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)((count + 1) * sizeof(bucket_row)));
    if (bytes == NULL) {
        return NULL;
    }
    bucket_row *rows = (bucket_row *)(void *)PyBytes_AS_STRING(bytes);
    for (uint32_t i = 0; i < count; i++) {
        rows[i] = bucket_row_of(&context->timeline.buckets[i]);
    }
    thag_bucket open = {context->bucket_start_ns, thag_get(&context->low_bytes), thag_get(&context->high_bytes),
                        row->live_bytes, row->own.self_live_bytes};
    rows[count] = bucket_row_of(&open);
    return bytes;
}

/* The words of a record that are not its own. */
typedef struct {
    PyObject *task_aware, *system, *open, *ended;
} record_words;

static bool
words_make(record_words *words)
{
    *words = (record_words){PyUnicode_InternFromString("task_aware"), PyUnicode_InternFromString("system"),
                            PyUnicode_InternFromString("open"), PyUnicode_InternFromString("ended")};
    return words->task_aware != NULL && words->system != NULL && words->open != NULL && words->ended != NULL;
}

static void
words_drop(record_words *words)
{
    Py_XDECREF(words->task_aware);
    Py_XDECREF(words->system);
    Py_XDECREF(words->open);
    Py_XDECREF(words->ended);
}

static PyObject *
record_make(PyObject *type, const thag_context *context, const context_row *row, const record_words *words,
            uint64_t taken_ns)
{
    int64_t peak = row->own.peak_bytes > row->live_bytes ? row->own.peak_bytes : row->live_bytes;
    unsigned long parent = context->parent == NULL ? 0 : thag_context_today(context->parent)->id;
    uint64_t until_ns = context->ended ? context->ended_ns : taken_ns;
    PyObject *fields = Py_BuildValue(
        "kOOkOOLLLLLLLLLLLL", (unsigned long)context->id, PyTuple_GET_ITEM(context->label, 0),
        PyTuple_GET_ITEM(context->label, 1), parent, context->records ? words->task_aware : words->system,
        context->ended ? words->ended : words->open, (long long)row->live_bytes, (long long)peak,
        (long long)row->total_bytes, (long long)row->own.self_live_bytes, (long long)row->own.self_peak_bytes,
        (long long)row->own.self_total_bytes, (long long)row->allocations, (long long)row->frees,
        (long long)row->foreign_frees, (long long)(context->ended ? context->retained_bytes : 0),
        since_origin(context->started_ns), since_origin(until_ns) - since_origin(context->started_ns));
    return named_tuple(type, fields);
}

static bool
record_add(PyObject *records, PyObject *timelines, PyObject *type, const thag_context *context, const context_row *row,
           const record_words *words, uint64_t taken_ns)
{
    PyObject *record = record_make(type, context, row, words, taken_ns);
    PyObject *timeline = timeline_bytes(context, row);
    bool added = record != NULL && timeline != NULL && PyList_Append(records, record) == 0
                 && PyDict_SetItem(timelines, PyTuple_GET_ITEM(record, 0), timeline) == 0;
    Py_XDECREF(record);
    Py_XDECREF(timeline);
    return added;
}

static bool
records_add(PyObject *records, PyObject *timelines, PyObject *type, uint64_t taken_ns)
{
    uint32_t end = atomic_load(&thag_contexts.next_id);
    context_row *rows = rows_read(end);
    record_words words;
    bool added = words_make(&words) && (rows != NULL || PyErr_NoMemory() != NULL);
    for (uint32_t id = THAG_ROOT_ID; added && id < end; id = thag_next_live_id(id + 1)) {
        const thag_context *context = thag_context_by_id(id);
        if (atomic_load(&context->heir) == NULL) {
            added = record_add(records, timelines, type, context, &rows[id], &words, taken_ns);
        }
    }
    words_drop(&words);
    free(rows);
    return added;
}

static size_t
overhead_bytes(void)
{
    return thag_owners_resident() + thag_contexts_mapped() + thag_timeline_mapped();
}

static PyObject *
recording_make(PyObject *recording_type, PyObject *record_type, PyObject *marks, PyObject *resident)
{
    uint64_t taken_ns = thag_clock_read();
    PyObject *records = PyList_New(0);
    PyObject *timelines = PyDict_New();
    PyObject *recording = NULL;
    if (records != NULL && timelines != NULL && records_add(records, timelines, record_type, taken_ns)) {
        PyObject *fields = Py_BuildValue("NOLnLOO", PyList_AsTuple(records), timelines,
                                         since_origin(taken_ns), (Py_ssize_t)overhead_bytes(),
                                         (long long)thag_get(&thag_dispatcher_state.dropped), marks, resident);
        recording = named_tuple(recording_type, fields);
    }
    Py_XDECREF(records);
    Py_XDECREF(timelines);
    return recording;
}

static PyObject *
native_read(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 4 || !is_tuple_type(arguments[0]) || !is_tuple_type(arguments[1]) || !PyTuple_Check(arguments[2])
        || !PyTuple_Check(arguments[3])) {
        return PyErr_Format(PyExc_TypeError, "read takes 2 types of tuples and 2 tuples");
    }
    int collector_was_on = thag_bookkeeping_begin();
    PyObject *recording = recording_make(arguments[0], arguments[1], arguments[2], arguments[3]);
    thag_bookkeeping_end(collector_was_on);
    return recording;
}

/* What each context holds, as counted and as found in the table. */
typedef struct {
    int64_t counted;
    int64_t found;
} audit_row;

static void
audit_count(uint32_t context_id, size_t size, void *data)
{
    ((audit_row *)data)[thag_context_owner(context_id)->id].found += (int64_t)size;
}

static void
audit_read(audit_row *rows, uint32_t end)
{
    memset(rows, 0, end * sizeof(*rows));
    thag_lifecycle_pass_on_late_charges();
    thag_owners_walk(audit_count, rows);
    for (uint32_t id = THAG_ROOT_ID; id < end; id = thag_next_live_id(id + 1)) {
        rows[id].counted = thag_charges_figures(thag_context_by_id(id)).self_live_bytes;
    }
}

/* Once more if a thread without the GIL did anything meanwhile: the walk takes milliseconds. */
static audit_row *
audit_rows(uint32_t end)
{
    enum { TRIES = 100 };
    audit_row *rows = calloc(end, sizeof(*rows));
    for (int i = 0; rows != NULL && i < TRIES; i++) {
        int64_t begun = atomic_load(&thag_contexts.detached_begun);
        bool quiet = begun == atomic_load(&thag_contexts.detached_finished);
        audit_read(rows, end);
        if (quiet && begun == atomic_load(&thag_contexts.detached_begun)) {
            break;
        }
    }
    return rows;
}

static PyObject *
audit_dict(const audit_row *rows, uint32_t end)
{
    PyObject *dict = PyDict_New();
    for (uint32_t id = THAG_ROOT_ID; dict != NULL && id < end; id = thag_next_live_id(id + 1)) {
        if (rows[id].counted == 0 && rows[id].found == 0) {
            continue;
        }
        PyObject *key = PyLong_FromUnsignedLong(id);
        PyObject *value = Py_BuildValue("LL", (long long)rows[id].counted, (long long)rows[id].found);
        if (key == NULL || value == NULL || PyDict_SetItem(dict, key, value) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return dict;
}

static PyObject *
native_audit(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    uint32_t end = atomic_load(&thag_contexts.next_id);
    audit_row *rows = audit_rows(end);
    if (rows == NULL) {
        return PyErr_NoMemory();
    }
    int collector_was_on = thag_bookkeeping_begin();
    PyObject *dict = audit_dict(rows, end);
    thag_bookkeeping_end(collector_was_on);
    free(rows);
    return dict;
}

static PyObject *
native_context_ids(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *ids = PyList_New(0);
    for (uint32_t id = THAG_ROOT_ID; ids != NULL && id < atomic_load(&thag_contexts.next_id); id = thag_next_live_id(id + 1)) {
        if (atomic_load(&thag_context_by_id(id)->heir) != NULL) {
            continue;
        }
        PyObject *number = PyLong_FromUnsignedLong(id);
        if (number == NULL || PyList_Append(ids, number) < 0) {
            Py_CLEAR(ids);
        }
        Py_XDECREF(number);
    }
    return ids;
}

static PyObject *
native_owner_of(PyObject *Py_UNUSED(module), PyObject *argument)
{
    void *address = PyLong_AsVoidPtr(argument);
    if (address == NULL && PyErr_Occurred()) {
        return NULL;
    }
    size_t size;
    uint32_t context_id = thag_lifecycle_owner_of(address, &size);
    if (context_id == 0) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("kn", (unsigned long)context_id, (Py_ssize_t)size);
}

/* ---- walks: who holds what ---- */

/* What lasts as long as a walk, in a capsule. */
typedef struct {
    thag_places places;
    thag_front front;           /* empty between two steps */
    thag_kinds kinds;
    PyTypeObject *cache_type;
    PyObject *types;            /* keeps those of `kinds` and `cache_type` */
    int32_t begun;              /* the last place that something was followed for */
    int32_t spans;              /* what `again` of an object is where the last span has been; each has its own */
} walk;

/* One step of a walk, on behalf of one holder. Consecutive blocks usually have the same owner. */
typedef struct {
    walk *walk;
    int32_t place;
    bool tells;                 /* whether the holder is told of where it shares */
    bool loops;                 /* whether the holder's own objects were met again */
    bool failed;
    uint32_t context_id;        /* whose bytes are not in `held` yet; 0 for nobody's */
    int64_t bytes;
    PyObject *held;             /* bytes by context id */
    PyObject *special;          /* objects that the caller decides on */
    PyObject *shared;           /* lists of objects by the earlier place that has them */
    PyObject *shared_list;      /* the one that was added to last, borrowed, and its place */
    int32_t shared_place;
} step;

static void
step_write(step *step)
{
    PyObject *key = step->context_id == 0 ? NULL : PyLong_FromUnsignedLong(step->context_id);
    PyObject *before = key == NULL ? NULL : PyDict_GetItemWithError(step->held, key);
    long long bytes = before == NULL ? 0 : PyLong_AsLongLong(before);
    PyObject *after = key == NULL ? NULL : PyLong_FromLongLong(bytes + step->bytes);
    step->failed |= step->context_id != 0 && (after == NULL || PyDict_SetItem(step->held, key, after) < 0);
    Py_XDECREF(key);
    Py_XDECREF(after);
}

static void
step_block(const void *address, void *data)
{
    step *step = data;
    size_t size;
    uint32_t context_id = thag_lifecycle_owner_of(address, &size);
    if (context_id == 0) {
        return;
    }
    if (context_id != step->context_id) {
        step_write(step);
        step->context_id = context_id;
        step->bytes = 0;
    }
    step->bytes += (int64_t)size;
}

/* What so many share that it says nothing. */
static bool
is_atom(PyObject *object)
{
    return PyLong_CheckExact(object) || PyUnicode_CheckExact(object) || PyFloat_CheckExact(object)
           || PyBytes_CheckExact(object) || PyBool_Check(object) || PyComplex_CheckExact(object) || object == Py_None
           || PyCode_Check(object) || PyFunction_Check(object) || PyCFunction_CheckExact(object);
}

/* An object that another holder has reached before; each is told of once, and of each holder's no more than enough. */
static void
step_share(step *step, PyObject *object, thag_place *at)
{
    enum { ENOUGH = 1000 };
    if (!step->tells || at->place < 0 || at->again == step->place || is_atom(object)) {
        return;
    }
    at->again = step->place;
    if (step->shared_list == NULL || at->place != step->shared_place) {
        PyObject *place = PyLong_FromLong(at->place);
        PyObject *fresh = place == NULL ? NULL : PyList_New(0);
        step->shared_list = fresh == NULL ? NULL : PyDict_SetDefault(step->shared, place, fresh);
        step->shared_place = at->place;
        step->failed |= step->shared_list == NULL;
        Py_XDECREF(place);
        Py_XDECREF(fresh);
    }
    if (!step->failed && PyList_GET_SIZE(step->shared_list) < ENOUGH) {
        step->failed |= PyList_Append(step->shared_list, object) < 0;
    }
}

/* What leads everywhere, or is gone into in another way than the collector does. */
static bool
is_special(PyObject *object, const walk *walk)
{
    return PyType_Check(object) || PyFunction_Check(object) || PyModule_Check(object) || PyFrame_Check(object)
           || PyTraceBack_Check(object) || Py_IS_TYPE(object, walk->cache_type);
}

static void
step_pass(step *step, PyObject *object, thag_place *at)
{
    at->place = step->place;
    step->failed |= !thag_front_push(&step->walk->front, object);
}

static void
step_meet(step *step, PyObject *object)
{
    thag_place *at = thag_places_of(&step->walk->places, object);
    if (at == NULL) {
        step->failed = true;
    }
    else if (at->place == step->place) {
        step->loops |= at->again == THAG_PLACE_ROOT;
    }
    else if (at->place != THAG_PLACE_UNMET) {
        step_share(step, object, at);
    }
    else if (!is_special(object, step->walk)) {
        step_pass(step, object, at);
    }
    else if (at->again != step->place && at->again != THAG_PLACE_ROOT) {
        at->again = step->place;
        step->failed |= PyList_Append(step->special, object) < 0;
    }
}

static bool
step_held(PyObject *held, void *data)
{
    step_meet(data, held);
    return !((step *)data)->failed;
}

static int
step_referent(PyObject *held, void *data)
{
    return step_held(held, data) ? 0 : -1;
}

/* As gc.get_referents does, without a list of everything. */
static void
step_go_on(step *step, PyObject *object)
{
    thag_blocks_visitor visitor = {step_block, step_held, step};
    (void)thag_blocks_visit(object, &step->walk->kinds, &visitor);
    if (!step->failed && PyObject_IS_GC(object) && Py_TYPE(object)->tp_traverse != NULL) {
        (void)Py_TYPE(object)->tp_traverse(object, step_referent, step);
    }
}

static void
step_begin(step *step, PyObject *objects)
{
    bool first = step->walk->begun != step->place;
    step->walk->begun = step->place;
    for (Py_ssize_t i = 0; !step->failed && i < PyList_GET_SIZE(objects); i++) {
        step_meet(step, PyList_GET_ITEM(objects, i));
        thag_place *at = thag_places_of(&step->walk->places, PyList_GET_ITEM(objects, i));
        if (first && at != NULL && (at->place == step->place || at->place == THAG_PLACE_UNMET)) {
            at->again = THAG_PLACE_ROOT;
        }
    }
}

/* The next object to go on from, if there is one: of the front, else from the end of the list. */
static PyObject *
step_next(step *step, PyObject *passed, Py_ssize_t *left)
{
    thag_front *front = &step->walk->front;
    if (front->count == 0 && *left > 0) {
        PyObject *object = PyList_GET_ITEM(passed, --*left);
        thag_place *at = thag_places_of(&step->walk->places, object);
        step->failed |= at == NULL;
        if (at != NULL) {
            step_pass(step, object, at);
        }
    }
    return step->failed || front->count == 0 ? NULL : front->objects[--front->count];
}

/* Goes on for a while: not so long that nothing else could run, or be shown. Returns how many of those `passed` are left;
   what is left of the front stands behind them, as only a list keeps it alive. */
static Py_ssize_t
step_run(step *step, PyObject *passed)
{
    enum { AT_ONCE = 100000 };
    thag_front *front = &step->walk->front;
    Py_ssize_t left = PyList_GET_SIZE(passed);
    PyObject *object;
    for (int i = 0; i < AT_ONCE && (object = step_next(step, passed, &left)) != NULL; i++) {
        step_go_on(step, object);
    }
    for (size_t i = 0; !step->failed && i < front->count; i++) {
        step->failed |= PyList_Append(passed, front->objects[i]) < 0;
    }
    front->count = 0;
    return left;
}

/* Releases what it was built from. */
static PyObject *
step_result(step *step)
{
    PyObject *result = NULL;
    if (!step->failed) {
        step_write(step);
    }
    if (!step->failed) {
        PyObject *loops = step->loops ? Py_True : Py_False;
        result = PyTuple_Pack(4, step->held, step->special, step->shared, loops);
    }
    else if (!PyErr_Occurred()) {
        PyErr_NoMemory();
    }
    Py_XDECREF(step->held);
    Py_XDECREF(step->special);
    Py_XDECREF(step->shared);
    return result;
}

/* How much of what one holder has of one context can be reached from some of its objects. */
typedef struct {
    walk *walk;
    int32_t place;
    uint32_t context_id;
    int64_t bytes;
    bool failed;
} span;

static void
span_block(const void *address, void *data)
{
    span *span = data;
    size_t size;
    if (thag_lifecycle_owner_of(address, &size) == span->context_id) {
        span->bytes += (int64_t)size;
    }
}

static bool
span_held(PyObject *held, void *data)
{
    span *span = data;
    thag_place *at = thag_places_of(&span->walk->places, held);
    span->failed |= at == NULL;
    if (at != NULL && at->place == span->place && at->again != span->walk->spans) {
        at->again = span->walk->spans;
        span->failed |= !thag_front_push(&span->walk->front, held);
    }
    return !span->failed;
}

static int
span_referent(PyObject *held, void *data)
{
    return span_held(held, data) ? 0 : -1;
}

/* Until there is enough, or it takes too long to say that there is not. */
static void
span_run(span *span, PyObject *objects, int64_t enough)
{
    enum { TOO_LONG = 100000 };
    thag_front *front = &span->walk->front;
    for (Py_ssize_t i = 0; !span->failed && i < PyList_GET_SIZE(objects); i++) {
        (void)span_held(PyList_GET_ITEM(objects, i), span);
    }
    thag_blocks_visitor visitor = {span_block, span_held, span};
    for (int i = 0; !span->failed && front->count > 0 && span->bytes < enough && i < TOO_LONG; i++) {
        PyObject *object = front->objects[--front->count];
        (void)thag_blocks_visit(object, &span->walk->kinds, &visitor);
        if (!span->failed && PyObject_IS_GC(object) && Py_TYPE(object)->tp_traverse != NULL) {
            (void)Py_TYPE(object)->tp_traverse(object, span_referent, span);
        }
    }
    front->count = 0;
}

static const char walk_name[] = "thag_nb._native.walk";

static walk *
walk_argument(PyObject *argument)
{
    return PyCapsule_IsValid(argument, walk_name) ? PyCapsule_GetPointer(argument, walk_name) : NULL;
}

static PyObject *
native_follow(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    walk *walked = count == 5 ? walk_argument(arguments[0]) : NULL;
    if (walked == NULL || !PyLong_Check(arguments[1]) || !PyList_Check(arguments[2]) || !PyList_Check(arguments[3])) {
        return PyErr_Format(PyExc_TypeError, "follow takes a walk, a number, two lists and a bool");
    }
    long place = PyLong_AsLong(arguments[1]);
    if (place < 0 || place > INT32_MAX) {
        PyErr_Clear();
        return PyErr_Format(PyExc_ValueError, "no place has the number %R", arguments[1]);
    }
    int collector_was_on = thag_bookkeeping_begin();
    step step = {.walk = walked, .place = (int32_t)place, .tells = arguments[4] == Py_True, .held = PyDict_New(),
                 .special = PyList_New(0), .shared = PyDict_New()};
    step.failed = step.held == NULL || step.special == NULL || step.shared == NULL;
    PyObject *passed = arguments[3];
    Py_ssize_t given = PyList_GET_SIZE(passed);
    step_begin(&step, arguments[2]);
    Py_ssize_t left = step_run(&step, passed);
    PyObject *result = step_result(&step);
    thag_bookkeeping_end(collector_was_on);
    /* Not before: what only the list kept alive is freed as the world's, not as ours. */
    if (result != NULL && PyList_SetSlice(passed, left, given, NULL) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

static PyObject *
native_reaches(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    walk *walked = count == 5 ? walk_argument(arguments[0]) : NULL;
    if (walked == NULL || !PyList_Check(arguments[2])) {
        return PyErr_Format(PyExc_TypeError, "reaches takes a walk, a number, a list and two numbers");
    }
    span span = {.walk = walked, .place = (int32_t)PyLong_AsLong(arguments[1]),
                 .context_id = (uint32_t)PyLong_AsUnsignedLong(arguments[3])};
    long long enough = PyLong_AsLongLong(arguments[4]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    walked->spans--;
    span_run(&span, arguments[2], enough);
    return span.failed ? PyErr_NoMemory() : PyBool_FromLong(span.bytes >= enough);
}

/* Says of objects whether a walk may enter them. */
static PyObject *
walk_mark(PyObject *const *arguments, Py_ssize_t count, int32_t place)
{
    walk *walked = count == 2 ? walk_argument(arguments[0]) : NULL;
    if (walked == NULL || !PyList_Check(arguments[1])) {
        return PyErr_Format(PyExc_TypeError, "a walk and a list are needed");
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(arguments[1]); i++) {
        thag_place *at = thag_places_of(&walked->places, PyList_GET_ITEM(arguments[1], i));
        if (at == NULL) {
            return PyErr_NoMemory();
        }
        at->place = place;
        at->again = THAG_PLACE_NOBODY;
    }
    Py_RETURN_NONE;
}

static PyObject *
native_close(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    return walk_mark(arguments, count, THAG_PLACE_NOBODY);
}

static PyObject *
native_open(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    return walk_mark(arguments, count, THAG_PLACE_UNMET);
}

static PyObject *
native_unmet(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    walk *walked = count == 2 ? walk_argument(arguments[0]) : NULL;
    if (walked == NULL || !PyList_Check(arguments[1])) {
        return PyErr_Format(PyExc_TypeError, "unmet takes a walk and a list");
    }
    PyObject *unmet = PyList_New(0);
    for (Py_ssize_t i = 0; unmet != NULL && i < PyList_GET_SIZE(arguments[1]); i++) {
        thag_place *at = thag_places_of(&walked->places, PyList_GET_ITEM(arguments[1], i));
        if (at == NULL) {
            PyErr_NoMemory();
            Py_CLEAR(unmet);
        }
        else if (at->place == THAG_PLACE_UNMET && PyList_Append(unmet, PyList_GET_ITEM(arguments[1], i)) < 0) {
            Py_CLEAR(unmet);
        }
    }
    return unmet;
}

static PyObject *
native_met(PyObject *Py_UNUSED(module), PyObject *argument)
{
    walk *walked = walk_argument(argument);
    return walked == NULL ? PyErr_Format(PyExc_TypeError, "met takes a walk")
                          : PyLong_FromSize_t(walked->places.count);
}

static void
walk_end(PyObject *capsule)
{
    walk *ended = PyCapsule_GetPointer(capsule, walk_name);
    thag_places_clear(&ended->places);
    thag_front_clear(&ended->front);
    Py_DECREF(ended->types);
    PyMem_Free(ended);
}

/* A type, or NULL for None and for whatever else is no type. */
static PyTypeObject *
type_or_null(PyObject *types, Py_ssize_t i)
{
    PyObject *type = PyTuple_GET_ITEM(types, i);
    return PyType_Check(type) ? (PyTypeObject *)type : NULL;
}

static PyObject *
native_walk(PyObject *Py_UNUSED(module), PyObject *types)
{
    if (!PyTuple_Check(types) || PyTuple_GET_SIZE(types) != 6) {
        return PyErr_Format(PyExc_TypeError, "walk takes a tuple of 6 types");
    }
    int collector_was_on = thag_bookkeeping_begin();
    walk *begun = PyMem_Calloc(1, sizeof(*begun));
    PyObject *capsule = begun == NULL ? PyErr_NoMemory() : PyCapsule_New(begun, walk_name, walk_end);
    thag_bookkeeping_end(collector_was_on);
    if (capsule == NULL) {
        PyMem_Free(begun);
        return NULL;
    }
    begun->types = Py_NewRef(types);
    begun->begun = THAG_PLACE_NOBODY;
    begun->spans = THAG_PLACE_ROOT;
    begun->kinds = (thag_kinds){
        .ndarray = type_or_null(types, 0),
        .deque = type_or_null(types, 1),
        .array = type_or_null(types, 2),
        .bytes_io = type_or_null(types, 3),
        .string_io = type_or_null(types, 4),
    };
    begun->cache_type = type_or_null(types, 5);
    return capsule;
}

static PyObject *
native_health(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue(
        "{s:L,s:L,s:L,s:L,s:L,s:L}", "dropped", (long long)thag_get(&thag_dispatcher_state.dropped), "stale_records",
        (long long)thag_get(&thag_dispatcher_state.stale_records), "stale_lookups",
        (long long)thag_get(&thag_flow_state.stale_lookups), "orphaned_guards",
        (long long)thag_get(&thag_flow_state.orphans), "failed_restores",
        (long long)thag_get(&thag_flow_state.failed_restores), "coarse_buckets", (long long)thag_timeline_coarser());
}

static PyObject *
native_overhead(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("{s:n,s:n,s:n}", "owners", (Py_ssize_t)thag_owners_resident(), "contexts",
                         (Py_ssize_t)thag_contexts_mapped(), "timelines", (Py_ssize_t)thag_timeline_mapped());
}

/* ---- collections of the garbage collector ---- */

/* When the collection that runs began; 0 if none was seen to begin. They do not nest. With the GIL. */
static uint64_t collection_started_ns;

/* Appends a mark to a deque of Python's. */
static bool
collection_keep(PyObject *mark_type, PyObject *kept, long generation, uint64_t started_ns, uint64_t duration_ns)
{
    thag_flow flow = thag_current_flow(&thag_this_thread, true);
    unsigned long context_id = flow.context == NULL ? THAG_ROOT_ID : thag_context_today(flow.context)->id;
    PyObject *name = PyUnicode_FromFormat("gc %ld", generation);
    PyObject *kind = PyUnicode_InternFromString("collection");
    PyObject *fields = name == NULL || kind == NULL
                           ? NULL
                           : Py_BuildValue("LkOOL", since_origin(started_ns), context_id, name, kind,
                                           (long long)duration_ns);
    PyObject *mark = named_tuple(mark_type, fields);
    PyObject *nothing = mark == NULL ? NULL : PyObject_CallMethod(kept, "append", "(O)", mark);
    Py_XDECREF(name);
    Py_XDECREF(kind);
    Py_XDECREF(mark);
    Py_XDECREF(nothing);
    return nothing != NULL;
}

static bool
collection_note(PyObject *watcher, PyObject *phase, PyObject *info)
{
    enum { OLDEST_GENERATION = 2, NOTABLE_NS = 1000000 };
    uint64_t now_ns = thag_clock_read();
    if (PyUnicode_CompareWithASCIIString(phase, "start") == 0) {
        collection_started_ns = now_ns;
        return true;
    }
    uint64_t started_ns = collection_started_ns;
    collection_started_ns = 0;
    if (started_ns == 0 || !thag_is_recording()) {
        return true;
    }
    uint64_t duration_ns = now_ns - started_ns;
    PyObject *number = PyMapping_GetItemString(info, "generation");
    long generation = number == NULL ? -1 : PyLong_AsLong(number);
    Py_XDECREF(number);
    if (PyErr_Occurred()) {
        return false;
    }
    if (generation < OLDEST_GENERATION && duration_ns <= NOTABLE_NS) {
        return true;
    }
    return collection_keep(PyTuple_GET_ITEM(watcher, 0), PyTuple_GET_ITEM(watcher, 1), generation, started_ns,
                           duration_ns);
}

/* Before 3.12 the collector runs in the middle of any allocation, also of one for the changing of a ContextVar. So this
   changes none, as Python code would that enters a context to be charged to nobody. It never raises. */
static PyObject *
collection_watch(PyObject *watcher, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyUnicode_Check(arguments[0])) {
        return PyErr_Format(PyExc_TypeError, "a callback of the collector takes a phase and a dict");
    }
    int collector_was_on = thag_bookkeeping_begin();
    if (!collection_note(watcher, arguments[0], arguments[1])) {
        PyErr_Clear();
        (void)thag_add(&thag_dispatcher_state.dropped, 1);
    }
    thag_bookkeeping_end(collector_was_on);
    Py_RETURN_NONE;
}

static PyMethodDef collection_method = {
    "watch_collection", (PyCFunction)(void (*)(void))collection_watch, METH_FASTCALL, NULL,
};

static PyObject *
native_collection_watcher(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !is_tuple_type(arguments[0])) {
        return PyErr_Format(PyExc_TypeError, "collection_watcher takes a type of tuples and a deque");
    }
    PyObject *watcher = PyTuple_Pack(2, arguments[0], arguments[1]);
    PyObject *watch = watcher == NULL ? NULL : PyCFunction_New(&collection_method, watcher);
    Py_XDECREF(watcher);
    return watch;
}

static PyMethodDef methods[] = {
    {"start", native_start, METH_NOARGS, NULL},
    {"stop", native_stop, METH_NOARGS, NULL},
    {"now", native_now, METH_NOARGS, NULL},
    {"is_recording", native_is_recording, METH_NOARGS, NULL},
    {"hooks", native_hooks, METH_NOARGS, NULL},
    {"allocators", native_allocators, METH_NOARGS, NULL},
    {"attach_numpy", native_attach_numpy, METH_O, NULL},
    {"open_guard", (PyCFunction)(void (*)(void))native_open_guard, METH_FASTCALL, NULL},
    {"enter", (PyCFunction)(void (*)(void))native_enter, METH_FASTCALL, NULL},
    {"adopt", native_adopt, METH_O, NULL},
    {"flow", native_flow, METH_NOARGS, NULL},
    {"context", native_context, METH_O, NULL},
    {"context_ids", native_context_ids, METH_NOARGS, NULL},
    {"hold", native_hold, METH_O, NULL},
    {"release", native_release, METH_O, NULL},
    {"current_id", native_current_id, METH_NOARGS, NULL},
    {"caller_id", native_caller_id, METH_O, NULL},
    {"base_id", native_base_id, METH_NOARGS, NULL},
    {"set_foreground", native_set_foreground, METH_O, NULL},
    {"reset", native_reset, METH_NOARGS, NULL},
    {"forget", native_forget, METH_NOARGS, NULL},
    {"read", (PyCFunction)(void (*)(void))native_read, METH_FASTCALL, NULL},
    {"collection_watcher", (PyCFunction)(void (*)(void))native_collection_watcher, METH_FASTCALL, NULL},
    {"after_fork", native_after_fork, METH_NOARGS, NULL},
    {"audit", native_audit, METH_NOARGS, NULL},
    {"owner_of", native_owner_of, METH_O, NULL},
    {"walk", native_walk, METH_O, NULL},
    {"follow", (PyCFunction)(void (*)(void))native_follow, METH_FASTCALL, NULL},
    {"reaches", (PyCFunction)(void (*)(void))native_reaches, METH_FASTCALL, NULL},
    {"close", (PyCFunction)(void (*)(void))native_close, METH_FASTCALL, NULL},
    {"open", (PyCFunction)(void (*)(void))native_open, METH_FASTCALL, NULL},
    {"unmet", (PyCFunction)(void (*)(void))native_unmet, METH_FASTCALL, NULL},
    {"met", native_met, METH_O, NULL},
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
    if (!thag_owners_init() || !thag_contexts_init()) {
        PyErr_NoMemory();
        return -1;
    }
    if (!built_in_label(thag_contexts.root, "root") || !built_in_label(thag_contexts.system, "system")) {
        return -1;
    }
    atomic_store(&reclaimed.heir, thag_contexts.root);
    if (thag_current_init() < 0 || PyModule_AddType(module, &thag_entering_type) < 0
        || PyModule_AddType(module, &thag_frame_type) < 0) {
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
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
