/* The monotonic clock. No thread ticks: a second thread would make os.fork() warn in programs that have only one. */

#include "clock.h"

#include <time.h>

uint64_t
thag_clock_read(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
