/* A library that asks the C library for memory in every way, through slots. */

#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void *take(size_t size) { return malloc(size); }
void *take_zeros(size_t count, size_t size) { return calloc(count, size); }
void *take_aligned(size_t alignment, size_t size) { void *block = NULL; return posix_memalign(&block, alignment, size) ? NULL : block; }
void *take_aligned_c11(size_t alignment, size_t size) { return aligned_alloc(alignment, size); }
void *take_memalign(size_t alignment, size_t size) { return memalign(alignment, size); }
void *take_valloc(size_t size) { return valloc(size); }
void *take_pvalloc(size_t size) { return pvalloc(size); }
typedef void *taker(size_t size);
taker *const takers[] = {malloc, valloc};
void *take_by_address(size_t size) { return takers[0](size); }
void *resize(void *block, size_t size) { return realloc(block, size); }
void *resize_array(void *block, size_t count, size_t size) { return reallocarray(block, count, size); }
void *copy(const char *text) { return strdup(text); }
void give_back(void *block) { free(block); }
void *map(size_t size) { return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }
void *map_reserved(size_t size) { return mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }
void *map_over(void *start, size_t size)
{
    return mmap(start, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}
void *reserve_over(void *start, size_t size)
{
    return mmap(start, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}
void *remap(void *start, size_t size, size_t new_size) { return mremap(start, size, new_size, MREMAP_MAYMOVE); }
void *remap_part(void *start, size_t size, size_t new_size, size_t flags) { return mremap(start, size, new_size, (int)flags); }
void *remap_to(void *start, size_t size, size_t new_size, void *place)
{
    return mremap(start, size, new_size, MREMAP_MAYMOVE | MREMAP_FIXED, place);
}
void *map_file(size_t file, size_t size) { return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, (int)file, 0); }
int unmap(void *start, size_t size) { return munmap(start, size); }

static void *churn_alone(void *rounds)
{
    for (size_t i = 0; i < *(size_t *)rounds; i++) {
        void *volatile block = malloc(2000 + i % 8 * 16);
        free(block);
    }
    return NULL;
}

/* Threads of its own take and give back the same few sizes, so that one is handed what another has just freed. */
int churn(size_t rounds)
{
    enum { THREADS = 3 };
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, churn_alone, &rounds) != 0) {
            return -1;
        }
    }
    for (int i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    return 0;
}

static struct {
    pthread_t thread;
    _Atomic size_t size;        /* 0: nothing is asked for */
    void *block;
    _Atomic int ends;
} worker;

static void *worker_run(void *data)
{
    (void)data;
    while (!worker.ends) {
        if (worker.size != 0) {
            worker.block = malloc(worker.size);
            worker.size = 0;
        }
        usleep(100);
    }
    return NULL;
}

/* A thread of its own, always the same one, takes a block whenever it is asked. */
int worker_begin(void)
{
    worker.ends = 0;
    return pthread_create(&worker.thread, NULL, worker_run, NULL);
}

void *take_by_worker(size_t size)
{
    worker.size = size;
    while (worker.size != 0) {
        usleep(100);
    }
    return worker.block;
}

void worker_end(void)
{
    worker.ends = 1;
    pthread_join(worker.thread, NULL);
}

typedef struct {
    size_t rounds;
    void (*called)(void);
} caller;

static void *caller_run(void *data)
{
    const caller *run = data;
    size_t few = 3;
    for (size_t i = 0; i < run->rounds; i++) {
        churn_alone(&few);
        run->called();
        churn_alone(&few);
    }
    return NULL;
}

/* Two threads of its own take and give back blocks, and call a function in turns with that. */
void call_back(size_t rounds, void (*called)(void))
{
    pthread_t threads[2];
    caller run = {rounds, called};
    for (int i = 0; i < 2; i++) {
        pthread_create(&threads[i], NULL, caller_run, &run);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
}
