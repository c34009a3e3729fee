/* Where objects whose types no header of CPython describes keep their buffers, and what they hold. */

#ifndef THAG_LAYOUTS_H
#define THAG_LAYOUTS_H

#include "visitor.h"

/* Takes the type, unless its objects are too small for what we know of them. `type` may be NULL. */
void thag_layouts_set(thag_kinds *kinds, thag_kind kind, PyTypeObject *type);

/* The same as thag_blocks_visit (see blocks.h), without the block that the object itself lies in. */
bool thag_layouts_visit(PyObject *object, const thag_kinds *kinds, const thag_blocks_visitor *visitor);

#endif
