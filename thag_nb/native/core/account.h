/* The record of an account, and how a block's record names it. */

#ifndef THAG_ACCOUNT_H
#define THAG_ACCOUNT_H

#include "composition.h"
#include "thag.h"

struct thag_context;

enum {
    THAG_ACCOUNT_SHIFT = 13,        /* of 32768 slots, contexts have the first three quarters, and accounts the last */
    THAG_ACCOUNT_CHUNK = 1 << THAG_ACCOUNT_SHIFT,
    THAG_ACCOUNT_BITS = 3 << THAG_ACCOUNT_SHIFT,
    THAG_ACCOUNTS_MOST = 1 << 20,
    THAG_WATCHERS_MOST = 32,
};

/* Written with the GIL, unless a line says otherwise. Never moved; its slot is used again when no block's record names it. */
typedef struct thag_account {
    _Alignas(64) struct thag_context *context;  /* NULL: unused */
    uint32_t slot;
    uint32_t site;
    uint32_t small_word;                /* what the record of a small block of it is, besides its size; 0: it has something aside */
    int64_t live_bytes;
    int64_t blocks;                     /* live ones */
    int64_t total_bytes;
    int64_t allocations;
    int64_t frees;
    uint64_t movement;                  /* the number of the last one that it took part in */
    uint64_t high;                      /* the number of the last highest moment in one that it knows of */
    int64_t at_high_bytes;              /* what was live of it then */
    struct thag_account *next_moved;
    struct thag_account *next_of_context;
    struct thag_account *next_of_hash;  /* or of those that are unused */
    thag_part *parts;                   /* at the peak of each context that watches; and behind `part_room`, as many late ones */
    uint32_t part_room;
    /* What threads without the GIL did since that was last taken over. Whoever has the right to merge. */
    bool is_late;
    int64_t late_bytes;
    int64_t late_total_bytes;
    int64_t late_allocations;
    int64_t late_frees;
    struct thag_account *next_late;
} thag_account;

/* What a context has whose sites are recorded. GIL. */
typedef struct {
    size_t least_bytes;                 /* of blocks that are told apart */
    uint32_t peak_site;                 /* where it was when its live bytes were highest */
    bool is_watched;                    /* its peak is explained by the accounts below it as well */
    uint32_t watcher_count;
    uint32_t watcher_room;
    struct thag_context **watchers;     /* contexts whose peaks are explained: some above it and itself, outermost first */
    thag_account *accounts;             /* linked */
    thag_account *smaller;              /* of blocks that are not told apart; NULL as long as nobody has waited */
} thag_explained;

extern THAG_HIDDEN thag_account *_Atomic thag_account_chunks[THAG_ACCOUNTS_MOST / THAG_ACCOUNT_CHUNK];

static inline bool
thag_slot_is_of_account(uint32_t slot)
{
    return THAG_UNLIKELY((slot & THAG_ACCOUNT_BITS) == THAG_ACCOUNT_BITS);
}

/* The account that has this slot. Any thread that holds a block of it. */
static inline thag_account *
thag_account_at(uint32_t slot)
{
    assert(thag_slot_is_of_account(slot));
    thag_account *chunk = atomic_load_explicit(&thag_account_chunks[slot >> (THAG_ACCOUNT_SHIFT + 2)], memory_order_acquire);
    return &chunk[slot & (THAG_ACCOUNT_CHUNK - 1)];
}

#endif
