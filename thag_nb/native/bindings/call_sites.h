/* What recordings hold of call sites. */

#ifndef THAG_CALL_SITES_H
#define THAG_CALL_SITES_H

#include "thag.h"

/* Three tuples, as of now: of `Site`, `SiteFigures` and `LinesOf`, whose types are given. NULL with an exception. */
PyObject *thag_call_sites_read(PyObject *types);

#endif
