/* Which blocks an object is made of. */

#ifndef THAG_BLOCKS_H
#define THAG_BLOCKS_H

#include "visitor.h"

/* Calls `visitor` for one object. False if it ended that. Allocates nothing, runs no Python code and changes no
   count of references. GIL. */
bool thag_blocks_visit(PyObject *object, const thag_kinds *kinds, const thag_blocks_visitor *visitor);

#endif
