/* What is told of an object's blocks to whom, and which types are known beside those of CPython's headers. */

#ifndef THAG_VISITOR_H
#define THAG_VISITOR_H

#include "thag.h"

/* What is called with each address where a block of the object's own may begin, and with each object that it holds and that
   its type does not show to the collector: once for each reference. `object` returns false to end that. */
typedef struct {
    void (*block)(const void *address, void *data);
    bool (*object)(PyObject *held, void *data);
    void *data;
} thag_blocks_visitor;

/* Tells of the objects among these, some of which may be NULL. False if the visitor ended that. */
static inline bool
thag_visitor_objects(PyObject *const *objects, size_t count, const thag_blocks_visitor *visitor)
{
    for (size_t i = 0; i < count; i++) {
        if (objects[i] != NULL && !visitor->object(objects[i], visitor->data)) {
            return false;
        }
    }
    return true;
}

/* Types that no header of CPython describes. A walk is given them in this order: see thag_nb/holders/kinds.py. */
typedef enum {
    THAG_ARRAY,
    THAG_BUFFERED_READER,
    THAG_BUFFERED_WRITER,
    THAG_BUFFERED_RANDOM,
    THAG_BYTES_IO,
    THAG_CTYPES_DATA,
    THAG_DEQUE,
    THAG_ELEMENT,
    THAG_LOCK,
    THAG_LRU_CACHE,
    THAG_NUMBA_MEMORY,
    THAG_NUMPY_ARRAY,
    THAG_NUMPY_DTYPE,
    THAG_NUMPY_TEXT_DTYPE,
    THAG_NUMPY_VOID,
    THAG_PANDAS_TABLE,
    THAG_RANGE,
    THAG_RLOCK,
    THAG_SIMPLE_QUEUE,
    THAG_STRING_IO,
    THAG_STRUCT,
    THAG_KINDS,
} thag_kind;

/* NULL for one that is not loaded, or not laid out as we know it. Borrowed. */
typedef struct {
    PyTypeObject *types[THAG_KINDS];
} thag_kinds;

/* How the objects of such a type are laid out. */
typedef struct {
    size_t least_bytes;     /* that an object has: the type is unknown to us if its objects are smaller */
    size_t buffer;          /* where in the object the address of a buffer is that is its alone, or 0 */
    bool (*visit)(PyObject *object, const thag_kinds *kinds, const thag_blocks_visitor *visitor);  /* the rest, or NULL */
} thag_layout;

#endif
