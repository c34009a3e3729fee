/* The dispatcher: forward, then record.

     caller ─► hook ─► wrapped allocator (pymalloc, malloc, tracemalloc's hook, ...)
                 └──► owner table, counters, timeline

   A block is recorded once, by the outermost hook that sees it: an object over 512 bytes goes through obj and then raw, a
   NumPy array through numpy and, since 2.5, raw. A thread-local depth tells the inner calls, which only forward. A free
   clears the record at any depth: the outermost hook has done that before the inner ones look, and they find none.

   Somebody who wrapped us keeps calling us after stop(); then we go on
   clearing records, so that the table never names a block that is gone.

   A hook is installed in a slot that is written once and never changes: calls that are in flight, and whoever saved us as
   the allocator to restore, go on finding what they knew. A slot is used again only above the very same allocator. The
   domain's own functions find the slot by their context word, but do not trust it: CPython's readers may see a function
   and a context word that do not belong together. */

#include "dispatcher.h"

#include <string.h>

/* Begins with the wrapped allocator, so that another wrapper's function, called with our word by a torn read, still finds
   the allocator that it expects there. */
typedef struct {
    PyMemAllocatorEx wrapped;
    bool used;
} hook_slot;

enum { SLOTS = 256 };

static struct {
    hook_slot slots[SLOTS];
    _Atomic(hook_slot *) newest;
} domains[THAG_CPYTHON_DOMAINS];

/* Where allocators are called, and exchanged, with the GIL alone, nobody reads a torn pair. */
static inline bool
may_be_torn(thag_domain domain)
{
#ifdef Py_GIL_DISABLED
    (void)domain;
    return true;
#else
    return domain == THAG_RAW;
#endif
}

static inline const PyMemAllocatorEx *
wrapped_by(thag_domain domain, void *word)
{
    assert(atomic_load(&domains[domain].newest) != NULL);
    if (!may_be_torn(domain)) {
        return word;
    }
    uintptr_t offset = (uintptr_t)word - (uintptr_t)domains[domain].slots;
    if (THAG_LIKELY(offset < sizeof(domains[domain].slots))) {
        return word;
    }
    return &atomic_load_explicit(&domains[domain].newest, memory_order_acquire)->wrapped;
}

/* ---- the hooks ---- */

/* Another hook of this call records, or nothing is to be recorded. */
THAG_COLD static void
nested(thag_thread *thread, thag_domain domain)
{
    if (thread->depth >= THAG_PROBING) {
        thread->probed |= 1u << domain;
    }
}

static inline void *
hook_malloc(thag_domain domain, void *word, size_t size)
{
    const PyMemAllocatorEx *wrapped = wrapped_by(domain, word);
    thag_thread *thread = &thag_this_thread;
    thread->depth++;
    void *block = wrapped->malloc(wrapped->ctx, size);
    if (THAG_UNLIKELY(--thread->depth != 0)) {
        nested(thread, domain);
        return block;
    }
    thag_event_allocated(thread, domain, block, size);
    return block;
}

static inline void *
hook_calloc(thag_domain domain, void *word, size_t count, size_t size)
{
    const PyMemAllocatorEx *wrapped = wrapped_by(domain, word);
    thag_thread *thread = &thag_this_thread;
    thread->depth++;
    void *block = wrapped->calloc(wrapped->ctx, count, size);
    if (THAG_UNLIKELY(--thread->depth != 0)) {
        nested(thread, domain);
        return block;
    }
    assert(block == NULL || size == 0 || count <= PTRDIFF_MAX / size);
    thag_event_allocated(thread, domain, block, count * size);
    return block;
}

static inline void *
hook_realloc(thag_domain domain, void *word, void *block, size_t size)
{
    const PyMemAllocatorEx *wrapped = wrapped_by(domain, word);
    thag_thread *thread = &thag_this_thread;
    thag_claim claim = thag_event_claim(thread, domain, block);
    thread->depth++;
    void *moved = wrapped->realloc(wrapped->ctx, block, size);
    if (THAG_UNLIKELY(--thread->depth != 0)) {
        nested(thread, domain);
    }
    thag_event_resized(thread, domain, claim, block, moved, size);
    return moved;
}

static inline void
hook_free(thag_domain domain, void *word, void *block)
{
    const PyMemAllocatorEx *wrapped = wrapped_by(domain, word);
    thag_event_freed(&thag_this_thread, domain, block);
    wrapped->free(wrapped->ctx, block);
}

#define DOMAIN_HOOKS(name, domain)                                                                                    \
    static void *name##_malloc(void *word, size_t size) { return hook_malloc(domain, word, size); }                   \
    static void *name##_calloc(void *word, size_t count, size_t size) { return hook_calloc(domain, word, count, size); } \
    static void *name##_realloc(void *word, void *block, size_t size) { return hook_realloc(domain, word, block, size); } \
    static void name##_free(void *word, void *block) { hook_free(domain, word, block); }

/* A domain's functions must be its own; nothing but a macro writes twelve that differ in a constant. */
DOMAIN_HOOKS(raw, THAG_RAW)
DOMAIN_HOOKS(mem, THAG_MEM)
DOMAIN_HOOKS(obj, THAG_OBJ)

static const PyMemAllocatorEx hooks[THAG_CPYTHON_DOMAINS] = {
    [THAG_RAW] = {NULL, raw_malloc, raw_calloc, raw_realloc, raw_free},
    [THAG_MEM] = {NULL, mem_malloc, mem_calloc, mem_realloc, mem_free},
    [THAG_OBJ] = {NULL, obj_malloc, obj_calloc, obj_realloc, obj_free},
};

/* ---- installing ---- */

static bool
same_allocator(const PyMemAllocatorEx *a, const PyMemAllocatorEx *b)
{
    return a->ctx == b->ctx && a->malloc == b->malloc && a->calloc == b->calloc && a->realloc == b->realloc
           && a->free == b->free;
}

/* True if a call in the domain reaches one of our hooks, however deep. */
static bool
domain_reached(thag_domain domain)
{
    thag_thread *thread = &thag_this_thread;
    unsigned depth = thread->depth;
    thread->depth = THAG_PROBING;
    thread->probed = 0;
    switch (domain) {
    case THAG_RAW:
        PyMem_RawFree(PyMem_RawMalloc(1));
        break;
    case THAG_MEM:
        PyMem_Free(PyMem_Malloc(1));
        break;
    default:
        PyObject_Free(PyObject_Malloc(1));
        break;
    }
    thread->depth = depth;
    return (thread->probed & 1u << domain) != 0;
}

static bool
domain_on_top(thag_domain domain, PyMemAllocatorEx *found)
{
    PyMem_GetAllocator((PyMemAllocatorDomain)domain, found);
    return found->malloc == hooks[domain].malloc;
}

thag_hook
thag_dispatcher_hook_of(thag_domain domain)
{
    PyMemAllocatorEx found;
    if (domain_on_top(domain, &found)) {
        return THAG_HOOK_ON_TOP;
    }
    return domain_reached(domain) ? THAG_HOOK_BURIED : THAG_HOOK_ABSENT;
}

static hook_slot *
slot_for(thag_domain domain, const PyMemAllocatorEx *wrapped)
{
    for (int i = 0; i < SLOTS; i++) {
        hook_slot *slot = &domains[domain].slots[i];
        if (!slot->used) {
            slot->wrapped = *wrapped;
            slot->used = true;
            return slot;
        }
        if (same_allocator(&slot->wrapped, wrapped)) {
            return slot;
        }
    }
    return NULL;
}

int
thag_dispatcher_hook(void)
{
    int hooked = 0;
    for (thag_domain domain = THAG_RAW; domain < THAG_CPYTHON_DOMAINS; domain++) {
        PyMemAllocatorEx found;
        if (domain_on_top(domain, &found) || domain_reached(domain)) {
            continue;
        }
        hook_slot *slot = slot_for(domain, &found);
        if (slot == NULL) {
            return -1;
        }
        atomic_store_explicit(&domains[domain].newest, slot, memory_order_release);
        PyMemAllocatorEx hook = hooks[domain];
        hook.ctx = slot;
        PyMem_SetAllocator((PyMemAllocatorDomain)domain, &hook);
        hooked++;
    }
    return hooked;
}

int
thag_dispatcher_unhook(void)
{
    int reached = 0;
    for (thag_domain domain = THAG_RAW; domain < THAG_CPYTHON_DOMAINS; domain++) {
        PyMemAllocatorEx found;
        if (domain_on_top(domain, &found)) {
            PyMemAllocatorEx wrapped = ((hook_slot *)found.ctx)->wrapped;
            PyMem_SetAllocator((PyMemAllocatorDomain)domain, &wrapped);
        }
        reached += domain_reached(domain);
    }
    return reached;
}
