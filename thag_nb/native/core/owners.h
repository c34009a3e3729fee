/* Which context owns the block at an address, and how large the block is. */

#ifndef THAG_OWNERS_H
#define THAG_OWNERS_H

#include "thag.h"

enum {
    THAG_GRANULE_SHIFT = 4,     /* one entry per 16 bytes, the alignment of every allocator we stand on */
    THAG_LEAF_SHIFT = 26,       /* a leaf covers 64 MiB of addresses with 16 MiB of entries */
    THAG_ADDRESS_BITS = 48,
    THAG_LEAF_ENTRIES = 1 << (THAG_LEAF_SHIFT - THAG_GRANULE_SHIFT),
    THAG_ROOT_SLOTS = 1 << (THAG_ADDRESS_BITS - THAG_LEAF_SHIFT),
};

/* See the essay in owners.c for the layout of an entry. */
enum {
    THAG_ENTRY_KIND = 30,                   /* the two top bits say what an entry is */
    THAG_KIND_REST = 0,                     /* empty, or the second or third word of a record */
    THAG_KIND_TINY = 1,
    THAG_KIND_PLAIN = 2,
    THAG_KIND_HUGE = 3,
    THAG_TINY_BYTES = 16,                   /* the largest size of a tiny block */
    THAG_TINY_SIZE_BITS = 5,
    THAG_CONTEXT_BITS = 25,
};
#define THAG_WORD_MASK ((1u << THAG_ENTRY_KIND) - 1)
#define THAG_THIRD_WORD (1u << (THAG_ENTRY_KIND - 1))    /* tells the third word of a record from the second */

typedef _Atomic uint32_t thag_entry;

typedef struct {
    uint32_t context_id;
    size_t size;
} thag_owner;

typedef struct {
    _Atomic(thag_entry *) *leaves;      /* THAG_ROOT_SLOTS of them; set once, before any hook runs */
} thag_owner_table;

extern thag_owner_table thag_owners;

/* Maps the root of the table. False without memory. GIL. */
bool thag_owners_init(void);

/* Maps the leaf for an address, or NULL without memory. Any thread, no lock. */
THAG_COLD thag_entry *thag_owners_map_leaf(uintptr_t address);

/* Takes one record that stands in the way of a new one for `block`: that of an earlier block, whose free reached no hook.
   Returns false when nothing is in the way any more. Whoever holds the block. */
THAG_COLD bool thag_owners_take_stale(const void *block, size_t size, thag_owner *stale);

/* For records that the plain way is too small for. */
THAG_COLD void thag_owners_write_huge(thag_entry *at, size_t size, uint32_t context_id);
THAG_COLD size_t thag_owners_take_huge(thag_entry *at);

/* Reads the record that begins at `at`, and leaves it there. Any thread; one that does not hold the block may find it half
   written, or gone, and then gets context 0, which does not exist. */
thag_owner thag_owners_peek(const thag_entry *at);

/* Calls `visit` for every record. Meant for checks: it reads every touched page. GIL; blocks that other threads free
   meanwhile may or may not be seen. */
void thag_owners_walk(void (*visit)(uint32_t context_id, size_t size, void *data), void *data);

/* Gives every record the owner that `rename` says. GIL; blocks that threads without it free meanwhile are left alone. */
void thag_owners_rename(uint32_t (*rename)(uint32_t context_id));

/* Forgets every block. Only while no hook is installed. */
void thag_owners_clear(void);

/* Bytes of the table's pages that are in use, also of those in swap. Slow; any thread. */
size_t thag_owners_in_use(void);

/* Plain moves, and no more than that: see thag.h. */
static inline uint32_t
thag_entry_load(const thag_entry *entry)
{
    return atomic_load_explicit(entry, memory_order_relaxed);
}

static inline void
thag_entry_store(thag_entry *entry, uint32_t word)
{
    atomic_store_explicit(entry, word, memory_order_relaxed);
}

static inline uint32_t
thag_tiny_encode(uint32_t context_id, size_t size)
{
    return (uint32_t)THAG_KIND_TINY << THAG_ENTRY_KIND | context_id << THAG_TINY_SIZE_BITS | (uint32_t)size;
}

static inline thag_owner
thag_tiny_decode(uint32_t word)
{
    return (thag_owner){.context_id = (word & THAG_WORD_MASK) >> THAG_TINY_SIZE_BITS,
                        .size = word & ((1 << THAG_TINY_SIZE_BITS) - 1)};
}

static inline thag_entry *
thag_owners_find(uintptr_t address)
{
    /* Rotated, so that bits set below the granule stand above all addresses. */
    uint64_t granule = (uint64_t)address >> THAG_GRANULE_SHIFT | (uint64_t)address << (64 - THAG_GRANULE_SHIFT);
    if (THAG_UNLIKELY(granule >> (THAG_ADDRESS_BITS - THAG_GRANULE_SHIFT))) {
        return NULL;
    }
    size_t slot = granule >> (THAG_LEAF_SHIFT - THAG_GRANULE_SHIFT);
    thag_entry *leaf = atomic_load_explicit(&thag_owners.leaves[slot], memory_order_acquire);
    return leaf == NULL ? NULL : leaf + (granule & (THAG_LEAF_ENTRIES - 1));
}

/* The entry where the record of a block belongs; NULL without memory for the leaf, or for an address that no supported
   allocator returns. Whoever holds the block. */
static inline thag_entry *
thag_owners_find_or_map(const void *block)
{
    thag_entry *at = thag_owners_find((uintptr_t)block);
    return THAG_LIKELY(at != NULL) ? at : thag_owners_map_leaf((uintptr_t)block);
}

/* True if a new record for a block of `size` bytes would overwrite something. */
static inline bool
thag_owners_occupied(const thag_entry *at, size_t size)
{
    if (size <= THAG_TINY_BYTES) {
        return thag_entry_load(at) != 0;
    }
    return (thag_entry_load(at) | thag_entry_load(at + 1)) != 0
           || (size > THAG_WORD_MASK && thag_entry_load(at + 2) != 0);
}

/* Writes the record. Whoever holds the block. */
static inline void
thag_owners_write(thag_entry *at, size_t size, uint32_t context_id)
{
    assert(context_id != 0 && context_id >> THAG_CONTEXT_BITS == 0 && size <= PTRDIFF_MAX);
    if (size <= THAG_TINY_BYTES) {
        thag_entry_store(at, thag_tiny_encode(context_id, size));
        return;
    }
    if (THAG_UNLIKELY(size > THAG_WORD_MASK)) {
        thag_owners_write_huge(at, size, context_id);
        return;
    }
    thag_entry_store(at, (uint32_t)THAG_KIND_PLAIN << THAG_ENTRY_KIND | (uint32_t)size);
    thag_entry_store(at + 1, context_id);
}

/* True if a record begins at `at`. Whoever holds the block. */
static inline bool
thag_owners_begins(const thag_entry *at)
{
    return thag_entry_load(at) >> THAG_ENTRY_KIND != THAG_KIND_REST;
}

/* Reads and clears the record that begins at `at`. Whoever holds the block. */
static inline thag_owner
thag_owners_take(thag_entry *at)
{
    uint32_t word = thag_entry_load(at);
    uint32_t kind = word >> THAG_ENTRY_KIND;
    assert(kind != THAG_KIND_REST);
    thag_entry_store(at, 0);
    if (kind == THAG_KIND_TINY) {
        return thag_tiny_decode(word);
    }
    thag_owner owner = {.context_id = thag_entry_load(at + 1), .size = word & THAG_WORD_MASK};
    thag_entry_store(at + 1, 0);
    if (THAG_UNLIKELY(kind == THAG_KIND_HUGE)) {
        owner.size |= thag_owners_take_huge(at);
    }
    assert(owner.context_id != 0 && owner.size > THAG_TINY_BYTES);
    return owner;
}

#endif
