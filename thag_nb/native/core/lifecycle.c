/* What becomes of contexts.

     open ──► ended ──► dropped ──► forgotten
       holds    a reset    when nothing points there
       are gone

   A context is open as long as somebody holds it, and may be opened again after it ended. A reset drops those that have
   ended: what they still hold passes to an heir, the nearest context above that stays or, for one that never recorded,
   the system context. A dropped record still answers, with its heir, to whoever looked it up before: blocks by their
   owner's id, frames of flows that go on, contexts started under it. What a thread without the GIL charges it for, having
   looked it up before the reset, is passed on as well.

   Who never resets lives as long. So of contexts that have ended and hold nothing, neither bytes nor a block, and that nothing
   else points to, only the newest are kept, and those right under the root apart: a million tasks do not drive out the cell
   that started them. Older ones are given back: their counts go to the context above, which tells them with what is below it,
   and they are dropped and forgotten at once. Live bytes, peaks and timelines of what is above have them included anyway.

   A reset forgets dropped contexts, and frees their slots, once it has taken care that nothing points to them any more: blocks
   are renamed to the heir, contexts that stay are put right under a context that stays, no frame is left, no thread's
   cache is valid, and the logs are merged. Threads without the GIL cannot be stopped meanwhile, so nothing is forgotten if
   any of them was in the middle of an event. */

#include "lifecycle.h"

#include "accounts.h"
#include "charges.h"
#include "owners.h"

#include <stdlib.h>

/* ---- open and ended ---- */

void
thag_lifecycle_hold(thag_context *context)
{
    int32_t before = atomic_fetch_add(&context->holds, 1);
    assert(before >= 0 && before < INT32_MAX);
    if (before == 0) {
        context->entered = true;
        context->ended = false;
    }
}

void
thag_lifecycle_release(thag_context *context)
{
    int32_t before = atomic_fetch_sub(&context->holds, 1);
    assert(before > 0);
    if (before != 1) {
        return;
    }
    context->ended = true;
    context->ended_ns = thag_clock_read();
    (void)thag_charges_catch_up();
    context->retained_bytes = thag_charges_figures(context).live_bytes;
}

static void
counts_zero(thag_context *context)
{
    context->uncounted_blocks = thag_context_blocks(context);
    context->below = (thag_counts){0};
    thag_store(&context->self_total_bytes, 0);
    thag_store(&context->allocations, 0);
    thag_store(&context->frees, 0);
    thag_store(&context->foreign_frees, 0);
}

void
thag_lifecycle_restart(thag_context *context)
{
    thag_charges_settle(context);
    thag_charges_restart_peaks(context);
    thag_accounts_restart(context);
    counts_zero(context);
    context->started_ns = thag_clock_read();
    thag_context_restart_timeline(context, context->started_ns, thag_load(&context->live_bytes));
}

/* ---- dropped ---- */

static bool
is_dropped(const thag_context *context)
{
    return atomic_load(&context->heir) != NULL;
}

static bool
survives_reset(const thag_context *context)
{
    return context->id <= THAG_SYSTEM_ID || !context->entered || atomic_load(&context->holds) > 0;
}

/* Flows that are left in an untracked context stay untracked. */
static thag_context *
heir_of(const thag_context *dropped)
{
    if (!dropped->records) {
        return thag_contexts.system;
    }
    thag_context *heir = thag_context_parent(dropped);
    while (!survives_reset(heir)) {
        heir = thag_context_parent(heir);
    }
    return heir;
}

static void
context_pass_on(thag_context *from)
{
    thag_context *heir = thag_context_today(from);
    assert(heir != from);
    thag_charges_pass_on(from, heir);
    counts_zero(from);
    heir->uncounted_blocks += from->uncounted_blocks;
    from->uncounted_blocks = 0;
    thag_timeline_clear(&from->timeline);
}

static void
context_bequeath(thag_context *from, thag_context *heir)
{
    assert(heir != from && atomic_load(&heir->heir) == NULL && atomic_load(&from->holds) == 0);
    thag_batch_close();
    atomic_store(&from->heir, heir);
    context_pass_on(from);
    Py_CLEAR(from->label);
}

void
thag_lifecycle_pass_on_late_charges(void)
{
    for (uint32_t i = 0; i < thag_contexts.count; i++) {
        thag_context *context = thag_contexts.by_age[i];
        if (is_dropped(context)) {
            context_pass_on(context);
        }
    }
}

/* Youngest first: what a context passes on may go to one that is dropped after it. */
static void
ended_drop(void)
{
    for (uint32_t i = thag_contexts.count; i-- > 0;) {
        thag_context *context = thag_contexts.by_age[i];
        if (!survives_reset(context) && !is_dropped(context)) {
            context_bequeath(context, heir_of(context));
        }
    }
}

static void
survivors_restart(void)
{
    for (uint32_t i = 0; i < thag_contexts.count; i++) {
        thag_context *context = thag_contexts.by_age[i];
        if (survives_reset(context)) {
            thag_lifecycle_restart(context);
        }
    }
}

/* ---- forgotten ---- */

static void
put_under(thag_context *context, thag_context *parent)
{
    assert(parent->id < context->id);
    atomic_store_explicit(&context->parent, parent, memory_order_relaxed);
    context->depth = parent->depth + 1;
    context->path_end_ns = 0;           /* those above it now are not known to it */
}

/* Contexts that stay are put right under the ones that stay above them, and dropped ones point at their last heir. */
static void
parents_relink(void)
{
    for (uint32_t i = 1; i < thag_contexts.count; i++) {
        thag_context *context = thag_contexts.by_age[i];
        if (is_dropped(context)) {
            atomic_store(&context->heir, thag_context_today(context));
        }
        put_under(context, thag_context_today(thag_context_parent(context)));
        context->named_by_records = false;
    }
}

/* An account of a context that stays goes on. */
static uint32_t
slot_today(uint32_t slot)
{
    return thag_context_account(slot) == NULL ? thag_context_owner(slot)->slot : slot;
}

static void
slot_is_named(uint32_t slot)
{
    thag_context *context = thag_slot_is_of_account(slot) ? thag_account_at(slot)->context : thag_context_at(slot);
    context->named_by_records = true;
}

static bool
is_unused(const thag_context *context)
{
    return is_dropped(context) && !context->named_by_records && atomic_load(&context->frames) == 0
           && atomic_load(&context->holds) == 0;
}

static void
explained_settle(void)
{
    for (uint32_t i = 0; i < thag_contexts.count; i++) {
        thag_context *context = thag_contexts.by_age[i];
        if (!is_dropped(context)) {
            thag_accounts_unwatch(context, is_dropped);
        }
        else if (is_unused(context)) {
            thag_accounts_end(context, NULL);
        }
        else if (context->explained != NULL) {
            context->explained->watcher_count = 0;      /* they may be forgotten, and it is charged no more */
        }
    }
}

static void
dropped_forget(void)
{
    thag_batch_close();
    uint64_t begun = thag_detached_count();
    if (!thag_detached_is_quiet(begun)) {
        return;
    }
    parents_relink();
    thag_owners_rename(slot_today, slot_is_named);
    if (!thag_detached_is_quiet(begun) || !thag_charges_catch_up()) {
        return;
    }
    /* From here on no event has to do with a dropped context; what those before left there must not go with its record. */
    thag_lifecycle_pass_on_late_charges();
    if (thag_detached_alone(explained_settle)) {
        thag_contexts_reclaim(is_unused);
    }
}

void
thag_lifecycle_reset(void)
{
    (void)thag_charges_catch_up();
    ended_drop();
    survivors_restart();
    thag_contexts_expire_caches();
    dropped_forget();
    if (thag_explained_count() == 0) {
        thag_sites_forget();
    }
    else {
        thag_accounts_sweep_sites();
    }
}

/* ---- given back ---- */

enum {
    KEPT = 1 << 14,             /* that have ended, right under the root and elsewhere */
    OFTEN = KEPT / 4,           /* new ones, at least, until old ones are looked for again */
    SOON = 64,                  /* if that could not be done now */
};

static bool
holds_nothing(thag_context *context)
{
    return context->ended && !is_dropped(context) && atomic_load(&context->holds) == 0
           && atomic_load(&context->frames) == 0 && thag_charges_figures(context).live_bytes == 0
           && thag_context_blocks(context) == 0;
}

static void
context_give_back(thag_context *context)
{
    thag_context *parent = thag_context_parent(context);
    thag_accounts_end(context, parent);
    thag_counts *above = &parent->below, below = context->below;
    above->total_bytes += below.total_bytes + thag_load(&context->self_total_bytes);
    above->allocations += below.allocations + thag_load(&context->allocations);
    above->frees += below.frees + thag_load(&context->frees);
    above->foreign_frees += below.foreign_frees + thag_load(&context->foreign_frees);
    thag_charges_keep_part_below(parent, context);
    atomic_store(&context->heir, parent);
    thag_timeline_clear(&context->timeline);
    Py_CLEAR(context->label);
    context->given_back = true;
    thag_contexts.given_back++;
}

static void
need(thag_context *context)
{
    if (context != NULL) {
        context->is_needed = true;
    }
}

/* Youngest first: what is needed is always older than who needs it. */
static void
old_give_back(void)
{
    uint32_t newer_on_top = 0, newer_below = 0;
    for (uint32_t i = thag_contexts.count; i-- > 0;) {
        thag_context *context = thag_contexts.by_age[i];
        uint32_t *newer = context->depth <= 1 ? &newer_on_top : &newer_below;
        bool is_old = *newer >= KEPT;
        *newer += !is_dropped(context);
        if (is_old && !context->is_needed && holds_nothing(context)) {
            context_give_back(context);
        }
        else {
            need(thag_context_parent(context));
            need(atomic_load(&context->heir));
        }
        context->is_needed = false;
    }
}

static bool
is_given_back(const thag_context *context)
{
    return context->given_back;
}

/* True if who begins an event from here on finds nothing that nothing points to. */
static bool
nobody_is_within(void)
{
    uint64_t begun = thag_detached_count();
    thag_contexts_expire_caches();
    bool is_so = thag_detached_is_quiet(begun) && thag_charges_catch_up();
    thag_batch_close();
    return is_so;
}

static bool
is_over(const thag_context *context)
{
    return context->explained != NULL && context->ended && !is_dropped(context) && atomic_load(&context->holds) == 0
           && atomic_load(&context->frames) == 0;
}

/* The older half of those that are over lose the lines of which nothing is live. */
static void
old_lines_forget(void)
{
    uint32_t over = 0, thinned = 0;
    for (uint32_t i = 0; i < thag_contexts.count; i++) {
        over += is_over(thag_contexts.by_age[i]);
    }
    for (uint32_t i = 0; i < thag_contexts.count && thinned < (over + 1) / 2; i++) {
        if (is_over(thag_contexts.by_age[i])) {
            thag_accounts_thin(thag_contexts.by_age[i]);
            thinned++;
        }
    }
    thag_accounts_sweep_sites();
}

static void
lines_make_room(void)
{
    static uint64_t next_look_id;
    if (thag_contexts.next_id >= next_look_id && thag_accounts_are_many()) {
        next_look_id = thag_contexts.next_id + SOON;
        if (nobody_is_within()) {
            old_lines_forget();
        }
    }
}

void
thag_lifecycle_make_room(void)
{
    static uint64_t next_look_id = KEPT;
    lines_make_room();
    if (thag_contexts.next_id < next_look_id || thag_contexts.count <= KEPT) {
        return;
    }
    if (!nobody_is_within()) {
        next_look_id = thag_contexts.next_id + SOON;
        return;
    }
    old_give_back();
    thag_contexts_reclaim(is_given_back);
    next_look_id = thag_contexts.next_id + (thag_contexts.count > 8 * OFTEN ? thag_contexts.count / 8 : OFTEN);
}

/* ---- blocks ---- */

thag_known_block
thag_lifecycle_block_at(const void *address)
{
    thag_owner owner = thag_owners_peek(address);
    if (owner.slot == 0) {
        return (thag_known_block){.site = THAG_SITE_UNKNOWN};
    }
    const thag_account *account = thag_context_account(owner.slot);
    return (thag_known_block){
        .context_id = thag_context_owner(owner.slot)->id,
        .size = owner.size,
        .site = account == NULL ? THAG_SITE_UNKNOWN : account->site,
    };
}

uint64_t
thag_lifecycle_owner_of(const void *address, size_t *size)
{
    thag_known_block block = thag_lifecycle_block_at(address);
    *size = block.size;
    return block.context_id;
}

static void
context_forget_live(thag_context *context)
{
    uint64_t now_ns = thag_clock_read();
    if (now_ns >= context->bucket_end_ns) {
        thag_context_turn_bucket(context, now_ns);
    }
    thag_accounts_forget_live(context);
    thag_charges_set_level(context, 0, 0);
    context->uncounted_blocks -= thag_context_blocks(context);
    if (thag_load(&context->low_bytes) > 0) {
        thag_store(&context->low_bytes, 0);
    }
}

static int64_t
blocks_forget(void)
{
    int64_t forgotten_bytes = 0;
    (void)thag_charges_catch_up();
    for (uint32_t i = 0; i < thag_contexts.count; i++) {
        thag_context *context = thag_contexts.by_age[i];
        forgotten_bytes += thag_charges_figures(context).self_live_bytes;
        context_forget_live(context);
    }
    thag_owners_clear();
    return forgotten_bytes;
}

/* A thread without the GIL may be in the middle of an event that began while it recorded: what it writes afterwards must go as
   well. None begins any more. */
int64_t
thag_lifecycle_forget_blocks(void)
{
    enum { TRIES = 100 };
    int64_t forgotten_bytes = 0;
    for (int i = 0; i < TRIES; i++) {
        uint64_t begun = thag_detached_wait_for_quiet();
        forgotten_bytes += blocks_forget();
        if (thag_detached_is_quiet(begun)) {
            break;
        }
    }
    return forgotten_bytes;
}

/* ---- after a fork ---- */

/* What the table says that a context has. */
typedef struct {
    int64_t self_bytes;
    int64_t blocks;
    int64_t bytes;              /* with those of the contexts below */
} found_live;

static void
owner_count(uint32_t slot, size_t size, void *found)
{
    found_live *of_owner = &((found_live *)found)[thag_context_owner(slot)->slot];
    thag_account *account = thag_context_account(slot);
    if (account != NULL) {
        account->live_bytes += (int64_t)size;
        account->blocks++;
    }
    of_owner->self_bytes += (int64_t)size;
    of_owner->blocks++;
}

static void
context_set_live(thag_context *context, const found_live *found)
{
    thag_charges_settle(context);
    thag_charges_set_level(context, found->bytes, found->self_bytes);
    context->uncounted_blocks += found->blocks - thag_context_blocks(context);
}

/* By slot. A parent is always older than its children: from the youngest on, each has its sum when it is added to its
   parent's. */
static void
live_from_table(found_live *found)
{
    for (uint32_t i = 0; i < thag_contexts.count; i++) {
        thag_charges_settle(thag_contexts.by_age[i]);
        thag_accounts_forget_live(thag_contexts.by_age[i]);
    }
    thag_owners_walk(owner_count, found);
    for (uint32_t i = thag_contexts.count; i-- > 0;) {
        thag_context *context = thag_contexts.by_age[i];
        const thag_context *parent = thag_context_parent(context);
        found_live *own = &found[context->slot];
        own->bytes += own->self_bytes;
        if (parent != NULL) {
            found[parent->slot].bytes += own->bytes;
        }
        context_set_live(context, own);
    }
}

/* A thread of the parent process may have been in the middle of an event, and will not finish it here: what is live is
   taken from the table of owners. Without memory for that, the figures stay as they are. */
static void
half_events_settle(void)
{
    found_live *found = calloc(thag_contexts.slots_end, sizeof(*found));
    if (found != NULL) {
        live_from_table(found);
    }
    free(found);
}

void
thag_lifecycle_after_fork(void)
{
    if (thag_detached_drop_halves()) {
        half_events_settle();
    }
    (void)thag_charges_catch_up();
    for (uint32_t i = 0; i < thag_contexts.count; i++) {
        thag_lifecycle_restart(thag_contexts.by_age[i]);
    }
}
