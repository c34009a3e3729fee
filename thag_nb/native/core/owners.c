/* The owner table: a shadow of the address space, one two-byte entry for each 16 bytes that a block may start at.

     address   0x7f31_4c0a_2340
               |--- root ---||--- leaf ---|   leaf number = address >> 26, entry = (address >> 4) & (2**22 - 1)

   A block owns the entries of the bytes it covers, so a record may spill over into them as far as the block reaches. A
   context is known here by its slot:

     entry 0                      1          2 and 3        4 and 5          block
     1 | 16384 + 17 * slot + size                                            up to 16 bytes
     1 | far:5 | size:10          0 | slot                                   17 to 512 bytes
     1 | far:5 | 1:10             0 | slot   01 | size:14                    up to 256 MiB
     1 | far:5 | 2:10             0 | slot   01 | size:14   01 | size:14     larger

   Slots of more than 15 bits have the next four in entry 0, if the others are not all the same: accounts are that many (see
   accounts.c). A slot too large for its place stands aside, in four bytes that each entry has in the same mapping behind the
   leaf's entries, and that are touched only then: entry 0 of a tiny block says so by 1 | 3, entry 1 of any other by
   THAG_SLOT_ASIDE.
   Blocks of up to eight bytes may begin in the middle of a granule (mimalloc packs them so). Those have no entry, but four
   bytes aside of their own. What stands aside for a tiny block, or one in the middle, is slot and size.

   The top bit tells the first entry of a record from the rest, and no entry of a record is zero. So a table whose hooks were
   displaced for a while, and which missed some frees, can still be read and repaired: a record found where a new block starts
   is stale, and its owner is repaid. (One in the middle of a granule is found only by the next block there.)

   An entry belongs to whoever holds the block. The allocator hands a block to one thread at a time, so entries need no lock
   and no atomic exchange: the hand-over orders them, if a record is cleared before the block is given back. Only a walk reads
   the records of others; it may meet one half written, which the entries tell, so that it never takes one for another. A slot
   always stands in one entry, or in one word aside, so that a walk can exchange it. Leaves may be mapped by two threads at
   once; the loser of that race unmaps its own. Addresses that no supported allocator returns (odd ones, those beyond 48 bits)
   are refused, and counted by the caller as dropped. */

#include "owners.h"

enum {
    LEAVES_LISTED = 1 << 16,
    LARGE_ENTRIES = 4,
    HUGE_ENTRIES = 6,
    HALF_BYTES = 8,             /* the largest block that begins in the middle of a granule */
    SIZE_BITS = 5,              /* of a word aside that has a size */
    ROOM_BYTES = 4096,          /* behind the last entry, for the rest of a record that begins there */
};

/* The words aside of a granule: for the block that begins with it, and for the one in its middle. */
typedef struct {
    _Atomic uint32_t of_entry;
    _Atomic uint32_t of_middle;
} aside;

static const size_t ENTRIES_BYTES = THAG_LEAF_ENTRIES * sizeof(thag_entry) + ROOM_BYTES;
static const size_t LEAF_BYTES = THAG_LEAF_ENTRIES * (sizeof(thag_entry) + sizeof(aside)) + ROOM_BYTES;

_Atomic(thag_entry *) thag_owner_leaves[THAG_ROOT_LEAVES];

/* The leaves in use, so that a walk need not look at four million. Appended to by any thread. */
static struct {
    _Atomic uint32_t count;
    _Atomic uint32_t numbers[LEAVES_LISTED];    /* one more than the number; 0 while it is being listed */
} mapped;

/* ---- places ---- */

static inline bool
is_middle(const void *block)
{
    return ((uintptr_t)block & ((1 << THAG_GRANULE_SHIFT) - 1)) == HALF_BYTES;
}

static inline size_t
index_in_leaf(uintptr_t address)
{
    return address >> THAG_GRANULE_SHIFT & (THAG_LEAF_ENTRIES - 1);
}

static inline aside *
aside_in_leaf(thag_entry *leaf, size_t index)
{
    return (aside *)(void *)((char *)leaf + ENTRIES_BYTES) + index;
}

/* The same of an entry, which is that of an address. */
static inline aside *
aside_beside(thag_entry *at, const void *address)
{
    size_t index = index_in_leaf((uintptr_t)address);
    return aside_in_leaf(at - index, index);
}

/* The words aside of the granule that an address lies in; NULL if there is no leaf. */
static aside *
aside_of(uintptr_t address)
{
    if (address >> THAG_ADDRESS_BITS) {
        return NULL;
    }
    thag_entry *leaf = atomic_load_explicit(&thag_owner_leaves[address >> THAG_LEAF_SHIFT], memory_order_acquire);
    return leaf == NULL ? NULL : aside_in_leaf(leaf, index_in_leaf(address));
}

/* Maps the leaf for an address. False without memory. */
THAG_COLD static bool
leaf_map(uintptr_t address)
{
    thag_entry *leaf = thag_pages_map(LEAF_BYTES);
    if (leaf == NULL) {
        return false;
    }
    uint32_t number = (uint32_t)(address >> THAG_LEAF_SHIFT);
    thag_entry *winner = NULL;
    if (atomic_compare_exchange_strong(&thag_owner_leaves[number], &winner, leaf)) {
        uint32_t index = atomic_fetch_add(&mapped.count, 1);
        if (index < LEAVES_LISTED) {
            atomic_store(&mapped.numbers[index], number + 1);
        }
    }
    else {
        thag_pages_unmap(leaf, LEAF_BYTES);
    }
    return true;
}

bool
thag_owners_reach(const void *block, size_t size)
{
    uintptr_t address = (uintptr_t)block;
    bool is_block = (address & ((1 << THAG_GRANULE_SHIFT) - 1)) == 0 || (is_middle(block) && size <= HALF_BYTES);
    if (!is_block || address >> THAG_ADDRESS_BITS) {
        return false;
    }
    return aside_of(address) != NULL || leaf_map(address);
}

/* ---- one record ---- */

static uint32_t
word_load(const _Atomic uint32_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static void
word_store(_Atomic uint32_t *word, uint32_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static uint32_t
aside_encode(uint32_t slot, size_t size)
{
    return slot << SIZE_BITS | (uint32_t)size;
}

static thag_owner
aside_decode(uint32_t word)
{
    return (thag_owner){.slot = word >> SIZE_BITS, .size = word & ((1 << SIZE_BITS) - 1)};
}

static bool
begins(const thag_entry *at)
{
    return (thag_entry_load(at) & THAG_ENTRY_BEGINS) != 0;
}

static int
entries_for(size_t size)
{
    if (size <= THAG_SMALL_BYTES) {
        return size <= THAG_TINY_BYTES ? 1 : 2;
    }
    return size <= THAG_LARGE_BYTES ? LARGE_ENTRIES : HUGE_ENTRIES;
}

/* What the first entry of a record says besides the slot; of a tiny block, THAG_TINY. */
static uint32_t
kind_of(uint32_t entry)
{
    return entry >= THAG_TINY ? THAG_TINY : THAG_ENTRY_BEGINS | (entry & ((1 << THAG_KIND_BITS) - 1));
}

/* How many entries the record takes that begins with `entry`. */
static int
entries_of(uint32_t entry)
{
    switch (kind_of(entry)) {
    case THAG_LARGE:
        return LARGE_ENTRIES;
    case THAG_HUGE:
        return HUGE_ENTRIES;
    case THAG_TINY:
    case THAG_TINY_ASIDE:
        return 1;
    default:
        return 2;
    }
}

/* A record that has no room for the slot, or for the size of a huge block. */
static void
record_write_rare(thag_entry *at, aside *beside, size_t size, uint32_t slot)
{
    if (size <= THAG_TINY_BYTES) {
        word_store(&beside->of_entry, aside_encode(slot, size));
        thag_entry_store(at, THAG_TINY_ASIDE);
        return;
    }
    uint32_t here = thag_far_word(slot);
    if (here == 0) {
        word_store(&beside->of_entry, slot);
        here = THAG_SLOT_ASIDE << 16;
    }
    if (size <= THAG_SMALL_BYTES) {
        thag_pair_store(at, here | (THAG_ENTRY_BEGINS + (uint32_t)size));
        return;
    }
    bool huge = size > THAG_LARGE_BYTES;
    thag_pair_store(at, here | (huge ? THAG_HUGE : THAG_LARGE));
    thag_pair_store(at + 2, thag_size_word(size));
    if (huge) {
        thag_pair_store(at + 4, thag_size_word(size >> 28));
    }
}

void
thag_owners_write(const void *block, size_t size, uint32_t slot)
{
    assert(slot != 0 && slot >> THAG_SLOT_BITS == 0 && size <= PTRDIFF_MAX);
    aside *beside = aside_of((uintptr_t)block);
    if (is_middle(block)) {
        word_store(&beside->of_middle, aside_encode(slot, size));
        return;
    }
    thag_entry *at = thag_owners_find((uintptr_t)block);
    if (!thag_record_write(at, size, slot)) {
        record_write_rare(at, beside, size, slot);
    }
}

/* True if there is nothing where the record of a block of that size would be. */
static inline bool
entries_are_free(const thag_entry *at, size_t size)
{
    return size <= THAG_TINY_BYTES ? thag_entry_load(at) == 0
                                   : thag_pair_load(at) == 0 && (size <= THAG_SMALL_BYTES || thag_pair_load(at + 2) == 0);
}

bool
thag_record_write_far(thag_entry *at, const void *block, size_t size, uint32_t slot)
{
    bool may = size <= THAG_LARGE_BYTES && entries_are_free(at, size);
    if (THAG_LIKELY(may)) {
        record_write_rare(at, aside_beside(at, block), size, slot);
    }
    return may;
}

/* The slot of a record that has two entries for it; 0 if it is half written. */
static uint32_t
slot_read(uint32_t entry, uint32_t second, const aside *beside)
{
    if (second == THAG_SLOT_ASIDE) {
        atomic_thread_fence(memory_order_acquire);      /* it may just have been put there: see `far_rename` */
        return word_load(&beside->of_entry);
    }
    return second == 0 ? 0 : second | (entry - THAG_ENTRY_BEGINS) >> THAG_KIND_BITS << THAG_NEAR_BITS;
}

/* Reads the record that begins at `at`. The entries behind the first may lie in the next page, or in the room behind the
   last entry. They are not looked at without need: that would put the page in memory. */
static thag_owner
record_read(const thag_entry *at, const aside *beside)
{
    uint32_t entry = thag_entry_load(at);
    if ((entry & THAG_ENTRY_BEGINS) == 0) {
        return (thag_owner){.slot = 0};
    }
    if (entry == THAG_TINY_ASIDE) {
        return aside_decode(word_load(&beside->of_entry));
    }
    if (entry >= THAG_TINY) {
        return (thag_owner){.slot = (entry - THAG_TINY) / THAG_TINY_SIZES, .size = (entry - THAG_TINY) % THAG_TINY_SIZES};
    }
    thag_owner owner = {.slot = slot_read(entry, thag_entry_load(at + 1), beside)};
    uint32_t kind = kind_of(entry);
    if (kind != THAG_LARGE && kind != THAG_HUGE) {
        owner.size = kind & ~(uint32_t)THAG_ENTRY_BEGINS;
        return owner;
    }
    owner.size = thag_size_of_word(thag_pair_load(at + 2));
    if (kind == THAG_HUGE) {
        owner.size |= thag_size_of_word(thag_pair_load(at + 4)) << 28;
    }
    return owner;
}

static thag_owner
record_take(thag_entry *at, const aside *beside)
{
    thag_owner owner = record_read(at, beside);
    int entries = entries_of(thag_entry_load(at));
    for (int i = 0; i < entries; i++) {
        thag_entry_store(at + i, 0);
    }
    assert(owner.slot != 0);
    return owner;
}

bool
thag_owners_has(const void *block)
{
    if (is_middle(block)) {
        const aside *beside = aside_of((uintptr_t)block);
        return beside != NULL && word_load(&beside->of_middle) != 0;
    }
    const thag_entry *at = thag_owners_find((uintptr_t)block);
    return at != NULL && begins(at);
}

static thag_owner
middle_take(aside *beside)
{
    thag_owner owner = aside_decode(word_load(&beside->of_middle));
    word_store(&beside->of_middle, 0);
    return owner;
}

thag_owner
thag_owners_take(const void *block)
{
    thag_entry *at = thag_owners_find((uintptr_t)block);
    thag_owner owner = at == NULL ? (thag_owner){.slot = 0} : thag_record_take(at, thag_pair_load(at));
    if (THAG_LIKELY(owner.slot != 0)) {
        return owner;
    }
    if (THAG_LIKELY(at != NULL)) {
        return begins(at) ? record_take(at, aside_beside(at, block)) : (thag_owner){.slot = 0};
    }
    aside *beside = is_middle(block) ? aside_of((uintptr_t)block) : NULL;
    return beside == NULL ? (thag_owner){.slot = 0} : middle_take(beside);
}

thag_owner
thag_owners_peek(const void *block)
{
    const aside *beside = aside_of((uintptr_t)block);
    if (beside == NULL) {
        return (thag_owner){.slot = 0};
    }
    if (is_middle(block)) {
        return aside_decode(word_load(&beside->of_middle));
    }
    const thag_entry *at = thag_owners_find((uintptr_t)block);
    return at == NULL ? (thag_owner){.slot = 0} : record_read(at, beside);
}

/* ---- the record around an address ---- */

/* The last entry up to an index of a leaf that a record begins with; -1 if there is none. */
static int64_t
begins_last(const thag_entry *leaf, int64_t index)
{
    while (index >= 0 && !begins(leaf + index)) {
        index--;
    }
    return index;
}

/* Blocks do not overlap: the last one that begins below is the only one that may reach as far. It may begin many leaves below. */
const void *
thag_owners_around(const void *inside)
{
    enum { LEAVES_AT_MOST = 1 << 12 };
    uintptr_t address = (uintptr_t)inside;
    if (address >> THAG_ADDRESS_BITS) {
        return NULL;
    }
    int64_t index = (int64_t)index_in_leaf(address), number = (int64_t)(address >> THAG_LEAF_SHIFT);
    for (int64_t lowest = number - LEAVES_AT_MOST; number >= 0 && number > lowest; number--) {
        const thag_entry *leaf = atomic_load_explicit(&thag_owner_leaves[number], memory_order_acquire);
        int64_t found = leaf == NULL ? -1 : begins_last(leaf, index);
        if (found >= 0) {
            const char *block = (const char *)(((uintptr_t)number << THAG_LEAF_SHIFT) + ((uintptr_t)found << THAG_GRANULE_SHIFT));
            return address - (uintptr_t)block < thag_owners_peek(block).size ? block : NULL;
        }
        index = THAG_LEAF_ENTRIES - 1;
    }
    return NULL;
}

/* ---- stale records ---- */

/* The beginning of the record that reaches to `at` from below; NULL if none does. */
static thag_entry *
begins_below(thag_entry *at, size_t index)
{
    for (int back = 1; back < HUGE_ENTRIES && (size_t)back <= index; back++) {
        if (begins(at - back)) {
            return entries_of(thag_entry_load(at - back)) > back ? at - back : NULL;
        }
    }
    return NULL;
}

static bool
stale_take_at(thag_entry *at, size_t index, thag_owner *stale)
{
    *stale = record_take(at, aside_in_leaf(at - index, index));
    return true;
}

bool
thag_owners_take_stale(const void *block, size_t size, thag_owner *stale)
{
    if (is_middle(block)) {
        *stale = middle_take(aside_of((uintptr_t)block));
        return stale->slot != 0;
    }
    thag_entry *at = thag_owners_find((uintptr_t)block);
    size_t index = index_in_leaf((uintptr_t)block);
    thag_entry *below = thag_entry_load(at) != 0 && !begins(at) ? begins_below(at, index) : NULL;
    if (below != NULL) {
        return stale_take_at(below, index - (size_t)(at - below), stale);
    }
    for (int i = 0; i < entries_for(size); i++) {
        if (begins(at + i)) {
            return stale_take_at(at + i, index + (size_t)i, stale);
        }
        if (thag_entry_load(at + i) != 0) {
            thag_entry_store(at + i, 0);
        }
    }
    return false;
}

/* ---- all records ---- */

static uint32_t
leaves_listed(void)
{
    uint32_t count = atomic_load(&mapped.count);
    return count < LEAVES_LISTED ? count : LEAVES_LISTED;
}

/* What is done to each page of a leaf that is in use. */
typedef struct {
    void (*visit_entries)(thag_entry *leaf, size_t first, size_t count, void *data);
    void (*visit_middles)(aside *asides, size_t count, void *data);
    thag_entry *leaf;
    void *data;
} leaf_visitor;

static void
entries_page(void *page, size_t page_bytes, void *data)
{
    const leaf_visitor *visitor = data;
    size_t first = (size_t)((thag_entry *)page - visitor->leaf);
    visitor->visit_entries(visitor->leaf, first, page_bytes / sizeof(thag_entry), visitor->data);
}

static void
asides_page(void *page, size_t page_bytes, void *data)
{
    const leaf_visitor *visitor = data;
    visitor->visit_middles(page, page_bytes / sizeof(aside), visitor->data);
}

static thag_entry *
leaf_listed(uint32_t index)
{
    uint32_t number = atomic_load(&mapped.numbers[index]);
    return number == 0 ? NULL : atomic_load(&thag_owner_leaves[number - 1]);
}

static void
records_visit(leaf_visitor visitor)
{
    for (uint32_t index = 0; index < leaves_listed(); index++) {
        visitor.leaf = leaf_listed(index);
        if (visitor.leaf != NULL) {
            /* Without the room behind the last entry, where no record begins. */
            thag_pages_visit(visitor.leaf, THAG_LEAF_ENTRIES * sizeof(thag_entry), entries_page, &visitor);
            thag_pages_visit(aside_in_leaf(visitor.leaf, 0), THAG_LEAF_ENTRIES * sizeof(aside), asides_page, &visitor);
        }
    }
}

typedef struct {
    void (*visit)(uint32_t slot, size_t size, void *data);
    void *data;
} walker;

static void
walk_to(const walker *walk, thag_owner owner)
{
    if (owner.slot != 0) {
        walk->visit(owner.slot, owner.size, walk->data);
    }
}

static void
entries_walk(thag_entry *leaf, size_t first, size_t count, void *data)
{
    for (size_t i = first; i < first + count; i++) {
        walk_to(data, record_read(leaf + i, aside_in_leaf(leaf, i)));
    }
}

static void
middles_walk(aside *asides, size_t count, void *data)
{
    for (size_t i = 0; i < count; i++) {
        walk_to(data, aside_decode(word_load(&asides[i].of_middle)));
    }
}

void
thag_owners_walk(void (*visit)(uint32_t slot, size_t size, void *data), void *data)
{
    walker walk = {visit, data};
    records_visit((leaf_visitor){.visit_entries = entries_walk, .visit_middles = middles_walk, .data = &walk});
}

typedef struct {
    uint32_t (*rename)(uint32_t slot);
    void (*kept)(uint32_t slot);
} renaming;

/* Whoever holds the block may clear the record at this moment: then it stays cleared. */
static bool
entry_exchange(thag_entry *entry, uint32_t old, uint32_t new)
{
    uint16_t expected = (uint16_t)old;
    return atomic_compare_exchange_strong_explicit(entry, &expected, (uint16_t)new, memory_order_release, memory_order_relaxed);
}

static bool
word_exchange(_Atomic uint32_t *word, uint32_t old, uint32_t new)
{
    return atomic_compare_exchange_strong_explicit(word, &old, new, memory_order_relaxed, memory_order_relaxed);
}

/* A word aside that has a size as well. */
static void
aside_rename(_Atomic uint32_t *word, const renaming *all)
{
    uint32_t old = word_load(word);
    thag_owner owner = aside_decode(old);
    if (owner.slot != 0) {
        (void)word_exchange(word, old, aside_encode(all->rename(owner.slot), owner.size));
    }
}

/* The exchange of one entry, from what it is for a slot to what it is for another one, if that is small enough. */
static void
near_rename(thag_entry *entry, uint32_t slot, uint32_t new_slot, uint32_t limit, uint32_t old, uint32_t new,
            const renaming *all)
{
    if (new_slot < limit) {
        (void)entry_exchange(entry, old, new);
    }
    else if (new_slot != slot) {
        all->kept(slot);
    }
}

/* The slot of a record that stands in two entries goes aside, so that it is exchanged with one of them. Is the block meanwhile
   given back, and handed out again with a slot aside, then that is not overwritten: what was there before is `stale`. */
static void
far_rename(thag_entry *second, uint32_t old, aside *beside, uint32_t stale, uint32_t new_slot)
{
    if (word_exchange(&beside->of_entry, stale, new_slot) && !entry_exchange(second, old, THAG_SLOT_ASIDE)) {
        (void)word_exchange(&beside->of_entry, new_slot, stale);
    }
}

static void
tiny_rename(thag_entry *at, aside *beside, const renaming *all)
{
    if (thag_entry_load(at) == THAG_TINY_ASIDE) {
        aside_rename(&beside->of_entry, all);
        return;
    }
    thag_owner owner = record_read(at, beside);
    if (owner.slot != 0) {
        uint32_t slot = all->rename(owner.slot), size = (uint32_t)owner.size;
        near_rename(at, owner.slot, slot, THAG_TINY_SLOTS, thag_tiny_word(owner.slot, size), thag_tiny_word(slot, size), all);
    }
}

static void
record_rename(thag_entry *at, aside *beside, const renaming *all)
{
    if (entries_of(thag_entry_load(at)) == 1) {
        tiny_rename(at, beside, all);
        return;
    }
    uint32_t stale = word_load(&beside->of_entry), here = thag_entry_load(at + 1);
    uint32_t slot = slot_read(thag_entry_load(at), here, beside);
    if (slot == 0) {
        return;
    }
    uint32_t new_slot = all->rename(slot);
    if (here == THAG_SLOT_ASIDE) {
        (void)word_exchange(&beside->of_entry, slot, new_slot);
    }
    else if (slot < THAG_NEAR_SLOTS) {
        near_rename(at + 1, slot, new_slot, THAG_NEAR_SLOTS, slot, new_slot, all);
    }
    else if (new_slot != slot) {
        far_rename(at + 1, here, beside, stale, new_slot);
    }
}

static void
entries_rename(thag_entry *leaf, size_t first, size_t count, void *data)
{
    for (size_t i = first; i < first + count; i++) {
        if (begins(leaf + i)) {
            record_rename(leaf + i, aside_in_leaf(leaf, i), data);
        }
    }
}

static void
middles_rename(aside *asides, size_t count, void *data)
{
    for (size_t i = 0; i < count; i++) {
        aside_rename(&asides[i].of_middle, data);
    }
}

void
thag_owners_rename(uint32_t (*rename)(uint32_t slot), void (*kept)(uint32_t slot))
{
    renaming all = {rename, kept};
    records_visit((leaf_visitor){.visit_entries = entries_rename, .visit_middles = middles_rename, .data = &all});
}

/* Calls `visit` for the pages in use of every leaf, whatever is in them. */
static void
pages_visit(void (*visit)(void *page, size_t page_bytes, void *data), void *data)
{
    for (uint32_t index = 0; index < leaves_listed(); index++) {
        thag_entry *leaf = leaf_listed(index);
        if (leaf != NULL) {
            thag_pages_visit(leaf, LEAF_BYTES, visit, data);
        }
    }
}

static void
page_clear(void *page, size_t page_bytes, void *data)
{
    (void)data;
    thag_pages_clear(page, page_bytes);
}

void
thag_owners_clear(void)
{
    pages_visit(page_clear, NULL);
}

static void
page_count(void *page, size_t page_bytes, void *data)
{
    (void)page;
    *(size_t *)data += page_bytes;
}

size_t
thag_owners_in_use(void)
{
    size_t in_use = 0;
    pages_visit(page_count, &in_use);
    return in_use;
}
