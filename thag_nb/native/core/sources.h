/* Where bytes were asked for: with Python's own allocators, NumPy's, or by native code.

   A block's record does not tell that: its hook does, when the block comes and when it goes. So the three are exact as long as a
   block is given back where it came from, as every allocator wants it anyway. */

#ifndef THAG_SOURCES_H
#define THAG_SOURCES_H

#include "thag.h"

typedef enum {
    THAG_OF_PYTHON,
    THAG_OF_NUMPY,
    THAG_OF_NATIVE,
    THAG_SOURCES = 4,   /* a power of two that is no less than their number */
} thag_source;

/* How much of some bytes is not Python's. */
typedef struct {
    int64_t numpy_bytes;
    int64_t native_bytes;
} thag_sources;

typedef struct {
    int64_t bytes;
    thag_sources of;
} thag_amount;

static inline void
thag_sources_add(thag_sources *sources, thag_source source, int64_t bytes)
{
    if (source != THAG_OF_PYTHON) {     /* most are, and nothing else is asked then */
        *(source == THAG_OF_NUMPY ? &sources->numpy_bytes : &sources->native_bytes) += bytes;
    }
}

static inline thag_sources
thag_sources_plus(thag_sources one, thag_sources other)
{
    return (thag_sources){one.numpy_bytes + other.numpy_bytes, one.native_bytes + other.native_bytes};
}

static inline thag_sources
thag_sources_minus(thag_sources one, thag_sources other)
{
    return (thag_sources){one.numpy_bytes - other.numpy_bytes, one.native_bytes - other.native_bytes};
}

static inline thag_amount
thag_amount_plus(thag_amount one, thag_amount other)
{
    return (thag_amount){one.bytes + other.bytes, thag_sources_plus(one.of, other.of)};
}

static inline thag_amount
thag_amount_minus(thag_amount one, thag_amount other)
{
    return (thag_amount){one.bytes - other.bytes, thag_sources_minus(one.of, other.of)};
}

#endif
