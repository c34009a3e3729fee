/* What would go if names went: a trial on the objects that a walk has visited. */

#ifndef THAG_RELEASE_H
#define THAG_RELEASE_H

#include "walk.h"

/* What the references to some objects are. */
typedef enum {
    THAG_NAMES,         /* each is one that the holder's line would take away */
    THAG_LIBRARY,       /* these stay, and so does what they lead to */
    THAG_CACHE,         /* a wrapper of functools.lru_cache, whose results the holder's line would throw away */
    THAG_PASSING,       /* each is one that goes by itself; the holder is of no matter, nor below */
    THAG_GARBAGE,       /* these objects, and what they refer to, are let go of by a run of the collector; one group at most */
    THAG_DETOUR,        /* the first is a frame that leads to the others through what was not walked: once to each */
} thag_group_kind;

/* The list that `objects` lies in is taken to hold one reference more to each. */
typedef struct {
    int32_t holder;
    thag_group_kind kind;
    thag_objects objects;
} thag_group;

/* Some of a context's bytes that were visited for one holder. They go if all holders of their label let go, by a run of
   the collector if `is_cyclic`; not if `is_pinned`: then something else refers to them that is not known. */
typedef struct {
    int32_t first_holder;
    uint32_t label;
    bool is_pinned;
    bool is_cyclic;
    uint64_t context_id;
    int64_t bytes;
} thag_portion;

/* Several times for the same. Returns false to end the trial. */
typedef bool (*thag_portion_listener)(const thag_portion *portion, void *data);

/* A set of holders, as a chain: the one of the highest number, and the set of the others. */
typedef struct {
    int32_t holder;
    uint32_t others;
    uint32_t latest;    /* what one more holder made of this set the last time */
    uint16_t count;
    bool has_library;
} thag_label;

enum {
    THAG_LABEL_NONE = 0,            /* of garbage, in a portion */
    THAG_LABEL_MANY = 1,            /* too many to tell of, or to let go of in one line */
    THAG_LABEL_AT_MOST = 8,         /* holders */
};

typedef struct {
    thag_label *items;
    size_t count;
    size_t capacity;
} thag_labels;

void thag_labels_clear(thag_labels *labels);

typedef enum { THAG_TRIAL_DONE, THAG_TRIAL_LATE, THAG_TRIAL_FAILED } thag_trial_result;

/* Tells the listener of all that was visited for other holders than libraries. The groups are in the order of their
   holders, detours behind them. What was excluded from the walk must have a reference from somewhere else than there. Nothing may run between the making of the groups' lists and this. It ends late once the clock has passed
   `deadline_ns`, and failed without memory or if the listener ended it. Runs no Python code, if the listener does not.
   The frontier must be empty. GIL. */
thag_trial_result thag_release_try(thag_walk *walk, const thag_group *groups, size_t count, uint64_t deadline_ns,
                                   thag_labels *labels, thag_portion_listener listener, void *data);

/* Moves those of the objects to the front that something else refers to than these objects and the list they lie in, and
   sets how many these are. What is left is garbage, unless it hangs on the first. False without memory. GIL. */
bool thag_release_divide(thag_walk *walk, PyObject **objects, size_t count, size_t *held_count);

#endif
