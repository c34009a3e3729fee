/* Events of threads that do not hold the GIL: how they are charged, and taken over. */

#ifndef THAG_DETACHED_H
#define THAG_DETACHED_H

#include "contexts.h"
#include "logs.h"
#include "thag.h"

/* A log for when the last one of this thread is occupied or full, or there was none. NULL as below. */
THAG_COLD thag_log *thag_detached_find_log(void);

/* Around a detached event, from before its first look at the owner table until after its last write: so that a reader can tell
   that it caught none half done. Each has a log of its own, also one inside of another. NULL without memory for one: then the
   event is to be dropped. Any thread; no lock, no GIL. */
static inline thag_log *
thag_detached_begin(void)
{
    thag_log *log = thag_log_of_thread;
    return THAG_LIKELY(log != NULL && thag_log_occupy(log)) ? log : thag_detached_find_log();
}

static inline void
thag_detached_finish(thag_log *log)
{
    thag_log_finish(log);
}

/* How many detached events were begun and over; to be asked again. Any thread. */
uint64_t thag_detached_count(void);

/* True if no detached event is in progress, and none was between that count and now. GIL. */
bool thag_detached_is_quiet(uint64_t count);

/* Waits for a moment when none is in progress, up to a second; the count of then. GIL. */
uint64_t thag_detached_wait_for_quiet(void);

/* What a context's share holds is charged to it. GIL. */
typedef void thag_share_taker(thag_context *context, thag_share *share, uint64_t now_ns);

/* Merges what detached events have logged, and calls `take` for all shares that this and others before it have changed, and
   after that `take_parts`. False
   if another thread merges at this moment; if `patient`, it is waited for. GIL. */
bool thag_detached_take_over(bool patient, thag_share_taker *take, thag_share_taker *take_parts,
                             void (*take_late)(thag_account *account));

/* Calls `change` while nobody merges. False, and not, if whoever does is stopped. GIL. */
bool thag_detached_alone(void (*change)(void));

/* In a forked child: drops what threads that are not there have left half done, with all else that was not taken over. True if
   there was anything like that; else nothing is changed. GIL, no other thread. */
bool thag_detached_drop_halves(void);

#endif
