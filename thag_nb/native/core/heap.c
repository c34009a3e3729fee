/* The native domain.

   Most of a process's memory never passes Python's allocators: libraries ask the C library for it, or the system. They call
   it through slots (see objects.h), which lead here while we are attached. A hook forwards, and then tells what it saw as the
   others do, so that such blocks have the same records, owners and peaks; a free tells first.

     library ─► slot ─► hook ─► malloc, mmap, ...
                          └──► owner table, counters, timeline

   A block is recorded once. The object that holds CPython's allocators keeps its own slots, since they are hooked already;
   what they, or NumPy's handler, ask of others on the way is told by the thread's depth. The C library's malloc does not call
   itself through slots, and the mappings of an allocator that is seen from within are not blocks (see pools.c).

   Of mappings, those are blocks that are nobody's file and can be written to when they are made. A mapping may be unmapped
   piece by piece; its record is then written anew for what remains. Mappings begin with a page, so the record that a page in
   the middle belongs to is looked for from page to page.

   Beside that, it is kept who has what address space, be it a block or not (see address_space.c). */

#define _GNU_SOURCE

#include "heap.h"

#include "address_space.h"
#include "linker.h"
#include "native_block.h"
#include "polars.h"
#include "pools.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <wchar.h>

/* What may be redirected in an object. */
enum {
    BLOCKS = 1 << 0,
    MAPPINGS = 1 << 1,
    LOADING = 1 << 2,
    LOOKING_UP = 1 << 3,
    WAITING = 1 << 4,
    WORKSPACES = 1 << 5,
    SPACE = 1 << 6,             /* mappings that are not blocks */
};

/* ThreadSanitizer asks the C library about the stack of a thread that begins, before it can be told of what that does: there, the
   C library's own slots are left alone. */
#if defined(__SANITIZE_THREAD__)
enum { OF_C_LIBRARY = 0 };
#else
enum { OF_C_LIBRARY = BLOCKS };
#endif

static bool is_attached;
static uint64_t changes_seen;       /* of the objects, when their slots were last looked at */
static thag_redirected found;

/* ---- blocks ---- */

static thag_redirection redirections[];

/* The functions that hooks forward to, in the order of the redirections. */
enum {
    MALLOC, CALLOC, REALLOC, REALLOCARRAY, FREE, FREE_SIZED, FREE_ALIGNED_SIZED, POSIX_MEMALIGN, ALIGNED_ALLOC, MEMALIGN,
    VALLOC, PVALLOC, MMAP, MMAP64, MAP_WORKSPACE, MAP_WORKSPACE64, MAP_SPACE, MAP_SPACE64, MREMAP, MUNMAP, UNMAP_SPACE, DLOPEN,
    DLSYM, SAVE_THREAD, RESTORE_THREAD, RELEASE_THREAD, ACQUIRE_THREAD, REDIRECTIONS,
};

/* Written before the slot that led here. */
#define REAL(number, type) ((type)__atomic_load_n(&redirections[number].real, __ATOMIC_RELAXED))

typedef void *sized_function(size_t size);
typedef void *aligned_function(size_t alignment, size_t size);

static void *
heap_malloc(size_t size)
{
    return thag_native_seen(REAL(MALLOC, sized_function *)(size), size);
}

static void *
heap_calloc(size_t count, size_t size)
{
    return thag_native_seen(REAL(CALLOC, aligned_function *)(count, size), count * size);
}

static void *
heap_realloc(void *block, size_t size)
{
    void *(*forward)(void *, size_t) = REAL(REALLOC, void *(*)(void *, size_t));
    if (block != NULL && size == 0) {
        thag_native_gone(block);
        return thag_native_seen(forward(block, 0), 0);
    }
    thag_thread *thread = &thag_this_thread;
    thag_waiting_called_from(&thread->waiter, __builtin_return_address(0));
    thag_claim claim = thag_event_claim(thread, THAG_NATIVE, block);
    void *moved = forward(block, size);
    thag_event_resized(thread, THAG_NATIVE, claim, block, moved, size);
    return moved;
}

static void *
heap_reallocarray(void *block, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        return REAL(REALLOCARRAY, void *(*)(void *, size_t, size_t))(block, count, size);
    }
    return heap_realloc(block, bytes);
}

static void
heap_free(void *block)
{
    thag_native_gone(block);
    REAL(FREE, void (*)(void *))(block);
}

static void
heap_free_sized(void *block, size_t size)
{
    thag_native_gone(block);
    REAL(FREE_SIZED, void (*)(void *, size_t))(block, size);
}

static void
heap_free_aligned_sized(void *block, size_t alignment, size_t size)
{
    thag_native_gone(block);
    REAL(FREE_ALIGNED_SIZED, void (*)(void *, size_t, size_t))(block, alignment, size);
}

static int
heap_posix_memalign(void **block, size_t alignment, size_t size)
{
    int error = REAL(POSIX_MEMALIGN, int (*)(void **, size_t, size_t))(block, alignment, size);
    if (error == 0) {
        (void)thag_native_seen(*block, size);
    }
    return error;
}

static void *
heap_aligned_alloc(size_t alignment, size_t size)
{
    return thag_native_seen(REAL(ALIGNED_ALLOC, aligned_function *)(alignment, size), size);
}

static void *
heap_memalign(size_t alignment, size_t size)
{
    return thag_native_seen(REAL(MEMALIGN, aligned_function *)(alignment, size), size);
}

static void *
heap_valloc(size_t size)
{
    return thag_native_seen(REAL(VALLOC, sized_function *)(size), size);
}

static void *
heap_pvalloc(size_t size)
{
    return thag_native_seen(REAL(PVALLOC, sized_function *)(size), size);
}

/* ---- mappings ---- */

typedef struct {
    char *start, *end;
} range;

static uintptr_t
page_bytes(void)
{
    return (uintptr_t)sysconf(_SC_PAGESIZE);
}

/* True for what no address space is large enough for: nothing is unmapped then. */
static bool
is_beyond(const void *start, size_t size)
{
    uintptr_t most = (uintptr_t)1 << THAG_ADDRESS_BITS;
    return (uintptr_t)start > most || size > most - (uintptr_t)start;
}

/* The whole pages of what begins at an address. */
static range
pages_of(void *start, size_t size)
{
    uintptr_t page = page_bytes();
    return (range){start, (char *)((uintptr_t)start + ((size + page - 1) & ~(page - 1)))};     /* of what is too large as well */
}

static size_t
range_bytes(range pages)
{
    return (size_t)(pages.end - pages.start);
}

/* How large a mapping may be: as the largest that was ever recorded. */
static _Atomic size_t largest_mapping;

static void
largest_mapping_raise(size_t size)
{
    size_t largest = atomic_load_explicit(&largest_mapping, memory_order_relaxed);
    while (size > largest && !atomic_compare_exchange_weak(&largest_mapping, &largest, size)) {
    }
}

/* The recorded block that the page at `start` is of; NULL if there is none. */
static void *
mapping_around(char *start)
{
    uintptr_t page = page_bytes(), largest = atomic_load(&largest_mapping);
    uintptr_t lowest = (uintptr_t)start > largest ? (uintptr_t)start - largest : page;
    char *block = start;
    while (!thag_owners_has(block)) {
        /* Where no table is, nothing was ever recorded. */
        if ((uintptr_t)block - page < lowest || thag_owners_find((uintptr_t)block - page) == NULL) {
            return NULL;
        }
        block -= page;
    }
    return pages_of(block, thag_owners_peek(block).size).end > start ? block : NULL;
}

/* A block of which some pages are about to be unmapped, but not all. Not owned: there is none. */
typedef struct {
    thag_claim claim;
    void *block;
    range pages;
} torn_block;

/* Those at both ends of a range. */
typedef struct {
    torn_block first, last;
} torn_mapping;

/* Where the next table begins. Ranges may be as large as the address space, and most of it has none. */
static char *
table_after(char *address)
{
    return (char *)((((uintptr_t)address >> THAG_LEAF_SHIFT) + 1) << THAG_LEAF_SHIFT);
}

static torn_block
block_claim(thag_thread *thread, void *block, range unmapped)
{
    torn_block torn = {.block = block};
    if (block != NULL) {
        torn.pages = pages_of(block, thag_owners_peek(block).size);
        if (torn.pages.start < unmapped.start || torn.pages.end > unmapped.end) {
            torn.claim = thag_event_claim(thread, THAG_NATIVE, block);
        }
    }
    return torn;
}

/* Tells of the end of all blocks in a range, before it is unmapped, but for those of which something remains. */
static torn_mapping
range_claim(thag_thread *thread, range unmapped)
{
    void *first = mapping_around(unmapped.start), *last = mapping_around(unmapped.end - page_bytes());
    torn_mapping torn = {.first = block_claim(thread, first, unmapped),
                         .last = block_claim(thread, last == first ? NULL : last, unmapped)};
    char *page = unmapped.start;
    while (page < unmapped.end) {
        bool has_table = thag_owners_find((uintptr_t)page) != NULL;
        if (has_table) {
            thag_native_gone(page);
        }
        page = has_table ? page + page_bytes() : table_after(page);
    }
    return torn;
}

static void
block_settle(thag_thread *thread, torn_block torn, range unmapped, bool is_unmapped)
{
    if (!torn.claim.owned) {
        return;
    }
    size_t size = torn.claim.owner.size;
    size_t before = unmapped.start > torn.pages.start ? (size_t)(unmapped.start - torn.pages.start) : 0;
    size_t until = (size_t)(unmapped.end - torn.pages.start);
    size_t after = size > until ? size - until : 0;
    if (!is_unmapped) {
        thag_event_resized(thread, THAG_NATIVE, torn.claim, torn.block, NULL, size);
    }
    else if (before == 0) {
        thag_event_resized(thread, THAG_NATIVE, torn.claim, torn.block, unmapped.end, after);
    }
    else {
        thag_event_resized(thread, THAG_NATIVE, torn.claim, torn.block, torn.block, before);
        if (after > 0) {
            thag_event_split(THAG_NATIVE, torn.block, unmapped.end, after);
        }
    }
}

/* Writes the records of what remains. */
static void
range_settle(thag_thread *thread, torn_mapping torn, range unmapped, bool is_unmapped)
{
    block_settle(thread, torn.first, unmapped, is_unmapped);
    block_settle(thread, torn.last, unmapped, is_unmapped);
}

/* True for what the system does not refuse at once. */
static bool
is_range(const void *start, size_t size)
{
    return size > 0 && (uintptr_t)start % page_bytes() == 0 && !is_beyond(start, size);
}

/* Unmaps what may be somebody's address space. */
static int
space_unmap(range unmapped, size_t size)
{
    thag_mapper *mapper = thag_address_space_take(unmapped.start, range_bytes(unmapped));
    int error = REAL(MUNMAP, int (*)(void *, size_t))(unmapped.start, size);
    if (error != 0) {
        thag_address_space_give(mapper, unmapped.start, range_bytes(unmapped));
    }
    return error;
}

static int
heap_munmap(void *start, size_t size)
{
    if (!is_range(start, size)) {
        return REAL(MUNMAP, int (*)(void *, size_t))(start, size);
    }
    thag_thread *thread = &thag_this_thread;
    range unmapped = pages_of(start, size);
    torn_mapping torn = range_claim(thread, unmapped);
    int error = space_unmap(unmapped, size);
    range_settle(thread, torn, unmapped, error == 0);
    return error;
}

static bool
is_block(int protection, int flags)
{
    return (flags & MAP_ANONYMOUS) != 0 && (protection & PROT_WRITE) != 0;
}

/* Maps what becomes the caller's address space, if it is memory, and takes the place of what was there. */
static void *
space_map(const void *caller, void *start, size_t size, int protection, int flags, int file, off_t offset)
{
    void *(*forward)(void *, size_t, int, int, int, off_t) = REAL(MMAP, void *(*)(void *, size_t, int, int, int, off_t));
    void *mapping = forward(start, size, protection, flags, file, offset);
    if (mapping != MAP_FAILED) {
        size_t bytes = range_bytes(pages_of(mapping, size));
        (void)thag_address_space_take(mapping, bytes);
        if ((flags & MAP_ANONYMOUS) != 0) {
            thag_address_space_mapped(caller, mapping, bytes);
        }
    }
    return mapping;
}

/* Always inline, so that who called is who called the hook. */
__attribute__((always_inline)) static inline void *
map(const void *caller, void *start, size_t size, int protection, int flags, int file, off_t offset)
{
    thag_thread *thread = &thag_this_thread;
    bool replaces = (flags & MAP_FIXED) != 0 && is_range(start, size);
    range replaced = pages_of(start, replaces ? size : 0);
    torn_mapping torn = {.first = {.block = NULL}};
    if (replaced.end != replaced.start) {
        torn = range_claim(thread, replaced);
    }
    void *mapping = space_map(caller, start, size, protection, flags, file, offset);
    range_settle(thread, torn, replaced, mapping != MAP_FAILED);
    if (mapping != MAP_FAILED && is_block(protection, flags)) {
        largest_mapping_raise(size);
        (void)thag_native_seen(mapping, size);
    }
    return mapping;
}

static void *
heap_mmap(void *start, size_t size, int protection, int flags, int file, off_t offset)
{
    return map(__builtin_return_address(0), start, size, protection, flags, file, offset);
}

/* ---- mappings that are not blocks ---- */

static void *
heap_map_space(void *start, size_t size, int protection, int flags, int file, off_t offset)
{
    return space_map(__builtin_return_address(0), start, size, protection, flags, file, offset);
}

static int
heap_unmap_space(void *start, size_t size)
{
    if (!is_range(start, size)) {
        return REAL(MUNMAP, int (*)(void *, size_t))(start, size);
    }
    return space_unmap(pages_of(start, size), size);
}

/* ---- workspaces: what OpenBLAS maps once and keeps, for whoever calls it later ---- */

enum { WORKSPACES_ROOM = 64 };
static struct {
    void *_Atomic starts[WORKSPACES_ROOM];
    _Atomic uint32_t count;     /* that there have been; of more than there is room for, the oldest are forgotten */
} workspaces;

static void *
heap_map_workspace(void *start, size_t size, int protection, int flags, int file, off_t offset)
{
    void *mapping = map(NULL, start, size, protection, flags, file, offset);
    if (mapping != MAP_FAILED && is_block(protection, flags)) {
        uint32_t place = atomic_fetch_add(&workspaces.count, 1) % WORKSPACES_ROOM;
        atomic_store(&workspaces.starts[place], mapping);
    }
    return mapping;
}

void
thag_heap_visit_workspaces(void (*tell)(const void *start, void *data), void *data)
{
    for (int i = 0; i < WORKSPACES_ROOM; i++) {
        const void *start = atomic_load(&workspaces.starts[i]);
        if (start != NULL && thag_owners_has(start)) {
            tell(start, data);
        }
    }
}

/* The recorded block that is all of the mapping; NULL if it is none, or more. */
static void *
mapping_that_is(void *start, size_t size)
{
    bool is_all = thag_owners_has(start)
                  && pages_of(start, thag_owners_peek(start).size).end == pages_of(start, size).end;
    return is_all ? start : NULL;
}

typedef struct {
    char *start;
    size_t size, new_size;
    int flags;
    void *wished;
} remapping;

static void *
remap_forward(const remapping *wanted)
{
    void *(*forward)(void *, size_t, size_t, int, ...) = REAL(MREMAP, void *(*)(void *, size_t, size_t, int, ...));
    return forward(wanted->start, wanted->size, wanted->new_size, wanted->flags, wanted->wished);
}

static bool
remap_cuts(const remapping *wanted)
{
    return wanted->new_size <= wanted->size && (wanted->flags & MREMAP_FIXED) == 0;
}

/* True if the pages stay mapped where they were as well, but empty. */
static bool
remap_leaves_pages(const remapping *wanted)
{
    return (wanted->flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)) != 0;
}

/* False for what the system refuses before it does anything. */
static bool
remap_is_possible(const remapping *wanted)
{
    range from = pages_of(wanted->start, wanted->size), to = pages_of(wanted->wished, wanted->new_size);
    bool overlaps = wanted->wished != NULL && from.start < to.end && to.start < from.end;
    bool is_aligned = ((uintptr_t)wanted->start | (uintptr_t)wanted->wished) % page_bytes() == 0;
    bool is_told_to_move = wanted->flags == 0 || (wanted->flags & MREMAP_MAYMOVE) != 0;
    bool has_room = !is_beyond(wanted->start, wanted->size) && !is_beyond(wanted->wished, wanted->new_size);
    return is_aligned && is_told_to_move && wanted->new_size > 0 && has_room && !overlaps;
}

/* A recorded block stays one, wherever it is. */
static void *
block_remap(thag_thread *thread, const remapping *wanted)
{
    thag_claim claim = thag_event_claim(thread, THAG_NATIVE, wanted->start);
    void *moved = remap_forward(wanted);
    bool is_moved = moved != MAP_FAILED;
    if (claim.owned) {
        largest_mapping_raise(is_moved ? wanted->new_size : 0);
        thag_event_resized(thread, THAG_NATIVE, claim, wanted->start, is_moved ? moved : NULL, wanted->new_size);
    }
    return moved;
}

/* Of a recorded block a part is cut off, or it is made a block of its own, as it grows or moves. */
static void *
part_remap(thag_thread *thread, const remapping *wanted)
{
    range part = pages_of(wanted->start, wanted->size), kept = pages_of(wanted->start, wanted->new_size);
    bool is_cut = remap_cuts(wanted);
    bool stays = remap_leaves_pages(wanted);
    range gone = {is_cut ? kept.end : part.start, stays ? part.start : part.end};
    bool vacates = is_cut || wanted->flags != 0;        /* else it fails often, and changes nothing then */
    void *moved = vacates ? NULL : remap_forward(wanted);
    torn_mapping left = {.first = {.block = NULL}};
    if (gone.start < gone.end && moved != MAP_FAILED) {
        left = range_claim(thread, gone);
    }
    moved = vacates ? remap_forward(wanted) : moved;
    range_settle(thread, left, gone, moved != MAP_FAILED);
    if (moved != MAP_FAILED && (!is_cut || (stays && mapping_around(wanted->start) != NULL))) {
        largest_mapping_raise(wanted->new_size);
        if (!thag_native_is_nested(thread)) {
            thag_event_allocated(thread, THAG_NATIVE, moved, wanted->new_size);
        }
    }
    return moved;
}

static void *
records_remap(thag_thread *thread, const remapping *wanted)
{
    if (!remap_leaves_pages(wanted) && mapping_that_is(wanted->start, wanted->size) != NULL) {
        return block_remap(thread, wanted);
    }
    if (wanted->size > 0 && (remap_cuts(wanted) || mapping_around(wanted->start) != NULL)) {
        return part_remap(thread, wanted);
    }
    return remap_forward(wanted);
}

/* Address space stays whose it is, wherever it is. */
static void *
space_remap(thag_thread *thread, const remapping *wanted)
{
    range from = pages_of(wanted->start, wanted->size);
    thag_mapper *mapper = thag_address_space_take(from.start, range_bytes(from));
    void *moved = records_remap(thread, wanted);
    if (moved == MAP_FAILED || remap_leaves_pages(wanted)) {
        thag_address_space_give(mapper, from.start, range_bytes(from));
    }
    if (moved != MAP_FAILED) {
        thag_address_space_give(mapper, moved, range_bytes(pages_of(moved, wanted->new_size)));
    }
    return moved;
}

static void *
heap_mremap(void *start, size_t size, size_t new_size, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    void *wished = (flags & MREMAP_FIXED) != 0 ? va_arg(arguments, void *) : NULL;
    va_end(arguments);
    remapping wanted = {start, size, new_size, flags, wished};
    if (!remap_is_possible(&wanted)) {
        return remap_forward(&wanted);
    }
    thag_thread *thread = &thag_this_thread;
    thag_waiting_called_from(&thread->waiter, __builtin_return_address(0));
    if (wished != NULL) {
        range replaced = pages_of(wished, new_size);        /* by the system as well, before it looks for what is to be moved */
        torn_mapping torn = range_claim(thread, replaced);
        range_settle(thread, torn, replaced, true);
        (void)thag_address_space_take(wished, range_bytes(replaced));
    }
    return space_remap(thread, &wanted);
}

/* ---- loading ---- */

static bool heap_update(bool with_gil);

/* For who calls functions that it finds by their names: they are found here. */
static void *
heap_dlsym(void *handle, const char *name)
{
    void *function = REAL(DLSYM, void *(*)(void *, const char *))(handle, name);
    for (int i = 0; i < DLOPEN; i++) {
        if (function != NULL && (function == REAL(i, void *) || function == redirections[i].of_program)) {
            return redirections[i].hook;
        }
    }
    return function;
}

static void *
heap_dlopen(const char *path, int flags)
{
    void *handle = REAL(DLOPEN, void *(*)(const char *, int))(path, flags);
    /* Who has the GIL keeps it, as the interpreter expects; and it has waited for the same already. */
    if (handle != NULL && thag_current_is_attached(thag_tstate_here(false))) {
        (void)heap_update(true);
        (void)dlerror();        /* ours, if any, is none of the caller's */
    }
    return handle;
}

/* ---- waiting ---- */

/* Whose code is between two of these, which give up the GIL and take it, waits for a library. It may not be the same two: what
   takes the GIL by a thread's state often gives it up as if to wait. */

/* Whom this thread works for, if anybody waits because it does. A library's own thread does not wait for its library. */
static thag_context *
who_waits(thag_thread *thread, PyThreadState *tstate)
{
    if (!thag_current_is_attached(tstate)) {
        return NULL;            /* of another interpreter */
    }
    thag_context *context = thag_current_cached(thread, tstate);
    context = context != NULL ? context : thag_current_look_up(thread, tstate);
    return thag_current_is_lent(thread, context) ? NULL : context;
}

static void
waiting_begin(const void *code)
{
    thag_thread *thread = &thag_this_thread;
    PyThreadState *tstate = thag_tstate_attached();
    thag_context *context = who_waits(thread, tstate);
    thag_account *account = NULL;
    thag_spot spot = {NULL, NULL};
    if (THAG_UNLIKELY(context != NULL && context->explained != NULL)) {
        account = thag_account_of_waiter(context, tstate);
        spot = thag_spot_of(tstate);
    }
    thag_waiting_begin(&thread->waiter, context, account, spot, thag_package_of(code));
}

static PyThreadState *
heap_save_thread(void)
{
    waiting_begin(__builtin_return_address(0));
    return REAL(SAVE_THREAD, PyThreadState *(*)(void))();
}

static void
heap_release_thread(PyThreadState *tstate)
{
    waiting_begin(__builtin_return_address(0));
    REAL(RELEASE_THREAD, void (*)(PyThreadState *))(tstate);
}

static void
heap_restore_thread(PyThreadState *tstate)
{
    REAL(RESTORE_THREAD, void (*)(PyThreadState *))(tstate);
    thag_waiting_end(&thag_this_thread.waiter);     /* while it waited for the GIL, the library may have gone on */
}

static void
heap_acquire_thread(PyThreadState *tstate)
{
    REAL(ACQUIRE_THREAD, void (*)(PyThreadState *))(tstate);
    thag_waiting_end(&thag_this_thread.waiter);
}

/* ---- attaching ---- */

static thag_redirection redirections[REDIRECTIONS] = {
    [MALLOC] = {.name = "malloc", .hook = heap_malloc, .group = BLOCKS},
    [CALLOC] = {.name = "calloc", .hook = heap_calloc, .group = BLOCKS},
    [REALLOC] = {.name = "realloc", .hook = heap_realloc, .group = BLOCKS},
    [REALLOCARRAY] = {.name = "reallocarray", .hook = heap_reallocarray, .group = BLOCKS},
    [FREE] = {.name = "free", .hook = heap_free, .group = BLOCKS},
    [FREE_SIZED] = {.name = "free_sized", .hook = heap_free_sized, .group = BLOCKS},
    [FREE_ALIGNED_SIZED] = {.name = "free_aligned_sized", .hook = heap_free_aligned_sized, .group = BLOCKS},
    [POSIX_MEMALIGN] = {.name = "posix_memalign", .hook = heap_posix_memalign, .group = BLOCKS},
    [ALIGNED_ALLOC] = {.name = "aligned_alloc", .hook = heap_aligned_alloc, .group = BLOCKS},
    [MEMALIGN] = {.name = "memalign", .hook = heap_memalign, .group = BLOCKS},
    [VALLOC] = {.name = "valloc", .hook = heap_valloc, .group = BLOCKS},
    [PVALLOC] = {.name = "pvalloc", .hook = heap_pvalloc, .group = BLOCKS},
    [MMAP] = {.name = "mmap", .hook = heap_mmap, .group = MAPPINGS},
    [MMAP64] = {.name = "mmap64", .hook = heap_mmap, .group = MAPPINGS},
    [MAP_WORKSPACE] = {.name = "mmap", .hook = heap_map_workspace, .group = WORKSPACES},
    [MAP_WORKSPACE64] = {.name = "mmap64", .hook = heap_map_workspace, .group = WORKSPACES},
    [MAP_SPACE] = {.name = "mmap", .hook = heap_map_space, .group = SPACE},
    [MAP_SPACE64] = {.name = "mmap64", .hook = heap_map_space, .group = SPACE},
    [MREMAP] = {.name = "mremap", .hook = heap_mremap, .group = MAPPINGS | WORKSPACES | SPACE},
    [MUNMAP] = {.name = "munmap", .hook = heap_munmap, .group = MAPPINGS | WORKSPACES},
    [UNMAP_SPACE] = {.name = "munmap", .hook = heap_unmap_space, .group = SPACE},
    [DLOPEN] = {.name = "dlopen", .hook = heap_dlopen, .group = LOADING},
    [DLSYM] = {.name = "dlsym", .hook = heap_dlsym, .group = LOOKING_UP},
    [SAVE_THREAD] = {.name = "PyEval_SaveThread", .hook = heap_save_thread, .group = WAITING},
    [RESTORE_THREAD] = {.name = "PyEval_RestoreThread", .hook = heap_restore_thread, .group = WAITING},
    [RELEASE_THREAD] = {.name = "PyEval_ReleaseThread", .hook = heap_release_thread, .group = WAITING},
    [ACQUIRE_THREAD] = {.name = "PyEval_AcquireThread", .hook = heap_acquire_thread, .group = WAITING},
};

static bool
names(const char *path, const char *part)
{
    return strstr(path, part) != NULL;
}

static unsigned
mappings_in(const char *path)
{
    unsigned workspaces_or_blocks = names(path, "openblas") ? WORKSPACES : MAPPINGS;
    return thag_pools_keep_mappings(path) ? SPACE : workspaces_or_blocks;
}

static unsigned
redirected_in(const thag_object *object)
{
    /* The interpreter loads by whole paths; where others load, it matters who calls. */
    if (object->is_ours || object->has_python) {
        return object->is_ours ? 0 : LOADING;
    }
    if (names(object->path, "/libc.so.")) {
        return OF_C_LIBRARY;
    }
    if (object->has_real) {
        return 0;               /* an allocator in the place of the C library's */
    }
    bool looks_up = names(object->path, "/_ctypes.") || names(object->path, "/_cffi_backend.");
    return BLOCKS | WAITING | mappings_in(object->path) | (looks_up ? LOOKING_UP : 0);
}

/* What is being loaded may need the GIL to become ready. */
static void
loading_wait(bool with_gil)
{
    if (with_gil) {
        thag_objects_wait();
        return;
    }
    Py_BEGIN_ALLOW_THREADS
    thag_objects_wait();
    Py_END_ALLOW_THREADS
}

/* What the loader and we do meanwhile is nobody's. While we wait, others may go on loading, or detach. */
static void
slots_redirect(bool looks_at_all, bool with_gil)
{
    enum { TRIES = 10 };
    thag_this_thread.depth++;
    bool is_done = false;
    for (int i = 0; i < TRIES && is_attached && !is_done; i++) {
        uint64_t changes = thag_objects_changes();
        loading_wait(with_gil);
        thag_packages_update();     /* so that it is known who calls, as soon as somebody does */
        is_done = is_attached && thag_objects_redirect(redirections, REDIRECTIONS, redirected_in, looks_at_all, changes, &found);
        changes_seen = is_done ? changes : changes_seen;
    }
    if (is_done) {
        thag_pools_attach();
    }
    thag_this_thread.depth--;
}

static bool
heap_update(bool with_gil)
{
    if (!is_attached || !thag_linker_answers()) {
        return false;
    }
    bool was_hooked = thag_heap_hook() != THAG_HOOK_ABSENT;
    if (!was_hooked || changes_seen != thag_objects_changes()) {
        slots_redirect(!was_hooked, with_gil);
    }
    return !was_hooked && thag_heap_hook() != THAG_HOOK_ABSENT;
}

bool
thag_heap_attach(void)
{
    if (!is_attached) {
        thag_this_thread.depth++;
        is_attached = thag_objects_find(redirections, REDIRECTIONS);
        thag_address_space_forget();
        thag_this_thread.depth--;
    }
    (void)thag_heap_update();
    /* Slots that somebody else has taken may become free; where there are none, there never will be. */
    if (is_attached && thag_heap_hook() == THAG_HOOK_ABSENT && found.foreign == 0) {
        thag_heap_detach();
    }
    return is_attached;
}

bool
thag_heap_update(void)
{
    return heap_update(false);
}

void
thag_heap_show_polars(void *const functions[4])
{
    thag_polars_show(functions);
    if (is_attached && thag_linker_answers()) {
        thag_this_thread.depth++;
        thag_pools_attach();
        thag_this_thread.depth--;
    }
}

void
thag_heap_detach(void)
{
    if (is_attached) {
        is_attached = false;
        /* If it does not, slots go on leading to hooks, which go on forwarding. */
        if (thag_linker_answers()) {
            thag_pools_detach();
            thag_objects_restore(redirections, REDIRECTIONS);
        }
        thag_waiting_forget();
        found = (thag_redirected){0};
    }
}

thag_hook
thag_heap_hook(void)
{
    if (OF_C_LIBRARY == 0) {
        return is_attached && found.redirected > 0 ? THAG_HOOK_ON_TOP : THAG_HOOK_ABSENT;
    }
    thag_thread *thread = &thag_this_thread;
    unsigned depth = thread->depth;
    thread->depth = THAG_PROBING;
    thread->probed = 0;
    wchar_t *copy = wcsdup(L"");    /* the C library calls malloc through a slot as well; we free without one */
    atomic_signal_fence(memory_order_acq_rel);
    free(copy);
    thread->depth = depth;
    return is_attached && (thread->probed & 1u << THAG_NATIVE) != 0 ? THAG_HOOK_ON_TOP : THAG_HOOK_ABSENT;
}

/* Objects that call us to map memory: the first ones, by the order in which they were loaded. */
enum { LISTED_ROOM = 256 };
typedef struct {
    int count;
    struct {
        const char *path;
        const void *inside;
    } objects[LISTED_ROOM];
} mapping_objects;

static void
object_list(const char *path, const void *inside, void *data)
{
    mapping_objects *list = data;
    if (list->count < LISTED_ROOM && !thag_pools_tell(path)) {
        list->objects[list->count].path = path;
        list->objects[list->count++].inside = inside;
    }
}

static mapping_objects
mapping_objects_list(void)
{
    mapping_objects list = {.count = 0};
    if (thag_linker_answers()) {
        thag_objects_visit_redirected(redirections, REDIRECTIONS, MAPPINGS | SPACE, object_list, &list);
    }
    return list;
}

const char *
thag_heap_mapper_of(const void *address)
{
    mapping_objects list = mapping_objects_list();
    for (int i = 0; i < list.count; i++) {
        if (thag_address_space_has(list.objects[i].inside, address)) {
            return list.objects[i].path;
        }
    }
    return NULL;
}

void
thag_heap_visit_address_space(void (*tell)(const char *path, size_t bytes, void *data), void *data)
{
    mapping_objects list = mapping_objects_list();
    for (int i = 0; i < list.count; i++) {
        tell(list.objects[i].path, thag_address_space_of(list.objects[i].inside), data);
    }
}

thag_redirected
thag_heap_found(void)
{
    return found;
}
