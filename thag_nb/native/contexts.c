/* Context records: who is charged, and the arithmetic of live bytes, peaks and inclusive figures.

   Figures are kept in two lanes, so that the common case needs neither a lock nor an atomic read-modify-write:

     attached   written by the thread that holds the GIL, with plain adds. There is only one such thread.
     detached   written by threads without the GIL, with atomic adds. Made when a context first needs it.

   What a context holds is the sum of both. Each lane, when it moves, compares that sum with the peak. An event in one
   lane may miss one in the other that happens in the same few nanoseconds, but not for longer: the detached lane looks
   before it takes away as well as after it adds, and its adds are full barriers.

   Live bytes and peaks are inclusive: an event walks from its context to the root. Totals and counts are kept for the
   context alone; whoever reads them adds up. */

#include "contexts.h"

#include "owners.h"

thag_context_table thag_contexts;

static const size_t CHUNK_BYTES = sizeof(thag_context) << THAG_CHUNK_SHIFT;

/* Detached shares are cut from chunks by any thread; a chunk that is replaced while half used is left. */
enum { SHARES_PER_CHUNK = 1024 };
typedef struct {
    _Atomic uint32_t used;
    thag_detached shares[SHARES_PER_CHUNK];
} share_chunk;
static share_chunk *_Atomic shares;
static thag_detached root_share;    /* so that charging the root never fails */
static _Atomic int64_t mapped_bytes;

static thag_detached *
share_take(void)
{
    for (;;) {
        share_chunk *chunk = atomic_load(&shares);
        if (chunk != NULL) {
            uint32_t place = atomic_fetch_add(&chunk->used, 1);
            if (place < SHARES_PER_CHUNK) {
                return &chunk->shares[place];
            }
        }
        share_chunk *fresh = thag_pages_map(sizeof(*fresh));
        if (fresh == NULL) {
            return NULL;
        }
        if (atomic_compare_exchange_strong(&shares, &chunk, fresh)) {
            (void)thag_add(&mapped_bytes, (int64_t)sizeof(*fresh));
        }
        else {
            thag_pages_unmap(fresh, sizeof(*fresh));
        }
    }
}

/* Raises `cell` to at least `value`, or lowers it to at most that. */
static void
cell_raise(_Atomic int64_t *cell, int64_t value)
{
    int64_t seen = thag_get(cell);
    while (value > seen && !atomic_compare_exchange_weak(cell, &seen, value)) {
    }
}

static void
cell_lower(_Atomic int64_t *cell, int64_t value)
{
    int64_t seen = thag_get(cell);
    while (value < seen && !atomic_compare_exchange_weak(cell, &seen, value)) {
    }
}

bool
thag_context_ready_detached(thag_context *context)
{
    for (; context != NULL; context = context->parent) {
        if (THAG_LIKELY(thag_context_detached(context) != NULL)) {
            continue;
        }
        thag_detached *share = context->parent == NULL ? &root_share : share_take();
        if (share == NULL) {
            return false;
        }
        thag_put(&share->high_bytes, INT64_MIN);
        thag_put(&share->low_bytes, INT64_MAX);
        thag_detached *winner = NULL;
        (void)atomic_compare_exchange_strong(&context->detached, &winner, share);
    }
    return true;
}

/* Compares both lanes' sum with the extremes; called with the level before a fall and after a rise. */
static void
extremes_note(thag_context *context, thag_detached *share)
{
    int64_t live = thag_get(&share->live_bytes) + thag_get(&context->live_bytes);
    cell_raise(&share->high_bytes, live);
    cell_lower(&share->low_bytes, live);
}

void
thag_context_charge_detached(thag_context *context, const thag_change *change)
{
    thag_detached *own = thag_context_detached(context);
    cell_raise(&own->self_peak_bytes, thag_get(&own->self_live_bytes) + thag_get(&context->self_live_bytes));
    int64_t self_live = atomic_fetch_add(&own->self_live_bytes, change->live_bytes) + change->live_bytes;
    cell_raise(&own->self_peak_bytes, self_live + thag_get(&context->self_live_bytes));
    (void)thag_add(&own->self_total_bytes, change->total_bytes);
    (void)thag_add(&own->allocations, change->allocations);
    (void)thag_add(&own->frees, change->frees);
    (void)thag_add(&own->foreign_frees, change->foreign_frees);
    for (; context != NULL; context = context->parent) {
        thag_detached *share = thag_context_detached(context);
        extremes_note(context, share);
        (void)atomic_fetch_add(&share->live_bytes, change->live_bytes);
        extremes_note(context, share);
    }
}

void
thag_context_fold(thag_context *context)
{
    thag_detached *share = thag_context_detached(context);
    int64_t high = atomic_exchange(&share->high_bytes, INT64_MIN);
    int64_t low = atomic_exchange(&share->low_bytes, INT64_MAX);
    if (high > thag_get(&context->high_bytes)) {
        thag_put(&context->high_bytes, high);
    }
    if (high > thag_get(&context->peak_bytes)) {
        thag_put(&context->peak_bytes, high);
    }
    if (low < thag_get(&context->low_bytes)) {
        thag_put(&context->low_bytes, low);
    }
}

static uint64_t
bucket_end(uint64_t now_ns, uint32_t shift)
{
    return ((now_ns >> shift) + 1) << shift;
}

static int64_t
self_live_bytes(const thag_context *context)
{
    thag_detached *share = thag_context_detached(context);
    return thag_get(&context->self_live_bytes) + (share == NULL ? 0 : thag_get(&share->self_live_bytes));
}

void
thag_context_turn_bucket(thag_context *context, uint64_t now_ns, int64_t live_bytes)
{
    thag_bucket closed = {
        .start_ns = context->bucket_start_ns,
        .low_bytes = thag_get(&context->low_bytes),
        .high_bytes = thag_get(&context->high_bytes),
        .live_bytes = live_bytes,
        .self_live_bytes = self_live_bytes(context),
    };
    if (thag_timeline_append(&context->timeline, &closed)) {
        context->bucket_start_ns = now_ns;
        thag_put(&context->low_bytes, live_bytes);
        thag_put(&context->high_bytes, live_bytes);
    }
    context->bucket_end_ns = bucket_end(now_ns, context->timeline.shift);
}

static void
timeline_restart(thag_context *context, uint64_t now_ns, int64_t live_bytes)
{
    thag_timeline_clear(&context->timeline);
    context->bucket_start_ns = now_ns;
    context->bucket_end_ns = bucket_end(now_ns, context->timeline.shift);
    thag_put(&context->low_bytes, live_bytes);
    thag_put(&context->high_bytes, live_bytes);
}

/* True if the chunk that an id belongs to is mapped now. */
static bool
chunk_map(uint32_t id)
{
    uint32_t place = id >> THAG_CHUNK_SHIFT;
    if (place >= THAG_CHUNKS) {
        return false;
    }
    if (atomic_load(&thag_contexts.chunks[place]) != NULL) {
        return true;
    }
    thag_context *chunk = thag_pages_map(CHUNK_BYTES);
    if (chunk == NULL) {
        return false;
    }
    thag_context *winner = NULL;
    if (atomic_compare_exchange_strong(&thag_contexts.chunks[place], &winner, chunk)) {
        (void)thag_add(&mapped_bytes, (int64_t)CHUNK_BYTES);
    }
    else {
        thag_pages_unmap(chunk, CHUNK_BYTES);
    }
    return true;
}

/* An id is given out only once its record can be read. */
static bool
id_take(uint32_t *id)
{
    *id = atomic_load(&thag_contexts.next_id);
    do {
        if (!chunk_map(*id)) {
            return false;
        }
    } while (!atomic_compare_exchange_strong(&thag_contexts.next_id, id, *id + 1));
    return true;
}

thag_context *
thag_context_create(thag_context *parent, bool records, PyObject *label)
{
    uint32_t id;
    if (!id_take(&id)) {
        return NULL;
    }
    thag_context *context = thag_context_by_id(id);
    context->id = id;
    context->parent = parent;
    context->depth = parent == NULL ? 0 : parent->depth + 1;
    context->records = records;
    context->label = Py_NewRef(label);
    context->started_ns = thag_clock_read();
    timeline_restart(context, context->started_ns, 0);
    return context;
}

bool
thag_contexts_init(void)
{
    if (thag_contexts.root != NULL) {
        return true;
    }
    atomic_store(&thag_contexts.next_id, THAG_ROOT_ID);
    thag_contexts.root = thag_context_create(NULL, true, Py_None);
    thag_contexts.system =
        thag_contexts.root == NULL ? NULL : thag_context_create(thag_contexts.root, false, Py_None);
    return thag_contexts.system != NULL;
}

void
thag_context_hold(thag_context *context)
{
    if (atomic_fetch_add(&context->holds, 1) == 0) {
        context->entered = true;
        context->ended = false;
    }
}

void
thag_context_release(thag_context *context)
{
    if (atomic_fetch_sub(&context->holds, 1) != 1) {
        return;
    }
    context->ended = true;
    context->ended_ns = thag_clock_read();
    context->retained_bytes = thag_context_figures(context).live_bytes;
}

thag_figures
thag_context_figures(thag_context *context)
{
    thag_detached *share = thag_context_detached(context);
    int64_t detached_live = 0;
    if (share != NULL) {
        thag_context_fold(context);
        detached_live = thag_get(&share->live_bytes);
    }
    thag_figures figures = {
        .live_bytes = thag_get(&context->live_bytes) + detached_live,
        .peak_bytes = thag_get(&context->peak_bytes),
        .self_live_bytes = self_live_bytes(context),
        .self_peak_bytes = thag_get(&context->self_peak_bytes),
        .self_total_bytes = thag_get(&context->self_total_bytes),
        .allocations = thag_get(&context->allocations),
        .frees = thag_get(&context->frees),
        .foreign_frees = thag_get(&context->foreign_frees),
    };
    if (share != NULL) {
        int64_t peak = thag_get(&share->self_peak_bytes);
        figures.self_peak_bytes = peak > figures.self_peak_bytes ? peak : figures.self_peak_bytes;
        figures.self_total_bytes += thag_get(&share->self_total_bytes);
        figures.allocations += thag_get(&share->allocations);
        figures.frees += thag_get(&share->frees);
        figures.foreign_frees += thag_get(&share->foreign_frees);
    }
    return figures;
}

static void
counts_zero(thag_context *context)
{
    thag_detached *share = thag_context_detached(context);
    if (share != NULL) {
        thag_put(&share->self_total_bytes, 0);
        thag_put(&share->allocations, 0);
        thag_put(&share->frees, 0);
        thag_put(&share->foreign_frees, 0);
    }
    thag_put(&context->self_total_bytes, 0);
    thag_put(&context->allocations, 0);
    thag_put(&context->frees, 0);
    thag_put(&context->foreign_frees, 0);
}

void
thag_context_restart(thag_context *context)
{
    thag_detached *share = thag_context_detached(context);
    if (share != NULL) {
        thag_put(&share->self_peak_bytes, self_live_bytes(context));
    }
    thag_figures now = thag_context_figures(context);
    thag_put(&context->peak_bytes, now.live_bytes);
    thag_put(&context->self_peak_bytes, now.self_live_bytes);
    counts_zero(context);
    timeline_restart(context, thag_clock_read(), now.live_bytes);
}

void
thag_context_pass_on(thag_context *from)
{
    thag_context *heir = thag_context_today(from);
    thag_detached *share = thag_context_detached(from);
    int64_t detached = share == NULL ? 0 : atomic_exchange(&share->self_live_bytes, 0);
    thag_put(&heir->self_live_bytes, thag_get(&heir->self_live_bytes) + thag_get(&from->self_live_bytes) + detached);
    thag_put(&from->self_live_bytes, 0);
    counts_zero(from);
}

void
thag_context_bequeath(thag_context *from, thag_context *heir)
{
    atomic_store(&from->heir, heir);
    from->records = false;
    thag_context_pass_on(from);
    thag_timeline_clear(&from->timeline);
    Py_CLEAR(from->label);
}

static bool
detached_quiet(int64_t begun)
{
    return begun == atomic_load(&thag_contexts.detached_begun)
           && begun == atomic_load(&thag_contexts.detached_finished);
}

static bool
chunk_is_unused(uint32_t place, uint32_t end)
{
    uint32_t first = place << THAG_CHUNK_SHIFT;
    uint32_t after = first + (1u << THAG_CHUNK_SHIFT);
    if (after > end) {
        return false;
    }
    for (uint32_t id = first == 0 ? 1 : first; id < after; id++) {
        const thag_context *context = thag_context_by_id(id);
        if (atomic_load(&context->heir) == NULL || atomic_load(&context->frames) > 0) {
            return false;
        }
    }
    return true;
}

/* Contexts that stay are put right under the ones that stay above them. */
static void
parents_relink(uint32_t end)
{
    for (uint32_t id = THAG_SYSTEM_ID; id < end; id++) {
        if (thag_context_is_discarded(id)) {
            id |= (1u << THAG_CHUNK_SHIFT) - 1;
            continue;
        }
        thag_context *context = thag_context_by_id(id);
        if (atomic_load(&context->heir) == NULL) {
            context->parent = thag_context_today(context->parent);
            context->depth = context->parent->depth + 1;
        }
    }
}

static uint32_t
owner_today(uint32_t context_id)
{
    return thag_context_owner(context_id)->id;
}

void
thag_contexts_discard_dropped(void)
{
    uint32_t end = atomic_load(&thag_contexts.next_id);
    int64_t begun = atomic_load(&thag_contexts.detached_begun);
    if (!detached_quiet(begun)) {
        return;
    }
    parents_relink(end);
    thag_owners_rename(owner_today);
    if (!detached_quiet(begun)) {
        return;
    }
    for (uint32_t place = 0; place << THAG_CHUNK_SHIFT < end; place++) {
        if (!thag_contexts.discarded[place] && chunk_is_unused(place, end)) {
            thag_pages_clear(atomic_load(&thag_contexts.chunks[place]), CHUNK_BYTES);
            thag_contexts.discarded[place] = true;
            (void)thag_add(&mapped_bytes, -(int64_t)CHUNK_BYTES);
        }
    }
}

void
thag_context_move_between(thag_context *from, int64_t fall_bytes, thag_context *to, int64_t rise_bytes,
                          uint64_t now_ns)
{
    thag_context *common = from;
    thag_context *other = to;
    while (common != other) {
        if (common->depth >= other->depth) {
            common = common->parent;
        }
        else {
            other = other->parent;
        }
    }
    thag_context_move_chain(from, common, -fall_bytes, now_ns);
    thag_context_move_chain(to, common, rise_bytes, now_ns);
    thag_context_move_chain(common, NULL, rise_bytes - fall_bytes, now_ns);
}

void
thag_context_correct(thag_context *context, int64_t missed_bytes)
{
    thag_context_move_chain(context, NULL, missed_bytes, thag_clock_read());
    thag_context_move_self(context, missed_bytes);
}

void
thag_context_forget_live(thag_context *context)
{
    thag_detached *share = thag_context_detached(context);
    if (share != NULL) {
        thag_context_fold(context);
        thag_put(&share->live_bytes, 0);
        thag_put(&share->self_live_bytes, 0);
    }
    uint64_t now_ns = thag_clock_read();
    if (now_ns >= context->bucket_end_ns) {
        thag_context_turn_bucket(context, now_ns, thag_get(&context->live_bytes));
    }
    thag_put(&context->live_bytes, 0);
    thag_put(&context->self_live_bytes, 0);
    if (thag_get(&context->low_bytes) > 0) {
        thag_put(&context->low_bytes, 0);
    }
}

size_t
thag_contexts_mapped(void)
{
    return (size_t)thag_get(&mapped_bytes);
}
