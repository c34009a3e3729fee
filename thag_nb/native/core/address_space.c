/* Address space.

   A library that brings an allocator along maps memory in large pieces, and keeps its blocks in there. Who does not know the
   allocator cannot ask for these; but what is mapped can be told, and by whom: the object that the calling code is in.

   For each object that maps, there is a bit for each 4 KiB of addresses. It is set when the object has mapped them, and cleared
   when anybody is about to unmap them, or has mapped something over them. What an object has is how many bits are set: whatever
   is unmapped in parts, by several threads at once, or was there before we were attached.

     mapper ──► 4096 leaves ──► a bit for each 4 KiB of 64 GiB

   Mapping is rare, and few objects do it: who unmaps looks at all of them. */

#include "address_space.h"

#include "packages.h"

enum {
    PAGE_SHIFT = 12,            /* of the smallest pages that there are */
    WORD_SHIFT = 6,
    WORD_PAGES = 1 << WORD_SHIFT,
    LEAF_SHIFT = 36,
    ADDRESS_BITS = 48,
    LEAVES = 1 << (ADDRESS_BITS - LEAF_SHIFT),
    LEAF_WORDS = 1 << (LEAF_SHIFT - PAGE_SHIFT - WORD_SHIFT),
    LEAF_BYTES = LEAF_WORDS * 8,
    MAPPERS_ROOM = 64,          /* of more objects than that, nothing is told */
};

typedef _Atomic uint64_t page_bits;

/* From page to page. */
typedef struct {
    uint64_t first, end;
} pages;

struct thag_mapper {
    _Atomic int object;         /* its number; 0: nobody's yet. Never taken back */
    _Atomic uint64_t lowest, highest;       /* no bit is set outside of these pages: pages of bits that are never read cost nothing */
    _Atomic(page_bits *) leaves[LEAVES];
};

static thag_mapper mappers[MAPPERS_ROOM];

/* ---- pages ---- */

static pages
pages_in(const void *start, size_t bytes)
{
    uint64_t most = UINT64_C(1) << (ADDRESS_BITS - PAGE_SHIFT), first = (uintptr_t)start >> PAGE_SHIFT;
    uint64_t count = (uint64_t)bytes / (1 << PAGE_SHIFT) + (bytes % (1 << PAGE_SHIFT) != 0);
    first = first < most ? first : most;
    return (pages){first, count < most - first ? first + count : most};
}

/* The leaf that a page is in, and the end of that, or of all. */
static uint64_t
leaf_end(uint64_t page, uint64_t end)
{
    uint64_t next = ((page >> (LEAF_SHIFT - PAGE_SHIFT)) + 1) << (LEAF_SHIFT - PAGE_SHIFT);
    return next < end ? next : end;
}

static _Atomic(page_bits *) *
leaf_at(thag_mapper *mapper, uint64_t page)
{
    return &mapper->leaves[page >> (LEAF_SHIFT - PAGE_SHIFT)];
}

/* NULL without memory. */
static page_bits *
leaf_made(thag_mapper *mapper, uint64_t page)
{
    _Atomic(page_bits *) *place = leaf_at(mapper, page);
    page_bits *leaf = atomic_load(place);
    if (leaf != NULL) {
        return leaf;
    }
    page_bits *made = thag_pages_map(LEAF_BYTES);
    if (made != NULL && !atomic_compare_exchange_strong(place, &leaf, made)) {
        thag_pages_unmap(made, LEAF_BYTES);
        return leaf;
    }
    return made;
}

/* The bits of those pages, of one leaf, that are in the word of the first one. */
static uint64_t
bits_of(uint64_t page, uint64_t end)
{
    uint64_t first = page % WORD_PAGES, count = end - page;
    uint64_t bits = count < WORD_PAGES ? (UINT64_C(1) << count) - 1 : UINT64_MAX;
    return bits << first;
}

static uint64_t
word_end(uint64_t page, uint64_t end)
{
    uint64_t next = (page / WORD_PAGES + 1) * WORD_PAGES;
    return next < end ? next : end;
}

/* Sets the bits of pages of one leaf, or clears them and returns how many had been set. */
static uint64_t
leaf_write(page_bits *leaf, uint64_t page, uint64_t end, bool sets)
{
    uint64_t cleared = 0;
    for (; page < end; page = word_end(page, end)) {
        page_bits *word = &leaf[page / WORD_PAGES % LEAF_WORDS];
        uint64_t bits = bits_of(page, end);
        if (sets) {
            (void)atomic_fetch_or(word, bits);
        }
        else if ((atomic_load(word) & bits) != 0) {
            cleared += (uint64_t)__builtin_popcountll(atomic_fetch_and(word, ~bits) & bits);
        }
    }
    return cleared;
}

/* ---- mappers ---- */

static void
bounds_widen(thag_mapper *mapper, pages given)
{
    uint64_t lowest = atomic_load(&mapper->lowest), highest = atomic_load(&mapper->highest);
    while (given.first < lowest && !atomic_compare_exchange_weak(&mapper->lowest, &lowest, given.first)) {
    }
    while (given.end > highest && !atomic_compare_exchange_weak(&mapper->highest, &highest, given.end)) {
    }
}

static pages
within_bounds(const thag_mapper *mapper, pages asked)
{
    uint64_t lowest = atomic_load(&mapper->lowest), highest = atomic_load(&mapper->highest);
    return (pages){asked.first > lowest ? asked.first : lowest, asked.end < highest ? asked.end : highest};
}

/* That of an object, which may be a new one; NULL if there is no room. */
static thag_mapper *
mapper_of(int object)
{
    for (int i = 0; i < MAPPERS_ROOM && object != 0; i++) {
        int found = 0;
        if (atomic_compare_exchange_strong(&mappers[i].object, &found, object) || found == object) {
            return &mappers[i];
        }
    }
    return NULL;
}

void
thag_address_space_mapped(const void *code, const void *start, size_t bytes)
{
    thag_address_space_give(mapper_of(thag_packages_object_of(code)), start, bytes);
}

void
thag_address_space_give(thag_mapper *mapper, const void *start, size_t bytes)
{
    if (mapper == NULL) {
        return;
    }
    pages given = pages_in(start, bytes);
    bounds_widen(mapper, given);
    for (uint64_t page = given.first, end; page < given.end; page = end) {
        page_bits *leaf = leaf_made(mapper, page);
        end = leaf_end(page, given.end);
        if (leaf != NULL) {
            (void)leaf_write(leaf, page, end, true);
        }
    }
}

static uint64_t
mapper_take(thag_mapper *mapper, pages taken)
{
    uint64_t count = 0;
    for (uint64_t page = taken.first, end; page < taken.end; page = end) {
        page_bits *leaf = atomic_load(leaf_at(mapper, page));
        end = leaf_end(page, taken.end);
        count += leaf == NULL ? 0 : leaf_write(leaf, page, end, false);
    }
    return count;
}

thag_mapper *
thag_address_space_take(const void *start, size_t bytes)
{
    pages taken = pages_in(start, bytes);
    thag_mapper *had_all = NULL;
    for (int i = 0; i < MAPPERS_ROOM && atomic_load(&mappers[i].object) != 0; i++) {
        uint64_t count = mapper_take(&mappers[i], within_bounds(&mappers[i], taken));
        if (count > 0 && count == taken.end - taken.first) {
            had_all = &mappers[i];
        }
    }
    return had_all;
}

/* ---- all of them ---- */

static void
leaves_visit(thag_mapper *mapper, void (*visit)(void *page, size_t page_bytes, void *data), void *data)
{
    for (int i = 0; i < LEAVES; i++) {
        page_bits *leaf = atomic_load(&mapper->leaves[i]);
        if (leaf != NULL) {
            thag_pages_visit(leaf, LEAF_BYTES, visit, data);
        }
    }
}

static void
bytes_add(void *page, size_t page_bytes, void *bytes)
{
    page_bits *words = page;
    for (size_t i = 0; i < page_bytes / sizeof(*words); i++) {
        *(size_t *)bytes += (size_t)__builtin_popcountll(atomic_load(&words[i])) << PAGE_SHIFT;
    }
}

size_t
thag_address_space_of(const void *code)
{
    int object = thag_packages_object_of(code);
    size_t bytes = 0;
    for (int i = 0; i < MAPPERS_ROOM && object != 0; i++) {
        if (atomic_load(&mappers[i].object) == object) {
            leaves_visit(&mappers[i], bytes_add, &bytes);
        }
    }
    return bytes;
}

static bool
mapper_has(thag_mapper *mapper, pages asked)
{
    const page_bits *leaf = asked.first == asked.end ? NULL : atomic_load(leaf_at(mapper, asked.first));
    return leaf != NULL && (atomic_load(&leaf[asked.first / WORD_PAGES % LEAF_WORDS]) & bits_of(asked.first, asked.end)) != 0;
}

bool
thag_address_space_has(const void *code, const void *address)
{
    int object = thag_packages_object_of(code);
    bool has = false;
    for (int i = 0; i < MAPPERS_ROOM && object != 0; i++) {
        has = has || (atomic_load(&mappers[i].object) == object && mapper_has(&mappers[i], pages_in(address, 1)));
    }
    return has;
}

void
thag_address_space_forget(void)
{
    for (int i = 0; i < MAPPERS_ROOM; i++) {
        atomic_store(&mappers[i].lowest, UINT64_MAX);
        atomic_store(&mappers[i].highest, 0);
        for (int leaf = 0; leaf < LEAVES && atomic_load(&mappers[i].object) != 0; leaf++) {
            page_bits *forgotten = atomic_load(&mappers[i].leaves[leaf]);
            if (forgotten != NULL) {
                thag_pages_clear(forgotten, LEAF_BYTES);
            }
        }
    }
}

static void
page_count(void *page, size_t page_bytes, void *bytes)
{
    (void)page;
    *(size_t *)bytes += page_bytes;
}

size_t
thag_address_space_in_use(void)
{
    size_t bytes = 0;
    for (int i = 0; i < MAPPERS_ROOM && atomic_load(&mappers[i].object) != 0; i++) {
        leaves_visit(&mappers[i], page_count, &bytes);
    }
    return bytes;
}
