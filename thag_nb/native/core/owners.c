/* The owner table: a shadow of the address space, one four-byte entry for each 16 bytes that a block may start at.

     address   0x7f31_4c0a_2340
               |--- root ---||--- leaf ---|   root slot = address >> 26, entry = (address >> 4) & (2**22 - 1)

   A block owns the entries of the bytes it covers, so a record may spill over into them as far as the block reaches.
   That is why four bytes are enough for any size and no second table is needed:

     entry 0                         entry 1        entry 2            block
     01 | context:25 | size:5                                          up to 16 bytes
     10 | size:30                    00 | context                      17 bytes to 1 GiB
     11 | low 30 bits of the size    00 | context   00 | 1 | high bits larger

   The two top bits tell a first word from the rest, so a table whose hooks were displaced for a while, and which missed
   some frees, can still be read and repaired: a record found where a new block starts is stale, and its owner is repaid.

   An entry belongs to whoever holds the block. The allocator hands a block to one thread at a time, so entries need no
   lock and no atomic exchange: the hand-over orders them, if a record is cleared before the block is given back. Only a
   walk reads the records of others; it may meet one half written, which the words tell apart, so that it never takes
   one for another. Leaves may be mapped by two threads at once; the loser of that race unmaps its own. Addresses that no
   supported allocator returns (not a multiple of 16, beyond 48 bits) are refused, and counted by the caller as dropped. */

#include "owners.h"

enum { LEAVES_LISTED = 1 << 16, HUGE_WORDS = 3 };

thag_owner_table thag_owners;

/* The root slots in use, so that a walk need not look at four million of them. Appended to by any thread. */
static struct {
    _Atomic uint32_t count;
    _Atomic uint32_t slots[LEAVES_LISTED];      /* one more than the slot; 0 while it is being listed */
} mapped;

/* A leaf has room behind its last entry, for the second and third word of a block that starts there. */
static const size_t LEAF_BYTES = THAG_LEAF_ENTRIES * sizeof(thag_entry) + 4096;

bool
thag_owners_init(void)
{
    if (thag_owners.leaves == NULL) {
        thag_owners.leaves = thag_pages_map(THAG_ROOT_SLOTS * sizeof(thag_owners.leaves[0]));
    }
    return thag_owners.leaves != NULL;
}

thag_entry *
thag_owners_map_leaf(uintptr_t address)
{
    if (address >> THAG_ADDRESS_BITS || address & ((1 << THAG_GRANULE_SHIFT) - 1)) {
        return NULL;
    }
    thag_entry *leaf = thag_pages_map(LEAF_BYTES);
    if (leaf == NULL) {
        return NULL;
    }
    uint32_t slot = (uint32_t)(address >> THAG_LEAF_SHIFT);
    thag_entry *winner = NULL;
    if (atomic_compare_exchange_strong(&thag_owners.leaves[slot], &winner, leaf)) {
        uint32_t index = atomic_fetch_add(&mapped.count, 1);
        if (index < LEAVES_LISTED) {
            atomic_store(&mapped.slots[index], slot + 1);
        }
    }
    else {
        thag_pages_unmap(leaf, LEAF_BYTES);
    }
    return thag_owners_find(address);
}

bool
thag_owners_take_stale(const void *block, size_t size, thag_owner *stale)
{
    uintptr_t address = (uintptr_t)block;
    thag_entry *at = thag_owners_find(address);
    if (thag_entry_load(at) != 0 && !thag_owners_begins(at)) {
        /* The second or third word of a record that starts one or two granules below. */
        size_t index = (address >> THAG_GRANULE_SHIFT) & (THAG_LEAF_ENTRIES - 1);
        for (size_t back = 1; back < HUGE_WORDS && back <= index; back++) {
            if (thag_owners_begins(at - back)) {
                *stale = thag_owners_take(at - back);
                return true;
            }
        }
        thag_entry_store(at, 0);
    }
    int words = size <= THAG_TINY_BYTES ? 1 : size <= THAG_WORD_MASK ? 2 : HUGE_WORDS;
    for (int word = 0; word < words; word++) {
        if (thag_owners_begins(at + word)) {
            *stale = thag_owners_take(at + word);
            return true;
        }
        thag_entry_store(at + word, 0);
    }
    return false;
}

void
thag_owners_write_huge(thag_entry *at, size_t size, uint32_t context_id)
{
    thag_entry_store(at, (uint32_t)THAG_KIND_HUGE << THAG_ENTRY_KIND | (uint32_t)(size & THAG_WORD_MASK));
    thag_entry_store(at + 1, context_id);
    thag_entry_store(at + 2, THAG_THIRD_WORD | (uint32_t)(size >> THAG_ENTRY_KIND));
}

static size_t
high_bits(const thag_entry *at)
{
    return (size_t)(thag_entry_load(at + 2) & ~THAG_THIRD_WORD) << THAG_ENTRY_KIND;
}

size_t
thag_owners_take_huge(thag_entry *at)
{
    assert(thag_entry_load(at + 2) & THAG_THIRD_WORD);
    size_t high = high_bits(at);
    thag_entry_store(at + 2, 0);
    return high;
}

static uint32_t
leaves_listed(void)
{
    uint32_t count = atomic_load(&mapped.count);
    return count < LEAVES_LISTED ? count : LEAVES_LISTED;
}

/* Calls `visit` for the pages in use of every leaf, of as many bytes from its beginning. */
static void
leaves_visit(size_t bytes, void (*visit)(void *page, size_t page_bytes, void *data), void *data)
{
    for (uint32_t index = 0; index < leaves_listed(); index++) {
        uint32_t slot = atomic_load(&mapped.slots[index]);
        if (slot != 0) {
            thag_pages_visit(atomic_load(&thag_owners.leaves[slot - 1]), bytes, visit, data);
        }
    }
}

/* The words behind the first may lie in the next page of a leaf that is one piece of memory, or in the room behind its
   last entry. They are not looked at without need: that would put the page in memory. */
thag_owner
thag_owners_peek(const thag_entry *at)
{
    uint32_t word = thag_entry_load(at);
    uint32_t kind = word >> THAG_ENTRY_KIND;
    if (kind == THAG_KIND_REST) {
        return (thag_owner){.context_id = 0};
    }
    if (kind == THAG_KIND_TINY) {
        return thag_tiny_decode(word);
    }
    uint32_t context_id = thag_entry_load(at + 1);
    if (context_id >> THAG_CONTEXT_BITS) {
        return (thag_owner){.context_id = 0};
    }
    size_t high = kind == THAG_KIND_HUGE ? high_bits(at) : 0;
    return (thag_owner){.context_id = context_id, .size = high | (word & THAG_WORD_MASK)};
}

typedef struct {
    void (*visit)(uint32_t context_id, size_t size, void *data);
    void *data;
} walker;

static void
page_walk(void *page, size_t page_bytes, void *data)
{
    const walker *walk = data;
    const thag_entry *entries = page;
    for (size_t i = 0; i < page_bytes / sizeof(thag_entry); i++) {
        thag_owner owner = thag_owners_peek(entries + i);
        if (owner.context_id != 0) {
            walk->visit(owner.context_id, owner.size, walk->data);
        }
    }
}

void
thag_owners_walk(void (*visit)(uint32_t context_id, size_t size, void *data), void *data)
{
    walker walk = {visit, data};
    /* Without the room behind the last entry, where no record begins. */
    leaves_visit(THAG_LEAF_ENTRIES * sizeof(thag_entry), page_walk, &walk);
}

/* Whoever holds the block may clear the record at this moment: then it stays cleared. */
static void
word_replace(thag_entry *entry, uint32_t old, uint32_t new)
{
    (void)atomic_compare_exchange_strong_explicit(entry, &old, new, memory_order_relaxed, memory_order_relaxed);
}

static void
page_rename(void *page, size_t page_bytes, void *data)
{
    uint32_t (*const *rename)(uint32_t) = data;
    thag_entry *entries = page;
    for (size_t i = 0; i < page_bytes / sizeof(thag_entry); i++) {
        uint32_t word = thag_entry_load(&entries[i]);
        if (word >> THAG_ENTRY_KIND == THAG_KIND_TINY) {
            thag_owner owner = thag_tiny_decode(word);
            word_replace(&entries[i], word, thag_tiny_encode((*rename)(owner.context_id), owner.size));
        }
        else if (word != 0 && word >> THAG_CONTEXT_BITS == 0) {
            word_replace(&entries[i], word, (*rename)(word));
        }
    }
}

void
thag_owners_rename(uint32_t (*rename)(uint32_t context_id))
{
    /* With that room: an owner's id may stand there. */
    leaves_visit(LEAF_BYTES, page_rename, &rename);
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
    leaves_visit(LEAF_BYTES, page_clear, NULL);
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
    leaves_visit(LEAF_BYTES, page_count, &in_use);
    return in_use;
}
