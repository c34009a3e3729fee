/* Which objects a walk has visited, and on behalf of which holder. */

#ifndef THAG_VISITED_H
#define THAG_VISITED_H

#include "thag.h"

/* What a walk knows of an object. Holders have numbers from 0 on. */
typedef struct {
    const void *object;         /* NULL in an empty slot */
    int32_t first_holder;       /* on whose behalf it was visited, or one of those below */
    int32_t asked_for;          /* the last holder for which the caller was asked about it, if it is special */
    uint32_t references;        /* that a trial has found; see release.c, also for what follows */
    uint32_t label : 27;
    uint32_t is_counted : 1;
    uint32_t is_pinned : 1;
    uint32_t is_settled : 1;
    uint32_t is_cut : 1;
    uint32_t is_kept : 1;
} thag_visit;

/* In `first_holder`. */
enum {
    THAG_EXCLUDED = -1,         /* not to be visited */
    THAG_UNVISITED = -2,
};

/* In `asked_for`. */
enum { THAG_ASKED_FOR_NOBODY = -1 };

typedef struct {
    thag_visit *slots;      /* 1 << `bits` of them; NULL before the first object */
    unsigned bits;
    size_t count;
} thag_visited;

/* What is known of an object, to be read and written until the next call; THAG_UNVISITED if it is new. NULL without
   memory. Takes nothing from any hooked allocator. GIL. */
thag_visit *thag_visited_find(thag_visited *visited, const void *object);

/* The same of an object that is known, or NULL. GIL. */
thag_visit *thag_visited_peek(const thag_visited *visited, const void *object);

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
