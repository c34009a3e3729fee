/* The walk from holder to holder, and from each to all that it holds. */

#ifndef THAG_WALK_H
#define THAG_WALK_H

#include "blocks.h"
#include "thag.h"
#include "visited.h"

/* What lasts as long as a walk. All objects are borrowed. */
typedef struct {
    thag_visited visited;
    thag_frontier frontier;
    thag_kinds kinds;
    PyTypeObject *cache_type;   /* of what functools.lru_cache makes */
    int32_t last_holder;        /* that something was followed for */
    int32_t last_search;        /* what `seen_again` says of the objects that the last search has seen */
} thag_walk;

void thag_walk_init(thag_walk *walk, const thag_kinds *kinds, PyTypeObject *cache_type);

/* Gives the memory back. */
void thag_walk_clear(thag_walk *walk);

typedef struct {
    PyObject *const *items;
    size_t count;
} thag_objects;

/* What is called with what a walk finds. Each returns false to end the walk. */
typedef struct {
    bool (*held)(uint32_t context_id, int64_t bytes, void *data);   /* recorded bytes; several times for one context */
    bool (*special)(PyObject *object, void *data);                  /* not visited: for the caller to decide */
    bool (*shared)(PyObject *object, int32_t first_holder, void *data); /* visited before; may be NULL */
    void *data;
} thag_walk_listener;

/* Visits, on behalf of a holder, its roots, what is pending from an earlier call for it, and all that these hold. Only so
   many at a time: the first `pending->count` are then still pending, and so is what is left in the frontier, which the
   caller takes and empties. Sets `loops` if the roots of the first call for this holder lead back to one of them. False
   without memory, or if the listener ended it. Runs no Python code, if the listener does not. GIL. */
bool thag_walk_follow(thag_walk *walk, int32_t holder, thag_objects roots, thag_objects *pending,
                      const thag_walk_listener *listener, bool *loops);

/* Whether so many bytes of a context hang on some of the objects that were visited for a holder: 1 or 0, or -1 without
   memory. The frontier must be empty. GIL. */
int thag_walk_reaches(thag_walk *walk, int32_t holder, thag_objects objects, uint32_t context_id, int64_t enough_bytes);

/* Says of objects whether they may be visited: THAG_EXCLUDED or THAG_UNVISITED. False without memory. GIL. */
bool thag_walk_mark(thag_walk *walk, thag_objects objects, int32_t first_holder);

#endif
