/* The monotonic clock. No thread ticks: a second thread would make os.fork() warn in programs that have only one.

   Events without the GIL want to know no more than which of them was over first, which the processor's counter tells in a
   fraction of the time. Not every counter may be trusted: those of two processors may differ, or one may stop now and then.
   But the system knows, and takes it for its own clock only if it is the same on all processors, so we do what it does. */

#include "clock.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

bool thag_clock_has_counter;

uint64_t
thag_clock_read(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#if THAG_HAS_COUNTER
static bool
counter_is_clock(void)
{
    static const char counter[] = "tsc\n";
    char source[sizeof(counter)] = "";
    int file = open("/sys/devices/system/clocksource/clocksource0/current_clocksource", O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return false;
    }
    ssize_t got = read(file, source, sizeof(source));
    (void)close(file);
    return got == (ssize_t)strlen(counter) && strcmp(source, counter) == 0;
}
#else
static bool
counter_is_clock(void)
{
    return false;
}
#endif

void
thag_clock_look_for_counter(void)
{
    static bool has_looked;
    if (!has_looked) {
        thag_clock_has_counter = counter_is_clock();
        has_looked = true;
    }
}
