/* Accounts: what contexts whose call sites are recorded were charged for at each of them.

   Such a context is explained, and so is all that is started under it. Its blocks' records name an account instead of it: a
   slot of the same kind, of which the context is told. So whoever frees the block, wherever, repays both.

   What made up a context's peak is told by its accounts and those of the contexts below it, each a part of the peaks of all that
   watch it (see composition.h). A batch moves all of them by the same amount at each event, and those that watch hear of it at its
   end, at once: so there is one moment in it that may be their peak, its highest. An account that moves after that moment
   remembers what it had then; one that does not, has it still:

     batch      ──┐  ┌──┐ highest
                  └──┘  └─────┐    ┌──
     account    moves ......  │ moves: remembers its level of before
     another    moves, and not again: its level is the one of then

   Contexts that are not explained have no accounts, and their events pay nothing for it. */

#include "accounts.h"
#include "owners.h"

#include "slabs.h"

thag_accounts_movement thag_accounts_open = {.movement = 1, .high = 1};
thag_account *_Atomic thag_account_chunks[THAG_ACCOUNTS_MOST / THAG_ACCOUNT_CHUNK];

static thag_account **heads;    /* of accounts of the same hash, linked */
static uint32_t heads_mask;
static thag_account *unused;    /* linked */
static uint32_t made;           /* since the process started, and not over again */
static uint32_t in_use;
static uint32_t explained_count;
static int64_t dropped;
static size_t mapped_bytes;

/* ---- finding ---- */

static thag_account **
head_of(const thag_context *context, uint32_t site)
{
    uint64_t hash = (uint64_t)context->slot * UINT64_C(0x9E3779B97F4A7C15) ^ (uint64_t)site * UINT64_C(0xC2B2AE3D27D4EB4F);
    return &heads[hash >> 32 & heads_mask];
}

/* Room for one account more to be found quickly. False without memory for the first. */
static bool
heads_have_room(void)
{
    enum { FEWEST = 1 << 10 };
    if (heads != NULL && in_use <= heads_mask) {
        return true;
    }
    uint32_t count = heads == NULL ? FEWEST : (heads_mask + 1) * 2, old_count = heads == NULL ? 0 : heads_mask + 1;
    thag_account **old = heads, **bigger = thag_pages_map(count * sizeof(*bigger));
    if (bigger == NULL) {
        return old != NULL;
    }
    heads = bigger;
    heads_mask = count - 1;
    mapped_bytes += (count - old_count) * sizeof(*heads);
    for (uint32_t i = 0; i < old_count; i++) {
        for (thag_account *account = old[i], *next; account != NULL; account = next) {
            next = account->next_of_hash;
            thag_account **head = head_of(account->context, account->site);
            account->next_of_hash = *head;
            *head = account;
        }
    }
    if (old != NULL) {
        thag_pages_unmap(old, old_count * sizeof(*old));
    }
    return true;
}

static thag_account *
account_find(const thag_context *context, uint32_t site)
{
    if (heads == NULL) {
        return NULL;
    }
    thag_account *account = *head_of(context, site);
    while (account != NULL && (account->context != context || account->site != site)) {
        account = account->next_of_hash;
    }
    return account;
}

/* ---- making ---- */

/* A slot that was not used yet. NULL if there is none, or no memory. */
static thag_account *
account_cut(void)
{
    if (made == THAG_ACCOUNTS_MOST) {
        return NULL;
    }
    thag_account *_Atomic *chunk = &thag_account_chunks[made / THAG_ACCOUNT_CHUNK];
    if (atomic_load(chunk) == NULL) {
        thag_account *pages = thag_pages_map(THAG_ACCOUNT_CHUNK * sizeof(thag_account));
        if (pages == NULL) {
            return NULL;
        }
        atomic_store(chunk, pages);
    }
    thag_account *account = atomic_load(chunk) + made % THAG_ACCOUNT_CHUNK;
    account->slot = made / THAG_ACCOUNT_CHUNK << (THAG_ACCOUNT_SHIFT + 2) | THAG_ACCOUNT_BITS | made % THAG_ACCOUNT_CHUNK;
    account->small_word = thag_far_word(account->slot);
    mapped_bytes += sizeof(*account);
    made++;
    return account;
}

static thag_account *
account_take(void)
{
    thag_account *account = unused;
    if (account == NULL) {
        return account_cut();
    }
    unused = account->next_of_hash;
    return account;
}

static void
account_give_back(thag_account *account)
{
    uint32_t slot = account->slot;
    thag_slab_give_back(account->parts, 2 * account->part_room * sizeof(thag_part));
    *account = (thag_account){.slot = slot, .small_word = thag_far_word(slot), .next_of_hash = unused};
    unused = account;
}

THAG_COLD static thag_account *
account_make(thag_context *context, uint32_t site)
{
    thag_account *account = heads_have_room() ? account_take() : NULL;
    if (account == NULL) {
        dropped++;
        return NULL;
    }
    thag_explained *explained = context->explained;
    account->part_room = explained->watcher_count;
    account->parts = thag_slab_take(2 * account->part_room * sizeof(thag_part));
    if (account->parts == NULL) {
        account_give_back(account);
        dropped++;
        return NULL;
    }
    account->context = context;
    account->site = site;
    account->next_of_context = explained->accounts;
    explained->accounts = account;
    thag_account **head = head_of(context, site);
    account->next_of_hash = *head;
    *head = account;
    in_use++;
    return account;
}

static thag_account nobodys;
thag_account *thag_account_asked_last = &nobodys;

thag_account *
thag_account_look_up(thag_context *context, uint32_t site)
{
    thag_account *account = account_find(context, site);
    account = account == NULL ? account_make(context, site) : account;
    if (account != NULL) {
        thag_account_asked_last = account;
    }
    return account;
}

thag_account *
thag_account_of_waiter(thag_context *context, const PyThreadState *tstate)
{
    thag_explained *explained = context->explained;
    if (explained->least_bytes > 0 && explained->smaller == NULL) {
        explained->smaller = thag_account_of(context, THAG_SITE_SMALLER);
    }
    return thag_account_of(context, thag_site_here(tstate));
}

/* ---- moving ---- */

void
thag_account_tell(thag_account *account)
{
    const thag_explained *explained = account->context->explained;
    for (uint32_t i = 0; i < explained->watcher_count; i++) {
        thag_part_moves(&account->parts[i], explained->watchers[i]->peak, account->live_bytes);
    }
}

void
thag_account_join(thag_account *account)
{
    account->movement = thag_accounts_open.movement;
    account->next_moved = thag_accounts_open.moved;
    thag_accounts_open.moved = account;
    thag_account_tell(account);
}

void
thag_accounts_peaks(const thag_context *context, uint64_t peaks[THAG_WATCHERS_MOST])
{
    const thag_explained *explained = context->explained;
    for (uint32_t i = 0; i < explained->watcher_count; i++) {
        peaks[i] = explained->watchers[i]->peak;
    }
}

static void
watcher_has_peaked(uint32_t place, thag_context *watcher)
{
    watcher->explained->peak_site = thag_accounts_open.high_site;
    for (thag_account *account = thag_accounts_open.moved; account != NULL; account = account->next_moved) {
        if (account->high == thag_accounts_open.high) {
            account->parts[place] = (thag_part){watcher->peak, account->at_high_bytes};
        }
    }
}

void
thag_accounts_settle(const thag_context *context, const uint64_t peaks[THAG_WATCHERS_MOST])
{
    const thag_explained *explained = context->explained;
    for (uint32_t i = 0; i < explained->watcher_count; i++) {
        if (explained->watchers[i]->peak != peaks[i]) {
            watcher_has_peaked(i, explained->watchers[i]);
        }
    }
    thag_accounts_open.moved = NULL;
    thag_accounts_open.movement++;
}

/* What its watchers' shares had at their highest, and how far it had moved then, is known by the same numbers. */
void
thag_account_take_late(thag_account *account)
{
    const thag_explained *explained = account->context->explained;
    for (uint32_t i = 0; i < explained->watcher_count; i++) {
        const thag_context *watcher = explained->watchers[i];
        const thag_share *share = thag_context_share(watcher);
        if (watcher->peak == share->peak_before) {
            thag_part_moves(&account->parts[i], watcher->peak, account->live_bytes);
        }
        else {
            int64_t moved = thag_part_at(&account->parts[account->part_room + i], share->highs, account->late_bytes);
            account->parts[i] = (thag_part){watcher->peak, account->live_bytes + moved};
        }
        account->parts[account->part_room + i] = (thag_part){0};
    }
    account->live_bytes += account->late_bytes;
    account->blocks += account->late_allocations - account->late_frees;
    account->total_bytes += account->late_total_bytes;
    account->allocations += account->late_allocations;
    account->frees += account->late_frees;
    account->late_bytes = account->late_total_bytes = account->late_allocations = account->late_frees = 0;
    account->is_late = false;
}

bool
thag_account_at_peak(const thag_account *account, const thag_context *watcher, int64_t *bytes)
{
    const thag_explained *explained = account->context->explained;
    for (uint32_t i = 0; i < explained->watcher_count; i++) {
        if (explained->watchers[i] == watcher) {
            *bytes = thag_part_at(&account->parts[i], watcher->peak, account->live_bytes);
            return true;
        }
    }
    return false;
}

/* ---- the beginning ---- */

/* How many watch the context above and go on watching what is below. If there are very many, the accounts below do not tell of the
   one right above them. */
static uint32_t
watchers_above(const thag_explained *above)
{
    if (above == NULL || above->watcher_count < THAG_WATCHERS_MOST) {
        return above == NULL ? 0 : above->watcher_count;
    }
    above->watchers[THAG_WATCHERS_MOST - 1]->explained->is_watched = false;
    return THAG_WATCHERS_MOST - 1;
}

static bool
explain(thag_context *context, size_t least_bytes)
{
    const thag_context *parent = thag_context_parent(context);
    const thag_explained *above = parent == NULL ? NULL : parent->explained;
    uint32_t count = watchers_above(above);
    thag_explained *explained = thag_slab_take(sizeof(*explained));
    thag_context **watchers = thag_slab_take((count + 1) * sizeof(*watchers));
    if (explained == NULL || watchers == NULL) {
        thag_slab_give_back(explained, sizeof(*explained));
        thag_slab_give_back(watchers, (count + 1) * sizeof(*watchers));
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        watchers[i] = above->watchers[i];
    }
    watchers[count] = context;
    *explained = (thag_explained){.least_bytes = least_bytes, .is_watched = true, .watcher_count = count + 1,
                                  .watcher_room = count + 1, .watchers = watchers};
    context->explained = explained;
    explained_count++;
    return true;
}

bool
thag_accounts_begin(thag_context *context, size_t least_bytes)
{
    assert(context->records);
    if (!thag_sites_prepare()) {
        return false;
    }
    if (context->explained == NULL) {
        return explain(context, least_bytes);
    }
    context->explained->least_bytes = least_bytes;      /* not what the one above it wants */
    return true;
}

void
thag_accounts_inherit(thag_context *context)
{
    const thag_context *parent = thag_context_parent(context);
    const thag_explained *above = parent == NULL ? NULL : parent->explained;
    if (above == NULL || !context->records || explain(context, above->least_bytes)) {
        return;
    }
    dropped++;
    for (uint32_t i = 0; i < above->watcher_count; i++) {
        above->watchers[i]->explained->is_watched = false;
    }
}

/* ---- the end ---- */

static void
account_restart(thag_account *account)
{
    account->total_bytes = account->allocations = account->frees = 0;
}

void
thag_accounts_restart(thag_context *context)
{
    thag_explained *explained = context->explained;
    if (explained == NULL) {
        return;
    }
    explained->peak_site = THAG_SITE_NO_FRAME;
    for (thag_account *account = explained->accounts; account != NULL; account = account->next_of_context) {
        account_restart(account);
    }
}

void
thag_accounts_forget_live(thag_context *context)
{
    thag_account *account = context->explained == NULL ? NULL : context->explained->accounts;
    for (; account != NULL; account = account->next_of_context) {
        thag_account_tell(account);
        account->live_bytes = account->blocks = 0;
    }
}

static void
account_unlink(thag_account *account)
{
    thag_account **link = head_of(account->context, account->site);
    while (*link != account) {
        link = &(*link)->next_of_hash;
    }
    *link = account->next_of_hash;
    in_use--;
}

/* What was counted, and what it had at the peaks of the contexts that both are watched by. */
static void
account_pass_on(const thag_account *account, thag_account *heir)
{
    heir->total_bytes += account->total_bytes;
    heir->allocations += account->allocations;
    heir->frees += account->frees;
    thag_account_tell(heir);
    const thag_explained *explained = heir->context->explained;
    for (uint32_t i = 0; i < explained->watcher_count; i++) {
        int64_t bytes;
        if (thag_account_at_peak(account, explained->watchers[i], &bytes)) {
            heir->parts[i].bytes += bytes;
        }
    }
}

bool
thag_accounts_are_many(void)
{
    return in_use > THAG_ACCOUNTS_MOST / 4 * 3 || thag_sites_are_many();
}

void
thag_accounts_thin(thag_context *context)
{
    thag_account **link = context->explained == NULL ? NULL : &context->explained->accounts;
    while (link != NULL && *link != NULL) {
        thag_account *account = *link;
        if (account->blocks != 0 || account == context->explained->smaller) {
            link = &account->next_of_context;
            continue;
        }
        *link = account->next_of_context;
        account_unlink(account);
        account_give_back(account);
    }
}

void
thag_accounts_sweep_sites(void)
{
    for (uint32_t i = 0; i < thag_contexts.count; i++) {
        const thag_explained *explained = thag_contexts.by_age[i]->explained;
        const thag_account *account = explained == NULL ? NULL : explained->accounts;
        if (explained != NULL) {
            thag_site_keep(explained->peak_site);
        }
        for (; account != NULL; account = account->next_of_context) {
            thag_site_keep(account->site);
        }
    }
    thag_sites_sweep();
}

void
thag_accounts_end(thag_context *context, thag_context *heir)
{
    thag_explained *explained = context->explained;
    if (explained == NULL) {
        return;
    }
    while (explained->accounts != NULL) {
        thag_account *account = explained->accounts;
        explained->accounts = account->next_of_context;
        if (heir != NULL && heir->explained != NULL) {
            thag_account *same = account_find(heir, account->site);
            same = same == NULL ? account_make(heir, account->site) : same;
            if (same != NULL) {
                account_pass_on(account, same);
            }
        }
        account_unlink(account);
        account_give_back(account);
    }
    thag_slab_give_back(explained->watchers, explained->watcher_room * sizeof(*explained->watchers));
    thag_slab_give_back(explained, sizeof(*explained));
    context->explained = NULL;
    explained_count--;
}

static void
part_take_out(thag_account *account, uint32_t place, uint32_t count)
{
    thag_part *late = account->parts + account->part_room;
    for (uint32_t i = place; i + 1 < count; i++) {
        account->parts[i] = account->parts[i + 1];
        late[i] = late[i + 1];
    }
}

void
thag_accounts_unwatch(thag_context *context, bool (*is_dropped)(const thag_context *context))
{
    thag_explained *explained = context->explained;
    for (uint32_t i = 0; explained != NULL && i < explained->watcher_count;) {
        if (!is_dropped(explained->watchers[i])) {
            i++;
            continue;
        }
        for (thag_account *account = explained->accounts; account != NULL; account = account->next_of_context) {
            part_take_out(account, i, explained->watcher_count);
        }
        explained->watcher_count--;
        for (uint32_t k = i; k < explained->watcher_count; k++) {
            explained->watchers[k] = explained->watchers[k + 1];
        }
    }
}

uint32_t
thag_accounts_count(void)
{
    return in_use;
}

uint32_t
thag_explained_count(void)
{
    return explained_count;
}

int64_t
thag_accounts_dropped(void)
{
    return dropped;
}

size_t
thag_accounts_mapped(void)
{
    return mapped_bytes + thag_slabs_mapped();
}
