/* jemalloc calls whom one asks it to call: after each block that it gave, and before each that is given back. Of a resized one it
   tells both, or that it was resized where it is.

   It is asked by its control, "experimental.hooks.install". Before that is relied on, a block is taken, moved and given back,
   which must be told of as expected; that also tells the number by which it calls realloc. */

#include "jemalloc.h"

#include "pool_block.h"

typedef struct {
    void (*allocated)(void *self, int kind, void *block, uintptr_t result, const uintptr_t arguments[3]);
    void (*freed)(void *self, int kind, void *block, const uintptr_t arguments[3]);
    void (*expanded)(void *self, int kind, void *block, size_t old_usable, size_t usable, uintptr_t result,
                     const uintptr_t arguments[4]);
    void *self;
} jemalloc_hooks;

/* By the order in which jemalloc numbers its functions; some versions have pvalloc before mallocx, and some have not. */
enum { POSIX_MEMALIGN = 1, ALIGNED_ALLOC, CALLOC, MEMALIGN, EXPANDED_BY_XALLOCX = 2 };

static size_t
jemalloc_size(int kind, int resizing, const uintptr_t arguments[3])
{
    switch (kind) {
    case POSIX_MEMALIGN:
        return arguments[2];
    case ALIGNED_ALLOC:
    case MEMALIGN:
        return arguments[1];
    case CALLOC:
        return arguments[0] * arguments[1];
    default:
        return arguments[kind >= resizing];
    }
}

static void
told_allocated(void *self, int kind, void *block, uintptr_t result, const uintptr_t arguments[3])
{
    thag_jemalloc *allocator = self;
    (void)result;
    int resizing = atomic_load_explicit(&allocator->resizing, memory_order_relaxed);
    if (thag_this_thread.depth >= THAG_PROBING) {
        allocator->probed_kind = kind;
        allocator->probed_bytes = arguments[0];
    }
    else if (resizing != 0) {
        thag_pool_block_seen(block, jemalloc_size(kind, resizing, arguments));
    }
}

static void
told_freed(void *self, int kind, void *block, const uintptr_t arguments[3])
{
    thag_jemalloc *allocator = self;
    (void)kind;
    (void)arguments;
    if (thag_this_thread.depth >= THAG_PROBING) {
        allocator->probed_frees++;
    }
    else {
        thag_native_gone(block);
    }
}

static void
told_expanded(void *self, int kind, void *block, size_t old_usable, size_t usable, uintptr_t result,
                const uintptr_t arguments[4])
{
    (void)self;
    (void)old_usable;
    (void)result;
    if (thag_this_thread.depth < THAG_PROBING) {
        thag_claim claim = thag_event_claim(&thag_this_thread, THAG_NATIVE, block);
        thag_pool_block_resized(claim, block, block, kind == EXPANDED_BY_XALLOCX ? usable : arguments[1]);
    }
}

/* Takes, moves and gives back a block: are we told of that as we expect? */
static bool
tells_as_expected(thag_jemalloc *allocator)
{
    enum { LITTLE = 100, MUCH = 1 << 20 };
    void *block = allocator->take(LITTLE);
    bool tells = block != NULL && allocator->probed_kind == 0 && allocator->probed_bytes == LITTLE;
    void *moved = block == NULL ? NULL : allocator->resize(block, MUCH);
    tells = tells && moved != NULL && allocator->probed_bytes == (uintptr_t)block && allocator->probed_kind > MEMALIGN + 1
            && allocator->probed_frees == 1;
    int resizing = allocator->probed_kind;
    allocator->give_back(moved != NULL ? moved : block, moved != NULL ? MUCH : LITTLE, 0);
    tells = tells && allocator->probed_frees == 2;
    atomic_store_explicit(&allocator->resizing, tells ? resizing : 0, memory_order_relaxed);
    return tells;
}

static bool
hooks_install(thag_jemalloc *allocator)
{
    jemalloc_hooks hooks = {told_allocated, told_freed, told_expanded, allocator};
    size_t bytes = sizeof(allocator->handle);
    return allocator->control("experimental.hooks.install", &allocator->handle, &bytes, &hooks, sizeof(hooks)) == 0;
}

void
thag_jemalloc_detach(thag_jemalloc *allocator)
{
    if (allocator->handle != NULL) {
        (void)allocator->control("experimental.hooks.remove", NULL, NULL, &allocator->handle, sizeof(allocator->handle));
        allocator->handle = NULL;
    }
}

bool
thag_jemalloc_attach(thag_jemalloc *allocator)
{
    if (allocator->handle != NULL) {
        return true;
    }
    if (!hooks_install(allocator)) {
        return false;
    }
    thag_thread *thread = &thag_this_thread;
    unsigned depth = thread->depth;
    allocator->probed_frees = 0;
    thread->depth = THAG_PROBING;
    bool tells = tells_as_expected(allocator);
    thread->depth = depth;
    if (!tells) {
        thag_jemalloc_detach(allocator);
    }
    return tells;
}
