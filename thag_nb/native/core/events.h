/* Recording what a hook was told: a block was allocated, resized, freed. */

#ifndef THAG_EVENTS_H
#define THAG_EVENTS_H

#include "charges.h"
#include "contexts.h"
#include "current.h"
#include "lane.h"
#include "owners.h"
#include "sources.h"
#include "thag.h"

/* CPython's domains have the numbers of PyMemAllocatorDomain. */
typedef enum {
    THAG_RAW = PYMEM_DOMAIN_RAW,
    THAG_MEM = PYMEM_DOMAIN_MEM,
    THAG_OBJ = PYMEM_DOMAIN_OBJ,
    THAG_NUMPY,
    THAG_NATIVE,
    THAG_CPYTHON_DOMAINS = THAG_NUMPY,
} thag_domain;

typedef struct {
    _Atomic int64_t dropped;        /* events for which there was no memory */
    _Atomic int64_t stale_records;  /* records found where a new block started: frees that never reached us */
} thag_event_counts;

extern THAG_HIDDEN thag_event_counts thag_events;

/* What a reallocation takes out of the table before the wrapped call, and settles after it. */
typedef struct {
    thag_owner owner;
    bool owned;
    bool in_lane;       /* the owner is the open batch's context */
    thag_log *log;      /* of a detached event that has begun, and that the settling finishes; NULL: none */
} thag_claim;

/* In the lane of an explained context. */
THAG_APART void thag_event_allocated_explained(thag_source source, const PyThreadState *tstate, void *block, size_t size);
THAG_APART void thag_event_freed_explained(thag_source source, const void *block);

/* Outside of the lane. */
THAG_APART void thag_event_allocated_slowly(thag_thread *thread, thag_domain domain, void *block, size_t size);
THAG_APART void thag_event_freed_slowly(thag_thread *thread, thag_domain domain, const void *block);
THAG_APART void thag_event_freed_anywhere(thag_thread *thread, thag_domain domain, const void *block);

/* The same of the native domain, most of whose events are detached; `tstate` is what thag_tstate_attached has returned. */
THAG_APART void thag_event_allocated_natively(thag_thread *thread, const PyThreadState *tstate, void *block, size_t size);
THAG_APART void thag_event_freed_natively(thag_thread *thread, const PyThreadState *tstate, const void *block, thag_entry *at);
THAG_APART thag_claim thag_event_claim_slowly(thag_thread *thread, thag_domain domain, const void *block);
THAG_APART void thag_event_resized_slowly(thag_thread *thread, thag_domain domain, thag_claim claim, void *old_block,
                                          void *block, size_t size);

/* A part of what was a recorded block, whose record no longer covers it, is a block of its own, of the same owner. Whoever holds
   both. */
THAG_COLD void thag_event_split(thag_domain domain, const void *block, void *part, size_t size);

/* In the lane, but not a small block of the lane's context, or something is in the way, or no time is left in the batch. */
THAG_APART void thag_lane_allocated_other(thag_thread *thread, thag_domain domain, void *block, size_t size, thag_entry *at);
THAG_APART void thag_lane_freed_other(thag_thread *thread, thag_domain domain, const void *block, thag_entry *at);

/* CPython promises that these domains are only called with the GIL. */
static inline bool
thag_surely_attached(thag_domain domain)
{
    return domain == THAG_MEM || domain == THAG_OBJ;
}

static inline thag_source
thag_source_of(thag_domain domain)
{
    _Static_assert(THAG_NUMPY - THAG_OBJ == (int)THAG_OF_NUMPY && THAG_NATIVE - THAG_OBJ == (int)THAG_OF_NATIVE,
                   "the domains that are not Python's are in the order of the sources");
    return domain <= THAG_OBJ ? THAG_OF_PYTHON : (thag_source)(domain - THAG_OBJ);
}

/* True if the lane's flow is the one that runs here, and its context is explained or, with no mark, is not; `tstate` is what
   thag_tstate_attached has returned. */
static inline bool
thag_lane_holds_marked(const thag_thread *thread, thag_domain domain, const PyThreadState *tstate, uint64_t mark)
{
    /* Before the thread, so that it is not newer: then a thread that finds itself there finds its own version as well. */
    uint64_t version = atomic_load_explicit(&thag_open_lane.contextvars_version, memory_order_acquire);
    if (!thag_surely_attached(domain)) {
#if PY_VERSION_HEX < 0x030C0000
        /* The state of whoever holds the GIL: that is this thread if it is its own state. */
        if (tstate != thread->tstate
            || atomic_load_explicit(&thag_open_lane.thread, memory_order_relaxed) != (uintptr_t)thread) {
            return false;
        }
#endif
        if (tstate == NULL) {
            return false;
        }
    }
    (void)thread;
    return version == (tstate->context_ver | mark);
}

static inline bool
thag_lane_holds(const thag_thread *thread, thag_domain domain, const PyThreadState *tstate)
{
    return thag_lane_holds_marked(thread, domain, tstate, 0);
}

static inline bool
thag_lane_holds_explained(const thag_thread *thread, thag_domain domain, const PyThreadState *tstate)
{
    return thag_lane_holds_marked(thread, domain, tstate, THAG_FLOW_EXPLAINED);
}

/* True as long as the reading of the clock may be used for an event of so many bytes as well. */
static inline bool
thag_batch_affords(thag_batch *batch, size_t bytes)
{
    batch->left_bytes -= (int64_t)bytes;
    return THAG_LIKELY(batch->left_bytes >= 0);
}

/* The entries of a block in the lane; NULL outside. */
static inline thag_entry *
thag_lane_finds(const thag_thread *thread, thag_domain domain, const PyThreadState *tstate, const void *block)
{
    return THAG_LIKELY(thag_lane_holds(thread, domain, tstate)) ? thag_owners_find((uintptr_t)block) : NULL;
}

/* A block that a wrapped allocator gave; it may be NULL. This hook is the outermost. */
static inline void
thag_event_allocated(thag_thread *thread, thag_domain domain, void *block, size_t size)
{
    if (THAG_UNLIKELY(block == NULL)) {
        return;
    }
    thag_batch *batch = &thag_open_batch;
    const PyThreadState *tstate = thag_tstate_attached();
    thag_entry *at = thag_lane_finds(thread, domain, tstate, block);
    if (THAG_UNLIKELY(at == NULL)) {
        if (thag_lane_holds_explained(thread, domain, tstate)) {
            thag_event_allocated_explained(thag_source_of(domain), tstate, block, size);
        }
        else if (domain == THAG_NATIVE) {
            thag_event_allocated_natively(thread, tstate, block, size);
        }
        else {
            thag_event_allocated_slowly(thread, domain, block, size);
        }
    }
    else if (THAG_LIKELY(thag_is_small(size) && thag_pair_load(at) == 0 && thag_batch_affords(batch, THAG_SMALL_BYTES))) {
        thag_pair_store(at, batch->small_word + (uint32_t)size);
        thag_batch_allocated(batch, size, thag_source_of(domain));
    }
    else {
        thag_lane_allocated_other(thread, domain, block, size, at);
    }
}

/* The size of a small block of the lane's context, by its entries; of any other block, something larger or smaller. */
static inline uint32_t
thag_lane_size(const thag_entry *at)
{
    return thag_pair_load(at) - thag_open_batch.small_word;
}

/* A block that a wrapped allocator is about to be given back; it may be NULL. */
static inline void
thag_event_freed(thag_thread *thread, thag_domain domain, const void *block)
{
    thag_batch *batch = &thag_open_batch;
    thag_entry *at;
    const PyThreadState *tstate;
    if (thag_surely_attached(domain)) {
        tstate = thag_tstate_attached();
        at = thag_lane_finds(thread, domain, tstate, block);
    }
    else {
        /* Most often the inner part of another free, which has cleared the record. */
        at = thag_owners_find((uintptr_t)block);
        if (at != NULL && thag_entry_load(at) == 0) {
            return;
        }
        tstate = thag_tstate_attached();
        if (THAG_UNLIKELY(!thag_lane_holds(thread, domain, tstate))) {
            if (thag_lane_holds_explained(thread, domain, tstate)) {
                thag_event_freed_explained(thag_source_of(domain), block);
            }
            else if (domain == THAG_NATIVE) {
                thag_event_freed_natively(thread, tstate, block, at);
            }
            else {
                thag_event_freed_anywhere(thread, domain, block);
            }
            return;
        }
    }
    if (THAG_UNLIKELY(at == NULL)) {
        if (thag_lane_holds_explained(thread, domain, tstate)) {
            thag_event_freed_explained(thag_source_of(domain), block);
        }
        else {
            thag_event_freed_slowly(thread, domain, block);
        }
        return;
    }
    uint32_t size = thag_lane_size(at);
    if (THAG_UNLIKELY(!thag_is_small(size) || !thag_batch_affords(batch, THAG_SMALL_BYTES))) {
        thag_lane_freed_other(thread, domain, block, at);
        return;
    }
    thag_pair_store(at, 0);
    thag_batch_freed(batch, size, thag_source_of(domain));
}

/* A block that a wrapped allocator is about to resize; it may be NULL. */
static inline thag_claim
thag_event_claim(thag_thread *thread, thag_domain domain, const void *block)
{
    if (block == NULL) {
        return (thag_claim){.owned = false};
    }
    thag_entry *at = thag_lane_finds(thread, domain, thag_tstate_attached(), block);
    if (at != NULL && thag_entry_load(at) == 0) {
        return (thag_claim){.owned = false};
    }
    if (at == NULL || !thag_is_small(thag_lane_size(at))) {
        return thag_event_claim_slowly(thread, domain, block);
    }
    thag_claim claim = {
        .owner = {.slot = thag_open_batch.slot, .size = thag_lane_size(at)}, .owned = true, .in_lane = true};
    thag_pair_store(at, 0);
    return claim;
}

/* The entries of a resized block, if it is a matter of the lane's context alone; else NULL. */
static inline thag_entry *
thag_lane_claimed(const thag_thread *thread, thag_domain domain, thag_claim claim, const void *block)
{
    if (block == NULL || !claim.in_lane || thread->depth != 0 || !thag_lane_holds(thread, domain, thag_tstate_attached())
        || claim.owner.slot != thag_open_batch.slot) {
        return NULL;
    }
    return thag_owners_find((uintptr_t)block);
}

/* What has become of it: a small block of the lane's context again? */
static inline bool
thag_lane_resized(const thag_thread *thread, thag_domain domain, thag_claim claim, const void *block, size_t size)
{
    thag_batch *batch = &thag_open_batch;
    thag_entry *at = thag_is_small(size) ? thag_lane_claimed(thread, domain, claim, block) : NULL;
    if (at == NULL || thag_pair_load(at) != 0 || !thag_batch_affords(batch, THAG_SMALL_BYTES)) {
        return false;
    }
    thag_pair_store(at, batch->small_word + (uint32_t)size);
    thag_batch_resized(batch, claim.owner.size, size, thag_source_of(domain));
    return true;
}

static inline void
thag_event_resized(thag_thread *thread, thag_domain domain, thag_claim claim, void *old_block, void *block, size_t size)
{
    if (!claim.owned) {
        if (thread->depth == 0) {
            thag_event_allocated(thread, domain, block, size);
        }
    }
    else if (!thag_lane_resized(thread, domain, claim, block, size)) {
        thag_event_resized_slowly(thread, domain, claim, old_block, block, size);
    }
}

#endif
