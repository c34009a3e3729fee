/* Which blocks an object is made of. */

#ifndef THAG_BLOCKS_H
#define THAG_BLOCKS_H

#include "thag.h"

/* Types that no header of CPython describes; NULL for one that is not loaded. Borrowed. */
typedef struct {
    PyTypeObject *ndarray;
    PyTypeObject *deque;
    PyTypeObject *array;
    PyTypeObject *bytes_io;
    PyTypeObject *string_io;
} thag_kinds;

/* What is called with each address where a block of the object's own may begin, and with each object that it holds and that
   its type does not show to the collector. `object` returns false to end that. */
typedef struct {
    void (*block)(const void *address, void *data);
    bool (*object)(PyObject *held, void *data);
    void *data;
} thag_blocks_visitor;

/* Calls `visitor` for one object. False if it ended that. Allocates nothing, runs no Python code and changes no
   count of references. GIL. */
bool thag_blocks_visit(PyObject *object, const thag_kinds *kinds, const thag_blocks_visitor *visitor);

#endif
