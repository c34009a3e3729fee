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

/* What is known of a recorded block. */
typedef struct {
    uint64_t context_id;        /* of whose it is today; 0: there is no record */
    size_t size;
    uint32_t site;              /* where it was allocated, or THAG_SITE_UNKNOWN */
} thag_known_block;

/* Any thread; who does not hold the block may find a record that is half written or gone, and then gets none. The site only with
   the GIL. */
thag_known_block thag_lifecycle_block_at(const void *address);

/* The id of whose it is, or 0, and its size. As above. */
uint64_t thag_lifecycle_owner_of(const void *address, size_t *size);

#endif
