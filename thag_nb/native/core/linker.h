/* Whether the dynamic linker's list of objects can be read. */

#ifndef THAG_LINKER_H
#define THAG_LINKER_H

#include "thag.h"

/* False if whoever reads the list may wait for ever. Then nothing can be loaded or closed either: the list stays as it is. GIL. */
bool thag_linker_answers(void);

/* This is the child of a fork. GIL. */
void thag_linker_after_fork(void);

#endif
