/* A context's live bytes over time, in bounded memory. */

#ifndef THAG_TIMELINE_H
#define THAG_TIMELINE_H

#include "thag.h"

enum {
    THAG_TIMELINE_FIRST_SHIFT = 20,     /* a bucket starts 2**20 ns, about a millisecond, wide */
    THAG_TIMELINE_BUCKETS = 1024,       /* at most, of 40 bytes each: 40 KiB for one context */
};

/* One closed stretch of time in which something happened. */
typedef struct {
    uint64_t start_ns;
    int64_t low_bytes;
    int64_t high_bytes;
    int64_t live_bytes;         /* at the end of the bucket, inclusive like low and high */
    int64_t self_live_bytes;    /* at the end of the bucket */
} thag_bucket;

/* The closed buckets; the open one is kept in the context, where the hot path compares with it. Written only in the
   attached lane. */
typedef struct {
    thag_bucket *buckets;
    uint32_t count;
    uint32_t capacity;
    uint32_t shift;             /* log2 of a bucket's width in nanoseconds */
} thag_timeline;

/* Empties the timeline and gives its memory back for the next one. Attached lane only. */
void thag_timeline_clear(thag_timeline *timeline);

/* Appends a bucket, widening all of them when there are too many. False when there is no memory for it: nothing is
   changed then, and the caller lets the open bucket run on. Attached lane only. */
bool thag_timeline_append(thag_timeline *timeline, const thag_bucket *bucket);

/* Bytes mapped for the buckets of all contexts. */
size_t thag_timeline_mapped(void);

/* How many buckets were left open longer, for lack of memory: their stretch of time is drawn coarser. GIL. */
int64_t thag_timeline_coarser(void);

#endif
