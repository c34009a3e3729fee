/* What every file of the native core shares: the compiler's words, and memory that does not come from any hooked
   allocator. */

#ifndef THAG_H
#define THAG_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* What must hold: checked where NDEBUG is not defined, and gone from what users run. */
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define THAG_LIKELY(x) __builtin_expect(!!(x), 1)
#define THAG_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define THAG_COLD __attribute__((noinline, cold))
#define THAG_APART __attribute__((noinline))

/* At the declaration of an object of ours: the compiler then knows that it is found without the table of global offsets. */
#define THAG_HIDDEN __attribute__((visibility("hidden")))

/* Relaxed loads and stores compile to plain moves: they only tell the compiler, and ThreadSanitizer, that another
   thread may read the value at any time. */
static inline int64_t
thag_load(const _Atomic int64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static inline void
thag_store(_Atomic int64_t *counter, int64_t value)
{
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

static inline int64_t
thag_add(_Atomic int64_t *counter, int64_t value)
{
    return atomic_fetch_add_explicit(counter, value, memory_order_relaxed) + value;
}

/* In a branch that is seldom taken: what was just written is not kept in a register for it, so that the usual way is one
   instruction on memory. */
static inline void
thag_read_again(void)
{
    atomic_signal_fence(memory_order_acq_rel);
}

/* Zeroed pages from the operating system, or NULL. Any thread, no GIL, no lock of ours. Those of the tables
   that hooks read are never unmapped, except right after a lost race. */
void *thag_pages_map(size_t bytes);
void thag_pages_unmap(void *pages, size_t bytes);

/* Calls `visit` for each page of [pages, pages + bytes) that was ever written to, be it in memory or in swap; where the
   operating system does not tell, for each that does not hold zeros alone. Slow (system calls); any thread. */
void thag_pages_visit(void *pages, size_t bytes, void (*visit)(void *page, size_t page_bytes, void *data), void *data);

/* Zeroes the pages and, unless the process has locked them in memory, gives that back. The caller must know that no other
   thread uses them. */
void thag_pages_clear(void *pages, size_t bytes);

#endif
