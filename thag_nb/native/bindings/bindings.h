/* What the files of the bindings share. They alone parse arguments, build what Python gets, and set errors; each offers its
   functions as a table, which module.c adds to the module. Nothing here is called from an allocation. All with the GIL. */

#ifndef THAG_BINDINGS_H
#define THAG_BINDINGS_H

#include "contexts.h"
#include "thag.h"

#define THAG_FASTCALL(function) ((PyCFunction)(void (*)(void))(function))

/* Without the GIL, one thread at a time; with it there is nothing to do. */
#ifndef Py_BEGIN_CRITICAL_SECTION
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

extern PyMethodDef thag_contexts_methods[];
extern PyMethodDef thag_guard_methods[];
extern PyMethodDef thag_recording_methods[];
extern PyMethodDef thag_call_sites_methods[];
extern PyMethodDef thag_collector_methods[];
extern PyMethodDef thag_carrier_methods[];
extern PyMethodDef thag_handover_methods[];
extern PyMethodDef thag_resumes_methods[];

extern PyTypeObject thag_walk_type;
extern PyTypeObject thag_guard_type;
extern PyTypeObject thag_task_guard_type;

/* Make their types ready, and add to the module those that its manual names. -1 with an exception. */
int thag_guard_init(PyObject *module);
int thag_scope_init(PyObject *module);
int thag_carrier_init(PyObject *module);
int thag_handover_init(PyObject *module);
int thag_resumes_init(PyObject *module);

/* What any object begins with that stands in for a callable, and what its type is made of; `__doc__` must be among its own
   attributes, as any type has one. Those of a wrapper tell besides what it wraps. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    PyObject *original;             /* owned */
} thag_stand_in;

PyObject *thag_stand_in_getattro(PyObject *self, PyObject *name);
PyObject *thag_stand_in_repr(PyObject *self);
PyObject *thag_stand_in_doc(PyObject *self, void *closure);
extern PyGetSetDef thag_wrapper_attributes[];

/* Nanoseconds from the first start to a reading of the clock; 0 before there was one. */
long long thag_since_origin(uint64_t time_ns);

/* The context of an id that Python passes, or NULL with ValueError or TypeError. One that was forgotten is stood in for by a
   context that has an heir. */
thag_context *thag_context_argument(PyObject *id);

/* The same for who wants to enter it: ValueError if a reset has dropped it. */
thag_context *thag_context_to_enter(PyObject *id);

/* Whether it records, and in every domain: what somebody has removed is put back and counted. False without an exception if it
   must be started. */
bool thag_recording_goes_on(void);

/* Whether something is a class of tuples. */
bool thag_is_tuple_type(PyObject *type);

/* Whether something is a tuple of so many of them. */
bool thag_are_tuple_types(PyObject *types, Py_ssize_t count);

/* A tuple of a type made by `collections.namedtuple`; takes over `fields`, which must be all of them, or NULL with the
   exception that is set. */
PyObject *thag_named_tuple(PyObject *type, PyObject *fields);

/* The same, or a tuple, of fields that no cycle can lead through, such as numbers and texts, so that the collector need not look at
   it: there may be a hundred thousand. Takes the fields over; NULL if one of them is, or without memory. */
PyObject *thag_plain_named_tuple(PyObject *type, PyObject *const *fields, Py_ssize_t count);

#endif
