/* Context records: who may be charged.

   A context has two numbers. People know it by its id, which is never used again; owner records and threads without the
   GIL know it by its slot, where its record stands, and which is used again. Ids have 64 bits: they do not run out.

   Slots come in chunks of 4096; behind the records of a chunk lie as many shares for what threads without the GIL do, so that
   none of them ever has to ask for memory. The smallest free slot is taken first, so that the owner table has room for most
   (see owners.c). A record stays where it is until a reset has dropped its context and nothing points there any more (see
   lifecycle.c); the pages of a chunk in which no slot is used are given back.

   All contexts stand in a list by age, which is also by id: a parent always stands before its children.

   Threads remember which context is current (see current.c). The generation says whether what they remember may still be
   used: it moves when recording starts, when a guard is left out of order, and before records are given back. */

#include "contexts.h"

#include "lane.h"

#include <string.h>

thag_context_table thag_contexts;
_Atomic uint32_t thag_contexts_generation;

static _Atomic int64_t mapped_bytes;

thag_share *
thag_context_touch_share(thag_context *context)
{
    thag_share *share = thag_context_share(context);
    if (THAG_UNLIKELY(share == NULL)) {
        thag_context_chunk *chunk = atomic_load(&thag_contexts.chunks[context->slot >> THAG_CHUNK_SHIFT]);
        share = &chunk->shares[context->slot & (THAG_CHUNK_CONTEXTS - 1)];
        atomic_store(&context->share, share);
        (void)thag_add(&mapped_bytes, (int64_t)sizeof(*share));
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

/* ---- slots ---- */

static bool touched[THAG_CHUNKS];       /* since the pages of the chunk were last given back */
static uint32_t first_free_word;        /* no slot is free in those before it */

static bool
slot_is_used(uint32_t slot)
{
    return (thag_contexts.used[slot / 64] >> slot % 64 & 1) != 0;
}

/* The smallest free slot; THAG_SLOTS if there is none. */
static uint32_t
slot_find(void)
{
    while (first_free_word < THAG_SLOTS / 64
           && (thag_slot_is_of_account(first_free_word * 64) || thag_contexts.used[first_free_word] == UINT64_MAX)) {
        first_free_word++;
    }
    if (first_free_word == THAG_SLOTS / 64) {
        return THAG_SLOTS;
    }
    return first_free_word * 64 + (uint32_t)__builtin_ctzll(~thag_contexts.used[first_free_word]);
}

/* True if the chunk that a slot belongs to is mapped now. */
static bool
chunk_touch(uint32_t index)
{
    thag_context_chunk *_Atomic *place = &thag_contexts.chunks[index];
    if (atomic_load(place) == NULL) {
        atomic_store(place, thag_pages_map(sizeof(thag_context_chunk)));
    }
    if (atomic_load(place) != NULL && !touched[index]) {
        touched[index] = true;
        (void)thag_add(&mapped_bytes, (int64_t)sizeof((*place)->contexts));
    }
    return touched[index];
}

static void
slot_use(uint32_t slot)
{
    thag_contexts.used[slot / 64] |= UINT64_C(1) << slot % 64;
    thag_contexts.slots_end = slot >= thag_contexts.slots_end ? slot + 1 : thag_contexts.slots_end;
}

static void
slot_free(uint32_t slot)
{
    assert(slot_is_used(slot));
    thag_contexts.used[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    first_free_word = slot / 64 < first_free_word ? slot / 64 : first_free_word;
}

static bool
chunk_is_unused(uint32_t index)
{
    const uint64_t *words = &thag_contexts.used[index * (THAG_CHUNK_CONTEXTS / 64)];
    uint64_t all = 0;
    for (int i = 0; i < THAG_CHUNK_CONTEXTS / 64; i++) {
        all |= words[i];
    }
    return all == 0;
}

/* Room for one context more in the list by age. False without memory. */
static bool
list_has_room(void)
{
    static uint32_t capacity;
    if (thag_contexts.count < capacity) {
        return true;
    }
    uint32_t more = capacity == 0 ? THAG_CHUNK_CONTEXTS : capacity * 2;
    thag_context **list = thag_pages_map(more * sizeof(*list));
    if (list == NULL) {
        return false;
    }
    if (capacity > 0) {
        memcpy(list, thag_contexts.by_age, capacity * sizeof(*list));
        thag_pages_unmap(thag_contexts.by_age, capacity * sizeof(*list));
    }
    (void)thag_add(&mapped_bytes, (int64_t)((more - capacity) * sizeof(*list)));
    thag_contexts.by_age = list;
    capacity = more;
    return true;
}

bool
thag_contexts_exhausted(void)
{
    return slot_find() == THAG_SLOTS;
}

thag_context *
thag_context_create(thag_context *parent, bool records, PyObject *label)
{
    uint32_t slot = slot_find();
    if (slot == THAG_SLOTS || !chunk_touch(slot >> THAG_CHUNK_SHIFT) || !list_has_room()) {
        return NULL;
    }
    slot_use(slot);
    thag_context *context = thag_context_at(slot);
    context->id = thag_contexts.next_id++;
    context->slot = slot;
    thag_contexts.by_age[thag_contexts.count++] = context;
    atomic_store_explicit(&context->parent, parent, memory_order_relaxed);
    context->depth = parent == NULL ? 0 : parent->depth + 1;
    context->records = records;
    context->label = Py_XNewRef(label);
    context->started_ns = thag_clock_read();
    thag_context_restart_timeline(context, context->started_ns, 0);
    if (parent != NULL) {
        context->path_end_ns = parent->path_end_ns < context->bucket_end_ns ? parent->path_end_ns : context->bucket_end_ns;
    }
    return context;
}

thag_context *
thag_context_by_id(uint64_t id)
{
    uint32_t low = 0, high = thag_contexts.count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (thag_contexts.by_age[middle]->id < id) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low < thag_contexts.count && thag_contexts.by_age[low]->id == id ? thag_contexts.by_age[low] : NULL;
}

void
thag_contexts_skip_ids(uint64_t id)
{
    thag_contexts.next_id = id > thag_contexts.next_id ? id : thag_contexts.next_id;
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
    slot_use(0);        /* in the owner table, it says that there is no record */
    thag_contexts.next_id = THAG_ROOT_ID;
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

/* Nothing points to the context. Its share is zeroed as well. */
static void
context_forget(thag_context *context)
{
    assert(context->heir != NULL && context->frames == 0 && context->holds == 0 && context->label == NULL);
    assert(context->self_live_bytes == 0 && context->timeline.buckets == NULL && context->explained == NULL);
    uint32_t slot = context->slot;
    thag_share *share = thag_context_share(context);
    if (share != NULL) {
        *share = (thag_share){0};
        (void)thag_add(&mapped_bytes, -(int64_t)sizeof(*share));
    }
    *context = (thag_context){0};
    slot_free(slot);
}

static void
empty_chunks_give_back(void)
{
    for (uint32_t index = 0; index <= (thag_contexts.slots_end - 1) >> THAG_CHUNK_SHIFT; index++) {
        if (touched[index] && chunk_is_unused(index)) {
            touched[index] = false;
            (void)thag_add(&mapped_bytes, -(int64_t)sizeof(thag_contexts.chunks[index]->contexts));
            thag_pages_clear(thag_contexts.chunks[index], sizeof(thag_context_chunk));
        }
    }
}

void
thag_contexts_reclaim(bool (*is_unused)(const thag_context *context))
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < thag_contexts.count; i++) {
        thag_context *context = thag_contexts.by_age[i];
        if (is_unused(context)) {
            context_forget(context);
        }
        else {
            thag_contexts.by_age[kept++] = context;
        }
    }
    thag_contexts.count = kept;
    empty_chunks_give_back();
    while (!slot_is_used(thag_contexts.slots_end - 1)) {
        thag_contexts.slots_end--;
    }
}

size_t
thag_contexts_mapped(void)
{
    return (size_t)thag_load(&mapped_bytes);
}
