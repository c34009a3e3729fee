/* The arithmetic of live bytes, peaks and inclusive figures.

   An event moves its context and every context above it by the same amount. So nothing above needs to be touched for each
   event: consecutive events of one context are gathered in a batch that knows their sum and how far it rose and fell on
   the way, and when it is written, every context of the chain learns its exact highest and lowest level from that:

     level before the batch + highest sum in it = highest level during the batch

   A batch is written before an event of any other context, before anybody reads, and when its reading of the clock has
   served for THAG_BATCH_BYTES: a timeline may draw less than that too early, and its heights are exact all the same.

   There are two lanes, so that the common case needs neither a lock nor an atomic read-modify-write:

     attached   the batch and the counters in the context; written by the holder of the GIL, of whom there is only one.
     detached   a share behind the context; written by threads without the GIL, with atomic adds.

   The attached lane takes the shares over: before the first event of a batch, and as soon as an event finds that a
   detached one has finished. No attached event of the chain lies between those detached events and now, so the level that
   the share's extremes are to be added to is the one the attached lane has now. What is exact is the order in which events
   finished; two that overlap, a few nanoseconds apart on two processors, may be taken in either order.

   Live bytes and peaks are inclusive. Totals and counts are kept for the context alone; whoever reads them adds up. */

#include "charges.h"

thag_batch thag_open_batch = {.context_id = THAG_NO_ID};

/* ---- the detached lane ---- */

static void
counter_raise(_Atomic int64_t *counter, int64_t value)
{
    int64_t seen = thag_load(counter);
    while (value > seen && !atomic_compare_exchange_weak(counter, &seen, value)) {
    }
}

static void
counter_lower(_Atomic int64_t *counter, int64_t value)
{
    int64_t seen = thag_load(counter);
    while (value < seen && !atomic_compare_exchange_weak(counter, &seen, value)) {
    }
}

static void
level_move(thag_level *level, int64_t bytes)
{
    int64_t live = atomic_fetch_add(&level->live_bytes, bytes) + bytes;
    counter_raise(&level->high_bytes, live);
    counter_lower(&level->low_bytes, live);
}

void
thag_charge_detached(thag_context *context, const thag_change *change)
{
    thag_share *own = thag_context_touch_share(context);
    level_move(&own->self, change->live_bytes);
    (void)thag_add(&own->total_bytes, change->total_bytes);
    (void)thag_add(&own->allocations, change->allocations);
    (void)thag_add(&own->frees, change->frees);
    (void)thag_add(&own->foreign_frees, change->foreign_frees);
    for (; context != NULL; context = thag_context_parent(context)) {
        level_move(&thag_context_touch_share(context)->inclusive, change->live_bytes);
    }
}

bool
thag_detached_is_quiet(int64_t begun)
{
    return begun == atomic_load(&thag_contexts.detached_begun)
           && begun == atomic_load(&thag_contexts.detached_finished);
}

/* ---- the attached lane ---- */

static void
counter_add(_Atomic int64_t *counter, int64_t value)
{
    thag_store(counter, thag_load(counter) + value);
}

/* Moves the context's inclusive level by `live_bytes`, by way of `high_bytes` and `low_bytes`. */
static inline void
inclusive_move(thag_context *context, int64_t live_bytes, int64_t high_bytes, int64_t low_bytes, uint64_t now_ns)
{
    assert(low_bytes <= live_bytes && live_bytes <= high_bytes);
    int64_t before = thag_load(&context->live_bytes);
    if (THAG_UNLIKELY(now_ns >= context->bucket_end_ns)) {
        thag_context_turn_bucket(context, now_ns);
    }
    if (before + high_bytes > thag_load(&context->high_bytes)) {
        thag_store(&context->high_bytes, before + high_bytes);
        if (before + high_bytes > thag_load(&context->peak_bytes)) {
            thag_store(&context->peak_bytes, before + high_bytes);
        }
    }
    if (before + low_bytes < thag_load(&context->low_bytes)) {
        thag_store(&context->low_bytes, before + low_bytes);
    }
    thag_store(&context->live_bytes, before + live_bytes);
}

/* Comes after inclusive_move: a bucket that closes there wants the context's own live bytes from before. */
static void
self_move(thag_context *context, int64_t live_bytes, int64_t high_bytes)
{
    int64_t before = thag_load(&context->self_live_bytes);
    if (before + high_bytes > thag_load(&context->self_peak_bytes)) {
        thag_store(&context->self_peak_bytes, before + high_bytes);
    }
    thag_store(&context->self_live_bytes, before + live_bytes);
}

/* Moves all from `context` up to, and without, `end`. */
static void
chain_move(thag_context *context, const thag_context *end, int64_t bytes, uint64_t now_ns)
{
    for (; context != end; context = thag_context_parent(context)) {
        inclusive_move(context, bytes, bytes, bytes, now_ns);
    }
}

void
thag_batch_flush(void)
{
    thag_batch *batch = &thag_open_batch;
    if (batch->context == NULL || (batch->allocations | batch->frees | (uint64_t)batch->live_bytes) == 0) {
        return;
    }
    assert(batch->low_bytes <= 0 && batch->high_bytes >= 0 && batch->total_bytes >= 0);
    for (thag_context *context = batch->context; context != NULL; context = thag_context_parent(context)) {
        inclusive_move(context, batch->live_bytes, batch->high_bytes, batch->low_bytes, batch->now_ns);
    }
    thag_context *own = batch->context;
    self_move(own, batch->live_bytes, batch->high_bytes);
    counter_add(&own->self_total_bytes, batch->total_bytes);
    counter_add(&own->allocations, batch->allocations);
    counter_add(&own->frees, batch->frees);
    counter_add(&own->foreign_frees, batch->foreign_frees);
    batch->live_bytes = batch->high_bytes = batch->low_bytes = batch->total_bytes = 0;
    batch->allocations = batch->frees = batch->foreign_frees = 0;
}

void
thag_batch_close(void)
{
    thag_batch_flush();
    thag_open_batch.context = NULL;
    thag_open_batch.context_id = THAG_NO_ID;
}

/* How far a share moved since it was last taken over, and how far up and down on the way. */
typedef struct {
    int64_t live_bytes;
    int64_t high_bytes;
    int64_t low_bytes;
} level_change;

/* The extremes start anew from the level read here. If that moves before they are exchanged, they say so: too far, but
   only until the next time, which finds the attached level where it is now. */
static level_change
level_take(thag_level *level, int64_t *taken_bytes)
{
    int64_t live = atomic_load(&level->live_bytes);
    int64_t high = atomic_exchange(&level->high_bytes, live);
    int64_t low = atomic_exchange(&level->low_bytes, live);
    level_change change = {
        .live_bytes = live - *taken_bytes,
        .high_bytes = (high > live ? high : live) - *taken_bytes,
        .low_bytes = (low < live ? low : live) - *taken_bytes,
    };
    *taken_bytes = live;
    return change;
}

static void
share_take_over(thag_context *context, thag_share *share, uint64_t now_ns)
{
    level_change inclusive = level_take(&share->inclusive, &share->taken_bytes);
    if ((inclusive.live_bytes | inclusive.high_bytes | inclusive.low_bytes) != 0) {
        /* Not otherwise: a bucket in which nothing happened is not kept. */
        inclusive_move(context, inclusive.live_bytes, inclusive.high_bytes, inclusive.low_bytes, now_ns);
    }
    level_change self = level_take(&share->self, &share->self_taken_bytes);
    self_move(context, self.live_bytes, self.high_bytes);
    counter_add(&context->self_total_bytes, atomic_exchange(&share->total_bytes, 0));
    counter_add(&context->allocations, atomic_exchange(&share->allocations, 0));
    counter_add(&context->frees, atomic_exchange(&share->frees, 0));
    counter_add(&context->foreign_frees, atomic_exchange(&share->foreign_frees, 0));
}

/* Takes over the shares from `context` up to the root. */
static void
chain_take_over(thag_context *context, int64_t finished, uint64_t now_ns)
{
    for (; context != NULL; context = thag_context_parent(context)) {
        thag_share *share = thag_context_share(context);
        if (share != NULL && share->finished_taken != finished) {
            share->finished_taken = finished;
            share_take_over(context, share, now_ns);
        }
    }
}

void
thag_batch_open(thag_context *context, size_t size)
{
    thag_batch *batch = &thag_open_batch;
    thag_batch_flush();
    if (batch->budget_bytes < 0) {
        batch->now_ns = thag_clock_read();
        batch->budget_bytes = THAG_BATCH_BYTES - (int64_t)size;
    }
    batch->context = context;
    batch->context_id = context->id;
    batch->detached_finished = atomic_load(&thag_contexts.detached_finished);
    chain_take_over(context, batch->detached_finished, batch->now_ns);
}

void
thag_charges_settle(thag_context *context)
{
    thag_batch_flush();
    thag_share *share = thag_context_share(context);
    if (share != NULL) {
        share_take_over(context, share, thag_clock_read());
    }
}

thag_figures
thag_charges_figures(thag_context *context)
{
    thag_charges_settle(context);
    return (thag_figures){
        .live_bytes = thag_load(&context->live_bytes),
        .peak_bytes = thag_load(&context->peak_bytes),
        .self_live_bytes = thag_load(&context->self_live_bytes),
        .self_peak_bytes = thag_load(&context->self_peak_bytes),
        .self_total_bytes = thag_load(&context->self_total_bytes),
        .allocations = thag_load(&context->allocations),
        .frees = thag_load(&context->frees),
        .foreign_frees = thag_load(&context->foreign_frees),
    };
}

static thag_context *
common_ancestor(thag_context *one, thag_context *other)
{
    while (one != other) {
        assert(one != NULL && other != NULL);
        if (one->depth >= other->depth) {
            one = thag_context_parent(one);
        }
        else {
            other = thag_context_parent(other);
        }
    }
    return one;
}

static void
move_between(thag_context *owner, int64_t fall, thag_context *context, int64_t rise)
{
    thag_batch *batch = thag_batch_for(context, (size_t)rise);
    thag_batch_flush();
    chain_take_over(owner, batch->detached_finished, batch->now_ns);
    thag_context *common = common_ancestor(owner, context);
    chain_move(owner, common, -fall, batch->now_ns);
    chain_move(context, common, rise, batch->now_ns);
    chain_move(common, NULL, rise - fall, batch->now_ns);
    self_move(owner, -fall, -fall);
    self_move(context, rise, rise);
    counter_add(&owner->frees, 1);
    counter_add(&owner->foreign_frees, 1);
}

void
thag_charge_moved(thag_context *owner, size_t old_size, thag_context *context, size_t size)
{
    int64_t fall = (int64_t)old_size, rise = (int64_t)size;
    if (owner == context) {
        thag_batch *batch = thag_batch_for(context, size);
        thag_batch_rise(batch, rise - fall);
        batch->frees++;
    }
    else {
        move_between(owner, fall, context, rise);
    }
    thag_open_batch.total_bytes += rise;
    thag_open_batch.allocations++;
}
