/* What the files of the bindings share. They alone parse arguments, build what Python gets, and set errors; each offers its
   functions as a table, which module.c adds to the module. Nothing here is called from an allocation. All with the GIL. */

#ifndef THAG_BINDINGS_H
#define THAG_BINDINGS_H

#include "contexts.h"
#include "thag.h"

#define THAG_FASTCALL(function) ((PyCFunction)(void (*)(void))(function))

extern PyMethodDef thag_contexts_methods[];
extern PyMethodDef thag_recording_methods[];
extern PyMethodDef thag_collector_methods[];

extern PyTypeObject thag_walk_type;

/* Nanoseconds from the first start to a reading of the clock; 0 before there was one. */
long long thag_since_origin(uint64_t time_ns);

/* The context of an id that Python passes, or NULL with ValueError or TypeError. One whose record was given back is stood
   in for by a context that has an heir. */
thag_context *thag_context_argument(PyObject *id);

/* Whether something is a class of tuples. */
bool thag_is_tuple_type(PyObject *type);

/* A tuple of a type made by `collections.namedtuple`; takes over `fields`, which must be all of them, or NULL with the
   exception that is set. */
PyObject *thag_named_tuple(PyObject *type, PyObject *fields);

#endif
