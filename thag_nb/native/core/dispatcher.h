/* The hooks in CPython's allocator domains and in NumPy's data allocator. */

#ifndef THAG_DISPATCHER_H
#define THAG_DISPATCHER_H

#include "charges.h"
#include "contexts.h"
#include "current.h"
#include "owners.h"
#include "thag.h"

/* CPython's domains have the numbers of PyMemAllocatorDomain. */
typedef enum {
    THAG_RAW = PYMEM_DOMAIN_RAW,
    THAG_MEM = PYMEM_DOMAIN_MEM,
    THAG_OBJ = PYMEM_DOMAIN_OBJ,
    THAG_NUMPY,
    THAG_CPYTHON_DOMAINS = THAG_NUMPY,
} thag_domain;

/* How a domain's hook stands. */
typedef enum {
    THAG_HOOK_ABSENT,       /* not installed, or removed by somebody: no call reaches us */
    THAG_HOOK_ON_TOP,       /* installed, called first */
    THAG_HOOK_BURIED,       /* somebody stands before us, and calls us as far as we can tell */
} thag_hook;

typedef struct {
    _Atomic int64_t dropped;        /* events for which there was no memory */
    _Atomic int64_t stale_records;  /* records found where a new block started: frees that never reached us */
} thag_dispatcher;

extern thag_dispatcher thag_dispatcher_state;

/* Hooks each of CPython's domains that does not reach a hook already. Returns how many these were, or -1 when a domain has
   no slot left (it stays unhooked). GIL. */
int thag_dispatcher_hook(void);

/* Takes the hooks out where they are on top. Returns how many domains still reach us. GIL. */
int thag_dispatcher_unhook(void);

/* GIL. */
thag_hook thag_dispatcher_hook_of(thag_domain domain);

/* Records an event of a wrapped allocator; see dispatcher.c. Whoever holds the block; no GIL needed, nothing is
   allocated from a hooked domain, no lock is taken. */
void thag_record_allocation(thag_thread *thread, thag_domain domain, void *block, size_t size);
void thag_record_free(thag_thread *thread, thag_domain domain, void *block);

/* What a reallocation takes out of the table before the wrapped call, and settles after it. */
typedef struct {
    thag_owner owner;
    bool owned;
    bool detached;      /* a detached event has begun, and the settling finishes it */
} thag_claim;

thag_claim thag_record_claim(thag_thread *thread, thag_domain domain, void *block);
void thag_record_reallocation(thag_thread *thread, thag_domain domain, thag_claim claim, void *old_block, void *block,
                              size_t size);

/* NumPy: replaces the functions of the default handler in place, or restores them. GIL. */
typedef struct thag_numpy_handler thag_numpy_handler;
bool thag_numpy_attach(thag_numpy_handler *handler);
bool thag_numpy_detach(void);
thag_hook thag_numpy_hook(void);

/* True if a handler has the layout that we know. */
bool thag_numpy_supported(const thag_numpy_handler *handler);

#endif
