/* Call sites: whole Python stacks, each known by a number. Which one a thread is at, stacks.h tells. */

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

/* What an address was found to be of late, for a caller. */
typedef struct {
    const void *at;
    uint32_t caller;
    uint32_t site;              /* 0: nothing */
} thag_finding;

enum { THAG_FINDINGS_BITS = 10 };

extern THAG_HIDDEN thag_finding thag_findings[1 << THAG_FINDINGS_BITS];

static inline thag_finding *
thag_finding_of(uint32_t caller, const void *at)
{
    uint64_t place = (uintptr_t)at >> 1 ^ caller * UINT64_C(0x9E3779B97F4A7C15) >> 32;
    return &thag_findings[place & ((1 << THAG_FINDINGS_BITS) - 1)];
}

/* The site of a frame (see pyframes.h), which is at that address, called from a site; THAG_SITE_TOO_MANY without room. Nothing is
   allocated but pages. GIL. */
THAG_APART uint32_t thag_site_look_up(uint32_t caller, const void *at, const void *frame);

static inline uint32_t
thag_site_of(uint32_t caller, const void *at, const void *frame)
{
    const thag_finding *found = thag_finding_of(caller, at);
    bool is_it = found->at == at && found->caller == caller && found->site != 0;
    return THAG_LIKELY(is_it) ? found->site : thag_site_look_up(caller, at, frame);
}

/* Counts whenever some are forgotten: numbers of before may be others' by now. GIL. */
extern THAG_HIDDEN uint64_t thag_sites_gone;

/* Another one begins whenever all or those that nobody keeps are forgotten. GIL. */
extern THAG_HIDDEN uint32_t thag_sites_epoch;

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
