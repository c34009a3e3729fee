/* The figures of all contexts as Python reads them: a recording, and what checks it against the owner table. */

#include "address_space.h"
#include "behind.h"
#include "bindings.h"
#include "call_sites.h"
#include "charges.h"
#include "clock.h"
#include "current.h"
#include "dispatcher.h"
#include "lifecycle.h"
#include "owners.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    thag_figures own;
    int64_t live_bytes;         /* these five with what was started below */
    int64_t total_bytes;
    int64_t allocations;
    int64_t frees;
    int64_t foreign_frees;
} context_row;

/* As of one moment: what threads without the GIL do is taken over for all contexts at once. */
static void
rows_copy(context_row *rows)
{
    (void)thag_charges_catch_up();
    thag_lifecycle_pass_on_late_charges();
    for (uint32_t i = 0; i < thag_contexts.count; i++) {
        thag_figures own = thag_charges_figures(thag_contexts.by_age[i]);
        thag_counts below = thag_contexts.by_age[i]->below;
        rows[thag_contexts.by_age[i]->slot] = (context_row){
            .own = own,
            .live_bytes = own.self_live_bytes,
            .total_bytes = own.self_total_bytes + below.total_bytes,
            .allocations = own.allocations + below.allocations,
            .frees = own.frees + below.frees,
            .foreign_frees = own.foreign_frees + below.foreign_frees,
        };
    }
}

/* A parent is always older than its children, so one pass from the youngest adds everything up. Live bytes are added up
   too, though every context counts them: so the sums hold also where what is late was passed on. */
static void
rows_add_up(context_row *rows)
{
    for (uint32_t i = thag_contexts.count; i-- > 1;) {
        const context_row *row = &rows[thag_contexts.by_age[i]->slot];
        context_row *parent = &rows[thag_context_parent(thag_contexts.by_age[i])->slot];
        parent->live_bytes += row->live_bytes;
        parent->total_bytes += row->total_bytes;
        parent->allocations += row->allocations;
        parent->frees += row->frees;
        parent->foreign_frees += row->foreign_frees;
    }
}

/* The figures of all contexts by slot, or NULL without memory. */
static context_row *
rows_read(void)
{
    context_row *rows = calloc(thag_contexts.slots_end, sizeof(*rows));
    if (rows != NULL) {
        rows_copy(rows);
        rows_add_up(rows);
    }
    return rows;
}

typedef struct {
    int64_t start_ns, low_bytes, high_bytes, live_bytes, self_live_bytes;
} bucket_row;

static bucket_row
bucket_row_of(const thag_bucket *bucket)
{
    return (bucket_row){thag_since_origin(bucket->start_ns), bucket->low_bytes, bucket->high_bytes, bucket->live_bytes,
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
    thag_bucket open = {context->bucket_start_ns, thag_load(&context->low_bytes), thag_load(&context->high_bytes),
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
    thag_context *above = thag_context_parent(context);
    unsigned long long parent = above == NULL ? 0 : thag_context_today(above)->id;
    uint64_t until_ns = context->ended ? context->ended_ns : taken_ns;
    thag_sources live_of = row->own.self_live_of;
    thag_amount at_peak = row->own.at_session_peak;
    PyObject *fields = Py_BuildValue(
        "KOOKOOLLLLLLLLLLLLLLLLLL", (unsigned long long)context->id, PyTuple_GET_ITEM(context->label, 0),
        PyTuple_GET_ITEM(context->label, 1), parent, context->records ? words->task_aware : words->system,
        context->ended ? words->ended : words->open, (long long)row->live_bytes, (long long)peak,
        (long long)row->total_bytes, (long long)row->own.self_live_bytes, (long long)row->own.self_peak_bytes,
        (long long)row->own.self_total_bytes, (long long)row->allocations, (long long)row->frees,
        (long long)row->foreign_frees, (long long)(context->ended ? context->retained_bytes : 0),
        thag_since_origin(context->started_ns), thag_since_origin(until_ns) - thag_since_origin(context->started_ns),
        (long long)at_peak.bytes, (long long)row->own.at_parent_peak_bytes, (long long)live_of.numpy_bytes,
        (long long)live_of.native_bytes, (long long)at_peak.of.numpy_bytes, (long long)at_peak.of.native_bytes);
    return thag_named_tuple(type, fields);
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
    context_row *rows = rows_read();
    record_words words;
    bool added = words_make(&words) && (rows != NULL || PyErr_NoMemory() != NULL);
    for (uint32_t i = 0; added && i < thag_contexts.count; i++) {
        const thag_context *context = thag_contexts.by_age[i];
        if (atomic_load(&context->heir) == NULL) {
            added = record_add(records, timelines, type, context, &rows[context->slot], &words, taken_ns);
        }
    }
    words_drop(&words);
    free(rows);
    return added;
}

static size_t
overhead_bytes(void)
{
    return thag_owners_in_use() + thag_contexts_mapped() + thag_timeline_mapped() + thag_logs_mapped()
           + thag_address_space_in_use() + thag_sites_mapped() + thag_accounts_mapped();
}

static PyObject *
recording_make(PyObject *recording_type, PyObject *record_type, PyObject *marks, PyObject *resident, PyObject *site_types,
               PyObject *site_numbers)
{
    uint64_t taken_ns = thag_clock_read();
    PyObject *records = PyList_New(0);
    PyObject *timelines = PyDict_New();
    PyObject *recording = NULL;
    if (records != NULL && timelines != NULL && records_add(records, timelines, record_type, taken_ns)) {
        PyObject *sites = thag_call_sites_read(site_types, site_numbers);      /* as of the same moment */
        PyObject *fields = sites == NULL ? NULL : Py_BuildValue(
            "NOLnLOOOOO()()", PyList_AsTuple(records), timelines, thag_since_origin(taken_ns), (Py_ssize_t)overhead_bytes(),
            (long long)thag_load(&thag_events.dropped), marks, resident, PyTuple_GET_ITEM(sites, 0),
            PyTuple_GET_ITEM(sites, 1), PyTuple_GET_ITEM(sites, 2));
        Py_XDECREF(sites);
        recording = thag_named_tuple(recording_type, fields);
    }
    Py_XDECREF(records);
    Py_XDECREF(timelines);
    return recording;
}

static PyObject *
native_read(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count < 5 || count > 6 || !thag_is_tuple_type(arguments[0]) || !thag_is_tuple_type(arguments[1])
        || !PyTuple_Check(arguments[2]) || !PyTuple_Check(arguments[3])
        || !(thag_are_tuple_types(arguments[4], 3) || thag_are_tuple_types(arguments[4], 0))
        || (count == 6 && !PyList_Check(arguments[5]))) {
        return PyErr_Format(PyExc_TypeError, "read takes 2 types of tuples, 2 tuples, none or 3 types more in one, and may take a list");
    }
    PyObject *site_numbers = count == 6 ? arguments[5] : NULL;
    int collector_was_on = thag_bookkeeping_begin();
    PyObject *recording = recording_make(arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                                         site_numbers);
    thag_bookkeeping_end(collector_was_on);
    return recording;
}

/* What each context holds, as counted and as found in the table; by slot. */
typedef struct {
    int64_t counted_bytes;
    int64_t found_bytes;
    int64_t counted_blocks;
    int64_t found_blocks;
} audit_row;

static void
audit_count(uint32_t slot, size_t size, void *data)
{
    audit_row *row = &((audit_row *)data)[thag_context_owner(slot)->slot];
    row->found_bytes += (int64_t)size;
    row->found_blocks++;
}

static void
audit_copy(audit_row *rows)
{
    memset(rows, 0, thag_contexts.slots_end * sizeof(*rows));
    thag_owners_walk(audit_count, rows);
    (void)thag_charges_catch_up();
    thag_lifecycle_pass_on_late_charges();
    for (uint32_t i = 0; i < thag_contexts.count; i++) {
        thag_context *context = thag_contexts.by_age[i];
        rows[context->slot].counted_bytes = thag_charges_figures(context).self_live_bytes;
        rows[context->slot].counted_blocks = thag_context_blocks(context);
    }
}

/* Table and figures as of one moment: once more if a thread without the GIL was in the middle of an event, or did anything
   meanwhile. Gives up when there is no peace: what was copied last is off by those events. */
static void
audit_copy_in_peace(audit_row *rows)
{
    enum { TRIES = 100 };
    for (int i = 0; i < TRIES; i++) {
        uint64_t begun = thag_detached_count();
        bool quiet = thag_detached_is_quiet(begun);
        audit_copy(rows);
        if (quiet && thag_detached_is_quiet(begun)) {
            return;
        }
    }
}

static PyObject *
audit_dict(const audit_row *rows)
{
    PyObject *dict = PyDict_New();
    for (uint32_t i = 0; dict != NULL && i < thag_contexts.count; i++) {
        const thag_context *context = thag_contexts.by_age[i];
        const audit_row *row = &rows[context->slot];
        if ((row->counted_bytes | row->found_bytes | row->counted_blocks | row->found_blocks) == 0) {
            continue;
        }
        PyObject *key = PyLong_FromUnsignedLongLong(context->id);
        PyObject *value = Py_BuildValue("(LL)(LL)", (long long)row->counted_bytes, (long long)row->counted_blocks,
                                        (long long)row->found_bytes, (long long)row->found_blocks);
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
    audit_row *rows = calloc(thag_contexts.slots_end, sizeof(*rows));
    if (rows == NULL) {
        return PyErr_NoMemory();
    }
    audit_copy_in_peace(rows);
    int collector_was_on = thag_bookkeeping_begin();
    PyObject *dict = audit_dict(rows);
    thag_bookkeeping_end(collector_was_on);
    free(rows);
    return dict;
}

static PyObject *
native_owner_of(PyObject *Py_UNUSED(module), PyObject *argument)
{
    void *address = PyLong_AsVoidPtr(argument);
    if (address == NULL && PyErr_Occurred()) {
        return NULL;
    }
    size_t size;
    uint64_t context_id = thag_lifecycle_owner_of(address, &size);
    if (context_id == 0) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("Kn", (unsigned long long)context_id, (Py_ssize_t)size);
}

static PyObject *
native_block_around(PyObject *Py_UNUSED(module), PyObject *argument)
{
    void *address = PyLong_AsVoidPtr(argument);
    const void *block = PyErr_Occurred() ? NULL : thag_owners_around(address);
    if (block == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    return Py_BuildValue("Nn", PyLong_FromVoidPtr((void *)(uintptr_t)block), (Py_ssize_t)thag_owners_peek(block).size);
}

/* What a capsule holds, or what a number says; NULL with an exception. */
static const void *
place_of(PyObject *place)
{
    return PyCapsule_CheckExact(place) ? PyCapsule_GetPointer(place, PyCapsule_GetName(place)) : PyLong_AsVoidPtr(place);
}

static bool
word_set(PyObject *words, Py_ssize_t i, const void *word)
{
    PyObject *number = PyLong_FromVoidPtr((void *)(uintptr_t)word);
    if (number != NULL) {
        PyTuple_SET_ITEM(words, i, number);
    }
    return number != NULL;
}

static PyObject *
native_words(PyObject *Py_UNUSED(module), PyObject *argument)
{
    const void *block = place_of(argument);
    if (PyErr_Occurred()) {
        return NULL;
    }
    Py_ssize_t count = (Py_ssize_t)(thag_owners_peek(block).size / sizeof(void *));
    PyObject *words = PyTuple_New(count + 1);
    bool made = words != NULL && word_set(words, 0, block);
    for (Py_ssize_t i = 0; made && i < count; i++) {
        made = word_set(words, i + 1, ((void *const *)block)[i]);
    }
    if (!made) {
        Py_CLEAR(words);
    }
    return words;
}

static bool
block_append(const void *block, void *blocks)
{
    PyObject *address = PyLong_FromVoidPtr((void *)block);
    bool appended = address != NULL && PyList_Append(blocks, address) == 0;
    Py_XDECREF(address);
    return appended;
}

static PyObject *
native_blocks_behind(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *object, *new_objects[2] = {NULL, NULL};
    if (!PyArg_ParseTuple(arguments, "O|(OO)", &object, &new_objects[0], &new_objects[1])) {
        return NULL;
    }
    PyObject *blocks = PyList_New(0);
    if (blocks != NULL && !thag_behind_visit(object, new_objects, block_append, blocks)) {
        Py_CLEAR(blocks);
        if (!PyErr_Occurred()) {
            (void)PyErr_NoMemory();
        }
    }
    return blocks;
}

static PyObject *
native_buffer_address(PyObject *Py_UNUSED(module), PyObject *exporter)
{
    Py_buffer buffer;
    if (PyObject_GetBuffer(exporter, &buffer, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    PyObject *address = PyLong_FromVoidPtr(buffer.buf);
    PyBuffer_Release(&buffer);
    return address;
}

PyMethodDef thag_recording_methods[] = {
    {"read", THAG_FASTCALL(native_read), METH_FASTCALL, NULL},
    {"audit", native_audit, METH_NOARGS, NULL},
    {"owner_of", native_owner_of, METH_O, NULL},
    {"block_around", native_block_around, METH_O, NULL},
    {"words", native_words, METH_O, NULL},
    {"blocks_behind", native_blocks_behind, METH_VARARGS, NULL},
    {"buffer_address", native_buffer_address, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
