/* The hooks in CPython's allocator domains and in NumPy's data allocator. */

#ifndef THAG_DISPATCHER_H
#define THAG_DISPATCHER_H

#include "events.h"
#include "thag.h"

/* How a domain's hook stands. */
typedef enum {
    THAG_HOOK_ABSENT,       /* not installed, or removed by somebody: no call reaches us */
    THAG_HOOK_ON_TOP,       /* installed, called first */
    THAG_HOOK_BURIED,       /* somebody stands before us, and calls us as far as we can tell */
} thag_hook;

/* Hooks each of CPython's domains that does not reach a hook already. Returns how many these were, or -1 when a domain has
   no slot left (it stays unhooked). GIL. */
int thag_dispatcher_hook(void);

/* Takes the hooks out where they are on top. Returns how many domains still reach us. GIL. */
int thag_dispatcher_unhook(void);

/* GIL. */
thag_hook thag_dispatcher_hook_of(thag_domain domain);

/* NumPy: replaces the functions of the default handler in place, or restores them. GIL. */
typedef struct thag_numpy_handler thag_numpy_handler;
bool thag_numpy_attach(thag_numpy_handler *handler);
bool thag_numpy_detach(void);
thag_hook thag_numpy_hook(void);

/* True if a handler has the layout that we know. */
bool thag_numpy_supported(const thag_numpy_handler *handler);

#endif
