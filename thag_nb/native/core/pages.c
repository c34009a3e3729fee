/* Memory straight from the operating system.

   The dispatcher's own tables must not come from an allocator that it hooks, nor from malloc, whose lock a forked child
   might inherit in a locked state. They come from here. */

#include "thag.h"

#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

void *
thag_pages_map(size_t bytes)
{
    assert(bytes > 0);
    void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) {
        return NULL;
    }
#ifdef MADV_NOHUGEPAGE
    /* The tables are sparse: one touched entry must cost a small page, not a huge one. */
    (void)madvise(pages, bytes, MADV_NOHUGEPAGE);
#endif
    return pages;
}

void
thag_pages_unmap(void *pages, size_t bytes)
{
    (void)munmap(pages, bytes);
}

#ifdef __APPLE__
typedef char page_state;
#else
typedef unsigned char page_state;
#endif

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
        bool unknown = mincore(start, some * page_bytes, states) != 0;
        for (size_t i = 0; i < some; i++) {
            if (unknown || states[i] & 1) {
                visit(start + i * page_bytes, page_bytes, data);
            }
        }
    }
}

void
thag_pages_clear(void *pages, size_t bytes)
{
    /* Mapping anew over the old range zeroes it everywhere; MADV_DONTNEED would only do so on Linux. */
    (void)mmap(pages, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
#ifdef MADV_NOHUGEPAGE
    (void)madvise(pages, bytes, MADV_NOHUGEPAGE);
#endif
}
