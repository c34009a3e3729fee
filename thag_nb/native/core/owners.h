/* Which context owns the block at an address, and how large the block is. */

#ifndef THAG_OWNERS_H
#define THAG_OWNERS_H

#include "thag.h"

enum {
    THAG_GRANULE_SHIFT = 4,     /* one entry per 16 bytes, the alignment of every allocator we stand on */
    THAG_LEAF_SHIFT = 26,       /* a leaf covers 64 MiB of addresses with 8 MiB of entries */
    THAG_ADDRESS_BITS = 48,
    THAG_LEAF_ENTRIES = 1 << (THAG_LEAF_SHIFT - THAG_GRANULE_SHIFT),
    THAG_ROOT_LEAVES = 1 << (THAG_ADDRESS_BITS - THAG_LEAF_SHIFT),
};

/* See the essay in owners.c for the layout of a record. */
enum {
    THAG_ENTRY_BEGINS = 1 << 15,                /* set in the first entry of a record, and in no other */
    THAG_TINY_BYTES = 16,                       /* the largest size of a block whose record is one entry */
    THAG_SMALL_BYTES = 512,                     /* the largest whose record is two */
    THAG_LARGE = THAG_ENTRY_BEGINS | 1,         /* the first entry of larger ones */
    THAG_HUGE = THAG_ENTRY_BEGINS | 2,
    THAG_TINY_ASIDE = THAG_ENTRY_BEGINS | 3,
    THAG_KIND_BITS = 10,                        /* of the first entry: one of these, or a small size; then far bits of the slot */
    THAG_TINY = THAG_ENTRY_BEGINS | 1 << 14,    /* and from here on: a tiny block of a near slot */
    THAG_TINY_SIZES = THAG_TINY_BYTES + 1,
    THAG_TINY_SLOTS = ((1 << 16) - THAG_TINY) / THAG_TINY_SIZES,
    THAG_SMALL_SIZES = THAG_SMALL_BYTES - THAG_TINY_BYTES,
    THAG_NEAR_BITS = 15,
    THAG_NEAR_SLOTS = (1 << THAG_NEAR_BITS) - 1,            /* slots below this fit into an entry */
    THAG_FAR_SLOTS = 1 << (THAG_NEAR_BITS + 14 - THAG_KIND_BITS),   /* nearly all below this into two, but for tiny blocks */
    THAG_SLOT_ASIDE = THAG_NEAR_SLOTS,          /* the second entry of a record whose slot stands aside */
    THAG_SLOT_BITS = 27,
};

typedef _Atomic uint16_t thag_entry;

typedef struct {
    uint32_t slot;          /* of the context; 0: no record */
    size_t size;
} thag_owner;

/* Zeros at first; a leaf is set once. */
extern THAG_HIDDEN _Atomic(thag_entry *) thag_owner_leaves[THAG_ROOT_LEAVES];

/* True if there is a table for the address, so that a record can be written: false without memory for it, or for an address
   that no supported allocator returns. Any thread, no lock. */
bool thag_owners_reach(const void *block, size_t size);

/* Takes one record that stands in the way of a new one for `block`: that of an earlier block, whose free reached no hook.
   Returns false when nothing is in the way any more. Whoever holds the block, which can be reached. */
bool thag_owners_take_stale(const void *block, size_t size, thag_owner *stale);

/* Writes the record of a block. Whoever holds it; it can be reached, and nothing is in the way. */
void thag_owners_write(const void *block, size_t size, uint32_t slot);

/* True if there is a record of the block. Whoever holds it. */
bool thag_owners_has(const void *block);

/* Reads and clears the record of a block; slot 0 if there is none. Whoever holds it. */
thag_owner thag_owners_take(const void *block);

/* Reads the record, and leaves it there. Any thread; one that does not hold the block may find it half written, or gone, and
   then gets slot 0. */
thag_owner thag_owners_peek(const void *block);

/* Where the recorded block begins that an address lies in; NULL if there is none. Slow in the middle of a large one. Any thread,
   as above. */
const void *thag_owners_around(const void *inside);

/* Calls `visit` for every record. Meant for checks: it reads every touched page. GIL; blocks that other threads free
   meanwhile may or may not be seen. */
void thag_owners_walk(void (*visit)(uint32_t slot, size_t size, void *data), void *data);

/* Gives every record the slot that `rename` says, and tells `kept` which slot one keeps that has no room for it. GIL; blocks
   that threads without it free meanwhile are left alone. */
void thag_owners_rename(uint32_t (*rename)(uint32_t slot), void (*kept)(uint32_t slot));

/* Forgets every block. Only while no hook is installed. */
void thag_owners_clear(void);

/* Bytes of the table's pages that are in use, also of those in swap. Slow; any thread. */
size_t thag_owners_in_use(void);

/* ---- for the lane (see dispatcher.c), which reads and writes whole records of small blocks at once ---- */

/* Plain moves, and no more than that: see thag.h. */
static inline uint32_t
thag_entry_load(const thag_entry *entry)
{
    return atomic_load_explicit(entry, memory_order_relaxed);
}

static inline void
thag_entry_store(thag_entry *entry, uint32_t word)
{
    atomic_store_explicit(entry, (uint16_t)word, memory_order_relaxed);
}

/* Two entries as one word, the first in its lower half. Where that cannot be one move, or ThreadSanitizer looks on, two. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && !defined(__SANITIZE_THREAD__)
typedef struct {
    uint32_t word;
} __attribute__((packed, may_alias)) thag_pair;

static inline uint32_t
thag_pair_load(const thag_entry *at)
{
    return ((const thag_pair *)(const void *)at)->word;
}

static inline void
thag_pair_store(thag_entry *at, uint32_t word)
{
    ((thag_pair *)(void *)at)->word = word;
}
#else
static inline uint32_t
thag_pair_load(const thag_entry *at)
{
    return thag_entry_load(at) | thag_entry_load(at + 1) << 16;
}

static inline void
thag_pair_store(thag_entry *at, uint32_t word)
{
    thag_entry_store(at, word);
    thag_entry_store(at + 1, word >> 16);
}
#endif

/* The entry of an address; NULL where no record can be, or none ever was. */
static inline thag_entry *
thag_owners_find(uintptr_t address)
{
    /* Rotated, so that bits set below the granule stand above all addresses. */
    uint64_t granule = (uint64_t)address >> THAG_GRANULE_SHIFT | (uint64_t)address << (64 - THAG_GRANULE_SHIFT);
    uint64_t number = granule >> (THAG_LEAF_SHIFT - THAG_GRANULE_SHIFT);
    if (THAG_UNLIKELY(number >= THAG_ROOT_LEAVES)) {
        return NULL;
    }
    thag_entry *leaf = atomic_load_explicit(&thag_owner_leaves[number], memory_order_acquire);
    return THAG_UNLIKELY(leaf == NULL) ? NULL : leaf + (granule & (THAG_LEAF_ENTRIES - 1));
}

/* The record of a small block. The slot is near. */
static inline uint32_t
thag_small_word(uint32_t slot, uint32_t size)
{
    return slot << 16 | (THAG_ENTRY_BEGINS + size);
}

#define THAG_NO_WORD (1u << 31)     /* no record is like that, nor by a small size more */

/* The record of a tiny block, for the first THAG_TINY_SLOTS slots. */
static inline uint32_t
thag_tiny_word(uint32_t slot, uint32_t size)
{
    return THAG_TINY + slot * THAG_TINY_SIZES + size;
}

/* A size takes two entries more, or four if it is huge, of 14 bits each; with one bit set, so that none is ever zero. */
static inline uint32_t
thag_size_word(size_t size)
{
    return (uint32_t)(size & 0x3fff) | (uint32_t)(size << 2 & 0x3fff0000) | 0x40004000;
}

static inline size_t
thag_size_of_word(uint32_t word)
{
    return (word & 0x3fff) | (word >> 2 & 0x0fffc000);
}

#define THAG_LARGE_BYTES (((size_t)1 << 28) - 1)

/* The first two entries of a large record; the other two are the word of its size. The slot is near. */
static inline uint32_t
thag_large_word(uint32_t slot)
{
    return slot << 16 | THAG_LARGE;
}

/* True if the record of a block of that size takes two entries. */
static inline bool
thag_is_small(size_t size)
{
    return size - THAG_TINY_SIZES < THAG_SMALL_SIZES;
}

/* What a slot adds to the first two entries of a record; 0 if it does not fit into them. */
static inline uint32_t
thag_far_word(uint32_t slot)
{
    uint32_t near = slot & THAG_NEAR_SLOTS;
    bool fits = slot < THAG_FAR_SLOTS && near != 0 && near != THAG_SLOT_ASIDE;
    return fits ? near << 16 | slot >> THAG_NEAR_BITS << THAG_KIND_BITS : 0;
}

/* Writes a record that needs nothing aside, where none is. False if that is not so. Whoever holds the block. */
static inline bool
thag_record_write(thag_entry *at, size_t size, uint32_t slot)
{
    if (THAG_LIKELY(thag_is_small(size))) {
        if (slot >= THAG_NEAR_SLOTS || thag_pair_load(at) != 0) {
            return false;
        }
        thag_pair_store(at, thag_small_word(slot, (uint32_t)size));
        return true;
    }
    if (size <= THAG_TINY_BYTES) {
        if (slot >= THAG_TINY_SLOTS || thag_entry_load(at) != 0) {
            return false;
        }
        thag_entry_store(at, thag_tiny_word(slot, (uint32_t)size));
        return true;
    }
    if (slot >= THAG_NEAR_SLOTS || size > THAG_LARGE_BYTES || thag_pair_load(at) != 0 || thag_pair_load(at + 2) != 0) {
        return false;
    }
    thag_pair_store(at, thag_large_word(slot));
    thag_pair_store(at + 2, thag_size_word(size));
    return true;
}

/* The same of one that needs something aside, or has a far slot, but is not huge. */
THAG_APART bool thag_record_write_far(thag_entry *at, const void *block, size_t size, uint32_t slot);

/* Reads and clears the record of a small block that has nothing aside, near or far, and whose first two entries are `word`. False
   if it is another one. Whoever holds the block. */
static inline bool
thag_record_take_small(thag_entry *at, uint32_t word, thag_owner *owner)
{
    uint32_t kind = word & ((1 << THAG_KIND_BITS) - 1), tiny_or_none = (word ^ THAG_ENTRY_BEGINS) & (THAG_TINY | THAG_ENTRY_BEGINS);
    uint32_t near = word >> 16;
    if (THAG_UNLIKELY(tiny_or_none != 0 || !thag_is_small(kind) || near - 1 >= THAG_SLOT_ASIDE - 1)) {
        return false;
    }
    thag_pair_store(at, 0);
    owner->slot = near | (word & (THAG_TINY - THAG_ENTRY_BEGINS - 1)) >> THAG_KIND_BITS << THAG_NEAR_BITS;
    owner->size = kind;
    return true;
}

/* The rest of `thag_record_take`, of a record with a near slot that is large, and of any with a far one. */
static inline thag_owner
thag_record_take_rest(thag_entry *at, uint32_t entry, uint32_t slot)
{
    uint32_t kind = entry & ((1 << THAG_KIND_BITS) - 1);
    if (slot == 0 || slot == THAG_SLOT_ASIDE || (entry & THAG_ENTRY_BEGINS) == 0) {
        return (thag_owner){.slot = 0};
    }
    slot |= (entry - THAG_ENTRY_BEGINS) >> THAG_KIND_BITS << THAG_NEAR_BITS;
    if (thag_is_small(kind)) {
        thag_pair_store(at, 0);
        return (thag_owner){.slot = slot, .size = kind};
    }
    if (kind != (THAG_LARGE & ~THAG_ENTRY_BEGINS)) {
        return (thag_owner){.slot = 0};
    }
    size_t size = thag_size_of_word(thag_pair_load(at + 2));
    thag_pair_store(at + 2, 0);
    thag_pair_store(at, 0);
    return (thag_owner){.slot = slot, .size = size};
}

/* Reads and clears a record that has nothing aside, and whose first two entries are `word`; slot 0 if that is not so. Whoever
   holds the block. */
static inline thag_owner
thag_record_take(thag_entry *at, uint32_t word)
{
    uint32_t entry = word & 0xffff, slot = word >> 16;
    if (THAG_LIKELY(thag_is_small(entry - THAG_ENTRY_BEGINS) && slot != THAG_SLOT_ASIDE)) {
        thag_pair_store(at, 0);
        return (thag_owner){.slot = slot, .size = entry - THAG_ENTRY_BEGINS};
    }
    if (entry >= THAG_TINY) {
        thag_entry_store(at, 0);
        return (thag_owner){.slot = (entry - THAG_TINY) / THAG_TINY_SIZES, .size = (entry - THAG_TINY) % THAG_TINY_SIZES};
    }
    return thag_record_take_rest(at, entry, slot);
}

#endif
