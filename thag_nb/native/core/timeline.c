/* Timelines: closed buckets in arrays that double up to THAG_TIMELINE_BUCKETS and then widen.

   A bucket covers the nanoseconds [k << shift, (k + 1) << shift) of the monotonic clock and is stored only if something
   happened in it. When the array is full, the shift grows by one and neighbours that now share a bucket merge: the low
   is the lower one, the high the higher one, the last values the later ones. Nothing that was highest or lowest is ever
   lost, and the cost of a merge is paid once per doubling of the time covered.

   The more memory all timelines take together, the fewer buckets a single one may grow to: ten contexts are drawn finely,
   ten thousand coarsely.

   Arrays come in powers of two from chunks of pages, and are recycled by size. Only the holder of the GIL gets here,
   so there is nothing to synchronise. */

#include "timeline.h"

#include <string.h>

enum {
    FIRST_CAPACITY = 4,
    SIZE_CLASSES = 9,
    CHUNK_BYTES = 1 << 20,
    PLENTY_BYTES = 32 << 20,    /* mapped in all, up to which every timeline may have all its buckets */
    TIGHT_BYTES = 128 << 20,    /* and from which each has few */
};

static struct {
    thag_bucket *recycled[SIZE_CLASSES];    /* linked through the first word of each array */
    char *chunk;
    size_t chunk_left;
    size_t mapped_bytes;
    int64_t coarser;            /* buckets that found no room */
} arena;

static unsigned
size_class(uint32_t capacity)
{
    unsigned class = 0;
    while ((uint32_t)FIRST_CAPACITY << class < capacity) {
        class++;
    }
    assert(class < SIZE_CLASSES && (uint32_t)FIRST_CAPACITY << class == capacity);
    return class;
}

static void
array_recycle(thag_bucket *array, uint32_t capacity)
{
    unsigned class = size_class(capacity);
    memcpy(array, &arena.recycled[class], sizeof(thag_bucket *));
    arena.recycled[class] = array;
}

static thag_bucket *
array_take(uint32_t capacity)
{
    unsigned class = size_class(capacity);
    thag_bucket *array = arena.recycled[class];
    if (array != NULL) {
        memcpy(&arena.recycled[class], array, sizeof(thag_bucket *));
        return array;
    }
    size_t bytes = capacity * sizeof(thag_bucket);
    if (arena.chunk_left < bytes) {
        char *chunk = thag_pages_map(CHUNK_BYTES);
        if (chunk == NULL) {
            return NULL;
        }
        arena.chunk = chunk;
        arena.chunk_left = CHUNK_BYTES;
        arena.mapped_bytes += CHUNK_BYTES;
    }
    array = (thag_bucket *)(void *)arena.chunk;
    arena.chunk += bytes;
    arena.chunk_left -= bytes;
    return array;
}

static uint32_t
capacity_limit(void)
{
    if (arena.mapped_bytes < PLENTY_BYTES) {
        return THAG_TIMELINE_BUCKETS;
    }
    return arena.mapped_bytes < TIGHT_BYTES ? THAG_TIMELINE_BUCKETS / 8 : THAG_TIMELINE_BUCKETS / 64;
}

static bool
array_grow(thag_timeline *timeline)
{
    uint32_t capacity = timeline->capacity == 0 ? FIRST_CAPACITY : timeline->capacity * 2;
    thag_bucket *array = array_take(capacity);
    if (array == NULL) {
        return false;
    }
    if (timeline->buckets != NULL) {
        memcpy(array, timeline->buckets, timeline->count * sizeof(thag_bucket));
        array_recycle(timeline->buckets, timeline->capacity);
    }
    timeline->buckets = array;
    timeline->capacity = capacity;
    return true;
}

static void
bucket_merge(thag_bucket *bucket, const thag_bucket *later)
{
    bucket->low_bytes = later->low_bytes < bucket->low_bytes ? later->low_bytes : bucket->low_bytes;
    bucket->high_bytes = later->high_bytes > bucket->high_bytes ? later->high_bytes : bucket->high_bytes;
    bucket->live_bytes = later->live_bytes;
    bucket->self_live_bytes = later->self_live_bytes;
}

static void
timeline_widen(thag_timeline *timeline)
{
    assert(timeline->count > 0 && timeline->shift < 63);
    timeline->shift++;
    uint32_t last_index = 0;
    for (uint32_t i = 1; i < timeline->count; i++) {
        thag_bucket *last = &timeline->buckets[last_index];
        const thag_bucket *next = &timeline->buckets[i];
        if (last->start_ns >> timeline->shift == next->start_ns >> timeline->shift) {
            bucket_merge(last, next);
        }
        else {
            timeline->buckets[++last_index] = *next;
        }
    }
    timeline->count = last_index + 1;
}

void
thag_timeline_clear(thag_timeline *timeline)
{
    if (timeline->buckets != NULL) {
        array_recycle(timeline->buckets, timeline->capacity);
    }
    *timeline = (thag_timeline){.shift = THAG_TIMELINE_FIRST_SHIFT};
}

bool
thag_timeline_append(thag_timeline *timeline, const thag_bucket *bucket)
{
    assert(bucket->low_bytes <= bucket->live_bytes && bucket->live_bytes <= bucket->high_bytes);
    assert(timeline->count == 0 || timeline->buckets[timeline->count - 1].start_ns <= bucket->start_ns);
    while (timeline->count == timeline->capacity && timeline->capacity >= capacity_limit()) {
        timeline_widen(timeline);
    }
    if (timeline->count > 0) {
        thag_bucket *last = &timeline->buckets[timeline->count - 1];
        if (last->start_ns >> timeline->shift == bucket->start_ns >> timeline->shift) {
            bucket_merge(last, bucket);
            return true;
        }
    }
    if (timeline->count == timeline->capacity && !array_grow(timeline)) {
        arena.coarser++;
        return false;
    }
    assert(timeline->count < timeline->capacity && timeline->capacity <= THAG_TIMELINE_BUCKETS);
    timeline->buckets[timeline->count++] = *bucket;
    return true;
}

int64_t
thag_timeline_coarser(void)
{
    return arena.coarser;
}

size_t
thag_timeline_mapped(void)
{
    return arena.mapped_bytes;
}
