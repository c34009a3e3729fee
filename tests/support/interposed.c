/* Stands between the native core and the C library, preloaded by tests that decide what time it is and what happens in
   the middle of a look at the pages in memory. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

/* ---- the clock ---- */

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
    if (id == CLOCK_MONOTONIC && clock_ns != 0) {
        *now = (struct timespec){.tv_sec = clock_ns / 1000000000, .tv_nsec = clock_ns % 1000000000};
        return 0;
    }
    if (real == NULL) {
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    }
    return real(id, now);
}

/* ---- events of the raw domain that Python takes no part in ---- */

typedef struct {
    int64_t wait_ns;
    uint64_t slot;
    uint64_t size;
} step;

static void *
raw_malloc(size_t size)
{
    return ((void *(*)(size_t))dlsym(RTLD_DEFAULT, "PyMem_RawMalloc"))(size);
}

static void
raw_free(void *block)
{
    ((void (*)(void *))dlsym(RTLD_DEFAULT, "PyMem_RawFree"))(block);
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

/* ---- in the middle of a look at the pages in memory ---- */

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

int
mincore(void *start, size_t bytes, unsigned char *states)
{
    if (pending) {
        pending = 0;
        on_native_thread(meanwhile, 1);
    }
    return ((int (*)(void *, size_t, unsigned char *))dlsym(RTLD_NEXT, "mincore"))(start, bytes, states);
}
