/* What recordings hold of call sites. */

#ifndef THAG_CALL_SITES_H
#define THAG_CALL_SITES_H

#include "thag.h"

/* Three tuples, as of now: of `Site`, `SiteFigures` and `LinesOf`, whose types are given. To a list, if there is one, the numbers of
   the sites are added, in their order. NULL with an exception. */
PyObject *thag_call_sites_read(PyObject *types, PyObject *numbers);

/* What a site is called until the last of them are forgotten: 0 if it is unknown, less than that for what is no stack, as in
   recordings. */
long thag_site_number(uint32_t site);

#endif
