/* A jemalloc that a library brings along, followed through hooks of its own. */

#ifndef THAG_JEMALLOC_H
#define THAG_JEMALLOC_H

#include "thag.h"

/* Its functions, which whoever has found them fills in; the rest begins as zeros. Never goes away, once it was attached. */
typedef struct {
    int (*control)(const char *name, void *old, size_t *old_bytes, void *new, size_t new_bytes);
    void *(*take)(size_t size);
    void *(*resize)(void *block, size_t size);
    void (*give_back)(void *block, size_t size, int flags);     /* sdallocx, or free, to which only the block matters */
    void *handle;           /* of the hooks that are installed; NULL for none */
    _Atomic int resizing;   /* the number of realloc, which only rallocx comes after; 0: not known yet */
    size_t probed_bytes;
    int probed_kind, probed_frees;
} thag_jemalloc;

/* Has it tell of its blocks. Twice is once. False if it does not do so as we know it: then it tells nothing. GIL. */
bool thag_jemalloc_attach(thag_jemalloc *allocator);

/* Has it tell nothing any more. GIL. */
void thag_jemalloc_detach(thag_jemalloc *allocator);

#endif
