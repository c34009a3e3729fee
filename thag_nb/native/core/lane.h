/* The flow that goes on: whose events may be added to the open batch with nothing looked up. */

#ifndef THAG_LANE_H
#define THAG_LANE_H

#include "thag.h"

/* CPython counts up a thread state's `context_ver` whenever the flow in it changes (Contexts entered and left, greenlets
   switched), so that what was remembered of the flow before is looked up anew. Each state that enters the lane first gets a
   range of these numbers that no other state ever has. So while the running state's number is the lane's, the same flow goes
   on: it is in the open batch's context, which records, and whose slot is near (see owners.h); and all that happened without
   the GIL has been taken over. Whatever changes one of these leaves the lane.

   If that context is explained, its events are the accounts' (see accounts.c), which the shortest way does not know: then the
   lane's number is marked, and equals no state's. Whoever does not find the state's number there looks for the marked one.

   Written with the GIL; but any thread may leave it for whoever is there. */
typedef struct {
    _Atomic uint64_t contextvars_version;   /* THAG_NO_FLOW: the lane is left */
    _Atomic uintptr_t thread;               /* the record of its thread: where the GIL may not be held, that must be right too */
} thag_lane;

#define THAG_NO_FLOW UINT64_MAX
#define THAG_FLOW_EXPLAINED (UINT64_C(1) << 63)     /* the mark; no state's number has it */

enum { THAG_FLOW_RANGE_BITS = 40 };     /* changes of flow that a thread state may go through with one range */

extern THAG_HIDDEN thag_lane thag_open_lane;

/* The next event looks everything up. Any thread. */
static inline void
thag_lane_leave(void)
{
    atomic_store(&thag_open_lane.contextvars_version, THAG_NO_FLOW);
}

#endif
