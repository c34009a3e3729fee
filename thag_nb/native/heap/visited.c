/* Which holder has reached an object first: a hash table by address, open, probed in line, at most half full.

   It lives for one walk and only while somebody holds the GIL. It refers to no object: an address may go stale when
   other threads run between two steps, and then says no more than that something was there once. All memory is straight
   from the operating system, so that a walk neither changes what it counts nor frees anything in between. */

#include "visited.h"

#include <string.h>

enum { FIRST_BITS = 16, FIRST_ROOM = 1 << 12 };

static size_t
places_bytes(unsigned bits)
{
    return sizeof(thag_place) << bits;
}

/* The slot of an object, or the empty one where it belongs. Multiplying spreads neighbours; the top bits are the best. */
static thag_place *
places_find(const thag_places *places, const void *object)
{
    size_t mask = ((size_t)1 << places->bits) - 1;
    size_t i = (size_t)((uint64_t)(uintptr_t)object * UINT64_C(0x9E3779B97F4A7C15) >> (64 - places->bits));
    while (places->slots[i].object != NULL && places->slots[i].object != object) {
        i = (i + 1) & mask;
    }
    return places->slots + i;
}

static bool
places_grow(thag_places *places)
{
    thag_places grown = {.bits = places->slots == NULL ? FIRST_BITS : places->bits + 1, .count = places->count};
    grown.slots = thag_pages_map(places_bytes(grown.bits));
    if (grown.slots == NULL) {
        return false;
    }
    for (size_t i = 0; places->slots != NULL && i < (size_t)1 << places->bits; i++) {
        if (places->slots[i].object != NULL) {
            *places_find(&grown, places->slots[i].object) = places->slots[i];
        }
    }
    thag_places_clear(places);
    *places = grown;
    return true;
}

thag_place *
thag_places_of(thag_places *places, const void *object)
{
    bool full = places->slots == NULL || places->count * 2 >= (size_t)1 << places->bits;
    if (THAG_UNLIKELY(full) && !places_grow(places)) {
        return NULL;
    }
    thag_place *at = places_find(places, object);
    if (at->object == NULL) {
        *at = (thag_place){.object = object, .place = THAG_PLACE_UNMET, .again = THAG_PLACE_NOBODY};
        places->count++;
    }
    return at;
}

void
thag_places_clear(thag_places *places)
{
    if (places->slots != NULL) {
        thag_pages_unmap(places->slots, places_bytes(places->bits));
    }
    *places = (thag_places){.slots = NULL};
}

bool
thag_front_push(thag_front *front, PyObject *object)
{
    if (THAG_UNLIKELY(front->count == front->room)) {
        size_t room = front->room == 0 ? FIRST_ROOM : front->room * 2;
        PyObject **objects = thag_pages_map(room * sizeof(*objects));
        if (objects == NULL) {
            return false;
        }
        if (front->count > 0) {
            memcpy(objects, front->objects, front->count * sizeof(*objects));
        }
        size_t count = front->count;
        thag_front_clear(front);
        *front = (thag_front){.objects = objects, .count = count, .room = room};
    }
    front->objects[front->count++] = object;
    return true;
}

void
thag_front_clear(thag_front *front)
{
    if (front->objects != NULL) {
        thag_pages_unmap(front->objects, front->room * sizeof(*front->objects));
    }
    *front = (thag_front){.objects = NULL};
}
