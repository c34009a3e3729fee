/* Events without the GIL.

   Each is written to a log (see logs.c). What stands in the logs is merged into the shares of the contexts: into the one of the
   context that was charged, and into those of all above it. A share knows how far its context's level moved since it was
   last taken over by the holder of the GIL, how far up and down on the way, and what was counted.

   Most entries come after one of the same context, in the same log, with none of any other log between: such a run is added
   up without a look at anything else.

   One thread at a time has the right to merge. The holder of the GIL wants it before its next event, to take the shares over.
   A thread that finds its log full wants it as well, so that the logs do not grow for as long as nobody who holds the GIL
   allocates anything. Neither waits for it: if another has it, the one writes its event to a log like anybody, where it is in
   the right order, and the other takes another log. Only readers wait. Whoever merges waits for nobody.

   Should threads write faster than one can merge, or whoever merges be stopped, there are soon many full logs. Then they
   yield before they add another one, a bounded number of times. So logs are few and full, or occupied, and do not grow
   without end. */

#include "detached.h"

#include "movement.h"
#include "sites.h"

#include <sched.h>
#include <time.h>

enum {
    FULL_LOGS = 8,              /* that there may be, so that a thread without a log adds one at once */
    MOST_FULL_LOGS = 1024,      /* the same after these yields; where there are more, events are dropped */
    YIELDS = 100,
    PATIENCE = 20000,           /* naps, of whoever waits for the right to merge: a second */
    NAP_NS = 50000,
};

_Static_assert(_Alignof(thag_context) % THAG_LOG_MARKS == 0, "the address of a context leaves no room for the marks");
_Static_assert(_Alignof(thag_account) % THAG_LOG_MARKS == 0, "the address of an account leaves no room for the marks");

/* All but the right is only touched by whoever has it. */
static struct {
    _Alignas(THAG_CACHE_LINE) _Atomic bool right;
    thag_context *changed;      /* whose shares are to be taken over, linked */
    thag_account *late;         /* of which something is to be taken over, linked */
    /* Entries of one context, one after the other, of which those above it have not heard. */
    thag_context *context;
    thag_share *share;
    thag_movement moved;
    thag_sources sources;       /* of what is live of `moved` */
    thag_sources at_high;       /* the same when that was highest */
    uint32_t site;              /* where they were */
} merging;

/* ---- the right to merge ---- */

static bool
right_get(void)
{
    return !atomic_load_explicit(&merging.right, memory_order_relaxed)
           && !atomic_exchange_explicit(&merging.right, true, memory_order_acquire);
}

static void
right_give_back(void)
{
    atomic_store_explicit(&merging.right, false, memory_order_release);
}

/* False if whoever has it does not give it back: then it is not there any more, or stopped. */
static bool
right_wait_for(void)
{
    for (int naps = 0; !right_get(); naps++) {
        if (naps == PATIENCE) {
            return false;
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
    return true;
}

/* ---- shares ---- */

static thag_share *
share_change(thag_context *context)
{
    thag_share *share = thag_context_touch_share(context);
    if (!share->changed) {
        share->changed = true;
        share->next_changed = merging.changed;
        merging.changed = context;
    }
    return share;
}

/* A part stood at a level, and moves with all that it is a part of. */
static void
part_move(thag_part *part, const thag_share *whole, int64_t before)
{
    if (whole->inclusive.live_bytes + merging.moved.high_bytes > whole->inclusive.high_bytes) {
        *part = (thag_part){whole->highs + 1, before + merging.moved.high_bytes};
    }
    else {
        thag_part_moves(part, whole->highs, before);
    }
}

static void
self_move(thag_share *share, const thag_share *session)
{
    thag_amount before = {share->self.live_bytes, share->sources};
    if (session->inclusive.live_bytes + merging.moved.high_bytes > session->inclusive.high_bytes) {
        thag_amount moved = {merging.moved.high_bytes, merging.at_high};
        share->at_session_high = (thag_session_part){session->highs + 1, thag_amount_plus(before, moved)};
    }
    else {
        thag_session_part_moves(&share->at_session_high, session->highs, before);
    }
    share->self = thag_movement_then(share->self, merging.moved);
    share->sources = thag_sources_plus(share->sources, merging.sources);
}

static void
share_move(thag_share *share)
{
    thag_movement moved = thag_movement_then(share->inclusive, merging.moved);
    if (moved.high_bytes > share->inclusive.high_bytes) {
        share->highs++;
        share->high_site = merging.site;
    }
    share->inclusive = moved;
}

/* Tells all above what the last entries moved. */
static void
moved_tell(void)
{
    if (merging.context == NULL) {
        return;
    }
    thag_share *share = merging.share;
    self_move(share, share_change(thag_contexts.root));
    for (thag_context *context = merging.context; context != NULL; context = thag_context_parent(context)) {
        share = share_change(context);
        if (context != thag_contexts.root) {
            part_move(&share->at_parent_high, share_change(thag_context_parent(context)), share->inclusive.live_bytes);
        }
        share_move(share);
    }
    merging.context = NULL;
}

/* Lets entries of the context be added up. */
static void
context_turn_to(thag_context *context)
{
    if (context != merging.context) {
        moved_tell();
        merging.context = context;
        merging.share = share_change(context);
        merging.moved = (thag_movement){0};
        merging.sources = merging.at_high = (thag_sources){0};
    }
}

/* Adds a movement of bytes from one source. */
static void
moved_on(thag_movement moved, thag_source source)
{
    if (merging.moved.live_bytes + moved.high_bytes > merging.moved.high_bytes) {
        merging.at_high = merging.sources;
        thag_sources_add(&merging.at_high, source, moved.high_bytes);
    }
    thag_sources_add(&merging.sources, source, moved.live_bytes);
    merging.moved = thag_movement_then(merging.moved, moved);
}

/* The entry with that number, and what comes after it, as far as that was allocated or freed by the context, from one source. */
static uint64_t
run_apply(const thag_log *log, uint64_t next, uint64_t end, uint64_t until)
{
    const uint64_t first = next;
    const thag_log_entry *entry = thag_log_entry_at(log, next);
    const thag_source source = thag_log_source(entry);
    const uintptr_t whom = entry->whom - thag_log_deed(entry);
    int64_t live = 0, high = 0, low = 0;
    int64_t total_bytes = 0, frees = 0;
    do {
        uintptr_t deed = entry->whom - whom;
        if (deed > THAG_FREED) {
            break;
        }
        int64_t bytes = entry->live_bytes;
        live += bytes;
        high = live > high ? live : high;
        low = live < low ? live : low;
        total_bytes += bytes & ((int64_t)deed - 1);
        frees += (int64_t)deed;
        entry = thag_log_entry_at(log, ++next);
    } while (next != end && entry->time <= until);
    moved_on((thag_movement){live, high, low}, source);
    merging.share->total_bytes += total_bytes;
    merging.share->frees += frees;
    merging.share->allocations += (int64_t)(next - first) - frees;
    return next;
}

static void
rare_apply(const thag_log_entry *entry)
{
    thag_share *share = merging.share;
    thag_deed deed = thag_log_deed(entry);
    if (deed != THAG_TOTAL) {
        moved_on(thag_movement_straight(entry->live_bytes), thag_log_source(entry));
    }
    share->total_bytes += deed == THAG_GROWN || deed == THAG_TOTAL ? entry->live_bytes : 0;
    share->allocations += deed == THAG_GROWN;
    share->frees += deed == THAG_FREED_BY_STRANGER || deed == THAG_GROWN;
    share->foreign_frees += deed == THAG_FREED_BY_STRANGER;
}

/* The entry with that number, which is a context's, and perhaps some that follow. */
static uint64_t
context_apply(const thag_log *log, uint64_t next, uint64_t end, uint64_t until)
{
    const thag_log_entry *entry = thag_log_entry_at(log, next);
    context_turn_to(thag_log_whom(entry));
    if (thag_log_deed(entry) <= THAG_FREED) {
        return run_apply(log, next, end, until);
    }
    rare_apply(entry);
    return next + 1;
}

static void
account_is_late(thag_account *account)
{
    if (!account->is_late) {
        account->is_late = true;
        account->next_late = merging.late;
        merging.late = account;
    }
}

/* What the account had when those that watch were highest; `before` the last movement, that was so often. */
static void
account_parts_move(thag_account *account, const uint64_t *highs_before, int64_t bytes)
{
    const thag_explained *explained = account->context->explained;
    for (uint32_t i = 0; i < explained->watcher_count; i++) {
        thag_part *part = &account->parts[account->part_room + i];
        uint64_t highs = thag_context_share(explained->watchers[i])->highs;
        if (highs != highs_before[i]) {
            *part = (thag_part){highs, account->late_bytes + bytes};
        }
        else {
            thag_part_moves(part, highs, account->late_bytes);
        }
    }
}

static void
account_count(thag_account *account, thag_deed deed, int64_t bytes)
{
    bool is_allocated = deed == THAG_ACCOUNT_ALLOCATED;
    account->late_bytes += bytes;
    account->late_total_bytes += is_allocated ? bytes : 0;
    account->late_allocations += is_allocated;
    account->late_frees += deed == THAG_ACCOUNT_FREED;
}

/* An entry of an account and the one of its context behind it: a movement of their own. */
static uint64_t
account_apply(const thag_log *log, uint64_t next, uint64_t until)
{
    moved_tell();
    const thag_log_entry *entry = thag_log_entry_at(log, next);
    thag_account *account = thag_log_whom(entry);
    account_is_late(account);
    const thag_explained *explained = account->context->explained;
    uint64_t highs[THAG_WATCHERS_MOST];
    for (uint32_t i = 0; i < explained->watcher_count; i++) {
        highs[i] = share_change(explained->watchers[i])->highs;
    }
    merging.site = account->site;
    next = context_apply(log, next + 1, next + 2, until);
    moved_tell();
    merging.site = THAG_SITE_NO_FRAME;
    account_parts_move(account, highs, entry->live_bytes);
    account_count(account, thag_log_deed(entry), entry->live_bytes);
    return next;
}

static uint64_t
entries_apply(const thag_log *log, uint64_t next, uint64_t end, uint64_t until)
{
    do {
        bool is_of_account = thag_log_deed(thag_log_entry_at(log, next)) >= THAG_ACCOUNT_ALLOCATED;
        next = THAG_UNLIKELY(is_of_account) ? account_apply(log, next, until) : context_apply(log, next, end, until);
    } while (next != end && thag_log_entry_at(log, next)->time <= until);
    return next;
}

static void
logs_merge(bool unlist)
{
    thag_logs_merge(unlist, entries_apply);
    moved_tell();
}

static void
changed_visit(thag_share_taker *take, uint64_t now_ns)
{
    for (thag_context *context = merging.changed; context != NULL;) {
        thag_share *share = thag_context_touch_share(context);
        take(context, share, now_ns);
        context = share->next_changed;
    }
}

static void
changed_empty(void)
{
    while (merging.changed != NULL) {
        thag_share *share = thag_context_touch_share(merging.changed);
        merging.changed = share->next_changed;
        *share = (thag_share){0};
    }
}

static void
late_visit(void (*take)(thag_account *account))
{
    while (merging.late != NULL) {
        thag_account *account = merging.late;
        merging.late = account->next_late;
        take(account);
    }
}

bool
thag_detached_take_over(bool patient, thag_share_taker *take, thag_share_taker *take_parts,
                        void (*take_late)(thag_account *account))
{
    if (!(patient ? right_wait_for() : right_get())) {
        return false;
    }
    logs_merge(true);
    uint64_t now_ns = thag_clock_read();
    changed_visit(take, now_ns);
    changed_visit(take_parts, now_ns);
    late_visit(take_late);
    changed_empty();
    right_give_back();
    return true;
}

bool
thag_detached_alone(void (*change)(void))
{
    if (!right_wait_for()) {
        return false;
    }
    change();
    right_give_back();
    return true;
}

/* ---- events ---- */

static bool
merge_for_room(void)
{
    bool has_right = right_get();
    if (has_right) {
        logs_merge(false);
        right_give_back();
    }
    return has_right;
}

/* Some log that has room, or a new one beside so many full ones at most. NULL if there is neither. */
static thag_log *
log_from_all(int most_full)
{
    int full;
    thag_log *log = thag_log_occupy_any(&full);
    return log == NULL && full < most_full ? thag_log_append() : log;
}

static void
merger_yield_to(void)
{
    for (int yields = 0; yields < YIELDS && atomic_load_explicit(&merging.right, memory_order_relaxed); yields++) {
        (void)sched_yield();
    }
}

thag_log *
thag_detached_find_log(void)
{
    thag_log *log = thag_log_of_thread;
    if (log != NULL && thag_log_occupy_anew(log)) {
        return log;
    }
    bool has_room = thag_log_last_is_full() && merge_for_room();
    if (!has_room || !thag_log_occupy_anew(log)) {
        log = log_from_all(FULL_LOGS);
    }
    if (log == NULL) {
        merger_yield_to();
        (void)merge_for_room();
        log = log_from_all(MOST_FULL_LOGS);
    }
    return log;
}

uint64_t
thag_detached_count(void)
{
    bool occupied;
    return thag_logs_turns(&occupied);
}

bool
thag_detached_is_quiet(uint64_t count)
{
    bool occupied;
    return thag_logs_turns(&occupied) == count && !occupied;
}

uint64_t
thag_detached_wait_for_quiet(void)
{
    uint64_t count = thag_detached_count();
    for (int naps = 0; naps < PATIENCE && !thag_detached_is_quiet(count); naps++) {
        (void)nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
        count = thag_detached_count();
    }
    return count;
}

static void
late_forget(thag_account *account)
{
    account->is_late = false;
    account->late_bytes = account->late_total_bytes = account->late_allocations = account->late_frees = 0;
    for (uint32_t i = 0; i < account->part_room; i++) {
        account->parts[account->part_room + i] = (thag_part){0};
    }
}

bool
thag_detached_drop_halves(void)
{
    bool occupied;
    (void)thag_logs_turns(&occupied);
    if (!occupied && right_get()) {
        right_give_back();
        return false;
    }
    thag_logs_forget();
    for (uint32_t i = 0; i < thag_contexts.count; i++) {
        thag_share *share = thag_context_share(thag_contexts.by_age[i]);
        if (share != NULL) {
            *share = (thag_share){0};
        }
    }
    late_visit(late_forget);
    merging.changed = merging.context = NULL;
    right_give_back();
    return true;
}
