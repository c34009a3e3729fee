/* Blocks of libraries that their Python objects hold in ways which CPython does not know of. */

#ifndef THAG_FOREIGN_H
#define THAG_FOREIGN_H

#include "visitor.h"

/* An object that stands for a block which belongs to several objects, or to one: each holds a reference to it. */
typedef struct {
    PyObject_HEAD
    const void *address;
} thag_buffer;

extern THAG_HIDDEN PyTypeObject thag_buffer_type;

/* Which objects hold which buffers, as the caller has found out; buckets of pairs, by address. All zeros is none. */
typedef struct {
    struct thag_holding *slots;     /* 1 << `bits` of them; NULL before the first */
    unsigned bits;
    size_t count;
} thag_foreign;

/* Lets an object hold the buffers at these addresses, a tuple of integers, but for those blocks that `has_given` tells to be of
   other objects. At the address 0 is nothing, but what stands for it may be told to hold buffers itself. A ValueError if it was told of before. A tuple of the buffers, borrowed; NULL with an exception. GIL. */
PyObject *thag_foreign_hold(thag_foreign *foreign, PyObject *object, PyObject *addresses,
                            bool (*has_given)(const void *block, const void *data), const void *data);

/* Tells of the buffers that the object holds. False if the visitor ended that. GIL. */
bool thag_foreign_visit(const thag_foreign *foreign, PyObject *object, const thag_blocks_visitor *visitor);

/* Gives the memory back, and lets go of all buffers. GIL. */
void thag_foreign_clear(thag_foreign *foreign);

#endif
