/* Arrow's pools of memory. */

#ifndef THAG_ARROW_H
#define THAG_ARROW_H

#include "thag.h"

/* Has all of its pools tell of their blocks. Twice is once. False if they are not as we know them: then none does. GIL. */
bool thag_arrow_attach(const char *path);

/* Has none tell anything any more. GIL. */
void thag_arrow_detach(void);

#endif
