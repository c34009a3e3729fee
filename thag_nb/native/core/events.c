/* What hooks tell, and what becomes of it.

   In the lane, an event of a small block is a comparison or two, one word of the owner table and a few of the open batch:
   that is in events.h. Here is all else, in three kinds:

     in the lane    other sizes, and blocks of other contexts: the flow is known, so the batch takes them in.
     attached       the GIL is held: the context is looked up, a batch opened for whoever is charged, and the lane entered
                    if that is who is current.
     detached       without the GIL: what is charged to whom is written to a log (see detached.c). So is an attached event at
                    a moment when the logs cannot be taken over, because another thread merges them.

   Of the native domain most events are detached, and come after one of the same thread, for the same context, with nothing
   looked up with the GIL between. Those take a shortcut: nobody is asked whether the GIL is held and by whom, as the answer
   cannot have changed.

   A record is cleared before the wrapped free or realloc, because another thread may be handed the address in between, and
   written again if the realloc fails. */

#include "events.h"

thag_event_counts thag_events;

/* The state that this thread is attached with, or NULL; asked for once in an event. */
static inline PyThreadState *
tstate_here(thag_domain domain)
{
    return thag_tstate_here(thag_surely_attached(domain));
}

THAG_COLD static void
event_drop(void)
{
    (void)thag_add(&thag_events.dropped, 1);
}

/* Says how an event is charged: to the batch, or by way of a log. False if there is no memory for a log: then it is dropped.
   Who is not attached begins a detached event before anything else: from then on no reset gives a record back that the event
   may come across, be it of the context that it is charged to or of a block's owner. */
static bool
event_begin(const PyThreadState *tstate, thag_log **log)
{
    *log = NULL;
    if (thag_current_is_attached(tstate) && thag_charges_are_current()) {
        return true;
    }
    *log = thag_detached_begin();
    if (*log == NULL) {
        event_drop();
    }
    return *log != NULL;
}

static void
event_finish(thag_log *log)
{
    if (log != NULL) {
        thag_detached_finish(log);
    }
}

/* True for a free while another context than the owner was current. After stop() none is, and no free is foreign. */
static inline bool
is_foreign(const thag_context *owner, thag_context *current)
{
    return owner != current && current != NULL && owner != thag_context_today(current);
}

/* Whom a block is charged to that has a record. */
static inline thag_charge
charge_of(thag_owner owner)
{
    thag_account *account = thag_context_account(owner.slot);
    return (thag_charge){account == NULL ? thag_context_owner(owner.slot) : account->context, account, owner.size};
}

/* What a record says of a block that is charged so. */
static inline uint32_t
slot_of(thag_charge charge)
{
    return charge.account == NULL ? charge.context->slot : charge.account->slot;
}

static void
free_log(thag_log *log, thag_charge owner, bool foreign, thag_source source)
{
    int64_t fall = -(int64_t)owner.size;
    if (THAG_UNLIKELY(owner.account != NULL)) {
        thag_log_write(log, owner.account, source, THAG_ACCOUNT_FREED, fall);
    }
    thag_log_write(log, owner.context, source, foreign ? THAG_FREED_BY_STRANGER : THAG_FREED, fall);
}

static void
owner_repay(thag_charge owner, bool foreign, thag_source source, thag_log *log)
{
    if (log != NULL) {
        free_log(log, owner, foreign, source);
    }
    else if (THAG_LIKELY(owner.account == NULL)) {
        thag_charge_free(owner.context, owner.size, foreign, source);
    }
    else {
        thag_charge_explained_free(owner, foreign, source);
    }
}

/* Where it came from, no record tells; most often from where the address is given out now. */
THAG_COLD static void
stale_settle(thag_owner stale, thag_source source, thag_log *log)
{
    owner_repay(charge_of(stale), false, source, log);
    (void)thag_add(&thag_events.stale_records, 1);
}

/* Writes the record of a block. If there can be none for its address, the event is dropped: false, and counted. */
static bool
record_write(void *block, size_t size, uint32_t slot, thag_source source, thag_log *log)
{
    assert(size <= PTRDIFF_MAX);
    thag_entry *at = thag_owners_find((uintptr_t)block);
    if (THAG_LIKELY(at != NULL && thag_record_write(at, size, slot))) {
        return true;
    }
    if (THAG_UNLIKELY(!thag_owners_reach(block, size))) {
        event_drop();
        return false;
    }
    thag_owner stale;
    while (THAG_UNLIKELY(thag_owners_take_stale(block, size, &stale))) {
        stale_settle(stale, source, log);
    }
    thag_owners_write(block, size, slot);
    return true;
}

static void
charge_allocation(thag_charge charge, thag_source source, thag_log *log)
{
    if (log != NULL) {
        if (THAG_UNLIKELY(charge.account != NULL)) {
            thag_log_write(log, charge.account, source, THAG_ACCOUNT_ALLOCATED, (int64_t)charge.size);
        }
        thag_log_write(log, charge.context, source, THAG_ALLOCATED, (int64_t)charge.size);
    }
    else if (THAG_LIKELY(charge.context->explained == NULL)) {
        thag_charge_allocation(charge.context, charge.size, source);
    }
    else {
        thag_charge_explained_allocation(charge, source);
    }
}

/* Where a block is allocated for an explained context, with the GIL. A library's own thread has no line: it works for who waits. */
static thag_account *
account_here(thag_thread *thread, thag_context *context, const PyThreadState *tstate, size_t size)
{
    if (THAG_UNLIKELY(thread->native && thag_spot_of(tstate).frame == NULL)) {
        (void)thag_waiting_for(&thread->waiter);
        thag_account *account = thag_waiting_account(&thread->waiter, NULL, context, size);
        if (account != NULL) {
            return account;
        }
    }
    return thag_account_here(context, tstate, size);
}

/* How a block is charged to a context that is allocated here now, by a thread with this state, attached with it or not. */
static thag_charge
charge_here(thag_thread *thread, thag_context *context, const PyThreadState *tstate, bool is_attached, size_t size)
{
    thag_charge charge = {context, NULL, size};
    if (THAG_UNLIKELY(context->explained != NULL)) {
        charge.account = is_attached ? account_here(thread, context, tstate, size)
                                     : thag_waiting_account(&thread->waiter, tstate, context, size);
    }
    return charge;
}

/* Whom an allocation is charged to while `current` is: NULL for nobody. Without the GIL, that may be a context that a reset has
   dropped, and then it is the heir. */
static thag_context *
to_be_charged(thag_context *current)
{
    thag_context *today = current == NULL ? NULL : thag_context_today(current);
    return today != NULL && today->records ? today : NULL;
}

/* Makes the version of the running thread state one that no other ever had. False when there are no more. */
static bool
version_make_unique(thag_thread *thread, PyThreadState *tstate)
{
    static uint64_t ranges;         /* GIL */
    if (thread->range_of_tstate == tstate->id && thread->range == tstate->context_ver >> THAG_FLOW_RANGE_BITS) {
        return true;
    }
    if (ranges + 1 >= THAG_FLOW_EXPLAINED >> THAG_FLOW_RANGE_BITS) {
        return false;
    }
    thread->range = ++ranges;
    thread->range_of_tstate = tstate->id;
    tstate->context_ver = ranges << THAG_FLOW_RANGE_BITS;
    thread->contextvars_version = tstate->context_ver;
    return true;
}

/* After an event that was charged with the GIL: if the open batch is of the context of the flow that runs, that goes on in the
   lane. */
static void
lane_enter(thag_thread *thread)
{
    const thag_context *context = thag_open_batch.context;
    if (context == NULL || thread->context != context || !context->records || thag_logs_wait()) {
        return;
    }
    bool is_explained = context->explained != NULL;
    if (!is_explained && context->slot >= THAG_NEAR_SLOTS) {
        return;
    }
    PyThreadState *tstate = thag_tstate_attached();
    if (!thag_current_cache_is_valid(thread, tstate) || !version_make_unique(thread, tstate)) {
        return;
    }
    atomic_store_explicit(&thag_open_lane.thread, (uintptr_t)thread, memory_order_relaxed);
    atomic_store(&thag_open_lane.contextvars_version, tstate->context_ver | (is_explained ? THAG_FLOW_EXPLAINED : 0));
    if (thag_logs_wait()) {
        thag_lane_leave();      /* a detached event was over before the lane was entered, and found nothing to leave */
    }
}

/* ---- attached ---- */

/* For when the current context must be looked for, the interpreter is not ours, or the logs cannot be taken over. */
THAG_COLD static void
allocation_record_slowly(thag_thread *thread, thag_domain domain, PyThreadState *tstate, void *block, size_t size)
{
    thag_log *log;
    if (!event_begin(tstate, &log)) {
        return;
    }
    thag_context *context = to_be_charged(thag_current_look_up(thread, tstate));
    bool is_attached = thag_current_is_attached(tstate);
    thag_charge charge = context == NULL ? (thag_charge){0} : charge_here(thread, context, tstate, is_attached, size);
    if (context != NULL && record_write(block, size, slot_of(charge), thag_source_of(domain), log)) {
        charge_allocation(charge, thag_source_of(domain), log);
        thag_waiting_charged(&thread->waiter, size);
        if (log == NULL) {
            lane_enter(thread);
        }
    }
    event_finish(log);
}

THAG_COLD static void
free_record_slowly(thag_thread *thread, thag_domain domain, PyThreadState *tstate, const void *block)
{
    thag_log *log;
    if (!event_begin(tstate, &log)) {
        return;
    }
    thag_context *current = thag_current_look_up(thread, tstate);
    thag_owner owner = thag_owners_take(block);
    if (THAG_LIKELY(owner.slot != 0)) {     /* else all was forgotten since the block was found to have one */
        thag_charge charge = charge_of(owner);
        owner_repay(charge, is_foreign(charge.context, current), thag_source_of(domain), log);
    }
    if (log == NULL) {
        lane_enter(thread);
    }
    event_finish(log);
}

static void
allocation_record_explained(thag_thread *thread, thag_source source, const PyThreadState *tstate, void *block, size_t size)
{
    thag_charge charge = {thread->context, account_here(thread, thread->context, tstate, size), size};
    if (record_write(block, size, slot_of(charge), source, NULL)) {
        thag_charge_explained_allocation(charge, source);
        lane_enter(thread);
    }
}

static void
attached_allocated(thag_thread *thread, thag_domain domain, PyThreadState *tstate, void *block, size_t size)
{
    thag_context *current = thag_current_cached(thread, tstate);
    if (THAG_LIKELY(current != NULL) && !current->records) {
        return;
    }
    if (THAG_UNLIKELY(current == NULL || !thag_charges_are_current())) {
        allocation_record_slowly(thread, domain, tstate, block, size);
    }
    else if (THAG_UNLIKELY(current->explained != NULL)) {
        allocation_record_explained(thread, thag_source_of(domain), tstate, block, size);
    }
    else if (THAG_LIKELY(record_write(block, size, current->slot, thag_source_of(domain), NULL))) {
        thag_charge_allocation(current, size, thag_source_of(domain));
        lane_enter(thread);
    }
}

static void
attached_freed(thag_thread *thread, thag_domain domain, PyThreadState *tstate, const void *block)
{
    thag_context *current = thag_current_cached(thread, tstate);
    if (THAG_UNLIKELY(current == NULL || !thag_charges_are_current())) {
        free_record_slowly(thread, domain, tstate, block);
        return;
    }
    thag_charge owner = charge_of(thag_owners_take(block));
    owner_repay(owner, is_foreign(owner.context, current), thag_source_of(domain), NULL);
    lane_enter(thread);
}

/* ---- detached ---- */

/* What is known of who runs here, without the GIL. */
typedef struct {
    thag_domain domain;
    const PyThreadState *own;           /* the thread's state, or NULL */
    const PyThreadState *holder;        /* the state of whoever has the GIL, as far as that is told */
} detached_flow;

/* Whom the thread works for. Remembers it for the shortcut, if it is not found otherwise as long as nothing moves. */
static thag_context *
detached_look_up(thag_thread *thread, detached_flow flow)
{
    thag_shortcut found = {
        .generation = atomic_load(&thag_contexts_generation),
        .version_at = flow.own == NULL ? &thag_waiting_version : &flow.own->context_ver,
        .version = flow.own == NULL ? thag_waiting_version_now() : flow.own->context_ver,
        .holder = flow.holder,
    };
    found.context = thag_current_detached(thread, flow.own);
    bool lasts = flow.own == NULL ? thread->native && thag_waiting_lasts(&thread->waiter)
                                  : thag_current_cache_is_valid(thread, flow.own);
    if (flow.domain != THAG_NATIVE || found.context == NULL || found.context->explained != NULL || !lasts) {
        found.version_at = NULL;
    }
    thread->shortcut = found;
    return found.context;
}

static void
detached_allocated(thag_thread *thread, detached_flow flow, void *block, size_t size)
{
    thag_log *log = thag_detached_begin();
    if (THAG_UNLIKELY(log == NULL)) {
        event_drop();
        return;
    }
    if (flow.own == NULL) {
        thread->native = true;      /* one that Python starts only frees before it has a state */
    }
    thag_source source = thag_source_of(flow.domain);
    thag_context *context = to_be_charged(detached_look_up(thread, flow));
    thag_charge charge = context == NULL ? (thag_charge){0} : charge_here(thread, context, flow.own, false, size);
    if (THAG_LIKELY(context != NULL && record_write(block, size, slot_of(charge), source, log))) {
        charge_allocation(charge, source, log);
        thag_waiting_charged(&thread->waiter, size);
    }
    thag_detached_finish(log);
}

static void
detached_freed(thag_thread *thread, detached_flow flow, const void *block)
{
    thag_log *log = thag_detached_begin();
    if (THAG_UNLIKELY(log == NULL)) {
        event_drop();
        return;
    }
    thag_context *current = detached_look_up(thread, flow);
    thag_owner owner = thag_owners_take(block);
    if (THAG_LIKELY(owner.slot != 0)) {     /* else all was forgotten since the block was found to have one */
        thag_charge charge = charge_of(owner);
        free_log(log, charge, is_foreign(charge.context, current), thag_source_of(flow.domain));
    }
    thag_detached_finish(log);
}

/* ---- the shortcut: the log of this thread is free and has room, and it is known whom the thread works for ---- */

/* Begins an event, if that may take the shortcut. */
static inline thag_log *
shortcut_begin(const thag_thread *thread, const PyThreadState *tstate)
{
    thag_log *log = thag_log_of_thread;
    bool may_begin = THAG_LIKELY(thag_current_may_take_shortcut(thread, tstate)) && THAG_LIKELY(log != NULL);
    return may_begin && THAG_LIKELY(thag_log_occupy(log)) ? log : NULL;
}

void
thag_event_allocated_natively(thag_thread *thread, const PyThreadState *tstate, void *block, size_t size)
{
    thag_log *log = shortcut_begin(thread, tstate);
    if (THAG_LIKELY(log != NULL)) {
        thag_context *current = thag_current_by_shortcut(thread);
        if (THAG_LIKELY(current != NULL) && current->records) {
            thag_entry *at = thag_owners_find((uintptr_t)block);
            if (THAG_LIKELY(at != NULL && thag_record_write(at, size, current->slot))) {
                thag_log_finish_with(log, current, THAG_OF_NATIVE, THAG_ALLOCATED, (int64_t)size);
                return;
            }
        }
        thag_log_let_go(log);       /* with nothing done */
    }
    thag_event_allocated_slowly(thread, THAG_NATIVE, block, size);
}

static inline void
freed_by_shortcut(thag_log *log, thag_owner owner, thag_context *current)
{
    if (THAG_LIKELY(owner.slot == current->slot)) {
        thag_log_finish_with(log, current, THAG_OF_NATIVE, THAG_FREED, -(int64_t)owner.size);
        return;
    }
    thag_charge charge = charge_of(owner);
    free_log(log, charge, is_foreign(charge.context, current), THAG_OF_NATIVE);
    thag_log_finish(log);
}

void
thag_event_freed_natively(thag_thread *thread, const PyThreadState *tstate, const void *block, thag_entry *at)
{
    thag_log *log = at == NULL ? NULL : shortcut_begin(thread, tstate);
    if (THAG_LIKELY(log != NULL)) {
        thag_context *current = thag_current_by_shortcut(thread);
        thag_owner owner = {.slot = 0};
        if (THAG_LIKELY(current != NULL)) {
            owner = thag_record_take(at, thag_pair_load(at));
        }
        if (THAG_LIKELY(owner.slot != 0)) {
            freed_by_shortcut(log, owner, current);
            return;
        }
        thag_log_let_go(log);
    }
    thag_event_freed_anywhere(thread, THAG_NATIVE, block);
}

/* ---- in the lane of an explained context ---- */

/* Writes the record of a block, if nothing is in the way. False if that is not so. */
static inline bool
explained_write(const void *block, thag_charge charge)
{
    thag_entry *at = thag_owners_find((uintptr_t)block);
    uint32_t word = charge.account == NULL ? 0 : charge.account->small_word;
    if (THAG_UNLIKELY(at == NULL)) {
        return false;
    }
    if (THAG_LIKELY(word != 0 && thag_is_small(charge.size))) {
        bool is_free = thag_pair_load(at) == 0;
        if (THAG_LIKELY(is_free)) {
            thag_pair_store(at, word + (THAG_ENTRY_BEGINS + (uint32_t)charge.size));
        }
        return is_free;
    }
    uint32_t slot = slot_of(charge);
    return thag_record_write(at, charge.size, slot) || thag_record_write_far(at, block, charge.size, slot);
}

void
thag_event_allocated_explained(thag_source source, const PyThreadState *tstate, void *block, size_t size)
{
    thag_context *context = thag_open_batch.context;
    thag_charge charge = {context, thag_account_here(context, tstate, size), size};
    if (THAG_LIKELY(explained_write(block, charge)) || record_write(block, size, slot_of(charge), source, NULL)) {
        thag_charge_explained_allocation(charge, source);
    }
}

/* Reads and clears the record of a block; slot 0 if there is none. */
static inline thag_owner
explained_take(const void *block)
{
    thag_entry *at = thag_owners_find((uintptr_t)block);
    if (THAG_UNLIKELY(at == NULL)) {
        return thag_owners_take(block);
    }
    thag_owner owner = {.slot = 0};
    uint32_t word = thag_pair_load(at);
    if (THAG_LIKELY(thag_record_take_small(at, word, &owner))) {
        return owner;
    }
    owner = thag_record_take(at, word);
    return owner.slot != 0 ? owner : thag_owners_take(block);
}

void
thag_event_freed_explained(thag_source source, const void *block)
{
    thag_owner owner = explained_take(block);
    if (owner.slot == 0) {
        return;
    }
    thag_charge charge = charge_of(owner);
    bool foreign = charge.context != thag_open_batch.context;
    if (THAG_LIKELY(charge.account != NULL)) {
        thag_charge_explained_free(charge, foreign, source);
    }
    else {
        owner_repay(charge, foreign, source, NULL);
    }
}

/* ---- outside of the lane ---- */

void
thag_event_allocated_slowly(thag_thread *thread, thag_domain domain, void *block, size_t size)
{
    bool is_attached = true;
    PyThreadState *tstate = thag_tstate_attached();
    PyThreadState *own = thag_surely_attached(domain) ? tstate : thag_tstate_own(tstate, &is_attached);
    if (is_attached) {
        attached_allocated(thread, domain, own, block, size);
    }
    else {
        detached_allocated(thread, (detached_flow){domain, own, tstate}, block, size);
    }
}

void
thag_event_freed_anywhere(thag_thread *thread, thag_domain domain, const void *block)
{
    if (!thag_owners_has(block)) {      /* its entry may be one of a larger block's, in which it lies */
        return;
    }
    bool is_attached;
    PyThreadState *tstate = thag_tstate_attached();
    PyThreadState *own = thag_tstate_own(tstate, &is_attached);
    if (is_attached) {
        attached_freed(thread, domain, own, block);
    }
    else {
        detached_freed(thread, (detached_flow){domain, own, tstate}, block);
    }
}

void
thag_event_freed_slowly(thag_thread *thread, thag_domain domain, const void *block)
{
    if (thag_owners_has(block)) {
        attached_freed(thread, domain, tstate_here(domain), block);
    }
}

/* ---- in the lane ---- */

/* Makes time for an event: the flow is known, but the clock must be read again. */
THAG_COLD static void
lane_renew(thag_thread *thread, size_t size)
{
    thag_batch_open(thag_open_batch.context, size);
    lane_enter(thread);
}

static inline void
lane_take_time(thag_thread *thread, size_t size)
{
    if (THAG_UNLIKELY(!thag_batch_affords(&thag_open_batch, thag_event_cost(size)))) {
        lane_renew(thread, size);
    }
}

static inline void
lane_allocated_other(thag_thread *thread, thag_domain domain, thag_source source, void *block, size_t size, thag_entry *at)
{
    thag_batch *batch = &thag_open_batch;
    if (THAG_LIKELY(thag_record_write(at, size, batch->slot))) {
        lane_take_time(thread, size);
        thag_batch_allocated(batch, size, source);
    }
    else {
        thag_event_allocated_slowly(thread, domain, block, size);
    }
}

/* Most are Python's: with that known, nothing looks at the source. */
void
thag_lane_allocated_other(thag_thread *thread, thag_domain domain, void *block, size_t size, thag_entry *at)
{
    if (THAG_LIKELY(thag_source_of(domain) == THAG_OF_PYTHON)) {
        lane_allocated_other(thread, domain, THAG_OF_PYTHON, block, size, at);
    }
    else {
        lane_allocated_other(thread, domain, thag_source_of(domain), block, size, at);
    }
}

/* A block, whose record is gone, of another slot than the lane's. */
THAG_APART static void
lane_freed_foreign(thag_thread *thread, thag_source source, thag_owner owner)
{
    thag_batch *batch = &thag_open_batch;
    if (THAG_UNLIKELY(thag_context_account(owner.slot) != NULL)) {
        owner_repay(charge_of(owner), true, source, NULL);      /* which leaves the lane */
        return;
    }
    thag_context *context = owner.slot == batch->other_slot ? batch->other : thag_context_owner(owner.slot);
    lane_take_time(thread, owner.size);
    if (context == batch->context) {
        thag_batch_freed(batch, owner.size, source);
        return;
    }
    if (owner.slot != batch->other_slot) {
        thag_batch_accompany(context, owner.slot);
    }
    thag_batch_other_freed(batch, owner.size, source);
}

static inline void
lane_freed_own(thag_thread *thread, thag_source source, size_t size)
{
    lane_take_time(thread, size);
    thag_batch_freed(&thag_open_batch, size, source);
}

/* A record that is not of a large block of the lane's context. */
static inline void
lane_freed_rare(thag_thread *thread, thag_domain domain, thag_source source, const void *block, thag_entry *at,
                uint32_t word)
{
    thag_owner owner = thag_record_take(at, word);
    if (owner.slot == 0) {
        thag_event_freed_slowly(thread, domain, block);
    }
    else if (THAG_LIKELY(owner.slot == thag_open_batch.slot)) {
        lane_freed_own(thread, source, owner.size);
    }
    else {
        lane_freed_foreign(thread, source, owner);
    }
}

static inline void
lane_freed_other(thag_thread *thread, thag_domain domain, thag_source source, const void *block, thag_entry *at)
{
    thag_batch *batch = &thag_open_batch;
    uint32_t word = thag_pair_load(at), foreign = word - batch->other_word;
    if (word == thag_large_word(batch->slot)) {
        size_t size = thag_size_of_word(thag_pair_load(at + 2));
        thag_pair_store(at, 0);
        thag_pair_store(at + 2, 0);
        lane_freed_own(thread, source, size);
    }
    else if (thag_is_small(foreign) && thag_batch_affords(batch, THAG_SMALL_BYTES)) {
        thag_pair_store(at, 0);
        thag_batch_other_freed(batch, foreign, source);
    }
    else if (thag_entry_load(at) != 0) {
        lane_freed_rare(thread, domain, source, block, at, word);
    }
}

void
thag_lane_freed_other(thag_thread *thread, thag_domain domain, const void *block, thag_entry *at)
{
    if (THAG_LIKELY(thag_source_of(domain) == THAG_OF_PYTHON)) {
        lane_freed_other(thread, domain, THAG_OF_PYTHON, block, at);
    }
    else {
        lane_freed_other(thread, domain, thag_source_of(domain), block, at);
    }
}

/* ---- reallocations ---- */

/* Not a small block of the lane's context, or not in the lane. A block that is left in the table, as there is no log for it, is
   stale if it moves. */
thag_claim
thag_event_claim_slowly(thag_thread *thread, thag_domain domain, const void *block)
{
    const PyThreadState *attached = thag_tstate_attached();
    thag_owner owner = {.slot = 0};
    if (thag_lane_holds_explained(thread, domain, attached)) {
        owner = explained_take(block);
        return (thag_claim){.owner = owner, .owned = owner.slot != 0};
    }
    thag_entry *at = thag_lane_finds(thread, domain, attached, block);
    if (at != NULL) {
        owner = thag_record_take(at, thag_pair_load(at));
    }
    if (owner.slot != 0) {
        return (thag_claim){.owner = owner, .owned = true, .in_lane = owner.slot == thag_open_batch.slot};
    }
    thag_claim claim = {.owned = thag_owners_has(block)};
    if (claim.owned) {
        const PyThreadState *tstate = tstate_here(domain);
        bool is_known = thag_current_cached(thread, tstate) != NULL && thag_charges_are_current();
        claim.owned = is_known || event_begin(tstate, &claim.log);
    }
    if (claim.owned) {
        claim.owner = thag_owners_take(block);
    }
    if (THAG_UNLIKELY(claim.owned && claim.owner.slot == 0)) {      /* all was forgotten since */
        event_finish(claim.log);
        claim = (thag_claim){.owned = false};
    }
    return claim;
}

/* A block that shrank or kept its size stays its owner's; its record is written anew where the block is now. */
static void
owner_keep(thag_charge owner, void *block, size_t size, thag_source source, thag_log *log)
{
    size_t fall = owner.size - size;
    if (!record_write(block, size, slot_of(owner), source, log)) {
        owner_repay(owner, false, source, log);
    }
    else if (log == NULL && owner.account == NULL) {
        thag_charge_shrunk(owner.context, fall, source);
    }
    else if (log == NULL) {
        thag_charge_explained_shrunk(owner, fall, source);
    }
    else {
        if (owner.account != NULL) {
            thag_log_write(log, owner.account, source, THAG_ACCOUNT_SHRUNK, -(int64_t)fall);
        }
        thag_log_write(log, owner.context, source, THAG_SHRUNK, -(int64_t)fall);
    }
}

/* A block that grew: the owner is repaid and the current context charged. */
static void
owner_change(thag_charge owner, thag_charge charge, thag_source source, thag_log *log)
{
    if (log == NULL) {
        thag_charge_moved(owner, charge, source);
    }
    else if (owner.context == charge.context && owner.account == NULL && charge.account == NULL) {
        thag_log_write(log, owner.context, source, THAG_GROWN, (int64_t)(charge.size - owner.size));
        thag_log_write(log, owner.context, source, THAG_TOTAL, (int64_t)owner.size);
    }
    else {
        owner_repay(owner, is_foreign(owner.context, charge.context), source, log);
        charge_allocation(charge, source, log);
    }
}

static void
claim_settle(thag_thread *thread, thag_domain domain, thag_claim claim, void *old_block, void *block, size_t size,
             bool outermost)
{
    PyThreadState *tstate = tstate_here(domain);
    thag_context *current = thag_current_cached(thread, tstate);
    if (current == NULL) {
        current = thag_current_look_up(thread, tstate);
    }
    assert(claim.owned);
    thag_source source = thag_source_of(domain);
    thag_charge owner = charge_of(claim.owner);
    if (block == NULL) {
        thag_owners_write(old_block, claim.owner.size, claim.owner.slot);
        return;
    }
    if (size <= claim.owner.size) {
        owner_keep(owner, block, size, source, claim.log);
        return;
    }
    thag_context *context = outermost ? to_be_charged(current) : NULL;
    bool is_attached;
    const PyThreadState *own = thag_tstate_own(thag_tstate_attached(), &is_attached);
    is_attached = is_attached && thag_current_is_attached(own);
    thag_charge charge = context == NULL ? (thag_charge){0} : charge_here(thread, context, own, is_attached, size);
    if (context != NULL && record_write(block, size, slot_of(charge), source, claim.log)) {
        owner_change(owner, charge, source, claim.log);
    }
    else {
        owner_repay(owner, is_foreign(owner.context, current), source, claim.log);
    }
}

/* A block of any size that was the lane's context's, and is. */
static bool
lane_resized_other(thag_thread *thread, thag_domain domain, thag_claim claim, const void *block, size_t size)
{
    thag_entry *at = thag_lane_claimed(thread, domain, claim, block);
    if (at == NULL || !thag_record_write(at, size, thag_open_batch.slot)) {
        return false;
    }
    lane_take_time(thread, size);
    thag_batch_resized(&thag_open_batch, claim.owner.size, size, thag_source_of(domain));
    return true;
}

/* A block that grew while an explained context was in the lane: that one's, whoever's it was. */
static bool
explained_grown(const thag_thread *thread, thag_domain domain, thag_claim claim, const void *block, size_t size)
{
    const PyThreadState *tstate = thag_tstate_attached();
    if (block == NULL || size <= claim.owner.size || claim.log != NULL || thread->depth != 0
        || !thag_lane_holds_explained(thread, domain, tstate)) {
        return false;
    }
    thag_context *context = thag_open_batch.context;
    thag_charge charge = {context, thag_account_here(context, tstate, size), size};
    if (!explained_write(block, charge)) {
        return false;
    }
    thag_charge_moved(charge_of(claim.owner), charge, thag_source_of(domain));
    return true;
}

void
thag_event_resized_slowly(thag_thread *thread, thag_domain domain, thag_claim claim, void *old_block, void *block,
                          size_t size)
{
    if (lane_resized_other(thread, domain, claim, block, size) || explained_grown(thread, domain, claim, block, size)) {
        return;
    }
    if (claim.log == NULL && !thag_charges_are_current()) {
        claim.log = thag_detached_begin();
    }
    claim_settle(thread, domain, claim, old_block, block, size, thread->depth == 0);
    if (claim.log == NULL) {
        lane_enter(thread);
    }
    event_finish(claim.log);
}

void
thag_event_split(thag_domain domain, const void *block, void *part, size_t size)
{
    thag_log *log;
    if (!event_begin(tstate_here(domain), &log)) {
        return;
    }
    thag_owner owner = thag_owners_peek(block);
    if (owner.slot != 0) {
        thag_charge charge = charge_of(owner);
        charge.size = size;
        if (record_write(part, size, slot_of(charge), thag_source_of(domain), log)) {
            charge_allocation(charge, thag_source_of(domain), log);
        }
    }
    event_finish(log);
}
