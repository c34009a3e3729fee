/* Functions of a loaded library that the loader knows no name of, by the table of symbols in the library's file. */

#ifndef THAG_SYMBOLS_H
#define THAG_SYMBOLS_H

#include "thag.h"

typedef struct {
    const char *name;
    void *address;          /* where it is; NULL: not found */
} thag_symbol;

/* Finds where functions are, of a library that is loaded and never goes. False unless it is all of them, and what is in memory
   there is what the file says: it may be another one by now. Reads the file; takes some milliseconds. GIL. */
bool thag_symbols_find(const char *path, thag_symbol *symbols, int count);

#endif
