/* What time it is, for timelines and durations. */

#ifndef THAG_CLOCK_H
#define THAG_CLOCK_H

#include "thag.h"

/* Monotonic nanoseconds. Any thread; about 25 ns. */
uint64_t thag_clock_read(void);

#endif
