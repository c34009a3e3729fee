/* Which holder has reached an object first, for the time of one walk. */

#ifndef THAG_PLACES_H
#define THAG_PLACES_H

#include "thag.h"

/* What a walk knows of an object. A place is the number of a holder, or one of those below. */
typedef struct {
    const void *object;     /* NULL where a slot is empty */
    int32_t place;          /* who reached it first */
    int32_t again;          /* who met it last after that, or met it and may not pass; below all places: a span */
} thag_place;

enum {
    THAG_PLACE_NOBODY = -1,     /* not to be entered */
    THAG_PLACE_UNMET = -2,
    THAG_PLACE_ROOT = -3,       /* in `again`: what the holder itself refers to */
};

typedef struct {
    thag_place *slots;      /* 1 << `bits` of them; NULL before the first object */
    unsigned bits;
    size_t count;
} thag_places;

/* What is known of an object, to be read and written until the next call; THAG_PLACE_UNMET if it is new. NULL without
   memory. Takes nothing from any hooked allocator. GIL. */
thag_place *thag_places_of(thag_places *places, const void *object);

/* Objects still to be gone on from, borrowed: only for as long as nothing can let go of them. */
typedef struct {
    PyObject **objects;
    size_t count;
    size_t room;
} thag_front;

/* False without memory. GIL. */
bool thag_front_push(thag_front *front, PyObject *object);

/* Give the memory back. */
void thag_places_clear(thag_places *places);
void thag_front_clear(thag_front *front);

#endif
