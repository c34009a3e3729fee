/* The allocator of Polars. */

#ifndef THAG_POLARS_H
#define THAG_POLARS_H

#include "thag.h"

/* The functions that Polars shows to its plug-ins: they allocate, deallocate, allocate zeros and reallocate. NULL: it shows none
   that are known. They are only looked at at the next attaching. GIL. */
void thag_polars_show(void *const functions[4]);

/* False until then. */
bool thag_polars_is_shown(void);

/* Has it tell of its blocks. Twice is once. False if it is not as we know it: then it tells nothing. GIL. */
bool thag_polars_attach(const char *path);

/* Has it tell nothing any more. GIL. */
void thag_polars_detach(void);

#endif
