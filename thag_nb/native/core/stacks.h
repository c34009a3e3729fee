/* Stacks: at which site a thread is, and what it goes on from. */

#ifndef THAG_STACKS_H
#define THAG_STACKS_H

#include "thag.h"

/* Where the thread that has this state, with which it is attached, is now. Nothing is allocated but pages. GIL. */
uint32_t thag_site_here(const PyThreadState *tstate);

/* Where a thread stands, by its innermost frame: as long as it is in the same call of C code, that stays the same. */
typedef struct {
    const void *frame, *instruction;
} thag_spot;

/* Where work was handed over that a thread does: what is outside of the thread's own stack. */
typedef struct {
    uint32_t site;
    uint32_t epoch;             /* whoever forgets sites begins another one */
    uint32_t hops;              /* how often work was handed over by work that had been */
    thag_spot given, taken;     /* where; and where by the thread that does it, whose stack has that as long as it does */
} thag_origin;

/* Work that is handed over where the thread that has this state is now. As above. */
thag_origin thag_sites_origin_here(const PyThreadState *tstate);

/* This thread, which has this state, does such work from now on. What it did before, for thag_sites_leave_origin. GIL. */
thag_origin thag_sites_enter_origin(thag_origin origin, const PyThreadState *tstate);
void thag_sites_leave_origin(thag_origin before);

/* The frame of a `with` statement: as long as it is not over, what calls it stands still, and need not be looked at. */
typedef struct {
    const void *frame;
    const void *object;         /* Python's own of that frame: another one at this address has another one, or none */
    uint64_t number;            /* each has another; 0: there is none */
} thag_base;

/* What undoes it. */
typedef struct {
    PyObject *object;           /* owned: the base's */
    uint64_t number;
    thag_base before;
} thag_base_begun;

/* The thread that has this state is in such a statement from now on, if its innermost frame begins one; until any thread ends it.
   An object of Python's may be made. GIL. */
thag_base_begun thag_sites_begin_base(PyThreadState *tstate);
void thag_sites_end_base(thag_base_begun *begun);

/* By the thread that has this state, attached with it or not. */
thag_spot thag_spot_of(const PyThreadState *tstate);

#endif
