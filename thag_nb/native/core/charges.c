/* The arithmetic of live bytes, peaks and inclusive figures.

   An event moves its context and every context above it by the same amount. So nothing above needs to be touched for each
   event: consecutive events of one context are gathered in a batch that knows their sum and how far it rose and fell on
   the way, and when it is written, the context learns its exact highest and lowest level from that:

     level before the batch + highest sum in it = highest level during the batch

   A batch is written before an event of any other context, before anybody reads, and when its reading of the clock has
   served for THAG_BATCH_BYTES: a timeline may draw less than that too early, and its heights are exact all the same.

   What stands above the context need not even be touched for each batch. As long as one context is charged, all above it
   move with it, so each keeps what the one above it has not heard of yet: how far it moved since, and how far up and down
   on the way (`untold`). That is told, from the context upwards,

     when another context is charged: as far as the nearest one that both stand under, which goes on moving with the other;
     when the bucket of a timeline above has ended, so that it is told what happened before and nothing of what comes after;
     when somebody reads.

   So a batch costs the same however deep its context is, and so do the opening of one and its end.

   A program that frees what another context allocated, in turns with its own work, would write a batch for each event. So a
   batch takes in the frees of one other context: at each of them, the extremes so far are put aside, once as they are for
   the batch's context, and once less what was freed, for those that both stand under.

   There are two lanes, so that the common case needs neither a lock nor an atomic read-modify-write:

     attached   the batch and the counters in the context; written by the holder of the GIL, of whom there is only one.
     detached   logs, merged in the order of time into a share behind each context; written by threads without the GIL.

   The attached lane takes all shares over as soon as an event finds that a detached one is over. No attached event lies
   between those detached events and now (one that cannot take the shares over is logged as well, see detached.c), so the
   levels that the shares' extremes are to be added to are those that the attached lane has now. What is exact is the order
   in which events were over; two that overlap, a few nanoseconds apart on two processors, may be taken in either order.

   What a peak was made up of is known as well (see composition.h): a batch tells by how much its context had moved at its
   highest, and whoever hears of a movement knows who told it. The session's peak, whose parts are contexts in all branches, is
   not told from context to context: each batch moves it by the same amount, at once.

   Live bytes and peaks are inclusive. Totals and counts are kept for the context alone; whoever reads them adds up. */

#include "charges.h"

#include "owners.h"

thag_batch thag_open_batch = {.other_word = THAG_NO_WORD};
thag_session_level thag_session;
thag_lane thag_open_lane = {.contextvars_version = THAG_NO_FLOW};

static void
counter_add(_Atomic int64_t *counter, int64_t value)
{
    thag_store(counter, thag_load(counter) + value);
}

static uint64_t
peak_number(void)
{
    static uint64_t last;
    return ++last;
}

/* Moves the context's inclusive level, which those above it have heard of, or need not. */
static void
level_shift(thag_context *context, thag_movement moved, uint64_t now_ns)
{
    assert(moved.low_bytes <= moved.live_bytes && moved.live_bytes <= moved.high_bytes);
    int64_t before = thag_load(&context->live_bytes);
    if (THAG_UNLIKELY(now_ns >= context->bucket_end_ns)) {
        thag_context_turn_bucket(context, now_ns);
    }
    if (before + moved.high_bytes > thag_load(&context->high_bytes)) {
        thag_store(&context->high_bytes, before + moved.high_bytes);
        if (before + moved.high_bytes > thag_load(&context->peak_bytes)) {
            thag_store(&context->peak_bytes, before + moved.high_bytes);
            context->peak = peak_number();
        }
    }
    if (before + moved.low_bytes < thag_load(&context->low_bytes)) {
        thag_store(&context->low_bytes, before + moved.low_bytes);
    }
    thag_store(&context->live_bytes, before + moved.live_bytes);
}

/* The same, and those above it are to be told later. */
static void
level_shift_untold(thag_context *context, thag_movement moved, uint64_t now_ns)
{
    level_shift(context, moved, now_ns);
    context->untold = thag_movement_then(context->untold, moved);
}

/* A context under `whole` has moved from a level, and so did `whole`, whose newest peak before had that number. Had the part
   moved that far at the highest moment, `at_high_bytes`? */
static void
part_shift(thag_context *part, const thag_context *whole, uint64_t peak, int64_t before, int64_t at_high_bytes)
{
    if (whole->peak != peak) {
        part->at_parent_peak = (thag_part){whole->peak, before + at_high_bytes};
    }
    else {
        thag_part_moves(&part->at_parent_peak, peak, before);
    }
}

/* True if the session has a new peak, by a movement that goes so far up. */
static bool
session_peaks(int64_t high_bytes)
{
    bool peaks = thag_session.live_bytes + high_bytes > thag_session.peak_bytes;
    if (peaks) {
        thag_session.peak_bytes = thag_session.live_bytes + high_bytes;
        thag_session.peak = peak_number();
    }
    return peaks;
}

static thag_amount
self_amount(const thag_context *context)
{
    return (thag_amount){thag_load(&context->self_live_bytes), context->sources};
}

/* The context's own bytes have moved from a level; at the session's new peak, if there is one, they had moved that far. */
static void
session_part_shift(thag_context *context, bool peaks, thag_amount before, thag_amount at_high)
{
    if (peaks) {
        context->at_session_peak = (thag_session_part){thag_session.peak, thag_amount_plus(before, at_high)};
    }
    else {
        thag_session_part_moves(&context->at_session_peak, thag_session.peak, before);
    }
}

/* Comes after level_shift: a bucket that closes there wants the context's own live bytes from before. */
static void
self_shift(thag_context *context, thag_movement moved, thag_sources sources)
{
    int64_t before = thag_load(&context->self_live_bytes);
    if (before + moved.high_bytes > thag_load(&context->self_peak_bytes)) {
        thag_store(&context->self_peak_bytes, before + moved.high_bytes);
    }
    thag_store(&context->self_live_bytes, before + moved.live_bytes);
    context->sources = thag_sources_plus(context->sources, sources);
}

/* Tells those above `context`, up to and with `last`, what they have not heard of. NULL: all. */
static void
path_tell(thag_context *context, const thag_context *last, uint64_t now_ns)
{
    while (context != last) {
        thag_context *parent = thag_context_parent(context);
        thag_movement untold = context->untold;
        if (!thag_movement_is_still(untold)) {
            context->untold = (thag_movement){0};
            if (parent != NULL) {
                uint64_t peak = parent->peak;
                int64_t before = thag_load(&context->live_bytes) - untold.live_bytes;
                level_shift_untold(parent, untold, now_ns);
                part_shift(context, parent, peak, before, untold.high_bytes);
            }
        }
        context = parent;
    }
}

/* Moves all from `context` up to, and without, `end`. The last of them; NULL if there is none. */
static thag_context *
chain_shift(thag_context *context, const thag_context *end, thag_movement moved, uint64_t now_ns)
{
    thag_context *below = NULL;
    for (; context != end; context = thag_context_parent(context)) {
        uint64_t peak = context->peak;
        level_shift(context, moved, now_ns);
        if (below != NULL) {
            part_shift(below, context, peak, thag_load(&below->live_bytes) - moved.live_bytes, moved.high_bytes);
        }
        below = context;
    }
    return below;
}

static thag_context *
common_ancestor(thag_context *one, thag_context *other)
{
    while (one != other) {
        assert(one != NULL && other != NULL);
        if (one->depth >= other->depth) {
            one = thag_context_parent(one);
        }
        else {
            other = thag_context_parent(other);
        }
    }
    return one;
}

/* How two contexts moved, and those above both; and how far each had when that was highest. */
typedef struct {
    thag_movement own;
    thag_movement other;
    thag_movement joint;
    thag_sources own_sources;
    thag_sources other_sources;
    thag_amount own_at_high;
    thag_amount other_at_high;
} both_movement;

static void
side_follows(thag_context *side, const thag_context *common, uint64_t peak, thag_movement moved, int64_t at_high_bytes)
{
    if (side != NULL) {
        part_shift(side, common, peak, thag_load(&side->live_bytes) - moved.live_bytes, at_high_bytes);
    }
}

/* Moves the batch's context and another one. */
static void
both_shift(thag_context *own, thag_context *other, both_movement moved, uint64_t now_ns)
{
    assert(moved.own_at_high.bytes + moved.other_at_high.bytes == moved.joint.high_bytes);
    thag_context *common = common_ancestor(own, other);
    path_tell(own, common, now_ns);
    thag_context *own_side = chain_shift(own, common, moved.own, now_ns);
    thag_context *other_side = chain_shift(other, common, moved.other, now_ns);
    uint64_t peak = common->peak;
    level_shift_untold(common, moved.joint, now_ns);
    side_follows(own_side, common, peak, moved.own, moved.own_at_high.bytes);
    side_follows(other_side, common, peak, moved.other, moved.other_at_high.bytes);
    bool peaks = session_peaks(moved.joint.high_bytes);
    session_part_shift(own, peaks, self_amount(own), moved.own_at_high);
    session_part_shift(other, peaks, self_amount(other), moved.other_at_high);
    thag_session.live_bytes += moved.joint.live_bytes;
    self_shift(own, moved.own, moved.own_sources);
    self_shift(other, moved.other, moved.other_sources);
}

/* Since the second context's last free. */
static thag_movement
batch_movement(const thag_batch *batch)
{
    int64_t live = batch->low_bytes + batch->above_low_bytes;
    assert(live == batch->high_bytes - batch->below_high_bytes);
    return (thag_movement){live, batch->high_bytes, batch->low_bytes};
}

static void
both_write(thag_batch *batch)
{
    thag_batch_fold(batch);
    int64_t live = batch->low_bytes, freed = batch->other_bytes;
    batch->earlier.live_bytes = live;
    batch->joint.live_bytes = live - freed;
    if (live - freed < batch->joint.low_bytes) {
        batch->joint.low_bytes = live - freed;
    }
    both_movement moved = {
        .own = batch->earlier,
        .other = thag_movement_straight(-freed),
        .joint = batch->joint,
        .own_sources = batch->sources,
        .other_sources = thag_sources_minus((thag_sources){0}, batch->other_sources),
        .own_at_high = batch->own_at_joint_high,
        .other_at_high = batch->other_at_joint_high,
    };
    both_shift(batch->context, batch->other, moved, batch->now_ns);
    counter_add(&batch->other->frees, (int64_t)batch->other_frees);
    counter_add(&batch->other->foreign_frees, (int64_t)batch->other_frees);
    batch->other_bytes = 0;
    batch->other_frees = 0;
    batch->other_sources = (thag_sources){0};
    batch->own_at_joint_high = batch->other_at_joint_high = (thag_amount){0};
    batch->earlier = batch->joint = (thag_movement){0};
}

static void
own_write(const thag_batch *batch, thag_movement moved)
{
    thag_context *own = batch->context;
    level_shift_untold(own, moved, batch->now_ns);
    bool peaks = session_peaks(moved.high_bytes);
    session_part_shift(own, peaks, self_amount(own), (thag_amount){moved.high_bytes, batch->at_high});
    thag_session.live_bytes += moved.live_bytes;
    self_shift(own, moved, batch->sources);
}

/* Those whose peaks are explained hear of it at once. */
static void
explained_tell(thag_context *own, const uint64_t *peaks_before, uint64_t now_ns)
{
    path_tell(own, own->explained->watchers[0], now_ns);
    thag_accounts_settle(own, peaks_before);
}

/* Writes what the batch moved and counted to the contexts that it is of. */
THAG_APART static void
moved_write(thag_batch *batch)
{
    thag_context *own = batch->context;
    if (batch->other_frees != 0) {
        both_write(batch);
    }
    else {
        thag_movement moved = batch_movement(batch);
        if (!thag_movement_is_still(moved) || batch->allocations | batch->frees) {
            own_write(batch, moved);
        }
    }
    counter_add(&own->self_total_bytes, batch->total_bytes);
    counter_add(&own->allocations, (int64_t)batch->allocations);
    counter_add(&own->frees, (int64_t)batch->frees);
    counter_add(&own->foreign_frees, (int64_t)batch->foreign_frees);
    batch->low_bytes = batch->above_low_bytes = batch->below_high_bytes = batch->high_bytes = 0;
    batch->sources = batch->at_high = (thag_sources){0};
    batch->total_bytes = 0;
    batch->allocations = batch->frees = batch->foreign_frees = 0;
}

/* The same of one whose context is explained. */
THAG_APART static void
explained_write(thag_batch *batch)
{
    uint64_t peaks[THAG_WATCHERS_MOST];
    thag_accounts_peaks(batch->context, peaks);
    moved_write(batch);
    explained_tell(batch->context, peaks, batch->now_ns);
}

static inline void
batch_write(void)
{
    thag_batch *batch = &thag_open_batch;
    if (batch->context == NULL) {
        return;
    }
    if (THAG_LIKELY(batch->context->explained == NULL)) {
        moved_write(batch);
    }
    else {
        explained_write(batch);
    }
}

/* What the record of a small block is for a slot, besides its size. */
static uint32_t
word_of_slot(uint32_t slot)
{
    return slot < THAG_NEAR_SLOTS ? thag_small_word(slot, 0) : THAG_NO_WORD;
}

static void
other_forget(thag_batch *batch)
{
    batch->other = NULL;
    batch->other_slot = 0;
    batch->other_word = THAG_NO_WORD;
}

void
thag_batch_close(void)
{
    thag_batch *batch = &thag_open_batch;
    thag_lane_leave();
    batch_write();
    path_tell(batch->context, NULL, batch->now_ns);
    batch->context = NULL;
    other_forget(batch);
}

/* Some bucket here or above has ended: begins those of now. What is untold belongs to the ones before, and has been told. */
static void
path_turn(thag_context *context, uint64_t now_ns)
{
    uint64_t end_ns = UINT64_MAX;
    for (thag_context *above = context; above != NULL; above = thag_context_parent(above)) {
        if (now_ns >= above->bucket_end_ns) {
            thag_context_turn_bucket(above, now_ns);
        }
        end_ns = above->bucket_end_ns < end_ns ? above->bucket_end_ns : end_ns;
    }
    for (; context != NULL; context = thag_context_parent(context)) {
        context->path_end_ns = end_ns;
    }
}

/* Charges `context` from now on: what has to be told before that is told. */
static void
batch_switch(thag_batch *batch, thag_context *context, uint64_t now_ns)
{
    bool begins_bucket = now_ns >= context->path_end_ns;
    if (batch->context != NULL) {
        const thag_context *last = begins_bucket ? NULL : common_ancestor(batch->context, context);
        path_tell(batch->context, last, batch->now_ns);
    }
    batch->context = context;
    batch->slot = context->slot;
    batch->small_word = word_of_slot(context->slot);
    batch->now_ns = now_ns;
    if (begins_bucket) {
        path_turn(context, now_ns);
    }
}

void
thag_batch_open(thag_context *context, size_t size)
{
    thag_batch *batch = &thag_open_batch;
    thag_lane_leave();
    batch_write();
    uint64_t now_ns = batch->now_ns;
    if (batch->left_bytes < 0) {
        now_ns = thag_clock_read();
        batch->left_bytes = THAG_BATCH_BYTES - (int64_t)size;
    }
    if (batch->context != context) {
        other_forget(batch);
    }
    batch_switch(batch, context, now_ns);
}

void
thag_batch_accompany(thag_context *other, uint32_t slot)
{
    thag_batch *batch = &thag_open_batch;
    batch_write();
    batch->other = other;
    batch->other_slot = slot;
    batch->other_word = word_of_slot(slot);
}

void
thag_charges_settle(thag_context *context)
{
    const thag_batch *batch = &thag_open_batch;
    batch_write();
    if (batch->context != NULL) {
        path_tell(batch->context, common_ancestor(batch->context, context), batch->now_ns);
    }
}

/* What the share holds was told to those above by way of their own shares. */
static void
share_take(thag_context *context, thag_share *share, uint64_t now_ns)
{
    share->peak_before = context->peak;
    if (!thag_movement_is_still(share->inclusive)) {
        /* Not otherwise: a bucket in which nothing happened is not kept. */
        level_shift(context, share->inclusive, now_ns);
    }
    if (context->explained != NULL && context->peak != share->peak_before) {
        context->explained->peak_site = share->high_site;
    }
    self_shift(context, share->self, share->sources);
    counter_add(&context->self_total_bytes, share->total_bytes);
    counter_add(&context->allocations, share->allocations);
    counter_add(&context->frees, share->frees);
    counter_add(&context->foreign_frees, share->foreign_frees);
    if (context == thag_contexts.root) {
        (void)session_peaks(share->inclusive.high_bytes);
        thag_session.live_bytes += share->inclusive.live_bytes;
    }
}

/* The root's level is the session's here: it has heard of all. */
static void
share_parts_take(thag_context *context, thag_share *share, uint64_t now_ns)
{
    (void)now_ns;
    const thag_share *session = thag_context_share(thag_contexts.root);
    thag_amount self_moved = {share->self.live_bytes, share->sources};
    thag_amount self_at_high = thag_session_part_at(&share->at_session_high, session->highs, self_moved);
    thag_amount self_before = thag_amount_minus(self_amount(context), self_moved);
    session_part_shift(context, thag_contexts.root->peak != session->peak_before, self_before, self_at_high);
    const thag_context *parent = thag_context_parent(context);
    if (parent != NULL) {
        const thag_share *whole = thag_context_share(parent);
        int64_t before = thag_load(&context->live_bytes) - share->inclusive.live_bytes;
        int64_t at_high = thag_part_at(&share->at_parent_high, whole->highs, share->inclusive.live_bytes);
        part_shift(context, parent, whole->peak_before, before, at_high);
    }
}

/* What was charged with the GIL is written before: it was there first. What comes next is later, so the clock is read again. */
static bool
shares_take(bool patient)
{
    const thag_batch *batch = &thag_open_batch;
    batch_write();
    path_tell(batch->context, NULL, batch->now_ns);
    thag_batch_expire();
    return thag_detached_take_over(patient, share_take, share_parts_take, thag_account_take_late);
}

bool
thag_charges_take_over(void)
{
    return shares_take(false);
}

bool
thag_charges_catch_up(void)
{
    return !thag_logs_wait() || shares_take(true);
}

/* ---- figures ---- */

static thag_amount
session_part(const thag_context *context)
{
    return thag_session_part_at(&context->at_session_peak, thag_session.peak, self_amount(context));
}

static thag_amount
below_part(const thag_context *context)
{
    return thag_session_part_at(&context->below_at_session_peak, thag_session.peak, (thag_amount){0});
}

static int64_t
parent_part(const thag_context *context)
{
    const thag_context *parent = thag_context_parent(context);
    return parent == NULL ? thag_load(&context->peak_bytes)
                          : thag_part_at(&context->at_parent_peak, parent->peak, thag_load(&context->live_bytes));
}

static int64_t
within(int64_t bytes, int64_t most)
{
    return bytes < 0 ? 0 : bytes < most ? bytes : most;
}

/* No more than there are bytes: what is given back elsewhere than where it came from would make them so. */
static thag_sources
sources_of(thag_amount amount)
{
    int64_t native_bytes = within(amount.of.native_bytes, amount.bytes);
    return (thag_sources){within(amount.of.numpy_bytes, amount.bytes - native_bytes), native_bytes};
}

thag_figures
thag_charges_figures(thag_context *context)
{
    thag_charges_settle(context);
    thag_amount at_session_peak = thag_amount_plus(session_part(context), below_part(context));
    return (thag_figures){
        .live_bytes = thag_load(&context->live_bytes),
        .peak_bytes = thag_load(&context->peak_bytes),
        .self_live_bytes = thag_load(&context->self_live_bytes),
        .self_peak_bytes = thag_load(&context->self_peak_bytes),
        .self_total_bytes = thag_load(&context->self_total_bytes),
        .allocations = thag_load(&context->allocations),
        .frees = thag_load(&context->frees),
        .foreign_frees = thag_load(&context->foreign_frees),
        .self_live_of = sources_of(self_amount(context)),
        .at_session_peak = {at_session_peak.bytes, sources_of(at_session_peak)},
        .at_parent_peak_bytes = parent_part(context),
    };
}

void
thag_charges_set_level(thag_context *context, int64_t live_bytes, int64_t self_live_bytes)
{
    const thag_context *parent = thag_context_parent(context);
    thag_session_part_moves(&context->at_session_peak, thag_session.peak, self_amount(context));
    if (parent == NULL) {
        thag_session.live_bytes = live_bytes;
    }
    else {
        thag_part_moves(&context->at_parent_peak, parent->peak, thag_load(&context->live_bytes));
    }
    thag_store(&context->live_bytes, live_bytes);
    thag_store(&context->self_live_bytes, self_live_bytes);
    context->sources = sources_of(self_amount(context));
}

void
thag_charges_restart_peaks(thag_context *context)
{
    thag_store(&context->peak_bytes, thag_load(&context->live_bytes));
    thag_store(&context->self_peak_bytes, thag_load(&context->self_live_bytes));
    context->peak = peak_number();
    if (thag_context_parent(context) == NULL) {
        thag_session.peak_bytes = thag_session.live_bytes;
        thag_session.peak = peak_number();
    }
}

void
thag_charges_keep_part_below(thag_context *context, thag_context *below)
{
    thag_amount amount = thag_amount_plus(session_part(below), below_part(below));
    context->below_at_session_peak =
        (thag_session_part){thag_session.peak, thag_amount_plus(below_part(context), amount)};
}

void
thag_charges_pass_on(thag_context *context, thag_context *heir)
{
    thag_charges_settle(context);
    heir->at_session_peak =
        (thag_session_part){thag_session.peak, thag_amount_plus(session_part(heir), session_part(context))};
    context->at_session_peak = (thag_session_part){thag_session.peak, {0}};
    int64_t live_bytes = thag_load(&heir->self_live_bytes) + thag_load(&context->self_live_bytes);
    thag_store(&heir->self_live_bytes, live_bytes);
    if (live_bytes > thag_load(&heir->self_peak_bytes)) {
        thag_store(&heir->self_peak_bytes, live_bytes);
    }
    thag_store(&context->self_live_bytes, 0);
    heir->sources = thag_sources_plus(heir->sources, context->sources);
    context->sources = (thag_sources){0};
}

/* ---- what explained contexts are charged for ---- */

void
thag_charge_explained_shrunk(thag_charge charge, size_t bytes, thag_source source)
{
    thag_batch *batch = thag_batch_for(charge.context, bytes);
    if (charge.account != NULL) {
        thag_account_moves(charge.account);
        charge.account->live_bytes -= (int64_t)bytes;
    }
    thag_batch_fall(batch, (int64_t)bytes, source);
}

/* ---- a block from one to another ---- */

static void
grow_within(thag_charge from, thag_charge to, thag_source source)
{
    thag_batch *batch = thag_batch_for(to.context, to.size);
    int64_t high_bytes = batch->high_bytes;
    if (from.account != NULL) {
        thag_account_moves(from.account);
        thag_account_freed(from.account, from.size);
    }
    if (to.account != NULL) {
        thag_account_moves(to.account);
        thag_account_allocated(to.account, to.size);
    }
    thag_batch_grown(batch, from.size, to.size, source);
    if (to.context->explained != NULL) {
        thag_batch_look_for_high(batch, high_bytes, to.account);
    }
}

static void
levels_move(thag_charge from, thag_charge to, thag_source source)
{
    int64_t fall = (int64_t)from.size, rise = (int64_t)to.size;
    both_movement moved = {
        .own = thag_movement_straight(rise),
        .other = thag_movement_straight(-fall),
        .joint = thag_movement_straight(rise - fall),
    };
    thag_sources_add(&moved.own_sources, source, rise);
    thag_sources_add(&moved.other_sources, source, -fall);
    if (rise > fall) {
        moved.own_at_high = (thag_amount){rise, moved.own_sources};
        moved.other_at_high = (thag_amount){-fall, moved.other_sources};
    }
    both_shift(to.context, from.context, moved, thag_open_batch.now_ns);
}

/* The same, and what moves the two are a movement of their own, the end of which is its highest moment. */
static void
levels_move_explained(thag_charge from, thag_charge to, thag_source source)
{
    uint64_t peaks[THAG_WATCHERS_MOST];
    thag_accounts_peaks(to.context, peaks);
    if (to.account != NULL) {
        thag_account_tell(to.account);
        thag_account_allocated(to.account, to.size);
    }
    levels_move(from, to, source);
    thag_accounts_are_high(to.account == NULL ? THAG_SITE_NO_FRAME : to.account->site);
    explained_tell(to.context, peaks, thag_open_batch.now_ns);
}

static void
move_between(thag_charge from, thag_charge to, thag_source source)
{
    (void)thag_batch_for(to.context, to.size);
    batch_write();
    if (from.account != NULL) {
        thag_account_tell(from.account);
        thag_account_freed(from.account, from.size);
    }
    if (to.context->explained != NULL) {
        levels_move_explained(from, to, source);
    }
    else {
        levels_move(from, to, source);
    }
    counter_add(&from.context->frees, 1);
    counter_add(&from.context->foreign_frees, 1);
    thag_open_batch.total_bytes += (int64_t)to.size;
    thag_open_batch.allocations++;
}

void
thag_charge_moved(thag_charge from, thag_charge to, thag_source source)
{
    if (from.context == to.context) {
        grow_within(from, to, source);
    }
    else {
        move_between(from, to, source);
    }
}
