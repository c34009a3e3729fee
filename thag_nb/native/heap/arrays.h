/* How NumPy's objects are laid out. */

#ifndef THAG_ARRAYS_H
#define THAG_ARRAYS_H

#include "visitor.h"

/* An array over memory of something that is neither an array nor shows a buffer. */
bool thag_array_borrows(PyObject *object, const thag_kinds *kinds);

extern const thag_layout thag_array_layout, thag_record_layout, thag_dtype_layout, thag_text_dtype_layout;

#endif
