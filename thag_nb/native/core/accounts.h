/* Accounts: what one context was charged for at one call site. */

#ifndef THAG_ACCOUNTS_H
#define THAG_ACCOUNTS_H

#include "account.h"
#include "contexts.h"
#include "sites.h"
#include "stacks.h"
#include "thag.h"

/* Where the movement of a batch stands: which accounts take part, and when it was highest. GIL. */
typedef struct {
    uint64_t movement;
    uint64_t high;
    uint32_t high_site;
    thag_account *moved;                /* linked */
} thag_accounts_movement;

extern THAG_HIDDEN thag_accounts_movement thag_accounts_open;

/* Lets the sites of a context be recorded, of blocks of at least so many bytes. No other context was ever under it, and no batch is
   open. False without memory. GIL. */
bool thag_accounts_begin(thag_context *context, size_t least_bytes);

/* The same for a new context, if the one above it is explained. Without memory, nobody's peaks above it are explained. GIL. */
void thag_accounts_inherit(thag_context *context);

/* Still whose it was, or given back, and then nobody's. GIL. */
extern THAG_HIDDEN thag_account *thag_account_asked_last;

/* The account of the context, which is explained, for a site; NULL if there is no room for one. GIL. */
THAG_APART thag_account *thag_account_look_up(thag_context *context, uint32_t site);

static inline thag_account *
thag_account_of(thag_context *context, uint32_t site)
{
    thag_account *last = thag_account_asked_last;
    return THAG_LIKELY(last->context == context && last->site == site) ? last : thag_account_look_up(context, site);
}

/* The same for a block that is allocated here now. GIL. */
static inline thag_account *
thag_account_here(thag_context *context, const PyThreadState *tstate, size_t size)
{
    bool is_told_apart = size >= context->explained->least_bytes;
    return thag_account_of(context, is_told_apart ? thag_site_here(tstate) : THAG_SITE_SMALLER);
}

/* The same for what will be allocated for the context without the GIL, as long as the thread that gives it up here waits. GIL, still. */
thag_account *thag_account_of_waiter(thag_context *context, const PyThreadState *tstate);

/* It is about to move: whoever watches learns what it had at the newest peak, if that is not known yet. GIL. */
void thag_account_tell(thag_account *account);

/* The same, for the first time in the open batch. GIL. */
void thag_account_join(thag_account *account);

/* It is about to move, as a part of the open batch. GIL. */
static inline void
thag_account_moves(thag_account *account)
{
    thag_accounts_movement *open = &thag_accounts_open;
    if (account->movement != open->movement) {
        thag_account_join(account);
    }
    if (account->high != open->high) {
        account->high = open->high;
        account->at_high_bytes = account->live_bytes;
    }
}

/* The batch is higher now than before, by what was allocated at the site. GIL. */
static inline void
thag_accounts_are_high(uint32_t site)
{
    thag_accounts_open.high++;
    thag_accounts_open.high_site = site;
}

/* The newest peaks of the contexts that watch this one. GIL. */
void thag_accounts_peaks(const thag_context *context, uint64_t peaks[THAG_WATCHERS_MOST]);

/* The movement of the context's batch is over, and all that watch have heard of it: before, their peaks were these. GIL. */
void thag_accounts_settle(const thag_context *context, const uint64_t peaks[THAG_WATCHERS_MOST]);

/* Takes over what threads without the GIL did; the shares of all that watch have been taken over. GIL, and whoever has the
   right to merge. */
void thag_account_take_late(thag_account *account);

/* What was live of it at the peak of a context that watches; false if that does not. GIL. */
bool thag_account_at_peak(const thag_account *account, const thag_context *watcher, int64_t *bytes);

/* ---- what becomes of the context ---- */

/* What was counted begins anew. GIL. */
void thag_accounts_restart(thag_context *context);

/* Nothing of it is live any more. GIL. */
void thag_accounts_forget_live(thag_context *context);

/* The context, which nothing points to, and with it its accounts are forgotten; `heir`, if it is explained by the same, has had
   what they counted. GIL. */
void thag_accounts_end(thag_context *context, thag_context *heir);

/* Those that have no live block are forgotten, with what they counted. The context has ended, and nobody waits who works for it. GIL. */
void thag_accounts_thin(thag_context *context);

/* Forgets sites that no account is of. GIL. */
void thag_accounts_sweep_sites(void);

/* True if there is little room for more. GIL. */
bool thag_accounts_are_many(void);

/* Contexts that were dropped watch no longer. GIL. */
void thag_accounts_unwatch(thag_context *context, bool (*is_dropped)(const thag_context *context));

/* How many there are, how many contexts are explained, and how often there was no room. GIL. */
uint32_t thag_accounts_count(void);
uint32_t thag_explained_count(void);
int64_t thag_accounts_dropped(void);
size_t thag_accounts_mapped(void);

#endif
