/* Call sites: whole Python stacks, each known by a number. */

#ifndef THAG_SITES_H
#define THAG_SITES_H

#include "thag.h"

enum {
    THAG_SITE_NO_FRAME,         /* no line of Python was running */
    THAG_SITE_SMALLER,          /* smaller than what is told apart */
    THAG_SITE_TOO_MANY,         /* there was no room to tell it apart */
    THAG_SITES_FIRST,           /* the numbers of stacks */
    THAG_SITES_MOST = 1 << 18,
};

#define THAG_SITE_UNKNOWN UINT32_MAX    /* nobody asked, or nobody could tell */

/* The innermost line of a stack, and the site that the rest of it is; THAG_SITE_NO_FRAME for none. Texts are UTF-8, and may have
   surrogates. */
typedef struct {
    uint32_t caller;
    int32_t line;
    const char *file, *function;
    size_t file_bytes, function_bytes;
} thag_site;

/* Where the thread that has this state, with which it is attached, is now. Nothing is allocated but pages. GIL. */
uint32_t thag_site_here(const PyThreadState *tstate);

/* The stack with that number. GIL. */
thag_site thag_site_read(uint32_t site);

/* To be called before the first one: lets the interpreter tell when code dies, or else keeps it alive. False if the interpreter is
   not the one that this was compiled for. GIL. */
bool thag_sites_prepare(void);

/* Lets go of code that is kept alive and that nobody else has. Code of anybody's may run. GIL. */
void thag_sites_release_codes(void);

/* Forgets all of them. Nobody may know any number. GIL. */
void thag_sites_forget(void);

/* How many there are, how often one could not be told apart, and how many bytes are mapped. GIL. */
uint32_t thag_sites_count(void);
int64_t thag_sites_dropped(void);
size_t thag_sites_mapped(void);

#endif
