/* Logs.

   A thread without the GIL must neither wait for others nor write where all others write: two processors that write to one
   cache line wait for each other. So each event *occupies* a log, from its beginning to its end, writes there what it charges
   to whom, and at last publishes that with the time. A thread takes the log that it had last, which is its own as a rule,
   though nothing belongs to a thread: when it ends there is nothing to be done, and there are as many logs as events were
   under way at one time, whatever the number of threads.

     thread ──► log  ▒▒▒▒▒▒▒░░░░░   entries: time, context, bytes
     thread ──► log  ░░▒▒▒░░░░░░░  ═══ merge, in the order of time ═══►  shares of the contexts  ──►  figures
     thread ──► log  ▒░░░░░░░▒▒▒▒

   Whoever merges takes no effect without its cause. It reads what time it is first, and then what is published, and takes only what
   is not younger than that reading. If the cause of an entry was an event on another thread, that was over, and so published
   and in the list of those that wait, before the entry's time was read; hence before the list was looked at. What is younger
   stays for the next time. (Times are those of the processor's counter, see clock.h. It may begin anew while the computer
   sleeps: then all that is published is taken, and what is from before the sleep may come after what is not.)

   Nothing that is over is overlooked by the holder of the GIL, either. The one side publishes and then looks whether the log
   waits; the other says that it does not, and then looks what is published. These four are in one order for all threads
   (sequentially consistent), so at least one of the two sees the other. The same holds for the lane, which is left after
   the log was put among those that wait: who enters it looks for these afterwards.

   `turns` says whether all is quiet. It only grows, in each log, and is odd while somebody is there. So if two readings of all
   logs have the same sum, and all were even in the second, each log was as it is now from the one reading to the other: at
   the moment between them, no event was under way anywhere. */

#include "logs.h"

static thag_log first_log;      /* so that an event needs no memory if it is the only one under way */
thag_log_list thag_logs = {.all = &first_log};

_Thread_local thag_log *thag_log_of_thread;
static _Atomic int64_t mapped_bytes;

/* ---- whoever occupies a log ---- */

static bool
log_find_room(thag_log *log)
{
    uint64_t end = atomic_load_explicit(&log->merged, memory_order_acquire) + THAG_LOG_ENTRIES;
    log->room_end = end - THAG_LOG_ENTRIES_OF_EVENT + 1;
    return log->written < log->room_end;
}

bool
thag_log_occupy_anew(thag_log *log)
{
    uint64_t turns = atomic_load_explicit(&log->turns, memory_order_relaxed);
    if (turns % 2 == 1 || !atomic_compare_exchange_strong(&log->turns, &turns, turns + 1)) {
        return false;
    }
    if (log_find_room(log)) {
        thag_log_of_thread = log;
        return true;
    }
    thag_log_let_go(log);
    return false;
}

/* As others see it. */
static bool
log_is_full(const thag_log *log)
{
    uint64_t merged = atomic_load_explicit(&log->merged, memory_order_relaxed);
    uint64_t published = atomic_load_explicit(&log->published, memory_order_relaxed);
    return published + THAG_LOG_ENTRIES_OF_EVENT > merged + THAG_LOG_ENTRIES;
}

thag_log *
thag_log_occupy_any(int *full)
{
    *full = 0;
    for (thag_log *log = atomic_load(&thag_logs.all); log != NULL; log = log->next) {
        if (log_is_full(log)) {
            *full += 1;
        }
        else if (thag_log_occupy_anew(log)) {
            return log;
        }
    }
    return NULL;
}

bool
thag_log_last_is_full(void)
{
    return thag_log_of_thread != NULL && log_is_full(thag_log_of_thread);
}

thag_log *
thag_log_append(void)
{
    thag_log *log = thag_pages_map(sizeof(*log));
    if (log == NULL) {
        return NULL;
    }
    (void)thag_add(&mapped_bytes, (int64_t)sizeof(*log));
    bool occupied = thag_log_occupy_anew(log);
    assert(occupied);
    (void)occupied;
    log->next = atomic_load(&thag_logs.all);
    while (!atomic_compare_exchange_weak(&thag_logs.all, &log->next, log)) {
    }
    return log;
}

/* Puts the log among those that wait, if it is not there. Whoever occupies it, or merges. */
static void
log_wait(thag_log *log)
{
    if (!atomic_load(&log->waits) && !atomic_exchange(&log->waits, true)) {
        log->next_waiting = atomic_load(&thag_logs.waiting);
        while (!atomic_compare_exchange_weak(&thag_logs.waiting, &log->next_waiting, log)) {
        }
    }
}

void
thag_log_tell(thag_log *log)
{
    log_wait(log);
    thag_lane_leave();      /* the attached lane is to take this over before its next event */
}

void
thag_log_tell_and_let_go(thag_log *log)
{
    thag_log_tell(log);
    thag_log_let_go(log);
}

uint64_t
thag_logs_turns(bool *occupied)
{
    uint64_t sum = 0, odd = 0;
    for (const thag_log *log = atomic_load(&thag_logs.all); log != NULL; log = log->next) {
        uint64_t turns = atomic_load(&log->turns);
        sum += turns;
        odd |= turns & 1;
    }
    *occupied = odd != 0;
    return sum;
}

/* ---- whoever merges ---- */

static uint64_t
log_time(const thag_log *log)
{
    return thag_log_entry_at(log, log->next_entry)->time;
}

/* Two heaps of logs as one, in which what comes first is on top. */
static thag_log *
heaps_meld(thag_log *one, thag_log *other)
{
    if (one == NULL || other == NULL) {
        return one == NULL ? other : one;
    }
    thag_log *top = log_time(other) < log_time(one) ? other : one;
    thag_log *below = top == one ? other : one;
    thag_log *left = top->left;
    top->left = heaps_meld(top->right, below);      /* the sides change places, so that neither grows long */
    top->right = left;
    return top;
}

/* False if the counter has begun anew since: else what is published is older than what is read now. */
static bool
is_to_wait(uint64_t time, uint64_t until)
{
    return THAG_UNLIKELY(time > until) && time <= thag_order_read();
}

/* The heap with the log, if it has anything that is old enough; what is younger waits for the next time. */
static thag_log *
heap_add(thag_log *heap, thag_log *log, uint64_t until)
{
    if (log->next_entry == log->end) {
        return heap;
    }
    if (is_to_wait(log_time(log), until)) {
        log_wait(log);
        return heap;
    }
    log->left = log->right = NULL;
    return heaps_meld(heap, log);
}

/* What is published in all logs that wait. Once one is not listed any more, others may list it anew. */
static thag_log *
heap_gather(bool unlist, uint64_t until)
{
    thag_log *heap = NULL;
    thag_log *log = unlist ? atomic_exchange(&thag_logs.waiting, NULL) : atomic_load(&thag_logs.waiting);
    while (log != NULL) {
        thag_log *next = log->next_waiting;
        if (unlist) {
            atomic_store(&log->waits, false);
        }
        log->end = atomic_load(&log->published);
        heap = heap_add(heap, log, until);
        log = next;
    }
    return heap;
}

void
thag_logs_merge(bool unlist, thag_log_applier *apply)
{
    uint64_t now = thag_order_read_first();
    thag_log *heap = heap_gather(unlist, now);
    while (heap != NULL) {
        thag_log *log = heap;
        heap = heaps_meld(log->left, log->right);
        log->next_entry = apply(log, log->next_entry, log->end, heap == NULL ? now : log_time(heap));
        atomic_store_explicit(&log->merged, log->next_entry, memory_order_release);
        heap = heap_add(heap, log, now);
    }
}

void
thag_logs_forget(void)
{
    atomic_store(&thag_logs.waiting, NULL);
    for (thag_log *log = atomic_load(&thag_logs.all); log != NULL; log = log->next) {
        uint64_t turns = atomic_load(&log->turns);
        log->next_entry = log->written;
        atomic_store(&log->published, log->written);
        atomic_store(&log->merged, log->written);
        atomic_store(&log->waits, false);
        atomic_store(&log->turns, turns + turns % 2);
    }
}

size_t
thag_logs_mapped(void)
{
    return (size_t)thag_load(&mapped_bytes);
}
