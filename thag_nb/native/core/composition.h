/* What made up a peak: how much of it each part had, at its very moment.

   A whole (a context, or the session) has a peak, and parts (the contexts right under it; the own bytes of any context). Nobody
   visits all parts when the whole has a new peak. Instead each peak has a number that no other ever has, and a part that is
   about to move looks whether it knows the newest one: if not, it did not move since, and its level of now is what it had.

     whole   peak 7         peak 8 ...............................
     part    ──┐ 40 (7)            │ 25, is about to move: 25 (8)
               └───────────────────┴──────

   The moment of a peak lies within a movement, as that is of many events; there the part stood as far above its level before
   as it had moved by then. See charges.c and detached.c, which know. */

#ifndef THAG_COMPOSITION_H
#define THAG_COMPOSITION_H

#include "sources.h"
#include "thag.h"

typedef struct {
    uint64_t peak;          /* the number of the whole's peak that `bytes` is of */
    int64_t bytes;
} thag_part;

/* The same of a context's own bytes, a part of the session, and where these were asked for. */
typedef struct {
    uint64_t peak;
    thag_amount amount;
} thag_session_part;

/* The part is about to move from a level; the whole's newest peak has that number. */
static inline void
thag_part_moves(thag_part *part, uint64_t peak, int64_t before)
{
    if (part->peak != peak) {
        *part = (thag_part){peak, before};
    }
}

static inline void
thag_session_part_moves(thag_session_part *part, uint64_t peak, thag_amount before)
{
    if (part->peak != peak) {
        *part = (thag_session_part){peak, before};
    }
}

/* What the part, whose level is known, had at the whole's newest peak. */
static inline int64_t
thag_part_at(const thag_part *part, uint64_t peak, int64_t level)
{
    return part->peak == peak ? part->bytes : level;
}

static inline thag_amount
thag_session_part_at(const thag_session_part *part, uint64_t peak, thag_amount level)
{
    return part->peak == peak ? part->amount : level;
}

#endif
