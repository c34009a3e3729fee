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

size_t
thag_pages_resident(void *pages, size_t bytes)
{
#ifdef __APPLE__
    typedef char page_state;
#else
    typedef unsigned char page_state;
#endif
    page_state states[1024];
    size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
    size_t resident = 0;
    for (size_t offset = 0; offset < bytes; offset += sizeof(states) * page_size) {
        size_t stretch = bytes - offset;
        if (stretch > sizeof(states) * page_size) {
            stretch = sizeof(states) * page_size;
        }
        if (mincore((char *)pages + offset, stretch, states) != 0) {
            return bytes;
        }
        for (size_t i = 0; i < (stretch + page_size - 1) / page_size; i++) {
            resident += (states[i] & 1) ? page_size : 0;
        }
    }
    return resident;
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
