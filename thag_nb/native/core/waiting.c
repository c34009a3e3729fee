/* Who waits.

   Libraries as Arrow, Polars, DuckDB and those with OpenMP have threads of their own, which Python never sees. What these take is
   for whoever called the library: a thread that gave up the GIL in its code, and waits there until the work is done.

     thread of "a" ─► polars ─► gives up the GIL ┐
     thread of "b" ─► duckdb ─► gives up the GIL ┤  places: (a, polars) (b, duckdb)
     Polars' own thread ─► malloc ───────────────┴► who waits for polars? a

   If two wait for the same package, nothing tells whose a piece of work is: it is charged to what is above both, whose figures
   include it in any case, and how much that was is told. The root does not wait: it is where a kernel listens for messages.

   A place is taken and given up with the GIL, and read by any thread. Each change moves a version, so that readers
   need not look at all places for each event. Whoever is in a place keeps the record of the context from being given back; who
   gives up a place empties it first, then moves the version, and lets go of the context at last. What is above those that
   wait, or took over from one in a reset, is kept by nobody; but nothing is given back without a new generation. So whoever
   finds both unmoved, within an event, may use what it found under them. */

#include "waiting.h"

#include <string.h>

enum {
    PLACES = 256,
    SHARINGS = 32,
};

typedef struct {
    thag_context *_Atomic context;      /* NULL: free */
    thag_account *_Atomic account;      /* of the context, or NULL */
    _Atomic thag_package package;
    uint16_t outer;                     /* as `place` of the thread, before it was here */
    uint32_t wait;                      /* as `waits` of the thread, since it is here */
} waiting_place;

static waiting_place places[PLACES];
static _Atomic int places_end;          /* one more than the last that was ever taken */
uint64_t thag_waiting_version = 1;
static _Atomic uint32_t places_epoch;   /* moves when all were emptied */
static thag_sharing sharings[SHARINGS];

/* ---- to wait ---- */

static int
place_find(void)
{
    int end = atomic_load_explicit(&places_end, memory_order_relaxed), free = 0;
    while (free < end && atomic_load_explicit(&places[free].context, memory_order_relaxed) != NULL) {
        free++;
    }
    if (free == end && end < PLACES) {
        atomic_store(&places_end, end + 1);
    }
    return free < PLACES ? free : -1;
}

static void
self_begin_anew(thag_waiter *self)
{
    uint32_t epoch = atomic_load(&places_epoch);
    if (self->epoch != epoch) {
        self->epoch = epoch;
        self->place = 0;
        self->waits = 0;
    }
}

static void
place_take(thag_waiter *self, thag_context *context, thag_account *account, thag_package package)
{
    int free = place_find();
    if (free < 0) {
        return;
    }
    waiting_place *place = &places[free];
    (void)atomic_fetch_add(&context->frames, 1);
    place->outer = self->place;
    place->wait = self->waits;
    atomic_store_explicit(&place->package, package, memory_order_relaxed);
    atomic_store_explicit(&place->account, account, memory_order_relaxed);
    atomic_store(&place->context, context);
    thag_waiting_expire();
    self->place = (uint16_t)(free + 1);
}

/* True if it waits for the same already, further out: then one place is enough. */
static bool
is_placed(const thag_waiter *self, const thag_context *context, thag_package package)
{
    if (self->place == 0) {
        return false;
    }
    const waiting_place *place = &places[self->place - 1];
    return atomic_load_explicit(&place->context, memory_order_relaxed) == context
           && atomic_load_explicit(&place->package, memory_order_relaxed) == package;
}

/* The innermost one; NULL if there is none, or it is too far inside. */
static thag_wait *
wait_now(thag_waiter *self)
{
    return self->waits == 0 || self->waits > THAG_WAITS_KNOWN ? NULL : &self->nested[self->waits - 1];
}

/* What the place works for is what waits innermost. */
static void
place_cover(thag_waiter *self, thag_wait *wait)
{
    waiting_place *place = &places[self->place - 1];
    thag_account *outer = atomic_load_explicit(&place->account, memory_order_relaxed);
    if (wait != NULL && wait->account != outer) {
        wait->covers = true;
        wait->covered = outer;
        atomic_store(&place->account, wait->account);
        thag_waiting_expire();
    }
}

static void
place_uncover(thag_waiter *self, thag_wait *wait)
{
    if (wait != NULL && wait->covers && self->place != 0) {
        atomic_store(&places[self->place - 1].account, wait->covered);
        thag_waiting_expire();
    }
}

void
thag_waiting_begin(thag_waiter *self, thag_context *context, thag_account *account, thag_spot spot, thag_package package)
{
    self_begin_anew(self);
    bool waits = context != NULL && context != thag_contexts.root && package != THAG_STANDARD;
    self->waits++;
    thag_wait *wait = wait_now(self);
    if (wait != NULL) {
        *wait = (thag_wait){.account = account, .spot = spot};
    }
    if (waits && is_placed(self, context, package)) {
        place_cover(self, wait);
    }
    else if (waits) {
        place_take(self, context, account, package);
    }
}

static void
place_give_up(waiting_place *place)
{
    thag_context *context = atomic_exchange(&place->context, NULL);
    thag_waiting_expire();
    if (context != NULL) {
        (void)atomic_fetch_sub(&context->frames, 1);
    }
}

void
thag_waiting_end(thag_waiter *self)
{
    self_begin_anew(self);
    if (self->waits == 0) {
        return;             /* it began before anything was told */
    }
    waiting_place *place = self->place == 0 ? NULL : &places[self->place - 1];
    if (place != NULL && place->wait == self->waits) {
        self->place = place->outer;
        place_give_up(place);
    }
    else {
        place_uncover(self, wait_now(self));
    }
    self->waits--;
}

void
thag_waiting_forget(void)
{
    (void)atomic_fetch_add(&places_epoch, 1);
    for (int i = atomic_load(&places_end); i-- > 0;) {
        place_give_up(&places[i]);
    }
}

/* ---- to be worked for ---- */

static thag_context *
above_both(thag_context *one, thag_context *other)
{
    /* Who is above has the lower id. */
    while (one != other && one != NULL && other != NULL) {
        if (one->id > other->id) {
            one = thag_context_parent(one);
        }
        else {
            other = thag_context_parent(other);
        }
    }
    return one == other ? one : thag_contexts.root;
}

typedef struct {
    thag_context *above;                /* all that were found; NULL if none was */
    thag_context *one, *other;          /* two of them, if they are several */
    thag_account *account;              /* of the only one that waits */
} those_waiting;

static void
those_add(those_waiting *those, thag_context *context, thag_account *account)
{
    those->account = those->above == NULL ? account : NULL;
    if (those->above == NULL) {
        those->above = those->one = context;
        return;
    }
    if (context != those->one && those->other == NULL) {
        those->other = context;
    }
    those->above = above_both(those->above, context);
}

static those_waiting
those_find(thag_package package, bool any)
{
    those_waiting those = {0};
    for (int i = 0; i < atomic_load(&places_end); i++) {
        thag_context *context = atomic_load(&places[i].context);
        if (context != NULL
            && (any || atomic_load_explicit(&places[i].package, memory_order_relaxed) == package)) {
            those_add(&those, thag_context_today(context),
                      atomic_load_explicit(&places[i].account, memory_order_relaxed));
        }
    }
    return those;
}

/* The record of what two share. NULL if there is no room. */
static thag_sharing *
sharing_of(const those_waiting *those)
{
    uint64_t low = those->one->id < those->other->id ? those->one->id : those->other->id;
    uint64_t high = those->one->id + those->other->id - low;
    uint64_t key = (high << 32 ^ low) | (uint64_t)1 << 63;
    for (int i = 0; i < SHARINGS; i++) {
        uint64_t found = 0;
        if (atomic_compare_exchange_strong(&sharings[i].key, &found, key)) {
            atomic_store(&sharings[i].ids[0], low);
            atomic_store(&sharings[i].ids[1], high);
            atomic_store(&sharings[i].charged_id, those->above->id);
            return &sharings[i];
        }
        if (found == key) {
            return &sharings[i];
        }
    }
    return NULL;
}

/* Nobody waits any more. Libraries may go on for a moment while their caller has its answer already: that is left over from
   whom the thread worked for last, unless that has ended. */
static thag_context *
left_over_from(const thag_waiter *self, uint32_t generation)
{
    thag_context *last = self->generation == generation ? self->answer : NULL;
    return last != NULL && atomic_load(&last->holds) > 0 ? last : NULL;
}

static void
answer_find(thag_waiter *self, uint64_t version, uint32_t generation)
{
    those_waiting those = those_find(self->package, self->package == THAG_NO_PACKAGE);
    if (those.above == NULL) {
        those = those_find(THAG_NO_PACKAGE, false);
    }
    self->sharing = those.other != NULL ? sharing_of(&those) : NULL;
    self->is_left_over = those.above == NULL;
    self->answer = self->is_left_over ? left_over_from(self, generation) : those.above;
    self->account_for = !self->is_left_over ? those.account : self->answer == NULL ? NULL : self->account_for;
    self->version = version;
    self->generation = generation;
}

thag_context *
thag_waiting_for(thag_waiter *self)
{
    uint64_t version = thag_waiting_version_now();
    uint32_t generation = atomic_load(&thag_contexts_generation);
    if (THAG_UNLIKELY(self->version != version || self->generation != generation)) {
        answer_find(self, version, generation);
    }
    else if (THAG_UNLIKELY(self->is_left_over)) {
        self->answer = left_over_from(self, generation);
        self->account_for = self->answer == NULL ? NULL : self->account_for;
    }
    return self->answer;
}

static bool
is_there(thag_spot spot, const PyThreadState *own)
{
    thag_spot now = thag_spot_of(own);
    return now.frame == spot.frame && now.instruction == spot.instruction;
}

thag_account *
thag_waiting_account(thag_waiter *self, const PyThreadState *own, const thag_context *context, size_t size)
{
    const thag_wait *wait = own == NULL ? NULL : wait_now(self);
    bool is_known = wait != NULL && wait->account != NULL && is_there(wait->spot, own);
    thag_account *account = is_known ? wait->account : self->account_for;
    if (account == NULL || account->context != context) {
        return NULL;
    }
    return size < context->explained->least_bytes ? context->explained->smaller : account;
}

/* ---- what was shared ---- */

void
thag_waiting_visit_sharings(void (*tell)(const thag_sharing *sharing, void *data), void *data)
{
    for (int i = 0; i < SHARINGS; i++) {
        if (atomic_load(&sharings[i].charged_id) != 0 && thag_load(&sharings[i].bytes) > 0) {
            tell(&sharings[i], data);
        }
    }
}

void
thag_waiting_forget_sharings(void)
{
    for (int i = 0; i < SHARINGS; i++) {
        atomic_store(&sharings[i].charged_id, 0);
        thag_store(&sharings[i].bytes, 0);
        atomic_store(&sharings[i].key, 0);
    }
    thag_waiting_expire();
}
