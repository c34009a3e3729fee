/* What all hooks of the native domain tell of blocks. */

#ifndef THAG_NATIVE_BLOCK_H
#define THAG_NATIVE_BLOCK_H

#include "events.h"

/* True inside of another hook, which tells of the block. */
static inline bool
thag_native_is_nested(thag_thread *thread)
{
    if (THAG_LIKELY(thread->depth == 0)) {
        return false;
    }
    if (thread->depth >= THAG_PROBING) {
        thread->probed |= 1u << THAG_NATIVE;
    }
    return true;
}

/* A block that was given; it may be NULL. Always inline, so that who called is who called the hook. */
__attribute__((always_inline)) static inline void *
thag_native_seen(void *block, size_t size)
{
    thag_thread *thread = &thag_this_thread;
    thag_waiting_called_from(&thread->waiter, __builtin_return_address(0));
    if (!thag_native_is_nested(thread)) {
        thag_event_allocated(thread, THAG_NATIVE, block, size);
    }
    return block;
}

/* A block that is about to be given back; it may be NULL. */
static inline void
thag_native_gone(const void *block)
{
    if (THAG_LIKELY(block != NULL)) {
        thag_event_freed(&thag_this_thread, THAG_NATIVE, block);
    }
}

#endif
