/* The native side of an allocator context: its record. */

#ifndef THAG_CONTEXTS_H
#define THAG_CONTEXTS_H

#include "account.h"
#include "clock.h"
#include "composition.h"
#include "movement.h"
#include "sources.h"
#include "thag.h"
#include "timeline.h"

enum {
    THAG_ROOT_ID = 1,           /* what no other context is charged for */
    THAG_SYSTEM_ID = 2,         /* the shared context of untracked work */
    THAG_CHUNK_SHIFT = 12,      /* slots come in chunks of 4096 */
    THAG_CHUNK_CONTEXTS = 1 << THAG_CHUNK_SHIFT,
    THAG_CHUNKS = 1 << 13,
    THAG_SLOTS = THAG_CHUNKS << THAG_CHUNK_SHIFT,   /* a quarter of which are for accounts (see account.h) */
    THAG_CONTEXT_ALIGNMENT = 64,    /* of a record's address: what is less is free to tell something else (see logs.h) */
};

/* What threads without the GIL changed of a context's figures since the holder of the GIL last took that over (see
   detached.c). Whoever has the right to merge. All zeros is how it begins. */
typedef struct {
    thag_movement inclusive;
    thag_movement self;
    int64_t total_bytes;
    int64_t allocations;
    int64_t frees;
    int64_t foreign_frees;
    uint64_t highs;                     /* how often `inclusive` was higher than ever; its number as of a peak */
    uint32_t high_site;                 /* where it was then */
    thag_part at_parent_high;           /* of `inclusive` */
    thag_sources sources;               /* of `self` */
    thag_session_part at_session_high;  /* of `self` */
    uint64_t peak_before;               /* the context's, before it takes this over */
    bool changed;
    struct thag_context *next_changed;
} thag_share;

/* What happened, in all. */
typedef struct {
    int64_t total_bytes;
    int64_t allocations;
    int64_t frees;
    int64_t foreign_frees;
} thag_counts;

/* Written by the holder of the GIL only, unless a line says otherwise; read by any thread. Never moved; its slot is used again
   when nothing points there any more (see lifecycle.c). */
typedef struct thag_context {
    /* Touched for every batch of this context and of those below it. */
    _Alignas(THAG_CONTEXT_ALIGNMENT) _Atomic int64_t live_bytes;    /* inclusive, like the three below; what shares hold is not in it yet */
    _Atomic int64_t peak_bytes;
    _Atomic int64_t high_bytes;         /* of the timeline's open bucket */
    _Atomic int64_t low_bytes;
    uint64_t bucket_end_ns;
    uint64_t path_end_ns;               /* not after the end of any open bucket, of this context and those above it */
    thag_movement untold;               /* what the context moved by and those above it have not heard of (see charges.c) */
    uint64_t peak;                      /* the number of `peak_bytes` (see composition.h). GIL */
    thag_part at_parent_peak;           /* inclusive, as of those above it have heard. GIL */
    struct thag_context *_Atomic parent;    /* a reset may put the context under one higher up */
    _Atomic(thag_share *) share;        /* NULL until the first event without the GIL */
    struct thag_context *_Atomic heir;  /* who took over the figures, after a reset */
    /* Touched for every batch of this context. */
    _Atomic int64_t self_live_bytes;
    _Atomic int64_t self_peak_bytes;
    _Atomic int64_t self_total_bytes;
    _Atomic int64_t allocations;
    _Atomic int64_t frees;
    _Atomic int64_t foreign_frees;
    thag_sources sources;               /* of its own live bytes. GIL */
    thag_session_part at_session_peak;  /* of its own bytes. GIL */
    thag_explained *explained;          /* NULL: its call sites are not recorded. GIL */
    uint64_t id;                        /* what people know it by; never used again */
    uint32_t slot;                      /* where the record stands; what owner records know it by */
    uint32_t depth;                     /* 0 for the root. GIL */
    bool records;                       /* Allocator.TASK_AWARE, and not Allocator.SYSTEM; never changes */
    bool entered;                       /* at least once */
    bool ended;
    bool named_by_records;              /* owner records that could not be given to the heir. Of a dropped one */
    bool is_needed;                     /* by one that is kept, while the others are given back */
    bool given_back;                    /* about to be forgotten */
    _Atomic int32_t holds;              /* any thread: guards and others that keep the context open */
    _Atomic int32_t frames;             /* frames that point here, in whatever flow */
    /* Touched when a bucket closes, or never. */
    PyObject *label;                    /* owned: (name, kind) */
    uint64_t bucket_start_ns;
    thag_timeline timeline;
    uint64_t started_ns;
    uint64_t ended_ns;
    int64_t retained_bytes;
    thag_counts below;                  /* of those that were under it and were given back */
    thag_session_part below_at_session_peak;    /* the same, of those that held anything then. GIL */
    int64_t uncounted_blocks;           /* live ones that allocations less frees do not tell of */
} thag_context;

/* Contexts and, behind them, their detached shares, most of which are never touched. */
typedef struct {
    thag_context contexts[THAG_CHUNK_CONTEXTS];
    thag_share shares[THAG_CHUNK_CONTEXTS];
} thag_context_chunk;

typedef struct {
    thag_context_chunk *_Atomic chunks[THAG_CHUNKS];
    uint64_t used[THAG_SLOTS / 64];     /* a bit for each slot. GIL, like the five below */
    uint32_t slots_end;                 /* one more than the largest slot ever used */
    uint32_t count;
    thag_context **by_age;              /* `count` of them, oldest first */
    uint64_t next_id;
    uint64_t given_back;                /* contexts that were forgotten without a reset */
    thag_context *root;
    thag_context *system;
} thag_context_table;

extern THAG_HIDDEN thag_context_table thag_contexts;

/* 0: not recording; forward, and only untrack what is freed. Else a number that moves when no thread's cache may go on with
   the context that it found before. Any thread reads it; written with the GIL. Apart from the table: read by every event. */
extern THAG_HIDDEN _Atomic uint32_t thag_contexts_generation;

/* Makes root and system. False without memory. GIL, once. */
bool thag_contexts_init(void);

/* True when there are as many contexts as there are slots. GIL. */
bool thag_contexts_exhausted(void);

/* Makes a context known by `label`, a tuple of name and kind that it keeps; NULL without memory. GIL. */
thag_context *thag_context_create(thag_context *parent, bool records, PyObject *label);

/* Records from now on, or not, and expires all caches. GIL. */
void thag_contexts_record(bool on);

/* Makes every thread look up its context anew instead of using the one that it remembers. GIL. */
void thag_contexts_expire_caches(void);

/* Forgets those contexts that `is_unused` says nothing points to any more, and frees their slots. GIL. */
void thag_contexts_reclaim(bool (*is_unused)(const thag_context *context));

/* The context that people know by the id; NULL if there is none any more, or none yet. GIL. */
thag_context *thag_context_by_id(uint64_t id);

/* Lets ids go on from `id` at least, so that what happens after very many contexts can be seen after few. GIL. */
void thag_contexts_skip_ids(uint64_t id);

/* Empties the timeline, and opens its first bucket now. GIL. */
void thag_context_restart_timeline(thag_context *context, uint64_t now_ns, int64_t live_bytes);

/* Closes the open bucket, at the level that the counters tell, and opens the one of `now_ns`. GIL. */
THAG_COLD void thag_context_turn_bucket(thag_context *context, uint64_t now_ns);

/* The share, which from now on belongs to the context's figures. Whoever has the right to merge. */
thag_share *thag_context_touch_share(thag_context *context);

/* Bytes mapped for records, timelines apart. */
size_t thag_contexts_mapped(void);

/* The record of a context that exists. Any thread, no GIL. */
static inline thag_context *
thag_context_at(uint32_t slot)
{
    assert(slot != 0 && slot < THAG_SLOTS && !thag_slot_is_of_account(slot));
    thag_context_chunk *chunk =
        atomic_load_explicit(&thag_contexts.chunks[slot >> THAG_CHUNK_SHIFT], memory_order_acquire);
    return &chunk->contexts[slot & (THAG_CHUNK_CONTEXTS - 1)];
}

/* The context that this one is under; NULL for the root. Any thread, no GIL. */
static inline thag_context *
thag_context_parent(const thag_context *context)
{
    return atomic_load_explicit(&context->parent, memory_order_relaxed);
}

/* The context itself or, after a reset, who took over from it. Any thread, no GIL. */
static inline thag_context *
thag_context_today(thag_context *context)
{
    thag_context *heir;
    while (THAG_UNLIKELY((heir = atomic_load_explicit(&context->heir, memory_order_relaxed)) != NULL)) {
        context = heir;
    }
    return context;
}

static inline uint32_t
thag_generation(void)
{
    return atomic_load_explicit(&thag_contexts_generation, memory_order_relaxed);
}

static inline bool
thag_is_recording(void)
{
    return THAG_LIKELY(thag_generation() != 0);
}

/* Whom the slot in a block's record stands for today. Any thread, no GIL. */
static inline thag_context *
thag_context_owner(uint32_t slot)
{
    return thag_context_today(thag_slot_is_of_account(slot) ? thag_account_at(slot)->context : thag_context_at(slot));
}

/* The account that the slot in a block's record stands for; NULL if it is a context's, or of one that was dropped. As above. */
static inline thag_account *
thag_context_account(uint32_t slot)
{
    if (!thag_slot_is_of_account(slot)) {
        return NULL;
    }
    thag_account *account = thag_account_at(slot);
    return atomic_load_explicit(&account->context->heir, memory_order_relaxed) == NULL ? account : NULL;
}

/* How many blocks it has of its own. GIL; its figures are up to date. */
static inline int64_t
thag_context_blocks(const thag_context *context)
{
    return context->uncounted_blocks + atomic_load_explicit(&context->allocations, memory_order_relaxed)
           - atomic_load_explicit(&context->frees, memory_order_relaxed);
}

/* The detached share, usually none. */
static inline thag_share *
thag_context_share(const thag_context *context)
{
    return atomic_load_explicit(&context->share, memory_order_acquire);
}

#endif
