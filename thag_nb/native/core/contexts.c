/* Context records: who may be charged, and what became of them.

   Records come in chunks of 4096 and are found by id; an id is never used again. Behind the records of a chunk lie as many
   shares for what threads without the GIL do, so that none of them ever has to ask for memory. A reset drops contexts
   that have ended: what they still hold passes to an heir, and once all contexts of a chunk are dropped and nothing
   points to them any more, its pages are given back. */

#include "contexts.h"

#include "charges.h"
#include "owners.h"

thag_context_table thag_contexts;

static _Atomic int64_t mapped_bytes;

thag_detached *
thag_context_touch_share(thag_context *context)
{
    thag_detached *share = thag_context_detached(context);
    if (THAG_UNLIKELY(share == NULL)) {
        thag_context_chunk *chunk = atomic_load(&thag_contexts.chunks[context->id >> THAG_CHUNK_SHIFT]);
        share = &chunk->shares[context->id & (THAG_CHUNK_CONTEXTS - 1)];
        if (atomic_exchange(&context->detached, share) == NULL) {
            (void)thag_add(&mapped_bytes, (int64_t)sizeof(*share));
        }
    }
    return share;
}

static uint64_t
bucket_end(uint64_t now_ns, uint32_t shift)
{
    return ((now_ns >> shift) + 1) << shift;
}

void
thag_context_turn_bucket(thag_context *context, uint64_t now_ns)
{
    int64_t live_bytes = thag_get(&context->live_bytes);
    thag_bucket closed = {
        .start_ns = context->bucket_start_ns,
        .low_bytes = thag_get(&context->low_bytes),
        .high_bytes = thag_get(&context->high_bytes),
        .live_bytes = live_bytes,
        .self_live_bytes = thag_get(&context->self_live_bytes),
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
    thag_context_chunk *chunk = thag_pages_map(sizeof(*chunk));
    if (chunk == NULL) {
        return false;
    }
    thag_context_chunk *winner = NULL;
    if (atomic_compare_exchange_strong(&thag_contexts.chunks[place], &winner, chunk)) {
        (void)thag_add(&mapped_bytes, (int64_t)sizeof(chunk->contexts));
    }
    else {
        thag_pages_unmap(chunk, sizeof(*chunk));
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

bool
thag_contexts_exhausted(void)
{
    return atomic_load(&thag_contexts.next_id) >> THAG_CHUNK_SHIFT >= THAG_CHUNKS;
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
    context->label = Py_XNewRef(label);
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
    thag_contexts.root = thag_context_create(NULL, true, NULL);
    thag_contexts.system = thag_contexts.root == NULL ? NULL : thag_context_create(thag_contexts.root, false, NULL);
    if (thag_contexts.system == NULL) {
        return false;
    }
    /* These two never end. */
    thag_context_hold(thag_contexts.root);
    thag_context_hold(thag_contexts.system);
    return true;
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
    thag_charges_settle(context);
    return (thag_figures){
        .live_bytes = thag_get(&context->live_bytes),
        .peak_bytes = thag_get(&context->peak_bytes),
        .self_live_bytes = thag_get(&context->self_live_bytes),
        .self_peak_bytes = thag_get(&context->self_peak_bytes),
        .self_total_bytes = thag_get(&context->self_total_bytes),
        .allocations = thag_get(&context->allocations),
        .frees = thag_get(&context->frees),
        .foreign_frees = thag_get(&context->foreign_frees),
    };
}

static void
counts_zero(thag_context *context)
{
    thag_put(&context->self_total_bytes, 0);
    thag_put(&context->allocations, 0);
    thag_put(&context->frees, 0);
    thag_put(&context->foreign_frees, 0);
}

void
thag_context_restart(thag_context *context)
{
    thag_charges_settle(context);
    int64_t live_bytes = thag_get(&context->live_bytes);
    thag_put(&context->peak_bytes, live_bytes);
    thag_put(&context->self_peak_bytes, thag_get(&context->self_live_bytes));
    counts_zero(context);
    context->started_ns = thag_clock_read();
    timeline_restart(context, context->started_ns, live_bytes);
}

void
thag_context_pass_on(thag_context *from)
{
    thag_context *heir = thag_context_today(from);
    thag_charges_settle(from);
    int64_t live_bytes = thag_get(&heir->self_live_bytes) + thag_get(&from->self_live_bytes);
    thag_put(&heir->self_live_bytes, live_bytes);
    if (live_bytes > thag_get(&heir->self_peak_bytes)) {
        thag_put(&heir->self_peak_bytes, live_bytes);
    }
    thag_put(&from->self_live_bytes, 0);
    counts_zero(from);
}

void
thag_context_bequeath(thag_context *from, thag_context *heir)
{
    thag_batch_close();
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
    uint32_t after = first + THAG_CHUNK_CONTEXTS;
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

static void
chunk_discard(uint32_t place)
{
    thag_context_chunk *chunk = atomic_load(&thag_contexts.chunks[place]);
    int64_t bytes = sizeof(chunk->contexts);
    for (int i = 0; i < THAG_CHUNK_CONTEXTS; i++) {
        bytes += thag_context_detached(&chunk->contexts[i]) == NULL ? 0 : (int64_t)sizeof(chunk->shares[i]);
    }
    thag_pages_clear(chunk, sizeof(*chunk));
    thag_contexts.discarded[place] = true;
    (void)thag_add(&mapped_bytes, -bytes);
}

/* Contexts that stay are put right under the ones that stay above them, and dropped ones point at their last heir. */
static void
parents_relink(uint32_t end)
{
    for (uint32_t id = THAG_SYSTEM_ID; id < end; id++) {
        if (thag_context_is_discarded(id)) {
            id |= THAG_CHUNK_CONTEXTS - 1;
            continue;
        }
        thag_context *context = thag_context_by_id(id);
        if (atomic_load(&context->heir) == NULL) {
            context->parent = thag_context_today(context->parent);
            context->depth = context->parent->depth + 1;
        }
        else {
            atomic_store(&context->heir, thag_context_today(context));
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
    thag_batch_close();
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
            chunk_discard(place);
        }
    }
}

void
thag_context_set_live(thag_context *context, int64_t live_bytes, int64_t self_live_bytes)
{
    thag_charges_settle(context);
    thag_put(&context->live_bytes, live_bytes);
    thag_put(&context->self_live_bytes, self_live_bytes);
}

void
thag_context_forget_live(thag_context *context)
{
    thag_charges_settle(context);
    uint64_t now_ns = thag_clock_read();
    if (now_ns >= context->bucket_end_ns) {
        thag_context_turn_bucket(context, now_ns);
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
