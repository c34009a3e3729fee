/* Context records: who may be charged.

   Records come in chunks of 4096 and are found by id; an id is never used again. Behind the records of a chunk lie as many
   shares for what threads without the GIL do, so that none of them ever has to ask for memory. A record stays where it is
   until all contexts of its chunk have been dropped by a reset and nothing points to any of them (see lifecycle.c): then
   the pages of the chunk are given back, and its ids are reclaimed.

   Threads remember which context is current (see current.c). The generation says whether what they remember may still be
   used: it moves when recording starts, when a guard is left out of order, and before records are given back. */

#include "contexts.h"

#include "lane.h"

thag_context_table thag_contexts;
_Atomic uint32_t thag_contexts_generation;

static _Atomic int64_t mapped_bytes;

thag_share *
thag_context_touch_share(thag_context *context)
{
    thag_share *share = thag_context_share(context);
    if (THAG_UNLIKELY(share == NULL)) {
        thag_context_chunk *chunk = atomic_load(&thag_contexts.chunks[context->id >> THAG_CHUNK_SHIFT]);
        share = &chunk->shares[context->id & (THAG_CHUNK_CONTEXTS - 1)];
        if (atomic_exchange(&context->share, share) == NULL) {
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
    int64_t live_bytes = thag_load(&context->live_bytes);
    thag_bucket closed = {
        .start_ns = context->bucket_start_ns,
        .low_bytes = thag_load(&context->low_bytes),
        .high_bytes = thag_load(&context->high_bytes),
        .live_bytes = live_bytes,
        .self_live_bytes = thag_load(&context->self_live_bytes),
    };
    if (thag_timeline_append(&context->timeline, &closed)) {
        context->bucket_start_ns = now_ns;
        thag_store(&context->low_bytes, live_bytes);
        thag_store(&context->high_bytes, live_bytes);
    }
    context->bucket_end_ns = bucket_end(now_ns, context->timeline.shift);
}

void
thag_context_restart_timeline(thag_context *context, uint64_t now_ns, int64_t live_bytes)
{
    thag_timeline_clear(&context->timeline);
    context->bucket_start_ns = now_ns;
    context->bucket_end_ns = bucket_end(now_ns, context->timeline.shift);
    context->path_end_ns = 0;
    thag_store(&context->low_bytes, live_bytes);
    thag_store(&context->high_bytes, live_bytes);
}

/* True if the chunk that an id belongs to is mapped now. */
static bool
chunk_map(uint32_t id)
{
    uint32_t index = id >> THAG_CHUNK_SHIFT;
    if (index >= THAG_CHUNKS) {
        return false;
    }
    if (atomic_load(&thag_contexts.chunks[index]) != NULL) {
        return true;
    }
    thag_context_chunk *chunk = thag_pages_map(sizeof(*chunk));
    if (chunk == NULL) {
        return false;
    }
    thag_context_chunk *winner = NULL;
    if (atomic_compare_exchange_strong(&thag_contexts.chunks[index], &winner, chunk)) {
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
    assert(parent == NULL || parent->id < id);
    context->id = id;
    atomic_store_explicit(&context->parent, parent, memory_order_relaxed);
    context->depth = parent == NULL ? 0 : parent->depth + 1;
    context->records = records;
    context->label = Py_XNewRef(label);
    context->started_ns = thag_clock_read();
    thag_context_restart_timeline(context, context->started_ns, 0);
    if (parent != NULL) {
        context->path_finished = parent->path_finished;
        context->path_end_ns = parent->path_end_ns < context->bucket_end_ns ? parent->path_end_ns : context->bucket_end_ns;
    }
    return context;
}

static void
never_ends(thag_context *context)
{
    atomic_store(&context->holds, 1);
    context->entered = true;
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
    never_ends(thag_contexts.root);
    never_ends(thag_contexts.system);
    return true;
}

void
thag_contexts_record(bool on)
{
    static uint32_t last_generation;
    last_generation = last_generation == UINT32_MAX ? 1 : last_generation + 1;
    thag_lane_leave();
    atomic_store(&thag_contexts_generation, on ? last_generation : 0);
}

void
thag_contexts_expire_caches(void)
{
    thag_contexts_record(thag_is_recording());
}

void
thag_context_reclaim_chunk(uint32_t id)
{
    uint32_t index = id >> THAG_CHUNK_SHIFT;
    assert(index != THAG_ROOT_ID >> THAG_CHUNK_SHIFT && !thag_contexts.reclaimed[index]);
    thag_context_chunk *chunk = atomic_load(&thag_contexts.chunks[index]);
    int64_t bytes = sizeof(chunk->contexts);
    for (int i = 0; i < THAG_CHUNK_CONTEXTS; i++) {
        assert(chunk->contexts[i].heir != NULL && chunk->contexts[i].frames == 0 && chunk->contexts[i].label == NULL);
        assert(chunk->contexts[i].self_live_bytes == 0 && chunk->contexts[i].timeline.buckets == NULL);
        bytes += thag_context_share(&chunk->contexts[i]) == NULL ? 0 : (int64_t)sizeof(chunk->shares[i]);
    }
    thag_pages_clear(chunk, sizeof(*chunk));
    thag_contexts.reclaimed[index] = true;
    (void)thag_add(&mapped_bytes, -bytes);
}

size_t
thag_contexts_mapped(void)
{
    return (size_t)thag_load(&mapped_bytes);
}
