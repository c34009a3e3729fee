/* What one walk knows of each object: a hash table by address, open, with linear probing, at most three quarters full.

   It lives for one walk and is used only with the GIL. It refers to no object: when other threads run between two calls,
   an address may go stale, and then says no more than that something was there once. All memory is straight from the
   operating system, so that a walk neither changes what it counts nor frees anything in between. */

#include "visited.h"

#include <string.h>

enum { FIRST_BITS = 16, FIRST_CAPACITY = 1 << 12 };

static size_t
slots_bytes(unsigned bits)
{
    return sizeof(thag_visit) << bits;
}

/* Where the slots of an object begin. Multiplying spreads the pages of memory; in a page neighbours stay neighbours, as
   what was made together is mostly visited together: then the slot is in the processor's cache already. */
static size_t
slot_first(const thag_visited *visited, const void *object)
{
    enum { PAGE_SHIFT = 12, ALIGNMENT_SHIFT = 4 };
    const uint64_t address = (uintptr_t)object;
    const uint64_t in_page = address & ((1 << PAGE_SHIFT) - 1);
    const uint64_t page = (address >> PAGE_SHIFT) * UINT64_C(0x9E3779B97F4A7C15) >> (64 - visited->bits);
    return (size_t)(page + (in_page >> ALIGNMENT_SHIFT)) & (((size_t)1 << visited->bits) - 1);
}

/* The slot of an object, or the empty one where it belongs. */
static thag_visit *
slot_find(const thag_visited *visited, const void *object)
{
    size_t mask = ((size_t)1 << visited->bits) - 1;
    size_t i = slot_first(visited, object);
    while (visited->slots[i].object != NULL && visited->slots[i].object != object) {
        i = (i + 1) & mask;
    }
    return visited->slots + i;
}

static bool
slots_grow(thag_visited *visited)
{
    unsigned bits = visited->slots == NULL ? FIRST_BITS : visited->bits + 1;
    thag_visited grown = {.bits = bits, .count = visited->count, .slots = thag_pages_map(slots_bytes(bits))};
    if (grown.slots == NULL) {
        return false;
    }
    for (size_t i = 0; visited->slots != NULL && i < (size_t)1 << visited->bits; i++) {
        if (visited->slots[i].object != NULL) {
            *slot_find(&grown, visited->slots[i].object) = visited->slots[i];
        }
    }
    thag_visited_clear(visited);
    *visited = grown;
    return true;
}

thag_visit *
thag_visited_find(thag_visited *visited, const void *object)
{
    bool full = visited->slots == NULL || visited->count * 4 >= (size_t)3 << visited->bits;
    if (THAG_UNLIKELY(full) && !slots_grow(visited)) {
        return NULL;
    }
    thag_visit *slot = slot_find(visited, object);
    if (slot->object == NULL) {
        *slot = (thag_visit){.object = object, .first_holder = THAG_UNVISITED, .asked_for = THAG_ASKED_FOR_NOBODY};
        visited->count++;
    }
    return slot;
}

thag_visit *
thag_visited_peek(const thag_visited *visited, const void *object)
{
    thag_visit *slot = visited->slots == NULL ? NULL : slot_find(visited, object);
    return slot == NULL || slot->object == NULL ? NULL : slot;
}

void
thag_visited_clear(thag_visited *visited)
{
    if (visited->slots != NULL) {
        thag_pages_unmap(visited->slots, slots_bytes(visited->bits));
    }
    *visited = (thag_visited){.slots = NULL};
}

static bool
frontier_grow(thag_frontier *frontier)
{
    size_t capacity = frontier->capacity == 0 ? FIRST_CAPACITY : frontier->capacity * 2;
    thag_frontier grown = {.count = frontier->count, .capacity = capacity};
    grown.objects = thag_pages_map(capacity * sizeof(*grown.objects));
    if (grown.objects == NULL) {
        return false;
    }
    if (frontier->count > 0) {
        memcpy(grown.objects, frontier->objects, frontier->count * sizeof(*grown.objects));
    }
    thag_frontier_clear(frontier);
    *frontier = grown;
    return true;
}

bool
thag_frontier_push(thag_frontier *frontier, PyObject *object)
{
    if (THAG_UNLIKELY(frontier->count == frontier->capacity) && !frontier_grow(frontier)) {
        return false;
    }
    frontier->objects[frontier->count++] = object;
    return true;
}

void
thag_frontier_clear(thag_frontier *frontier)
{
    if (frontier->objects != NULL) {
        thag_pages_unmap(frontier->objects, frontier->capacity * sizeof(*frontier->objects));
    }
    *frontier = (thag_frontier){.objects = NULL};
}
