/* Stands between the native core and the C library, preloaded by tests that decide what time it is, what the system tells of
   pages and does with them, and what happens in the middle of a look at them. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void late_finish(void);
static void meeting_wait(void);
static void merger_wait(void);

/* ---- the clock ---- */

/* Where the core may read the processor's counter, it does not ask for the time at the end of an event without the GIL. */
static int
hides_counter(void)
{
    return getenv("INTERPOSED_COUNTER") == NULL;
}

static int64_t clock_ns;    /* 0: as it really is */

void
clock_set(int64_t now_ns)
{
    clock_ns = now_ns;
}

int
clock_gettime(clockid_t id, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    late_finish();
    meeting_wait();
    merger_wait();
    if (id == CLOCK_MONOTONIC && clock_ns != 0) {
        *now = (struct timespec){.tv_sec = clock_ns / 1000000000, .tv_nsec = clock_ns % 1000000000};
        return 0;
    }
    if (real == NULL) {
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    }
    return real(id, now);
}

/* ---- events of the raw domain that Python takes no part in, or of the native one ---- */

static int
is_native(void)
{
    static int native = -1;
    if (native < 0) {
        native = getenv("INTERPOSED_NATIVE") != NULL;
    }
    return native;
}

typedef struct {
    int64_t wait_ns;
    uint64_t slot;
    uint64_t size;
} step;

static void *
raw_malloc(size_t size)
{
    static void *(*allocate)(size_t);
    if (allocate == NULL) {
        allocate = (void *(*)(size_t))dlsym(RTLD_DEFAULT, "PyMem_RawMalloc");
    }
    return is_native() ? malloc(size) : allocate(size);
}

static void
raw_free(void *block)
{
    static void (*release)(void *);
    if (release == NULL) {
        release = (void (*)(void *))dlsym(RTLD_DEFAULT, "PyMem_RawFree");
    }
    (is_native() ? free : release)(block);
}

/* Each step waits, by a clock that stands still otherwise, frees what is in its slot and, if it has a size, puts a block
   of that size there. */
void
play(const step *steps, size_t count, void **slots)
{
    for (size_t i = 0; i < count; i++) {
        clock_ns += steps[i].wait_ns;
        void **slot = &slots[steps[i].slot];
        if (*slot != NULL) {
            raw_free(*slot);
        }
        *slot = steps[i].size == 0 ? NULL : raw_malloc(steps[i].size);
    }
}

static void *
pair(void *size)
{
    raw_free(raw_malloc((size_t)size));
    return NULL;
}

/* Takes a block and gives it back, so often. */
void
repeat(size_t size, int times)
{
    for (int i = 0; i < times; i++) {
        (void)pair((void *)size);
    }
}

/* Takes a block and gives it back, again and again, and counts how often, until it shall stop. */
void
churn(size_t size, _Atomic uint64_t *rounds, const _Atomic uint64_t *stop)
{
    while (*stop == 0) {
        raw_free(raw_malloc(size));
        (*rounds)++;
    }
}

/* ---- threads that Python never saw ---- */

typedef struct {
    void (*work)(int round);
    int rounds;
} job;

static void *
job_run(void *data)
{
    const job *run = data;
    for (int round = 0; round < run->rounds; round++) {
        run->work(round);
    }
    return NULL;
}

/* Calls `work` so often on one native thread, and waits for it. To be called without the GIL. */
void
on_native_thread(void (*work)(int round), int rounds)
{
    pthread_t thread;
    job run = {work, rounds};
    if (pthread_create(&thread, NULL, job_run, &run) == 0) {
        pthread_join(thread, NULL);
    }
}

/* Native threads come one after the other; each takes a block, gives it back, and is gone. To be called without the GIL. */
void
come_and_go(int threads, size_t size)
{
    for (int i = 0; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, pair, (void *)size) == 0) {
            pthread_join(thread, NULL);
        }
    }
}

typedef struct {
    size_t size;
    _Atomic uint64_t *rounds;
    const _Atomic uint64_t *stop;
} churning;

static void *
churning_run(void *data)
{
    const churning *run = data;
    churn(run->size, run->rounds, run->stop);
    return NULL;
}

/* The same as `churn` on a native thread, which it waits for. To be called without the GIL. */
void
churn_natively(size_t size, _Atomic uint64_t *rounds, const _Atomic uint64_t *stop)
{
    pthread_t thread;
    churning run = {size, rounds, stop};
    if (pthread_create(&thread, NULL, churning_run, &run) == 0) {
        pthread_join(thread, NULL);
    }
}

/* ---- events of several threads, in an order that is known ---- */

typedef struct {
    uint64_t thread;
    uint64_t slot;
    uint64_t size;
} turn;

static pthread_barrier_t meeting;
static _Atomic int met;
static _Thread_local int meets;

/* So many threads are going to meet. */
void
meeting_prepare(unsigned threads)
{
    pthread_barrier_init(&meeting, NULL, threads);
}

/* How many have met. */
int
arrived(void)
{
    return met;
}

static void
meeting_wait(void)
{
    if (meets) {
        meets = 0;
        pthread_barrier_wait(&meeting);
    }
}

/* ThreadSanitizer knows nothing of what this file's own atomics order, as it is compiled without: it is told, if it is there. */
void __tsan_acquire(void *address) __attribute__((weak));
void __tsan_release(void *address) __attribute__((weak));

/* Waits until it is the thread's turn; which one, or `count` when there are no more. */
static uint64_t
turn_wait(uint64_t thread, const turn *turns, size_t count, _Atomic uint64_t *next)
{
    uint64_t now;
    while ((now = *next) < count && turns[now].thread != thread) {
        sched_yield();
    }
    if (__tsan_acquire != NULL) {
        __tsan_acquire((void *)next);
    }
    return now;
}

static void
turn_pass(_Atomic uint64_t *next, uint64_t now)
{
    if (__tsan_release != NULL) {
        __tsan_release((void *)next);
    }
    *next = now + 1;
}

/* Takes the turns of one thread: frees what is in the slot and, if the turn has a size, puts a block there. */
void
take_turns(uint64_t thread, const turn *turns, size_t count, _Atomic uint64_t *next, void **slots)
{
    for (uint64_t now; (now = turn_wait(thread, turns, count, next)) < count;) {
        void **slot = &slots[turns[now].slot];
        if (*slot != NULL) {
            raw_free(*slot);
        }
        *slot = turns[now].size == 0 ? NULL : raw_malloc(turns[now].size);
        turn_pass(next, now);
    }
}

/* The same of a thread without the GIL, that has met the others before, all in the middle of an event: so their logs differ.
   Where they cannot be stopped there, they are in each other's way for a while, which has the same effect, as good as always. */
void
take_turns_of_own_log(uint64_t thread, const turn *turns, size_t count, _Atomic uint64_t *next, void **slots)
{
    if (hides_counter()) {
        meets = 1;
        pair((void *)1);
    }
    else {
        pthread_barrier_wait(&meeting);
        repeat(1, 20000);
    }
    met++;
    take_turns(thread, turns, count, next, slots);
}

/* ---- a thread that stops in the middle of a merge ---- */

static struct {
    pthread_t thread;
    int events;
    size_t size;
    void *block;                /* that it keeps */
    _Atomic int is_there;
    int has_merged;
    _Atomic int may_go_on;
} merger;

static _Thread_local int stops_at_the_clock, looks_at_the_clock;

static void
merger_wait(void)
{
    looks_at_the_clock++;
    if (stops_at_the_clock) {
        stops_at_the_clock = 0;
        merger.is_there = 1;
        while (!merger.may_go_on) {
            usleep(100);
        }
    }
}

static void *
merger_run(void *data)
{
    (void)data;
    merger.block = raw_malloc(merger.size);
    void *block = NULL;
    for (int event = 1; event < merger.events; event++) {
        if (block == NULL) {
            block = raw_malloc(merger.size);
        }
        else {
            raw_free(block);
            block = NULL;
        }
    }
    looks_at_the_clock = 0;
    stops_at_the_clock = 1;
    if (block == NULL) {
        block = raw_malloc(merger.size);
    }
    else {
        raw_free(block);
        block = NULL;
    }
    merger.has_merged = looks_at_the_clock == 2;    /* for the merge, and at the end of the event */
    if (block != NULL) {
        raw_free(block);
    }
    return NULL;
}

/* A native thread is in so many events; the next one shall begin with a merge, in which it is kept waiting. To be called
   without the GIL. */
void
merger_begin(int events, size_t size)
{
    merger.events = events;
    merger.size = size;
    if (pthread_create(&merger.thread, NULL, merger_run, NULL) == 0) {
        while (merger.is_there == 0) {
            usleep(100);
        }
    }
}

/* Lets it go on, and waits for its end; the block that it kept, or NULL if it was not in a merge. To be called without the
   GIL. */
void *
merger_end(void)
{
    merger.may_go_on = 1;
    pthread_join(merger.thread, NULL);
    return merger.has_merged ? merger.block : NULL;
}

/* ---- in the middle of a look at the pages in use ---- */

static int pending;
static void *taken;

static void
meanwhile(int round)
{
    (void)round;
    taken = raw_malloc(1000);
}

/* At the next look, a thread without the GIL allocates. */
void
allocate_meanwhile(void)
{
    pending = 1;
}

/* The block that it was given, if it came to that. */
void *
allocated_meanwhile(void)
{
    return taken;
}

/* ---- an event that is late ---- */

static struct {
    pthread_t thread;
    size_t size;
    void *block;
    _Atomic int waits;          /* inside the event, for the table to grow */
    _Atomic int may_go_on;
    int may_go_on_at_the_next_look_at_the_clock;
} late;

static _Thread_local int is_late;

static void *
late_run(void *data)
{
    (void)data;
    is_late = 1;
    late.block = raw_malloc(late.size);
    return NULL;
}

/* A native thread takes a block, so large that the core must map memory to record it, and is kept waiting there. */
void
late_begin(size_t size)
{
    late.size = size;
    if (pthread_create(&late.thread, NULL, late_run, NULL) == 0) {
        while (!late.waits) {
            usleep(100);
        }
    }
}

static void
late_finish(void)
{
    if (late.may_go_on_at_the_next_look_at_the_clock) {
        late.may_go_on_at_the_next_look_at_the_clock = 0;
        late.may_go_on = 1;
        pthread_join(late.thread, NULL);
    }
}

static void
late_wait(void)
{
    if (is_late) {
        late.waits = 1;
        while (!late.may_go_on) {
            usleep(100);
        }
    }
}

/* Calls a function of Python, which looks at the clock; the event is over before it sees what time it is. */
void *
late_finish_within(void *function)
{
    late.may_go_on_at_the_next_look_at_the_clock = 1;
    return ((void *(*)(void *))dlsym(RTLD_DEFAULT, "PyObject_CallNoArgs"))(function);
}

void *
late_block(void)
{
    return late.block;
}

/* ---- what the system tells of pages, and does with them ---- */

typedef enum {
    TELLING,            /* as it is */
    HALF_SWAPPED,       /* every other page in memory is told to be in swap */
    SILENT,             /* there is nothing to read */
} telling;

static telling told = TELLING;
static int pagemap = -1;
static int locked;
static int mappings_left = 1;

void
pages_tell(telling how)
{
    told = how;
}

/* From now on all pages are locked in memory: none is thrown away. */
void
pages_lock(void)
{
    locked = 1;
}

/* From now on no more memory is mapped. */
void
mappings_end(void)
{
    mappings_left = 0;
}

int
open64(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    int is_pagemap = strcmp(path, "/proc/self/pagemap") == 0;
    int is_clocksource = strstr(path, "/current_clocksource") != NULL;
    if ((is_pagemap && told == SILENT) || (is_clocksource && hides_counter())) {
        errno = ENOENT;
        return -1;
    }
    int file = openat(AT_FDCWD, path, flags, mode);
    if (is_pagemap) {
        pagemap = file;
    }
    return file;
}

static void
swap_half(uint64_t *pages, size_t count, off64_t first)
{
    const uint64_t in_memory = UINT64_C(1) << 63, in_swap = UINT64_C(1) << 62;
    for (size_t i = 0; i < count; i++) {
        if (((uint64_t)first + i) % 2 == 0 && pages[i] & in_memory) {
            pages[i] ^= in_memory | in_swap;
        }
    }
}

ssize_t
pread64(int file, void *buffer, size_t bytes, off64_t offset)
{
    if (file == pagemap && pending) {
        pending = 0;
        on_native_thread(meanwhile, 1);
    }
    ssize_t got = syscall(SYS_pread64, file, buffer, bytes, offset);
    if (file == pagemap && told == HALF_SWAPPED && got > 0) {
        swap_half(buffer, (size_t)got / sizeof(uint64_t), offset / (off64_t)sizeof(uint64_t));
    }
    return got;
}

int
madvise(void *start, size_t bytes, int advice)
{
    if (locked && advice == MADV_DONTNEED) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_madvise, start, bytes, advice);
}

void *
mmap64(void *start, size_t bytes, int protection, int flags, int file, off64_t offset)
{
    late_wait();
    if (!mappings_left) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, start, bytes, protection, flags, file, offset);
}
