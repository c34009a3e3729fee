/* Small pieces of memory in pages of our own, which may be asked for within an allocation. GIL. */

#ifndef THAG_SLABS_H
#define THAG_SLABS_H

#include "thag.h"

/* Zeroed; NULL without memory, or if it is too much for this: more than THAG_SLAB_MOST_BYTES. */
void *thag_slab_take(size_t bytes);

/* Gives back what was taken with so many bytes, if anything was. */
void thag_slab_give_back(void *piece, size_t bytes);

/* Bytes mapped for all of them. */
size_t thag_slabs_mapped(void);

enum { THAG_SLAB_MOST_BYTES = 8192 };

#endif
