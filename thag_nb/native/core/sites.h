/* Call sites: whole Python stacks, each known by a number. */

#ifndef THAG_SITES_H
#define THAG_SITES_H

#include "thag.h"

enum {
    THAG_SITE_NO_FRAME,         /* no line of Python was running */
    THAG_SITE_SMALLER,          /* smaller than what is told apart */
    THAG_SITE_TOO_MANY,         /* there was no room to tell it apart */
    THAG_SITES_FIRST,           /* the numbers of stacks */
    THAG_SITES_MOST = 1 << 20,
};

#define THAG_SITE_UNKNOWN UINT32_MAX    /* nobody asked, or nobody could tell */

/* The innermost line of a stack, and the site that the rest of it is; THAG_SITE_NO_FRAME for none. File and function are numbers of
   texts. It is hidden if its function asks tools not to show it. */
typedef struct {
    uint32_t caller;
    int32_t line;
    bool is_hidden;
    uint32_t file, function;
} thag_site;

/* UTF-8; it may have surrogates. */
typedef struct {
    const char *utf8;
    size_t bytes;
} thag_text;

/* Where the thread that has this state, with which it is attached, is now. Nothing is allocated but pages. GIL. */
uint32_t thag_site_here(const PyThreadState *tstate);

/* Where a thread stands, by its innermost frame: as long as it is in the same call of C code, that stays the same. */
typedef struct {
    const void *frame, *instruction;
} thag_spot;

/* Where work was handed over that a thread does: what is outside of the thread's own stack. */
typedef struct {
    uint32_t site;
    uint32_t epoch;             /* whoever forgets sites begins another one */
    uint32_t hops;              /* how often work was handed over by work that had been */
    thag_spot given, taken;     /* where; and where by the thread that does it, whose stack has that as long as it does */
} thag_origin;

/* Work that is handed over where the thread that has this state is now. As above. */
thag_origin thag_sites_origin_here(const PyThreadState *tstate);

/* This thread, which has this state, does such work from now on. What it did before, for thag_sites_leave_origin. GIL. */
thag_origin thag_sites_enter_origin(thag_origin origin, const PyThreadState *tstate);
void thag_sites_leave_origin(thag_origin before);

/* A `with` statement: as long as it is not over, what calls its frame stands still, and need not be looked at. */
typedef struct {
    const void *frame;
    uint64_t number;            /* each has another; 0: there is none */
} thag_base;

/* What undoes it. */
typedef struct {
    uint64_t number;
    thag_base before;
} thag_base_begun;

/* The thread that has this state is in such a statement from now on, if its innermost frame begins one; until it is over. GIL. */
thag_base_begun thag_sites_begin_base(const PyThreadState *tstate);
void thag_sites_end_base(thag_base_begun begun);

/* By the thread that has this state, attached with it or not. */
thag_spot thag_spot_of(const PyThreadState *tstate);

/* The stack with that number. GIL. */
thag_site thag_site_read(uint32_t site);

/* The text with that number; and one more than the largest number. GIL. */
thag_text thag_text_read(uint32_t number);
uint32_t thag_texts_end(void);

/* To be called before the first one: lets the interpreter tell when code dies, or else keeps it alive. False if the interpreter is
   not the one that this was compiled for. GIL. */
bool thag_sites_prepare(void);

/* Lets go of code that is kept alive and that nobody else has. Code of anybody's may run. GIL. */
void thag_sites_release_codes(void);

/* This site stays, with those that it is called from, when the others are swept. GIL. */
void thag_site_keep(uint32_t site);

/* Forgets those that nobody has kept. Nobody may know their numbers. GIL. */
void thag_sites_sweep(void);

/* Forgets all of them. Nobody may know any number. Code of anybody's may run. GIL. */
void thag_sites_forget(void);

/* One more than the largest number; whether there is little room for more; how often one could not be told apart; and how many bytes
   are mapped. GIL. */
uint32_t thag_sites_end(void);
bool thag_sites_are_many(void);
int64_t thag_sites_dropped(void);
size_t thag_sites_mapped(void);

#endif
