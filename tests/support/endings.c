/* Threads of a library that allocate at the ends of things: in the destructor of a thread's own data, and for as long as the
   process lives. */

#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

static pthread_key_t key;
static void *_Atomic last;

static void
at_the_end(void *block)
{
    free(block);
    atomic_store(&last, malloc(5120));
    void *more = malloc(64);
    free(realloc(more, 100000));
}

static void *
live_shortly(void *unused)
{
    (void)pthread_setspecific(key, malloc(1024));
    return unused;
}

/* A thread that allocates when it is over; its last block. */
void *
end_a_thread(void)
{
    pthread_t thread;
    if (pthread_key_create(&key, at_the_end) != 0 || pthread_create(&thread, NULL, live_shortly, NULL) != 0) {
        return NULL;
    }
    (void)pthread_join(thread, NULL);
    (void)pthread_key_delete(key);
    return atomic_exchange(&last, NULL);
}

void
give_back(void *block)
{
    free(block);
}

static void *
live_on(void *unused)
{
    for (size_t i = 0;; i++) {
        void *volatile block = malloc(16 + i % 4096);
        free(realloc(block, 32 + i % 8192));
    }
    return unused;
}

/* Threads that allocate and never end. */
int
never_end(int threads)
{
    for (int i = 0; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, live_on, NULL) != 0 || pthread_detach(thread) != 0) {
            return -1;
        }
    }
    return 0;
}

static int
see(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)info;
    (void)size;
    for (volatile int i = 0; i < 200; i++) {
    }
    return data != NULL;
}

static void *
look(void *unused)
{
    for (;;) {
        (void)dl_iterate_phdr(see, unused);
    }
    return unused;
}

/* A thread that always looks at what is loaded, as it is done to unwind the stack for an exception. */
int
never_stop_looking(void)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, look, NULL) != 0 || pthread_detach(thread) != 0 ? -1 : 0;
}
