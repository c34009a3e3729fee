/* The dynamic linker after a fork.

   Whoever reads the linker's list of objects, be it we or what unwinds the stack for an exception of C++, has a lock meanwhile. If
   that was another thread at the moment of a fork, the child's copy of the lock is never given back, and a child that only wanted
   to open a task would wait for ever. The C library cannot be asked whether the lock is free. So in a child a thread is sent
   ahead: if it comes back, so does everybody. That is once, and only when the list is wanted. */

#define _GNU_SOURCE

#include "linker.h"

#if defined(__linux__) && defined(__GLIBC__)

#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

static struct {
    bool in_doubt;
    bool is_asked;
    int naps_left;
    pthread_t thread;
    _Atomic bool answered;
} linker;                       /* GIL, but for the last */

static int
list_leave(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)info;
    (void)size;
    (void)data;
    return 1;
}

static void *
list_read(void *unused)
{
    (void)dl_iterate_phdr(list_leave, NULL);
    atomic_store(&linker.answered, true);
    return unused;
}

/* Signals are for the others: it may be there until the process ends. */
static bool
thread_send(void)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    bool is_sent = pthread_create(&linker.thread, NULL, list_read, NULL) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return is_sent;
}

bool
thag_linker_answers(void)
{
    enum { NAP_NS = 100 * 1000 };
    if (!linker.in_doubt) {
        return true;
    }
    linker.is_asked = linker.is_asked || thread_send();
    while (linker.is_asked && !atomic_load(&linker.answered) && linker.naps_left-- > 0) {
        (void)nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
    if (linker.is_asked && atomic_load(&linker.answered)) {
        (void)pthread_join(linker.thread, NULL);
        linker.in_doubt = false;
    }
    return !linker.in_doubt;
}

void
thag_linker_after_fork(void)
{
    enum { NAPS = 1000 };
    linker.in_doubt = true;
    linker.is_asked = false;
    linker.naps_left = NAPS;
    atomic_store(&linker.answered, false);
}

#else

bool
thag_linker_answers(void)
{
    return true;
}

void
thag_linker_after_fork(void)
{
}

#endif
