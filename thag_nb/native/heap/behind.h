/* What blocks can be reached from an object by pointers, for objects of libraries that tell nobody where their memory is. */

#ifndef THAG_BEHIND_H
#define THAG_BEHIND_H

#include "thag.h"

/* Calls `found` once for each recorded block whose address some word in the object is, or some word in a block that was found.
   Words that only look like an address, or are left over from what was there before, count as well; few do. What two new
   objects of its kind, or NULL twice, both point to from the same place, or from the same place in a block that each of them
   points to, is the library's: what it is in this object is not found, nor what that alone leads to. Ends when `found` returns
   false; false then, and without memory. GIL; what goes meanwhile is not read. */
bool thag_behind_visit(PyObject *object, PyObject *const new_objects[2], bool (*found)(const void *block, void *data),
    void *data);

#endif
