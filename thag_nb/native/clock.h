/* What time it is, for timelines and durations. */

#ifndef THAG_CLOCK_H
#define THAG_CLOCK_H

#include "thag.h"

/* Monotonic nanoseconds. Any thread; about 25 ns. */
uint64_t thag_clock_read(void);

enum {
    THAG_CLOCK_EVENTS = 16,     /* small events that may share one reading of the clock */
    THAG_CLOCK_BYTES = 4096,    /* an event of this size or more always reads it */
};

/* Only the thread that holds the GIL may touch this: the last reading, and how many more events may use it. */
typedef struct {
    uint64_t now_ns;
    int events_left;
} thag_clock;

extern thag_clock thag_shared_clock;

/* The time of an event of `size` bytes, in the attached lane. Reading the clock costs more than the rest of the
   record, so up to THAG_CLOCK_EVENTS small events share a reading: a timeline may draw those, less than 64 KiB
   together, too early. Guards and large events always read it. */
static inline uint64_t
thag_clock_of_event(size_t size)
{
    thag_clock *clock = &thag_shared_clock;
    if (THAG_UNLIKELY(--clock->events_left <= 0 || size >= THAG_CLOCK_BYTES)) {
        clock->now_ns = thag_clock_read();
        clock->events_left = THAG_CLOCK_EVENTS;
    }
    return clock->now_ns;
}

#endif
