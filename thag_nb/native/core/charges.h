/* Charging a context, and all it was started under, for what was allocated and freed. */

#ifndef THAG_CHARGES_H
#define THAG_CHARGES_H

#include "contexts.h"
#include "thag.h"

#define THAG_NO_ID UINT32_MAX

enum {
    THAG_BATCH_BYTES = 1 << 16,     /* allocated and freed on one reading of the clock, at most */
    THAG_EVENT_BYTES = 1 << 10,     /* what an event counts as, besides its size */
};

/* What happened to one context since its counters were last written. Only the holder of the GIL touches it. */
typedef struct {
    thag_context *context;          /* NULL: none */
    uint32_t context_id;            /* THAG_NO_ID: none */
    uint32_t allocations;
    uint32_t frees;
    uint32_t foreign_frees;
    int64_t detached_finished;      /* events, when the shares were last taken over */
    int64_t budget_bytes;           /* left until the clock is read again */
    int64_t live_bytes;             /* these three from 0 */
    int64_t high_bytes;
    int64_t low_bytes;
    int64_t total_bytes;
    uint64_t now_ns;
} thag_batch;

extern thag_batch thag_open_batch;

/* Writes the open batch to the counters. GIL. */
void thag_batch_flush(void);

/* The same, and leaves none open. GIL. */
void thag_batch_close(void);

/* The next event reads the clock: what follows shall not be drawn with what was before. GIL. */
static inline void
thag_batch_expire(void)
{
    thag_open_batch.budget_bytes = 0;
}

/* Opens a batch for the context, at the clock's present reading if that may be used for `size` bytes more. GIL. */
THAG_COLD void thag_batch_open(thag_context *context, size_t size);

/* Brings a context's counters up to date: the open batch, and what happened without the GIL. GIL. */
void thag_charges_settle(thag_context *context);

/* A copy of a context's own figures, and of its inclusive live bytes and peak. */
typedef struct {
    int64_t live_bytes;
    int64_t peak_bytes;
    int64_t self_live_bytes;
    int64_t self_peak_bytes;
    int64_t self_total_bytes;
    int64_t allocations;
    int64_t frees;
    int64_t foreign_frees;
} thag_figures;

/* As of now. GIL. */
thag_figures thag_charges_figures(thag_context *context);

/* A block of `owner` that grew or moved to `context`: the one falls, the other rises, and what both stand under moves only
   by the difference: no timeline sees a fall that did not happen. GIL. */
void thag_charge_moved(thag_context *owner, size_t old_size, thag_context *context, size_t size);

/* What one event changes. */
typedef struct {
    int64_t live_bytes;
    int64_t total_bytes;
    int64_t allocations;
    int64_t frees;
    int64_t foreign_frees;
} thag_change;

/* Around a detached event, from before its first write to the owner table or a counter until after its last: so that a
   reader can tell that it caught none half done. They may nest. Any thread. */
static inline void
thag_detached_begin(void)
{
    (void)atomic_fetch_add(&thag_contexts.detached_begun, 1);
}

static inline void
thag_detached_finish(void)
{
    int64_t finished = atomic_fetch_add(&thag_contexts.detached_finished, 1) + 1;
    assert(finished <= atomic_load(&thag_contexts.detached_begun));
    (void)finished;
}

/* True if no detached event is in progress, and none has begun since `begun` was read from the table of contexts. GIL. */
bool thag_detached_is_quiet(int64_t begun);

/* The detached lane: applies one event, between begin and finish. Any thread, no lock, no GIL. */
void thag_charge_detached(thag_context *context, const thag_change *change);

/* Makes the open batch one that an event of the context may be added to. GIL. */
static inline thag_batch *
thag_batch_for(thag_context *context, size_t size)
{
    assert(size <= PTRDIFF_MAX);
    thag_batch *batch = &thag_open_batch;
    batch->budget_bytes -= (int64_t)size + THAG_EVENT_BYTES;
    int64_t finished = atomic_load_explicit(&thag_contexts.detached_finished, memory_order_acquire);
    if (THAG_UNLIKELY(batch->context != context || batch->budget_bytes < 0 || batch->detached_finished != finished)) {
        thag_batch_open(context, size);
    }
    assert(batch->context == context && batch->context_id == context->id);
    return batch;
}

static inline void
thag_batch_rise(thag_batch *batch, int64_t bytes)
{
    assert(bytes >= 0);
    batch->live_bytes += bytes;
    if (batch->live_bytes > batch->high_bytes) {
        batch->high_bytes = batch->live_bytes;
    }
}

static inline void
thag_batch_fall(thag_batch *batch, int64_t bytes)
{
    assert(bytes >= 0);
    batch->live_bytes -= bytes;
    if (batch->live_bytes < batch->low_bytes) {
        batch->low_bytes = batch->live_bytes;
    }
}

/* The attached lane. GIL. */
static inline void
thag_charge_allocation(thag_context *context, size_t size)
{
    assert(context->records);
    thag_batch *batch = thag_batch_for(context, size);
    batch->total_bytes += (int64_t)size;
    batch->allocations++;
    thag_batch_rise(batch, (int64_t)size);
}

static inline void
thag_charge_free(thag_context *owner, size_t size, bool foreign)
{
    thag_batch *batch = thag_batch_for(owner, size);
    batch->frees++;
    if (THAG_UNLIKELY(foreign)) {
        batch->foreign_frees++;
    }
    thag_batch_fall(batch, (int64_t)size);
}

/* A block that shrank, and stays its owner's. GIL. */
static inline void
thag_charge_shrunk(thag_context *owner, size_t bytes)
{
    thag_batch_fall(thag_batch_for(owner, bytes), (int64_t)bytes);
}

#endif
