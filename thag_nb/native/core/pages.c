/* Memory straight from the operating system.

   The dispatcher's own tables must not come from an allocator that it hooks, nor from malloc, whose lock a forked child
   might inherit in a locked state. They come from here. */

#include "thag.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

/* Who is in a hook goes on with the error that it had: a library may ask for it after a free. */
void *
thag_pages_map(size_t bytes)
{
    assert(bytes > 0);
    int error = errno;
    void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) {
        errno = error;
        return NULL;
    }
#ifdef MADV_NOHUGEPAGE
    /* The tables are sparse: one touched entry must cost a small page, not a huge one. */
    (void)madvise(pages, bytes, MADV_NOHUGEPAGE);
    errno = error;
#endif
    return pages;
}

void
thag_pages_unmap(void *pages, size_t bytes)
{
    (void)munmap(pages, bytes);
}

/* What the operating system tells of a page, and the bits that mean that something was ever written there: it is in memory,
   or in swap. What `mincore` calls resident on Linux would leave out what is in swap. */
#ifdef __linux__
typedef uint64_t page_state;
static const page_state IN_USE = UINT64_C(3) << 62;

static bool
states_read(const char *start, size_t count, size_t page_bytes, page_state *states)
{
    /* Opened anew for each look: a child process must not read its parent's. */
    int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return false;
    }
    ssize_t wanted = (ssize_t)(count * sizeof(*states));
    ssize_t got = pread(file, states, (size_t)wanted, (off_t)((uintptr_t)start / page_bytes * sizeof(*states)));
    (void)close(file);
    return got == wanted;
}
#else
typedef char page_state;
static const page_state IN_USE = MINCORE_INCORE | MINCORE_PAGED_OUT;

static bool
states_read(const char *start, size_t count, size_t page_bytes, page_state *states)
{
    return mincore((void *)(uintptr_t)start, count * page_bytes, states) == 0;
}
#endif

static bool
page_holds_something(const char *page, size_t page_bytes)
{
    const _Atomic uint32_t *words = (const void *)page;
    uint32_t all = 0;
    for (size_t i = 0; i < page_bytes / sizeof(*words); i++) {
        all |= atomic_load_explicit(&words[i], memory_order_relaxed);
    }
    return all != 0;
}

void
thag_pages_visit(void *pages, size_t bytes, void (*visit)(void *page, size_t page_bytes, void *data), void *data)
{
    enum { PAGES_AT_ONCE = 1024 };
    page_state states[PAGES_AT_ONCE];
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    size_t count = (bytes + page_bytes - 1) / page_bytes;
    for (size_t first = 0; first < count; first += PAGES_AT_ONCE) {
        size_t some = count - first < PAGES_AT_ONCE ? count - first : PAGES_AT_ONCE;
        char *start = (char *)pages + first * page_bytes;
        bool told = states_read(start, some, page_bytes, states);
        for (size_t i = 0; i < some; i++) {
            char *page = start + i * page_bytes;
            if (told ? (states[i] & IN_USE) != 0 : page_holds_something(page, page_bytes)) {
                visit(page, page_bytes, data);
            }
        }
    }
}

void
thag_pages_clear(void *pages, size_t bytes)
{
#ifdef __linux__
    /* Zeroes private anonymous pages, and needs no new mapping, of which a process may only have so many. Pages that the
       process has locked in memory refuse it. */
    if (madvise(pages, bytes, MADV_DONTNEED) == 0) {
        return;
    }
#endif
    memset(pages, 0, bytes);
#ifdef MADV_FREE
    (void)madvise(pages, bytes, MADV_FREE);     /* zeros either way: those just written, or those of a new page */
#endif
}
