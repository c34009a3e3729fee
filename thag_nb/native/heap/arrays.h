/* How NumPy's objects are laid out. */

#ifndef THAG_ARRAYS_H
#define THAG_ARRAYS_H

#include "visitor.h"

extern const thag_layout thag_array_layout, thag_record_layout, thag_dtype_layout, thag_text_dtype_layout;

#endif
