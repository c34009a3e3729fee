/* Pieces are cut off a run of pages, and when they are given back, kept in a list for others of their size. Pages are never
   given back: there are as many as were once needed at the same time. */

#include "slabs.h"

#include <string.h>

enum {
    UNIT = 16,
    RUN_BYTES = 1 << 16,
};

typedef struct piece {
    struct piece *next;
} piece;

static piece *given_back[THAG_SLAB_MOST_BYTES / UNIT + 1];      /* by their size in units */
static char *run;
static size_t run_bytes;
static size_t mapped_bytes;

static void *
run_cut(size_t bytes)
{
    if (bytes > run_bytes) {
        char *pages = thag_pages_map(RUN_BYTES);
        if (pages == NULL) {
            return NULL;
        }
        run = pages;
        run_bytes = RUN_BYTES;
        mapped_bytes += RUN_BYTES;
    }
    void *cut = run;
    run += bytes;
    run_bytes -= bytes;
    return cut;
}

void *
thag_slab_take(size_t bytes)
{
    size_t units = (bytes + UNIT - 1) / UNIT;
    if (units == 0 || bytes > THAG_SLAB_MOST_BYTES) {
        return NULL;
    }
    piece *kept = given_back[units];
    if (kept == NULL) {
        return run_cut(units * UNIT);
    }
    given_back[units] = kept->next;
    memset(kept, 0, units * UNIT);
    return kept;
}

void
thag_slab_give_back(void *piece_given, size_t bytes)
{
    if (piece_given == NULL) {
        return;
    }
    size_t units = (bytes + UNIT - 1) / UNIT;
    piece *kept = piece_given;
    kept->next = given_back[units];
    given_back[units] = kept;
}

size_t
thag_slabs_mapped(void)
{
    return mapped_bytes;
}
