/* The native domain: memory that loaded objects ask of the C library and the system, past Python's allocators. */

#ifndef THAG_HEAP_H
#define THAG_HEAP_H

#include "dispatcher.h"
#include "objects.h"

/* Lets what is loaded, and whatever the interpreter loads from now on, call us for memory. False where that cannot be: then
   nothing is changed. True also while somebody else has taken the slots, who may give them back. Twice is once. GIL. */
bool thag_heap_attach(void);

/* The same for what was loaded since, or whose slots somebody else has written, if it is attached. True if nothing called us
   any more, and now does. GIL. */
bool thag_heap_update(void);

/* Polars does not export its allocator, but shows it in a capsule: the functions that allocate, deallocate, allocate zeros and
   reallocate; NULL: it shows none. It is followed while we are attached. GIL. */
void thag_heap_show_polars(void *const functions[4]);

/* Lets everything call what it called before. Blocks that are live stay recorded, but nobody tells of their end. GIL. */
void thag_heap_detach(void);

/* Whether what is loaded calls us. GIL. */
thag_hook thag_heap_hook(void);

/* Calls `tell` for each recorded block that OpenBLAS has mapped to work in, and keeps. GIL. */
void thag_heap_visit_workspaces(void (*tell)(const void *start, void *data), void *data);

/* Calls `tell` for each loaded object that calls us to map memory, with how much of that it still has; but not for those whose
   own allocator tells of its blocks. What OpenBLAS maps to work in is left out. GIL. */
void thag_heap_visit_address_space(void (*tell)(const char *path, size_t bytes, void *data), void *data);

/* The path of the one of these that has mapped what lies at an address; NULL for none. GIL. */
const char *thag_heap_mapper_of(const void *address);

/* What was found when slots were last looked at. GIL. */
thag_redirected thag_heap_found(void);

#endif
