/* What time it is, for timelines and durations; and what was earlier, for the order of events on all threads. */

#ifndef THAG_CLOCK_H
#define THAG_CLOCK_H

#include "thag.h"

/* The processor's counter, where that is what the system takes for its own clock. */
#if defined(__linux__) && defined(__x86_64__)
#define THAG_HAS_COUNTER 1
#else
#define THAG_HAS_COUNTER 0
#endif

/* Monotonic nanoseconds. Any thread; about 25 ns. */
uint64_t thag_clock_read(void);

/* Finds out whether the counter may be read. Once, before anybody asks for the order. */
void thag_clock_look_for_counter(void);

/* Whether it may; never changes afterwards. */
extern THAG_HIDDEN bool thag_clock_has_counter;

/* A number that is larger on whatever thread it is read later, in a unit of its own: not read before what comes before has been
   done. Any thread. While the computer sleeps, the counter may begin anew. */
static inline uint64_t
thag_order_read(void)
{
#if THAG_HAS_COUNTER
    if (THAG_LIKELY(thag_clock_has_counter)) {
        __builtin_ia32_lfence();
        return __builtin_ia32_rdtsc();
    }
#endif
    return thag_clock_read();
}

/* The same, and nothing that comes after has been done yet. */
static inline uint64_t
thag_order_read_first(void)
{
    uint64_t now = thag_order_read();
#if THAG_HAS_COUNTER
    __builtin_ia32_lfence();
#endif
    return now;
}

#endif
