/* What becomes of a context: it is held open, ends, is dropped by a reset or given back, and at last forgotten. */

#ifndef THAG_LIFECYCLE_H
#define THAG_LIFECYCLE_H

#include "contexts.h"
#include "thag.h"

/* One more, or one fewer, that keeps the context open; the last one ends it. GIL. */
void thag_lifecycle_hold(thag_context *context);
void thag_lifecycle_release(thag_context *context);

/* Starts the figures of an open context anew: peaks from what is live, totals from zero, time from now. GIL. */
void thag_lifecycle_restart(thag_context *context);

/* Drops the contexts that have ended, and starts the figures of the others anew. GIL. */
void thag_lifecycle_reset(void);

/* Before a new context: forgets old ones that have ended and hold nothing, if there are many. GIL. */
void thag_lifecycle_make_room(void);

/* Passes on what dropped contexts were charged for by threads that had looked them up just before. GIL. */
void thag_lifecycle_pass_on_late_charges(void);

/* Forgets every block; how many bytes those were. GIL, no hook installed. */
int64_t thag_lifecycle_forget_blocks(void);

/* In a forked child: figures and timelines start from what is live. GIL, no other thread. */
void thag_lifecycle_after_fork(void);

/* The id of whose the recorded block at an address is today, and its size; 0 if there is no record. Any thread; who does not hold
   the block may find a record that is half written or gone, and then gets 0. */
uint64_t thag_lifecycle_owner_of(const void *address, size_t *size);

#endif
