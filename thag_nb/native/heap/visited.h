/* Which objects a walk has visited, and on behalf of which holder. */

#ifndef THAG_VISITED_H
#define THAG_VISITED_H

#include "thag.h"

/* What a walk knows of an object. Holders have numbers from 0 on. */
typedef struct {
    const void *object;     /* NULL in an empty slot */
    int32_t first_holder;   /* on whose behalf it was visited, or one of those below */
    int32_t seen_again;     /* a holder that came across it and did not visit it, the latest one; or one of those below */
} thag_visit;

/* In `first_holder`. */
enum {
    THAG_EXCLUDED = -1,         /* not to be visited */
    THAG_UNVISITED = -2,
};

/* In `seen_again`. */
enum {
    THAG_SEEN_BY_NOBODY = -1,
    THAG_SEEN_AS_ROOT = -2,     /* a root of the holder: what it refers to itself */
    THAG_FIRST_SEARCH = -3,     /* and below: seen by the search of this number (see walk.c) */
};

typedef struct {
    thag_visit *slots;      /* 1 << `bits` of them; NULL before the first object */
    unsigned bits;
    size_t count;
} thag_visited;

/* What is known of an object, to be read and written until the next call; THAG_UNVISITED if it is new. NULL without
   memory. Takes nothing from any hooked allocator. GIL. */
thag_visit *thag_visited_find(thag_visited *visited, const void *object);

/* Objects that were visited, but what they hold not yet; borrowed: only for as long as nothing can let go of them. */
typedef struct {
    PyObject **objects;
    size_t count;
    size_t capacity;
} thag_frontier;

/* False without memory. GIL. */
bool thag_frontier_push(thag_frontier *frontier, PyObject *object);

/* Give the memory back. */
void thag_visited_clear(thag_visited *visited);
void thag_frontier_clear(thag_frontier *frontier);

#endif
