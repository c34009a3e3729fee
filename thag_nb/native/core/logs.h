/* Logs: what threads without the GIL charge to contexts, one event after the other, until somebody merges it. */

#ifndef THAG_LOGS_H
#define THAG_LOGS_H

#include "clock.h"
#include "lane.h"
#include "sources.h"
#include "thag.h"

struct thag_context;

enum {
    THAG_CACHE_LINE = 64,
    THAG_LOG_ENTRIES = 512,             /* a power of two; 12 KiB, all of which a busy log touches */
    THAG_LOG_ENTRIES_OF_EVENT = 32,     /* that one event writes, at most: each record that it finds in its way is up to two */
};

typedef enum {
    THAG_ALLOCATED,     /* this one and the next are nearly all, and the first that a merge looks for */
    THAG_FREED,
    THAG_FREED_BY_STRANGER,
    THAG_SHRUNK,
    THAG_GROWN,         /* a block that stays its owner's, by this much */
    THAG_TOTAL,         /* no move: what else counts as allocated of it */
    THAG_ACCOUNT_ALLOCATED,     /* these three: of an account, and the next entry is the same of its context */
    THAG_ACCOUNT_FREED,
    THAG_ACCOUNT_SHRUNK,
    THAG_DEEDS = 16,    /* a power of two */
} thag_deed;

/* With the sources a power of two that divides the address of any context and account: so a word tells all three. */
#define THAG_LOG_MARKS ((uintptr_t)THAG_DEEDS * THAG_SOURCES)

typedef struct {
    uint64_t time;                      /* when the event was over, in the unit of thag_order_read */
    uintptr_t whom;                     /* the context or account, and in the lowest bits the source and the deed */
    int64_t live_bytes;                 /* by how much they rise */
} thag_log_entry;

/* A ring. Its counts of entries never begin anew. */
typedef struct thag_log {
    /* Written by whoever occupies it; only `waits` is cleared by the holder of the GIL. */
    _Alignas(THAG_CACHE_LINE) _Atomic uint64_t turns;   /* begun and over: odd while it is occupied */
    _Atomic uint64_t published;         /* entries; what follows may be half written */
    uint64_t written;
    uint64_t room_end;                  /* below that, there is room for an event, as far as is known */
    _Atomic bool waits;                 /* it is in the list of those that have something to be taken over */
    struct thag_log *next_waiting;
    /* Written by whoever merges. */
    _Alignas(THAG_CACHE_LINE) _Atomic uint64_t merged;  /* entries */
    uint64_t next_entry;                /* to be merged */
    uint64_t end;                       /* of the entries that this merge knows of */
    struct thag_log *left, *right;      /* in the heap of a merge */
    /* Never changes. */
    _Alignas(THAG_CACHE_LINE) struct thag_log *next;
    thag_log_entry entries[THAG_LOG_ENTRIES];
} thag_log;

typedef struct {
    _Alignas(THAG_CACHE_LINE) _Atomic(thag_log *) all;      /* the newest first; none is ever taken out */
    _Alignas(THAG_CACHE_LINE) _Atomic(thag_log *) waiting;  /* pushed by any thread, emptied by the holder of the GIL */
} thag_log_list;

extern THAG_HIDDEN thag_log_list thag_logs;

/* The one that this thread had last; NULL: none yet. */
extern THAG_HIDDEN _Thread_local thag_log *thag_log_of_thread;

/* Lets the holder of the GIL know that something was published. Whoever occupies the log. */
THAG_COLD void thag_log_tell(thag_log *log);

/* The same, and lets go of it. */
THAG_COLD void thag_log_tell_and_let_go(thag_log *log);

static inline void
thag_log_let_go(thag_log *log)
{
    uint64_t turns = atomic_load_explicit(&log->turns, memory_order_relaxed);
    assert(turns % 2 == 1);
    atomic_store_explicit(&log->turns, turns + 1, memory_order_release);
}

/* Occupies the log for the caller, unless somebody else does or it is not known to have room for an event. */
static inline bool
thag_log_occupy(thag_log *log)
{
    uint64_t turns = atomic_load_explicit(&log->turns, memory_order_relaxed);
    if (turns % 2 == 1 || !atomic_compare_exchange_strong(&log->turns, &turns, turns + 1)) {
        return false;
    }
    if (THAG_LIKELY(log->written < log->room_end)) {
        return true;
    }
    thag_log_let_go(log);
    return false;
}

/* The same, after a look whether what was merged meanwhile leaves room. */
THAG_COLD bool thag_log_occupy_anew(thag_log *log);

/* A log with room for an event, occupied for the caller, out of all; else NULL, and how many are full. */
thag_log *thag_log_occupy_any(int *full);

/* True if the one that this thread had last has no room until somebody merges. */
bool thag_log_last_is_full(void);

/* A new one, occupied for the caller. NULL without memory. Any thread. */
thag_log *thag_log_append(void);

/* Adds an entry, which has no time yet, of a context or, if the deed says so, of an account. Whoever occupies the log. */
static inline thag_log_entry *
thag_log_write(thag_log *log, const void *whom, thag_source source, thag_deed deed, int64_t live_bytes)
{
    assert(log->written + 1 < log->room_end + THAG_LOG_ENTRIES_OF_EVENT);
    assert((uintptr_t)whom % THAG_LOG_MARKS == 0);
    thag_log_entry *entry = &log->entries[log->written++ % THAG_LOG_ENTRIES];
    entry->whom = (uintptr_t)whom + source * (uintptr_t)THAG_DEEDS + deed;
    entry->live_bytes = live_bytes;
    return entry;
}

static inline const thag_log_entry *
thag_log_entry_at(const thag_log *log, uint64_t number)
{
    return &log->entries[number % THAG_LOG_ENTRIES];
}

static inline void *
thag_log_whom(const thag_log_entry *entry)
{
    return (void *)(entry->whom & ~(THAG_LOG_MARKS - 1));
}

static inline thag_source
thag_log_source(const thag_log_entry *entry)
{
    return (thag_source)(entry->whom % THAG_LOG_MARKS / THAG_DEEDS);
}

static inline thag_deed
thag_log_deed(const thag_log_entry *entry)
{
    return (thag_deed)(entry->whom % THAG_DEEDS);
}

/* True if the holder of the GIL may not know that the log has something to be taken over. */
static inline bool
thag_log_is_to_be_told_of(const thag_log *log)
{
    return THAG_UNLIKELY(!atomic_load(&log->waits))
           || THAG_UNLIKELY(atomic_load(&thag_open_lane.contextvars_version) != THAG_NO_FLOW);
}

/* The event is over: publishes what it wrote, lets the holder of the GIL know of it, and lets go of the log. */
static inline void
thag_log_finish(thag_log *log)
{
    uint64_t published = atomic_load_explicit(&log->published, memory_order_relaxed);
    if (log->written != published) {
        uint64_t now = thag_order_read();
        do {
            log->entries[published % THAG_LOG_ENTRIES].time = now;
        } while (++published != log->written);
        atomic_store(&log->published, published);
        if (thag_log_is_to_be_told_of(log)) {
            thag_log_tell(log);
        }
    }
    thag_log_let_go(log);
}

/* The same of an event that writes this and nothing else. */
static inline void
thag_log_finish_with(thag_log *log, struct thag_context *context, thag_source source, thag_deed deed, int64_t live_bytes)
{
    thag_log_entry *entry = thag_log_write(log, context, source, deed, live_bytes);
    entry->time = thag_order_read();
    atomic_store(&log->published, log->written);
    if (thag_log_is_to_be_told_of(log)) {
        thag_log_tell_and_let_go(log);
        return;
    }
    thag_log_let_go(log);
}

/* True if something was published that the holder of the GIL has not taken over. Any thread. */
static inline bool
thag_logs_wait(void)
{
    return atomic_load(&thag_logs.waiting) != NULL;
}

/* Takes the entry of that number into account, and those after it, before the one numbered `end`, that are not younger than
   `until`. The number of the first that it left. */
typedef uint64_t thag_log_applier(const thag_log *log, uint64_t next, uint64_t end, uint64_t until);

/* Calls `apply` for what all logs that wait have published until now, in the order of time; `unlist`: they wait no longer.
   Whoever has the right to merge; only the holder of the GIL may unlist. */
void thag_logs_merge(bool unlist, thag_log_applier *apply);

/* How many turns were begun or over in all logs; `occupied`, whether one was not over. Any thread. */
uint64_t thag_logs_turns(bool *occupied);

/* Drops all that is in the logs, and frees them. No other thread. */
void thag_logs_forget(void);

/* Bytes mapped for logs. */
size_t thag_logs_mapped(void);

#endif
