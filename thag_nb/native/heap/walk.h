/* The walk from holder to holder, and from each to all that it holds. */

#ifndef THAG_WALK_H
#define THAG_WALK_H

#include "blocks.h"
#include "foreign.h"
#include "thag.h"
#include "visited.h"

/* What lasts as long as a walk. All objects are borrowed. */
typedef struct {
    thag_visited visited;
    thag_frontier frontier;
    thag_kinds kinds;
    thag_visited foreign_types; /* whose objects only their library can look into */
    bool asks_arrays;           /* whether NumPy's are special that are over memory of something else */
    thag_foreign foreign;
    thag_visited given;         /* the blocks that libraries may have been lent, and those that they told of */
    size_t seen_count;          /* of objects that were gone into so far */
} thag_walk;

void thag_walk_init(thag_walk *walk, const thag_kinds *kinds);

/* Gives the memory back. GIL. */
void thag_walk_clear(thag_walk *walk);

typedef struct {
    PyObject *const *items;
    size_t count;
} thag_objects;

/* What is called with what a walk finds. Each returns false to end the walk. */
typedef struct {
    /* Recorded bytes and where they were allocated, or THAG_SITE_UNKNOWN; several times for one context and site. */
    bool (*held)(uint64_t context_id, uint32_t site, int64_t bytes, void *data);
    bool (*special)(PyObject *object, void *data);                  /* not visited: for the caller to decide */
    void *data;
} thag_walk_listener;

/* Visits, on behalf of a holder, its roots, what is pending from an earlier call for it, and all that these hold. Only so
   many at a time: the first `pending->count` are then still pending, and so is what is left in the frontier, which the
   caller takes and empties. False without memory, or if the listener ended it. Runs no Python code, if the listener does
   not. GIL. */
bool thag_walk_follow(thag_walk *walk, int32_t holder, thag_objects roots, thag_objects *pending,
                      const thag_walk_listener *listener);

/* Says of objects whether they may be visited: THAG_EXCLUDED or THAG_UNVISITED. False without memory. GIL. */
bool thag_walk_mark(thag_walk *walk, thag_objects objects, int32_t first_holder);

/* What functools.lru_cache makes. */
bool thag_walk_is_cache(PyObject *object, const thag_walk *walk);

/* What leads everywhere, is gone into in another way than the collector does, or must be asked for what it holds. */
bool thag_walk_is_special(PyObject *object, const thag_walk *walk);

/* From now on objects of this very type are special: the caller asks them, and says by thag_foreign_hold what they hold. Of NumPy's
   arrays, only those that thag_array_borrows tells. False without memory. GIL. */
bool thag_walk_add_foreign(thag_walk *walk, PyTypeObject *type);

/* Whether a block was told as an object's own, or lies where a visited object does. GIL. */
bool thag_walk_has_given(const thag_walk *walk, const void *block);

/* Calls `visitor` for the object's blocks and once for each reference that it has. Ends when `object` returns false. */
void thag_walk_expand(PyObject *object, const thag_walk *walk, const thag_blocks_visitor *visitor);

/* Gives the visitor only the objects that the collector is shown. GIL. */
void thag_walk_expand_shown(PyObject *object, const thag_blocks_visitor *visitor);

#endif
