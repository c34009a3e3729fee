/* Which context is current: for this thread, at this moment, in its logical flow. */

#ifndef THAG_CURRENT_H
#define THAG_CURRENT_H

#include "contexts.h"
#include "thag.h"
#include "waiting.h"

enum { THAG_PROBING = 1 << 16 };     /* a depth that says: only tell whether the hook was called */

/* Whom a thread's events without the GIL are charged to, and what that was found under: if none of it moved, and the thread has
   looked up nothing else since, it is still right. */
typedef struct {
    thag_context *context;
    const uint64_t *version_at;     /* of the thread's contextvars or, of a library's own, of those that wait; NULL: unknown */
    uint64_t version;
    uint32_t generation;
    const PyThreadState *holder;    /* who had the GIL when it was found to be another thread */
} thag_shortcut;

/* What a thread knows. Plain data, no destructor: it must be readable before a thread's first Python line and after its
   last. Only the thread itself touches it. */
typedef struct {
    /* The context found last, and what it was found under: if none of these moved, it is still right. */
    PyThreadState *tstate;
    uint64_t tstate_id;
    PyObject *contextvars;          /* borrowed, compared only */
    uint64_t contextvars_version;
    uint32_t generation;
    thag_context *context;
    thag_shortcut shortcut;
    uint64_t range_of_tstate;       /* the id of the thread state that has the range of versions; 0: none */
    uint64_t range;
    unsigned depth;                 /* > 0: inside a hooked call, or inside our own bookkeeping */
    unsigned probed;                /* bits of the domains whose hook was called while probing */
    thag_origin handing_over;       /* where it calls what hands work over, for who prepares that */
    bool native;                    /* it was not Python that started it: it allocated before it had a thread state */
    thag_waiter waiter;             /* who waits for its library, and whether it waits */
} thag_thread;

/* Initial-exec where the linker grants it (glibc): one instruction instead of a call. See setup.py. */
extern THAG_HIDDEN _Thread_local thag_thread thag_this_thread;

typedef struct {
    thag_context *_Atomic foreground;   /* for threads that no Python flow reaches; open, or the system context, or the root */
    PyInterpreterState *interpreter;    /* the one whose flows we know */
    _Atomic int64_t stale_lookups;      /* look-ups without the GIL that had to use the last known context */
    _Atomic int64_t orphans;            /* guards that were not innermost when they were left */
    _Atomic int64_t failed_restores;    /* guards that could not restore for lack of memory */
} thag_flows;

extern THAG_HIDDEN thag_flows thag_flow_state;

/* A frame: a context made current, and the frame it found. It lives in contextvars, which may copy it to other flows. */
typedef struct thag_frame {
    PyObject_HEAD
    thag_context *context;
    struct thag_frame *parent;      /* owned, or NULL */
    PyObject *opener;               /* owned: a weak reference to the Context it was entered in; NULL once restored there */
    bool in_foreground;
    bool holds;                     /* keeps the context open until it is left */
    bool detached;                  /* entered as such */
    bool left;
    bool orphaned;                  /* left while not current: every flow passes over it */
} thag_frame;

/* An entry: what undoes the making of a frame. Whoever entered owns it, and dropping it leaves: so an interrupt between
   entering and remembering leaves nothing behind. */
typedef struct {
    PyObject_HEAD
    thag_frame *frame;              /* owned */
} thag_entering;

extern THAG_HIDDEN PyTypeObject thag_frame_type;
extern THAG_HIDDEN PyTypeObject thag_entering_type;

/* Makes the ContextVar and the types. -1 with an exception. GIL, once. */
int thag_current_init(void);

/* How a context is made current. */
typedef enum {
    THAG_ENTER_NESTED,      /* under the frame found here; keeps the context open */
    THAG_ENTER_DETACHED,    /* under the frame found outside of all detached ones; keeps the context open */
    THAG_ENTER_ADOPTED,     /* nested; for work handed over, which does not keep its context open */
} thag_entry_mode;

/* Makes `context` current in this flow. A new reference to what undoes it, or NULL with an exception and nothing
   changed. GIL. */
PyObject *thag_current_enter(thag_context *context, thag_entry_mode mode);

/* Undoes it, once: restores what was found if it is current here; if not, and if `orphan`, every flow passes over it. The flow
   that entered it goes on without it, wherever that is done. Never raises, and an exception that is set stays. True if it was
   current. GIL. */
bool thag_current_leave(thag_entering *entering, bool orphan);

/* Whether this flow is inside, however deep. GIL. */
bool thag_current_is_around(const thag_entering *entering);

/* Charges threads that no Python flow reaches to a context that this flow has entered, until it leaves it; then to what was
   in the foreground before and was not left meanwhile. False if this flow is not inside, or does not keep it open. The root
   takes the place of all that were there. GIL. */
bool thag_current_set_foreground(thag_context *context);

/* A borrowed reference to the frame that is current in this flow; NULL if there is none. GIL. */
thag_frame *thag_current_frame(void);

/* The context of this flow, whether it is recorded or not. GIL. */
thag_context *thag_current_context(void);

/* Between these two, the calling thread's allocations are bookkeeping of ours and charged to no context, and the collector
   is off, so that no finalizer runs meanwhile. They may nest. No code of Python's may run between them: other threads run
   beside it, and must find the collector as they left it. GIL. */
int thag_bookkeeping_begin(void);
void thag_bookkeeping_end(int collector_was_on);

/* The same for code of Python's: the collector is left alone. */
void thag_uncharged_begin(void);
void thag_uncharged_end(void);

/* The context that a new one is started under: the nearest one that records. GIL. */
thag_context *thag_current_parent(void);

/* The same for one that is to be entered detached. GIL. */
thag_context *thag_current_base(void);

/* The thread state this thread is attached with, or NULL. Right only where the caller is known to be attached. */
static inline PyThreadState *
thag_tstate_attached(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyThreadState_GetUnchecked();
#else
    return _PyThreadState_UncheckedGet();
#endif
}

/* The state that this thread has, attached with it or not, or NULL; `tstate` is what the unchecked call has returned. On 3.11
   that is the state of whoever holds the GIL, so it is ours only if it is the one that this thread is bound to. */
static inline PyThreadState *
thag_tstate_own(PyThreadState *tstate, bool *is_attached)
{
#if PY_VERSION_HEX < 0x030C0000
    PyThreadState *own = PyGILState_GetThisThreadState();
    *is_attached = own != NULL && own == tstate;
    return own;
#else
    *is_attached = tstate != NULL;
    return tstate != NULL ? tstate : PyGILState_GetThisThreadState();
#endif
}

/* The thread state that this thread is attached with, or NULL. */
static inline PyThreadState *
thag_tstate_if_attached(void)
{
#if PY_VERSION_HEX < 0x030C0000
    bool is_attached;
    PyThreadState *own = thag_tstate_own(thag_tstate_attached(), &is_attached);
    return is_attached ? own : NULL;
#else
    return thag_tstate_attached();
#endif
}

/* The thread state that this thread is attached with, or NULL; `surely_attached` where CPython promises that the GIL is held
   (mem and obj domains). */
static inline PyThreadState *
thag_tstate_here(bool surely_attached)
{
    return surely_attached ? thag_tstate_attached() : thag_tstate_if_attached();
}

/* True if this thread, attached with the state or not, holds the GIL of the interpreter that we live in. */
static inline bool
thag_current_is_attached(const PyThreadState *tstate)
{
    return tstate != NULL && tstate->interp == thag_flow_state.interpreter;
}

/* False while not recording: no cache is ever filled with generation 0. */
static inline bool
thag_current_cache_is_valid(const thag_thread *thread, const PyThreadState *tstate)
{
    return tstate == thread->tstate && tstate->id == thread->tstate_id && tstate->context == thread->contextvars
           && tstate->context_ver == thread->contextvars_version && thread->generation == thag_generation();
}

/* The context of this thread, attached with the state or not, if its cache is valid, which it only is with the GIL of our
   interpreter; else NULL. No reset has dropped it. */
static inline thag_context *
thag_current_cached(const thag_thread *thread, const PyThreadState *tstate)
{
    return THAG_LIKELY(tstate != NULL && thag_current_cache_is_valid(thread, tstate)) ? thread->context : NULL;
}

/* The context of this thread now, cached or not; NULL while not recording. Nothing is allocated. Who is not attached (no state)
   must have begun a detached event: else a reset might give the record back meanwhile, and may have dropped the context in any
   case. */
THAG_COLD thag_context *thag_current_look_up(thag_thread *thread, PyThreadState *tstate);

/* True if this thread is a library's own, and in the context only as it works for that. GIL. */
bool thag_current_is_lent(thag_thread *thread, const thag_context *context);

/* The same without the GIL, within a detached event; `own`, the state that the thread has, or NULL. */
THAG_APART thag_context *thag_current_look_up_detached(thag_thread *thread, const PyThreadState *own);

static inline thag_context *
thag_current_detached(thag_thread *thread, const PyThreadState *own)
{
    /* Not relaxed, as this comes after the beginning of the event: a reset that has not seen the one has moved the other. */
    bool is_known = thread->generation == atomic_load(&thag_contexts_generation);
    if (THAG_LIKELY(own != NULL && is_known && thag_current_cache_is_valid(thread, own))) {
        return thread->context;
    }
    return thag_current_look_up_detached(thread, own);
}

/* True if this thread does not have the GIL; `tstate` as above.

   On 3.11: if nobody has it, or who had it when this thread asked last, and learnt that it is somebody else. A state is one
   thread's from its beginning to its end. If this thread's own comes to lie where that one was, it asks the raw domain for it
   before, and that ends the shortcut. */
static inline bool
thag_current_may_take_shortcut(const thag_thread *thread, const PyThreadState *tstate)
{
#if PY_VERSION_HEX < 0x030C0000
    return tstate == NULL || tstate == thread->shortcut.holder;
#else
    (void)thread;
    return tstate == NULL;
#endif
}

/* Whom this thread, which does not have the GIL, was charged to at its last event, if that is still right; else NULL. Within a
   detached event. */
static inline thag_context *
thag_current_by_shortcut(const thag_thread *thread)
{
    const thag_shortcut *last = &thread->shortcut;
    bool is_right = last->version_at != NULL && last->generation == atomic_load(&thag_contexts_generation)
                    && last->version == __atomic_load_n(last->version_at, __ATOMIC_SEQ_CST)
                    && atomic_load_explicit(&last->context->heir, memory_order_relaxed) == NULL;
    return THAG_LIKELY(is_right) ? last->context : NULL;
}

#endif
