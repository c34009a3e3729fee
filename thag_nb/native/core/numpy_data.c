/* NumPy's data allocator (NEP 49).

   Before 2.5 array data comes straight from malloc, which no domain of CPython sees; since 2.5 it goes through the raw
   domain, but from there a block that NumPy keeps in its cache of small ones is not seen to change hands. So the
   dispatcher stands in the default handler itself, a public struct whose functions are replaced in place: every array of
   every thread, small ones too, and an array that outlives stop() is freed through the same handler as ever.

   A handler that another library sets is left alone: its blocks are seen as far as it takes them from CPython. */

#include "dispatcher.h"

#include <string.h>

/* PyDataMem_Handler of version 1, from NumPy's ndarraytypes.h; stable since NumPy 1.22. */
struct thag_numpy_handler {
    char name[127];
    uint8_t version;
    struct {
        void *word;
        void *(*malloc)(void *word, size_t size);
        void *(*calloc)(void *word, size_t count, size_t size);
        void *(*realloc)(void *word, void *block, size_t size);
        void (*free)(void *word, void *block, size_t size);
    } allocator;
};

/* The handler and its own functions, for calls in flight and for arrays that outlive us. Written with the GIL, before the
   handler's functions are replaced. */
static struct {
    thag_numpy_handler *handler;
    thag_numpy_handler wrapped;
} numpy;

/* True if another hook is called by this thread: then the call is for that one to record. */
static inline bool
is_nested(const thag_thread *thread)
{
    return THAG_UNLIKELY(thread->depth != 0);
}

static void *
data_malloc(void *word, size_t size)
{
    thag_thread *thread = &thag_this_thread;
    thread->depth++;
    void *block = numpy.wrapped.allocator.malloc(word, size);
    thread->depth--;
    if (!is_nested(thread)) {
        thag_event_allocated(thread, THAG_NUMPY, block, size);
    }
    return block;
}

static void *
data_calloc(void *word, size_t count, size_t size)
{
    thag_thread *thread = &thag_this_thread;
    thread->depth++;
    void *block = numpy.wrapped.allocator.calloc(word, count, size);
    thread->depth--;
    if (!is_nested(thread)) {
        assert(block == NULL || size == 0 || count <= PTRDIFF_MAX / size);
        thag_event_allocated(thread, THAG_NUMPY, block, count * size);
    }
    return block;
}

static void *
data_realloc(void *word, void *block, size_t size)
{
    thag_thread *thread = &thag_this_thread;
    thag_claim claim = thag_event_claim(thread, THAG_NUMPY, block);
    thread->depth++;
    void *moved = numpy.wrapped.allocator.realloc(word, block, size);
    thread->depth--;
    thag_event_resized(thread, THAG_NUMPY, claim, block, moved, size);
    return moved;
}

static void
data_free(void *word, void *block, size_t size)
{
    thag_event_freed(&thag_this_thread, THAG_NUMPY, block);
    numpy.wrapped.allocator.free(word, block, size);
}

bool
thag_numpy_supported(const thag_numpy_handler *handler)
{
    return handler->version == 1;
}

static bool
is_unhooked(void)
{
    return memcmp(&numpy.handler->allocator, &numpy.wrapped.allocator, sizeof(numpy.wrapped.allocator)) == 0;
}

thag_hook
thag_numpy_hook(void)
{
    if (numpy.handler == NULL || is_unhooked()) {
        return THAG_HOOK_ABSENT;
    }
    return numpy.handler->allocator.malloc == data_malloc ? THAG_HOOK_ON_TOP : THAG_HOOK_BURIED;
}

bool
thag_numpy_attach(thag_numpy_handler *handler)
{
    if (thag_numpy_hook() != THAG_HOOK_ABSENT) {
        return false;
    }
    numpy.handler = handler;
    numpy.wrapped = *handler;
    handler->allocator.malloc = data_malloc;
    handler->allocator.calloc = data_calloc;
    handler->allocator.realloc = data_realloc;
    handler->allocator.free = data_free;
    return true;
}

bool
thag_numpy_detach(void)
{
    if (thag_numpy_hook() != THAG_HOOK_ON_TOP) {
        return false;
    }
    numpy.handler->allocator = numpy.wrapped.allocator;
    return true;
}
