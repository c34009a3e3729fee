/* How far a level moved, and how far up and down on the way, all from where it was before. */

#ifndef THAG_MOVEMENT_H
#define THAG_MOVEMENT_H

#include "thag.h"

typedef struct {
    int64_t live_bytes;
    int64_t high_bytes;
    int64_t low_bytes;
} thag_movement;

static inline bool
thag_movement_is_still(thag_movement moved)
{
    return (moved.live_bytes | moved.high_bytes | moved.low_bytes) == 0;
}

/* First the one, then the other. */
static inline thag_movement
thag_movement_then(thag_movement first, thag_movement second)
{
    int64_t high = first.live_bytes + second.high_bytes, low = first.live_bytes + second.low_bytes;
    return (thag_movement){
        .live_bytes = first.live_bytes + second.live_bytes,
        .high_bytes = high > first.high_bytes ? high : first.high_bytes,
        .low_bytes = low < first.low_bytes ? low : first.low_bytes,
    };
}

/* All at once. */
static inline thag_movement
thag_movement_straight(int64_t bytes)
{
    return (thag_movement){bytes, bytes > 0 ? bytes : 0, bytes < 0 ? bytes : 0};
}

#endif
