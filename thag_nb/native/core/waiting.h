/* Who waits for libraries: contexts that gave up the GIL in a package's code, so that it works for them meanwhile. */

#ifndef THAG_WAITING_H
#define THAG_WAITING_H

#include "contexts.h"
#include "packages.h"
#include "stacks.h"
#include "thag.h"

/* Bytes that were asked for while several contexts waited for the same package. */
typedef struct {
    _Atomic uint64_t key;       /* of both ids; 0: free */
    _Atomic uint64_t ids[2];    /* of the two contexts, or of two of them */
    _Atomic uint64_t charged_id;
    _Atomic int64_t bytes;
} thag_sharing;

/* Where a thread gave up the GIL. */
typedef struct {
    thag_account *account;      /* of what is allocated meanwhile; NULL: not known, or nothing is explained */
    thag_spot spot;
    thag_account *covered;      /* of the wait around it, if both have one place */
    bool covers;
} thag_wait;

enum { THAG_WAITS_KNOWN = 4 };  /* one inside of the other */

/* What a thread knows of all this. Plain data, only its own. */
typedef struct {
    thag_package package;       /* whose code it runs: of the first caller that has one */
    uint16_t looked;            /* callers that were looked at for that: what C++ asks for has one that is nobody's */
    uint32_t epoch;             /* of the two below */
    uint16_t place;             /* one more than where this thread is among those that wait, innermost; 0: it is not */
    uint32_t waits;             /* how often it waits, one inside of the other, with a place or without */
    uint64_t version;           /* of the answer below */
    uint32_t generation;        /* the same: a reset may have given its record back */
    thag_context *answer;       /* whom this thread works for, if it is a library's own; NULL: that cannot be told */
    thag_sharing *sharing;      /* if it works for several; else NULL */
    bool is_left_over;          /* nobody waits; the answer is of whom it worked for last */
    thag_account *account_for;  /* of the answer, where it waits; NULL if that is not explained, or cannot be told */
    thag_wait nested[THAG_WAITS_KNOWN];     /* by `waits`, the outermost first */
} thag_waiter;

/* Moves when somebody begins to wait or waits no more, when there is another foreground, and when a thread learns its package. */
extern THAG_HIDDEN uint64_t thag_waiting_version;       /* only by these two */

static inline uint64_t
thag_waiting_version_now(void)
{
    return __atomic_load_n(&thag_waiting_version, __ATOMIC_SEQ_CST);
}

/* No thread goes on with what it found before. Any thread. */
static inline void
thag_waiting_expire(void)
{
    (void)__atomic_fetch_add(&thag_waiting_version, 1, __ATOMIC_SEQ_CST);
}

/* True if the thread goes on to work for whom `thag_waiting_for` has just answered, or for the foreground if that was nobody, as
   long as the version does not move. */
static inline bool
thag_waiting_lasts(const thag_waiter *self)
{
    return self->sharing == NULL && !(self->is_left_over && self->answer != NULL);
}

/* Looks at no more callers than that. */
enum { THAG_CALLERS_LOOKED_AT = UINT16_MAX };

/* This thread's code called us from there. */
static inline void
thag_waiting_called_from(thag_waiter *self, const void *code)
{
    if (THAG_UNLIKELY(self->package == THAG_NO_PACKAGE && self->looked < THAG_CALLERS_LOOKED_AT)) {
        thag_package package = thag_package_of(code);
        self->package = package == THAG_STANDARD ? THAG_NO_PACKAGE : package;
        self->looked++;
        if (self->package != THAG_NO_PACKAGE) {
            thag_waiting_expire();
        }
    }
}

/* This thread, which works for `context`, is about to give up the GIL in the package; what is allocated meanwhile is the account's,
   if there is one. GIL, still. */
void thag_waiting_begin(thag_waiter *self, thag_context *context, thag_account *account, thag_spot spot, thag_package package);

/* The account that a thread without the GIL is charged to, by what was told when it gave it up here or, of a library's own, by who
   waits for it. Else NULL. Within a detached event. */
thag_account *thag_waiting_account(thag_waiter *self, const PyThreadState *own, const thag_context *context, size_t size);

/* It has the GIL again. GIL. */
void thag_waiting_end(thag_waiter *self);

/* Whom a library's own thread works for: the context that waits for its package. If several do, the nearest one that is above
   them all. If none does: those that wait without a package, and if the thread's is not known, all that wait. If that is nobody
   either: whom the thread worked for last, as long as that is open. Else NULL. Nothing is allocated. With the GIL, or within a detached event: then no record is given back meanwhile. */
thag_context *thag_waiting_for(thag_waiter *self);

/* So many bytes were charged to whom `thag_waiting_for` has just answered. */
static inline void
thag_waiting_charged(const thag_waiter *self, size_t bytes)
{
    if (THAG_UNLIKELY(self->sharing != NULL)) {
        (void)thag_add(&self->sharing->bytes, (int64_t)bytes);
    }
}

/* Nobody waits any more. GIL, with the hooks gone or no other thread. */
void thag_waiting_forget(void);

/* Calls `tell` for each two that shared what is charged to a third. GIL. */
void thag_waiting_visit_sharings(void (*tell)(const thag_sharing *sharing, void *data), void *data);

/* As if nothing had been shared. GIL. */
void thag_waiting_forget_sharings(void);

#endif
