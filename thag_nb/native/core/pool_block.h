/* What the hooks of pools tell of blocks. */

#ifndef THAG_POOL_BLOCK_H
#define THAG_POOL_BLOCK_H

#include "native_block.h"
#include "owners.h"

/* jemalloc aligns what is smaller than 16 bytes to 8; the owner table has no place for such an address. */
static inline bool
thag_pool_block_has_record(const void *block)
{
    return (uintptr_t)block % (1 << THAG_GRANULE_SHIFT) == 0;
}

__attribute__((always_inline)) static inline void
thag_pool_block_seen(void *block, size_t size)
{
    if (thag_pool_block_has_record(block)) {
        (void)thag_native_seen(block, size);
    }
}

__attribute__((always_inline)) static inline void
thag_pool_block_resized(thag_claim claim, void *old_block, void *block, size_t size)
{
    thag_waiting_called_from(&thag_this_thread.waiter, __builtin_return_address(0));
    if (claim.owned || thag_pool_block_has_record(block)) {
        thag_event_resized(&thag_this_thread, THAG_NATIVE, claim, old_block, block, size);
    }
}

#endif
