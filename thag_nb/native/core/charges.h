/* Charging a context, and all it was started under, for what was allocated and freed. */

#ifndef THAG_CHARGES_H
#define THAG_CHARGES_H

#include "accounts.h"
#include "contexts.h"
#include "detached.h"
#include "lane.h"
#include "logs.h"
#include "thag.h"

enum {
    THAG_BATCH_BYTES = 1 << 17,     /* allocated and freed on one reading of the clock, at most */
    THAG_EVENT_BYTES = 1 << 9,      /* what an event counts as at least; as much as any of a small block */
};

/* What happened to one context, and to blocks of a second one, since the counters were last written. Only the holder of the
   GIL touches it. */
typedef struct {
    int64_t left_bytes;             /* below 0, the clock is read again */
    /* The level of the batch's context, from 0: its lowest and highest since the second context's last free, and how far it
       is from both. An event writes the two distances, and nothing else unless one would be negative. */
    int64_t low_bytes;
    int64_t above_low_bytes;
    int64_t below_high_bytes;
    int64_t high_bytes;
    thag_sources sources;           /* of that level */
    thag_sources at_high;           /* the same when it was highest */
    int64_t total_bytes;
    uint64_t allocations;
    uint64_t frees;
    uint64_t foreign_frees;
    uint32_t slot;                  /* of its context */
    uint32_t small_word;            /* what the record of a small block of it is, besides its size (see owners.h) */
    thag_context *context;          /* NULL: none */
    uint64_t now_ns;
    /* The second one: some of its blocks were freed while the first was current. The extremes are those of before its last
       free; the joint ones are of what stands above both. */
    thag_context *other;            /* NULL: none */
    uint32_t other_slot;            /* that its blocks' records have */
    uint32_t other_word;            /* the same as `small_word` */
    uint64_t other_frees;
    int64_t other_bytes;
    thag_movement earlier;
    thag_movement joint;
    thag_sources other_sources;     /* of `other_bytes` */
    thag_amount own_at_joint_high;  /* how far the first one had moved when both together were highest */
    thag_amount other_at_joint_high;    /* the same of the second one */
} thag_batch;

extern THAG_HIDDEN thag_batch thag_open_batch;

/* All that is recorded, as the root has it too; but the root hears of it late. */
typedef struct {
    int64_t live_bytes;
    int64_t peak_bytes;
    uint64_t peak;                  /* its number (see composition.h) */
} thag_session_level;

extern THAG_HIDDEN thag_session_level thag_session;     /* GIL */

/* Writes the open batch to the counters of all contexts that it moves, and leaves none open. GIL. */
void thag_batch_close(void);

/* The next event reads the clock: what follows shall not be drawn with what was before. GIL. */
static inline void
thag_batch_expire(void)
{
    thag_open_batch.left_bytes = -1;
}

/* Opens a batch for the context, at the clock's present reading if that may be used for `size` bytes more. GIL. */
THAG_COLD void thag_batch_open(thag_context *context, size_t size);

/* Makes `other`, whose blocks' records have the slot, the second context of the open batch. GIL; the lane holds. */
THAG_COLD void thag_batch_accompany(thag_context *other, uint32_t slot);

/* Brings a context's counters up to date, as far as the open batch is concerned. GIL. */
void thag_charges_settle(thag_context *context);

/* Takes over what was done without the GIL and is over by now, for all contexts. False if another thread merges at this
   moment. GIL. */
THAG_COLD bool thag_charges_take_over(void);

/* The same, for readers: waits for the other one, which needs no GIL. Then none merges what was over by now, so that contexts
   which no later event names may be forgotten. False if the other one is stopped. GIL. */
bool thag_charges_catch_up(void);

/* True if all that was over without the GIL is taken over, now if need be, so that an event may be added to the batch. GIL. */
static inline bool
thag_charges_are_current(void)
{
    return THAG_LIKELY(!thag_logs_wait()) || thag_charges_take_over();
}

/* A copy of a context's own figures, and of its inclusive live bytes and peak. */
typedef struct {
    int64_t live_bytes;
    int64_t peak_bytes;
    int64_t self_live_bytes;
    int64_t self_peak_bytes;
    int64_t self_total_bytes;
    int64_t allocations;
    int64_t frees;
    int64_t foreign_frees;
    thag_sources self_live_of;      /* of `self_live_bytes` */
    thag_amount at_session_peak;    /* of its own, and of those below it that were given back */
    int64_t at_parent_peak_bytes;   /* inclusive */
} thag_figures;

/* As of now; of what was done without the GIL, what was taken over. GIL. */
thag_figures thag_charges_figures(thag_context *context);

/* Its level is set to something that no event led to. GIL. */
void thag_charges_set_level(thag_context *context, int64_t live_bytes, int64_t self_live_bytes);

/* Its peaks are what is live now. GIL. */
void thag_charges_restart_peaks(thag_context *context);

/* What a context below, which is about to be given back, had at the session's peak is told of this one. GIL. */
void thag_charges_keep_part_below(thag_context *context, thag_context *below);

/* The context's own bytes are the heir's from now on. GIL. */
void thag_charges_pass_on(thag_context *context, thag_context *heir);

/* A block of a size, and whom it is charged to: a context and, if that is explained, one of its accounts, or NULL. */
typedef struct {
    thag_context *context;
    thag_account *account;
    size_t size;
} thag_charge;

/* A block that grew or moved from one to another: the one falls, the other rises, and what both stand under moves only by the
   difference: no timeline sees a fall that did not happen. GIL. */
void thag_charge_moved(thag_charge from, thag_charge to, thag_source source);

/* A block of an explained context that shrank, and stays its owner's. GIL. */
void thag_charge_explained_shrunk(thag_charge charge, size_t bytes, thag_source source);

/* What an event takes of a reading of the clock. */
static inline size_t
thag_event_cost(size_t size)
{
    return size > THAG_EVENT_BYTES ? size : THAG_EVENT_BYTES;
}

/* Makes the open batch one that an event of the context may be added to. GIL. */
static inline thag_batch *
thag_batch_for(thag_context *context, size_t size)
{
    assert(size <= PTRDIFF_MAX);
    thag_batch *batch = &thag_open_batch;
    batch->left_bytes -= (int64_t)thag_event_cost(size);
    if (THAG_UNLIKELY(batch->context != context || batch->left_bytes < 0)) {
        thag_batch_open(context, size);
    }
    assert(batch->context == context);
    return batch;
}

static inline void
thag_batch_rise(thag_batch *batch, int64_t bytes, thag_source source)
{
    assert(bytes >= 0);
    thag_sources_add(&batch->sources, source, bytes);
    batch->above_low_bytes += bytes;
    if (THAG_UNLIKELY((batch->below_high_bytes -= bytes) < 0)) {
        thag_read_again();
        batch->high_bytes -= batch->below_high_bytes;
        batch->below_high_bytes = 0;
        batch->at_high = batch->sources;
    }
}

static inline void
thag_batch_fall(thag_batch *batch, int64_t bytes, thag_source source)
{
    assert(bytes >= 0);
    thag_sources_add(&batch->sources, source, -bytes);
    batch->below_high_bytes += bytes;
    if (THAG_UNLIKELY((batch->above_low_bytes -= bytes) < 0)) {
        thag_read_again();
        batch->low_bytes += batch->above_low_bytes;
        batch->above_low_bytes = 0;
    }
}

static inline void
thag_batch_allocated(thag_batch *batch, size_t size, thag_source source)
{
    batch->total_bytes += (int64_t)size;
    batch->allocations++;
    thag_batch_rise(batch, (int64_t)size, source);
}

static inline void
thag_batch_freed(thag_batch *batch, size_t size, thag_source source)
{
    batch->frees++;
    thag_batch_fall(batch, (int64_t)size, source);
}

/* A block of the batch's context that grew. */
static inline void
thag_batch_grown(thag_batch *batch, size_t old_size, size_t size, thag_source source)
{
    batch->frees++;
    batch->allocations++;
    batch->total_bytes += (int64_t)size;
    thag_batch_rise(batch, (int64_t)(size - old_size), source);
}

/* A block of the batch's context that is of another size now. */
static inline void
thag_batch_resized(thag_batch *batch, size_t old_size, size_t size, thag_source source)
{
    if (size <= old_size) {
        thag_batch_fall(batch, (int64_t)(old_size - size), source);
    }
    else {
        thag_batch_grown(batch, old_size, size, source);
    }
}

/* Puts the extremes so far aside. */
static inline void
thag_batch_fold(thag_batch *batch)
{
    int64_t low = batch->low_bytes, high = batch->high_bytes, live = low + batch->above_low_bytes;
    int64_t other = batch->other_bytes;
    assert(live == high - batch->below_high_bytes);
    thag_movement *earlier = &batch->earlier, *joint = &batch->joint;
    earlier->high_bytes = high > earlier->high_bytes ? high : earlier->high_bytes;
    earlier->low_bytes = low < earlier->low_bytes ? low : earlier->low_bytes;
    if (THAG_UNLIKELY(high - other > joint->high_bytes)) {
        joint->high_bytes = high - other;
        batch->own_at_joint_high = (thag_amount){high, batch->at_high};
        batch->other_at_joint_high = (thag_amount){-other, thag_sources_minus((thag_sources){0}, batch->other_sources)};
    }
    joint->low_bytes = low - other < joint->low_bytes ? low - other : joint->low_bytes;
    batch->low_bytes = batch->high_bytes = live;
    batch->above_low_bytes = batch->below_high_bytes = 0;
}

/* A block of the second context was freed. GIL; the lane holds. */
static inline void
thag_batch_other_freed(thag_batch *batch, size_t size, thag_source source)
{
    thag_batch_fold(batch);
    batch->other_bytes += (int64_t)size;
    thag_sources_add(&batch->other_sources, source, (int64_t)size);
    batch->other_frees++;
}

/* The attached lane. GIL. */
static inline void
thag_charge_allocation(thag_context *context, size_t size, thag_source source)
{
    assert(context->records && context->explained == NULL);
    thag_batch_allocated(thag_batch_for(context, size), size, source);
}

static inline void
thag_charge_free(thag_context *owner, size_t size, bool foreign, thag_source source)
{
    thag_batch *batch = thag_batch_for(owner, size);
    batch->foreign_frees += foreign;
    thag_batch_freed(batch, size, source);
}

/* A block that shrank, and stays its owner's. GIL. */
static inline void
thag_charge_shrunk(thag_context *owner, size_t bytes, thag_source source)
{
    thag_batch_fall(thag_batch_for(owner, bytes), (int64_t)bytes, source);
}

/* ---- the same of an explained context ---- */

static inline void
thag_account_allocated(thag_account *account, size_t size)
{
    account->live_bytes += (int64_t)size;
    account->blocks++;
    account->total_bytes += (int64_t)size;
    account->allocations++;
}

static inline void
thag_account_freed(thag_account *account, size_t size)
{
    account->live_bytes -= (int64_t)size;
    account->blocks--;
    account->frees++;
}

/* The batch's level was at its highest so far at `high_bytes`, before an event. */
static inline void
thag_batch_look_for_high(const thag_batch *batch, int64_t high_bytes, const thag_account *account)
{
    if (batch->high_bytes > high_bytes) {
        thag_accounts_are_high(account == NULL ? THAG_SITE_NO_FRAME : account->site);
    }
}

static inline void
thag_charge_explained_allocation(thag_charge charge, thag_source source)
{
    thag_batch *batch = thag_batch_for(charge.context, charge.size);
    int64_t high_bytes = batch->high_bytes;
    if (THAG_LIKELY(charge.account != NULL)) {
        thag_account_moves(charge.account);
        thag_account_allocated(charge.account, charge.size);
    }
    thag_batch_allocated(batch, charge.size, source);
    thag_batch_look_for_high(batch, high_bytes, charge.account);
}

static inline void
thag_charge_explained_free(thag_charge charge, bool foreign, thag_source source)
{
    thag_batch *batch = thag_batch_for(charge.context, charge.size);
    if (THAG_LIKELY(charge.account != NULL)) {
        thag_account_moves(charge.account);
        thag_account_freed(charge.account, charge.size);
    }
    batch->foreign_frees += foreign;
    thag_batch_freed(batch, charge.size, source);
}

#endif
