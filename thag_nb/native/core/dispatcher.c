/* The dispatcher: forward, then record.

     caller ─► hook ─► wrapped allocator (pymalloc, malloc, tracemalloc's hook, ...)
                 └──► owner table, counters, timeline

   A block is recorded once, by the outermost hook that sees it: an object over 512 bytes goes through obj and then raw, a
   NumPy array through numpy and, since 2.5, raw. A thread-local depth tells the inner calls, which only forward. A free
   clears the record at any depth: the outermost hook has done that before the inner ones look, and they find none.

   Order matters: a record is cleared before the wrapped free or realloc, because another thread may be handed the address
   in between, and written again if the realloc fails. Somebody who wrapped us keeps calling us after stop(); then we go on
   clearing records, so that the table never names a block that is gone.

   A hook is installed in a slot that is written once and never changes: calls that are in flight, and whoever saved us as
   the allocator to restore, go on finding what they knew. A slot is used again only above the very same allocator. The
   domain's own functions find the slot by their context word, but do not trust it: CPython's readers may see a function
   and a context word that do not belong together. */

#include "dispatcher.h"

#include <string.h>

thag_dispatcher thag_dispatcher_state;

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

static inline const PyMemAllocatorEx *
wrapped_by(thag_domain domain, void *word)
{
    assert(atomic_load(&domains[domain].newest) != NULL);
    uintptr_t offset = (uintptr_t)word - (uintptr_t)domains[domain].slots;
    if (THAG_LIKELY(offset < sizeof(domains[domain].slots))) {
        return word;
    }
    return &atomic_load_explicit(&domains[domain].newest, memory_order_acquire)->wrapped;
}

/* ---- recording ---- */

/* CPython promises that these domains are only called with the GIL. */
static inline bool
surely_attached(thag_domain domain)
{
    return domain == THAG_MEM || domain == THAG_OBJ;
}

static inline thag_context *
current_cached(const thag_thread *thread, thag_domain domain)
{
    return thag_current_cached(thread, surely_attached(domain));
}

/* Who is not attached begins a detached event before anything else: from then on no reset gives a record back that the event
   may come across, be it of the context that it is charged to or of a block's owner. True for who is. */
static bool
event_begin(thag_domain domain)
{
    bool attached = thag_current_is_attached(surely_attached(domain));
    if (!attached) {
        thag_detached_begin();
    }
    return attached;
}

static void
event_finish(bool attached)
{
    if (!attached) {
        thag_detached_finish();
    }
}

static thag_context *
look_up(thag_thread *thread, thag_domain domain)
{
    return thag_current_look_up(thread, surely_attached(domain));
}

/* True for a free while another context than the owner was current. After stop() none is, and no free is foreign. */
static inline bool
is_foreign(const thag_context *owner, thag_context *current)
{
    return owner != current && current != NULL && owner != thag_context_today(current);
}

THAG_COLD static void
event_drop(void)
{
    (void)thag_add(&thag_dispatcher_state.dropped, 1);
}

static void
owner_repay(thag_context *owner, size_t size, bool foreign, bool attached)
{
    if (attached) {
        thag_charge_free(owner, size, foreign);
    }
    else {
        thag_change change = {.live_bytes = -(int64_t)size, .frees = 1, .foreign_frees = foreign};
        thag_charge_detached(owner, &change);
    }
}

THAG_COLD static void
stale_settle(const void *block, size_t size, bool attached)
{
    thag_owner stale;
    while (thag_owners_take_stale(block, size, &stale)) {
        owner_repay(thag_context_owner(stale.context_id), stale.size, false, attached);
        (void)thag_add(&thag_dispatcher_state.stale_records, 1);
    }
}

/* Writes the record of a block. If there is no entry for its address, the event is dropped: false, and counted. */
static inline bool
record_write(void *block, size_t size, const thag_context *context, bool attached)
{
    assert(size <= PTRDIFF_MAX && context == thag_context_by_id(context->id));
    thag_entry *at = thag_owners_find_or_map(block);
    if (THAG_UNLIKELY(at == NULL)) {
        event_drop();
        return false;
    }
    if (THAG_UNLIKELY(thag_owners_occupied(at, size))) {
        stale_settle(block, size, attached);
    }
    thag_owners_write(at, size, context->id);
    return true;
}

static void
charge_allocation(thag_context *context, size_t size, bool attached)
{
    if (attached) {
        thag_charge_allocation(context, size);
    }
    else {
        int64_t bytes = (int64_t)size;
        thag_change change = {.live_bytes = bytes, .total_bytes = bytes, .allocations = 1};
        thag_charge_detached(context, &change);
    }
}

/* Whom an allocation is charged to while `current` is: NULL for nobody. Without the GIL, that may be a context that a reset has
   dropped, and then it is the heir. */
static thag_context *
to_be_charged(thag_context *current)
{
    thag_context *today = current == NULL ? NULL : thag_context_today(current);
    return today != NULL && today->records ? today : NULL;
}

/* For when the current context must be looked for, or the GIL is not held. */
THAG_COLD static void
allocation_record_slowly(thag_thread *thread, thag_domain domain, void *block, size_t size)
{
    bool attached = event_begin(domain);
    thag_context *context = to_be_charged(look_up(thread, domain));
    thread->native |= !attached && thread->stateless;       /* one that Python starts only frees before it has a state */
    if (context != NULL && record_write(block, size, context, attached)) {
        charge_allocation(context, size, attached);
    }
    event_finish(attached);
}

static inline void
allocation_record(thag_thread *thread, thag_domain domain, void *block, size_t size)
{
    thag_context *current = current_cached(thread, domain);
    if (THAG_UNLIKELY(current == NULL)) {
        allocation_record_slowly(thread, domain, block, size);
    }
    else if (THAG_LIKELY(current->records) && record_write(block, size, current, true)) {
        thag_charge_allocation(current, size);
    }
}

static inline thag_context *
owner_of(thag_owner owner)
{
    return owner.context_id == thag_open_batch.context_id ? thag_open_batch.context
                                                          : thag_context_owner(owner.context_id);
}

THAG_COLD static void
free_record_slowly(thag_thread *thread, thag_domain domain, thag_entry *at)
{
    bool attached = event_begin(domain);
    thag_context *current = look_up(thread, domain);
    thag_owner owner = thag_owners_take(at);
    thag_context *context = thag_context_owner(owner.context_id);
    owner_repay(context, owner.size, is_foreign(context, current), attached);
    event_finish(attached);
}

static inline void
free_record(thag_thread *thread, thag_domain domain, void *block)
{
    thag_entry *at = thag_owners_find((uintptr_t)block);
    if (THAG_UNLIKELY(at == NULL || !thag_owners_begins(at))) {
        return;
    }
    thag_context *current = current_cached(thread, domain);
    if (THAG_UNLIKELY(current == NULL)) {
        free_record_slowly(thread, domain, at);
        return;
    }
    thag_owner owner = thag_owners_take(at);
    thag_context *context = owner_of(owner);
    thag_charge_free(context, owner.size, is_foreign(context, current));
}

void
thag_record_allocation(thag_thread *thread, thag_domain domain, void *block, size_t size)
{
    allocation_record(thread, domain, block, size);
}

void
thag_record_free(thag_thread *thread, thag_domain domain, void *block)
{
    free_record(thread, domain, block);
}

thag_claim
thag_record_claim(thag_thread *thread, thag_domain domain, void *block)
{
    thag_claim claim = {.owned = false};
    thag_entry *at = thag_owners_find((uintptr_t)block);
    if (at == NULL || !thag_owners_begins(at)) {
        return claim;
    }
    claim.detached = current_cached(thread, domain) == NULL && !event_begin(domain);
    claim.owned = true;
    claim.owner = thag_owners_take(at);
    return claim;
}

/* A block that shrank or kept its size stays its owner's; its record is written anew where the block is now. */
static void
owner_keep(thag_context *owner, thag_claim claim, void *block, size_t size)
{
    bool attached = !claim.detached;
    if (!record_write(block, size, owner, attached)) {
        owner_repay(owner, claim.owner.size, false, attached);
    }
    else if (attached) {
        thag_charge_shrunk(owner, claim.owner.size - size);
    }
    else {
        thag_change change = {.live_bytes = (int64_t)size - (int64_t)claim.owner.size};
        thag_charge_detached(owner, &change);
    }
}

/* A block that grew: the owner is repaid and the current context charged. */
static void
owner_change(thag_context *owner, size_t old_size, thag_context *context, size_t size, bool attached)
{
    if (attached) {
        thag_charge_moved(owner, old_size, context, size);
    }
    else {
        owner_repay(owner, old_size, is_foreign(owner, context), false);
        charge_allocation(context, size, false);
    }
}

static void
claim_settle(thag_thread *thread, thag_domain domain, thag_claim claim, void *old_block, void *block, size_t size,
             bool outermost)
{
    thag_context *current = current_cached(thread, domain);
    if (current == NULL) {
        current = look_up(thread, domain);
    }
    bool attached = !claim.detached;
    assert(claim.owned);
    thag_context *owner = thag_context_owner(claim.owner.context_id);
    thag_context *context = outermost ? to_be_charged(current) : NULL;
    if (block == NULL) {
        thag_owners_write(thag_owners_find((uintptr_t)old_block), claim.owner.size, claim.owner.context_id);
    }
    else if (size <= claim.owner.size) {
        owner_keep(owner, claim, block, size);
    }
    else if (context != NULL && record_write(block, size, context, attached)) {
        owner_change(owner, claim.owner.size, context, size, attached);
    }
    else {
        owner_repay(owner, claim.owner.size, is_foreign(owner, current), attached);
    }
}

void
thag_record_reallocation(thag_thread *thread, thag_domain domain, thag_claim claim, void *old_block, void *block,
                         size_t size)
{
    bool outermost = thread->depth == 0;
    if (claim.owned) {
        claim_settle(thread, domain, claim, old_block, block, size, outermost);
    }
    else if (block != NULL && outermost) {
        allocation_record(thread, domain, block, size);
    }
    if (claim.detached) {
        thag_detached_finish();
    }
}

/* ---- the hooks ---- */

/* Only forwards: another hook of this call records, or nothing is to be recorded. */
THAG_COLD static void
probe_answer(thag_thread *thread, thag_domain domain)
{
    thread->probed |= 1u << domain;
}

/* True if no other hook is called by this thread now: then the call is for this one to record. */
static inline bool
is_outermost(thag_thread *thread, thag_domain domain)
{
    if (THAG_UNLIKELY(thread->depth != 0)) {
        if (thread->depth >= THAG_PROBING) {
            probe_answer(thread, domain);
        }
        return false;
    }
    return true;
}

static inline void *
hook_malloc(thag_domain domain, void *word, size_t size)
{
    const PyMemAllocatorEx *wrapped = wrapped_by(domain, word);
    thag_thread *thread = &thag_this_thread;
    if (!is_outermost(thread, domain)) {
        return wrapped->malloc(wrapped->ctx, size);
    }
    thread->depth = 1;
    void *block = wrapped->malloc(wrapped->ctx, size);
    assert(thread->depth == 1);
    thread->depth = 0;
    if (THAG_LIKELY(block != NULL)) {
        allocation_record(thread, domain, block, size);
    }
    return block;
}

static inline void *
hook_calloc(thag_domain domain, void *word, size_t count, size_t size)
{
    const PyMemAllocatorEx *wrapped = wrapped_by(domain, word);
    thag_thread *thread = &thag_this_thread;
    if (!is_outermost(thread, domain)) {
        return wrapped->calloc(wrapped->ctx, count, size);
    }
    thread->depth = 1;
    void *block = wrapped->calloc(wrapped->ctx, count, size);
    assert(thread->depth == 1);
    thread->depth = 0;
    if (THAG_LIKELY(block != NULL)) {
        assert(size == 0 || count <= PTRDIFF_MAX / size);
        allocation_record(thread, domain, block, count * size);
    }
    return block;
}

static inline void *
hook_realloc(thag_domain domain, void *word, void *block, size_t size)
{
    const PyMemAllocatorEx *wrapped = wrapped_by(domain, word);
    thag_thread *thread = &thag_this_thread;
    thag_claim claim = thag_record_claim(thread, domain, block);
    if (THAG_UNLIKELY(!is_outermost(thread, domain) && !claim.owned)) {
        return wrapped->realloc(wrapped->ctx, block, size);
    }
    thread->depth++;
    void *moved = wrapped->realloc(wrapped->ctx, block, size);
    assert((thread->depth & (THAG_PROBING - 1)) > 0);
    thread->depth--;
    thag_record_reallocation(thread, domain, claim, block, moved, size);
    return moved;
}

static inline void
hook_free(thag_domain domain, void *word, void *block)
{
    const PyMemAllocatorEx *wrapped = wrapped_by(domain, word);
    if (THAG_LIKELY(block != NULL)) {
        free_record(&thag_this_thread, domain, block);
    }
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
