/* Libraries that are not ready at once: before they had the GIL, before a second, never; and a thread that loads them. */

#include <Python.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(NEVER_READY)

extern int nobody_has_this(void);

int
call(void)
{
    return nobody_has_this();
}

#elif defined(NEEDS_GIL)

extern _Atomic int has_begun;

__attribute__((constructor)) static void
become_ready(void)
{
    atomic_store(&has_begun, 1);
    PyGILState_STATE state = PyGILState_Ensure();
    PyGILState_Release(state);
}

void *
take(size_t size)
{
    return malloc(size);
}

#elif defined(SLOWLY_LINKED)

/* Called by the linker in the middle of its work: nothing may be called yet. */
static void *
resolve(void)
{
    struct timespec pause = {.tv_sec = 1};
    long result = 35;           /* nanosleep */
    __asm__ volatile("syscall" : "+a"(result) : "D"(&pause), "S"(NULL) : "rcx", "r11", "memory");
    return NULL;
}

void slowly_found(void) __attribute__((ifunc("resolve")));
void (*const found)(void) = slowly_found;

#else

_Atomic int has_begun;

static void *
load(void *path)
{
    void *library = dlopen(path, RTLD_NOW);
    free(path);
    return library;
}

/* Has a thread load the library. */
int
load_without_waiting(char *path)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, load, strdup(path)) != 0 || pthread_detach(thread) != 0 ? -1 : 0;
}

/* Returns while it does. Whoever calls it keeps the GIL. */
int
load_meanwhile(char *path)
{
    int error = load_without_waiting(path);
    while (error == 0 && atomic_load(&has_begun) == 0) {
        usleep(1000);
    }
    return error;
}

#endif
