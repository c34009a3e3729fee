/* Stacks.

   Most stacks are like the one before, or differ from it in their last frames: so the last one is kept, and only what differs is
   looked for. It is met at the innermost of its frames that is in this one, too, and compared from there on outwards; but for
   what calls the frame of a `with` statement, the base, as long as that frame is not over, which is known by Python's object of
   it: that is kept alive until the statement is. Frames that Python does not show stand for their caller's site.

   Very deep stacks keep both their ends. */

#include "pyframes.h"

#include "sites.h"
#include "stacks.h"

enum {
    FRAMES = 256,               /* of a stack, at each of its ends, that are kept */
    STACK = 2 * FRAMES + 1,
    PLACES_BITS = 10,
};

typedef struct {
    const thag_pyframe *frame;
    const void *at;
} known_frame;

/* The last stack, from the outermost frame on, and for each of them the site that it and those before it are. */
static struct {
    uint32_t origin;            /* the site that it is called from */
    unsigned count;
    known_frame frames[1 + STACK];      /* from the second on: nothing calls the outermost */
    uint32_t site[STACK];
    unsigned base;              /* the place of a base: those before it need not be looked at */
    uint64_t base_number;       /* its number; 0: there is none */
    const void *base_object;
    uint64_t base_wanted;       /* the number of the thread's */
    const PyThreadState *tstate;        /* of the thread, if its work was handed over by nobody */
    uint64_t turn;
    uint64_t gone;
    uint16_t places[1 << PLACES_BITS];  /* of frames, by `place_of_frame`: that of one which is there, or was */
} last;

static inline uint16_t *
place_of_frame(const thag_pyframe *frame)
{
    uintptr_t address = (uintptr_t)frame;
    return &last.places[(address >> 4 ^ address >> (4 + PLACES_BITS)) & ((1 << PLACES_BITS) - 1)];
}

static _Thread_local thag_origin origin_of_thread;
static _Thread_local thag_base base_of_thread;
static uint64_t least_base;     /* none of a lower number is there any more */
static uint64_t bases;
static uint64_t turn;           /* counts whatever is done to one of these, by any thread */

static inline void
last_is(unsigned place, const thag_pyframe *frame, const void *at, uint32_t site)
{
    last.frames[place + 1].frame = frame;
    last.frames[place + 1].at = at;
    last.site[place] = site;
    *place_of_frame(frame) = (uint16_t)place;
}

static void
base_forget(void)
{
    last.base = 0;
    last.base_number = 0;
}

/* The site of what calls a frame that has its place. */
static inline uint32_t
last_caller(unsigned place)
{
    return place == 0 ? last.origin : last.site[place - 1];
}

/* The present one, from the innermost on. */
static struct {
    const void *at[STACK];
    const thag_pyframe *frames[STACK];
} walked;

static const char left_out;     /* its address is where the frames are that a very deep stack does not keep */

static const thag_pyframe *
walk_one(const thag_pyframe *frame, unsigned place)
{
    walked.at[place] = thag_pyframe_at(frame);
    walked.frames[place] = frame;
    return thag_pyframe_previous(frame);
}

static const thag_pyframe *
walk(const thag_pyframe *frame, unsigned count)
{
    for (unsigned place = 0; place < count; place++) {
        frame = walk_one(frame, place);
    }
    return frame;
}

static void
walked_turn(unsigned first, unsigned count)
{
    for (unsigned end = first + count; first + 1 < end; first++) {
        const void *at = walked.at[first];
        const thag_pyframe *frame = walked.frames[first];
        end--;
        walked.at[first] = walked.at[end];
        walked.frames[first] = walked.frames[end];
        walked.at[end] = at;
        walked.frames[end] = frame;
    }
}

/* Both ends of a stack of more than STACK frames: goes on behind the innermost in a ring, and brings that into order. */
static void
walk_ends(const thag_pyframe *frame)
{
    unsigned turn = 0;
    frame = walk(frame, STACK);
    for (; frame != NULL; turn = (turn + 1) % FRAMES) {
        frame = walk_one(frame, FRAMES + 1 + turn);
    }
    walked_turn(FRAMES + 1, turn);
    walked_turn(FRAMES + 1 + turn, FRAMES - turn);
    walked_turn(FRAMES + 1, FRAMES);
    walked.at[FRAMES] = &left_out;
    walked.frames[FRAMES] = NULL;
}

/* The site of what was walked, of which `same` frames, the outermost, are the last stack's. */
static uint32_t
stack_intern(unsigned count, unsigned same)
{
    uint32_t site = last_caller(same);
    for (unsigned i = same; i < count; i++) {
        const void *at = walked.at[count - 1 - i];
        const thag_pyframe *frame = walked.frames[count - 1 - i];
        site = thag_site_of(site, at, frame);
        if (THAG_UNLIKELY(site == THAG_SITE_TOO_MANY)) {
            last.count = last.frames[i].frame == NULL ? 0 : i;      /* none ends with what is left out */
            return site;
        }
        last_is(i, frame, at, site);
    }
    last.count = count;
    return site;
}

/* The same where only the innermost frame, which has this place, is not the last stack's. */
static inline uint32_t
innermost_intern(const thag_pyframe *frame, unsigned place)
{
    const void *at = thag_pyframe_at(frame);
    uint32_t site = thag_site_of(last_caller(place), at, frame);
    if (THAG_UNLIKELY(site == THAG_SITE_TOO_MANY)) {
        last.count = place;
        return site;
    }
    last_is(place, frame, at, site);
    last.count = place + 1;
    return site;
}

static bool
stack_has(const PyThreadState *tstate, thag_spot spot)
{
    const thag_pyframe *frame = spot.frame == NULL ? NULL : thag_pyframe_top(tstate);
    while (frame != NULL && (frame != spot.frame || thag_pyframe_instruction(frame) != spot.instruction)) {
        frame = thag_pyframe_previous(frame);
    }
    return frame != NULL;
}

/* The site that the stack is called from: none if it is not the one that the work is done on (a greenlet's). */
static uint32_t
origin_of_stack(const PyThreadState *tstate)
{
    const thag_origin *origin = &origin_of_thread;
    return origin->epoch == thag_sites_epoch && stack_has(tstate, origin->taken) ? origin->site : THAG_SITE_NO_FRAME;
}

THAG_APART static void
last_begin_at(const PyThreadState *tstate)
{
    bool is_own_work = origin_of_thread.site == 0;
    uint32_t site = is_own_work ? THAG_SITE_NO_FRAME : origin_of_stack(tstate);
    if (last.origin != site || last.gone != thag_sites_gone) {
        last.origin = site;
        last.gone = thag_sites_gone;
        last.count = 0;
    }
    if (base_of_thread.number <= least_base) {
        base_of_thread = (thag_base){0};
    }
    last.base_wanted = base_of_thread.number;
    if (last.base_number != last.base_wanted) {
        base_forget();
    }
    last.tstate = is_own_work ? tstate : NULL;
    last.turn = turn;
}

static unsigned
depth_of(const thag_pyframe *frame)
{
    unsigned depth = 0;
    for (; frame != NULL; frame = thag_pyframe_previous(frame)) {
        depth++;
    }
    return depth;
}

/* How many frames the last stack has up to the innermost of its frames that is one of this stack, too; `newer` says how many are
   further in. None of them need have the callers that it had. */
static inline unsigned
meet_last(const thag_pyframe *frame, unsigned *newer)
{
    *newer = 0;
    if (THAG_LIKELY(frame == last.frames[last.count].frame)) {
        return last.count;
    }
    for (; frame != NULL; ++*newer) {
        unsigned place = *place_of_frame(frame);
        if (THAG_LIKELY(place < last.count && last.frames[place + 1].frame == frame)) {
            return place + 1;
        }
        frame = thag_pyframe_previous(frame);
    }
    return 0;
}

/* How many of the last stack's outermost frames, of `count`, stand where they stood; the first `base` do, unless the frame of the
   base is over. The innermost of them is one of this stack; if others call it than then: false, and any number. */
static inline bool
compare_with_last(unsigned base, unsigned count, unsigned *same)
{
    const known_frame *known = last.frames + count, *end = last.frames + base, *lowest = NULL;
#pragma GCC unroll 2
    for (const thag_pyframe *frame = known->frame; known != end; known--) {
        const thag_pyframe *caller = known[-1].frame;
        lowest = known->at == thag_pyframe_at(frame) ? lowest : known;
        if (THAG_UNLIKELY(caller != thag_pyframe_previous(frame))) {
            return false;
        }
        frame = caller;
    }
    *same = lowest == NULL ? count : (unsigned)(lowest - last.frames) - 1;
    /* Of a frame that came after the base's, and lies where that lay, Python has another object, or none. */
    return base == 0 || THAG_LIKELY(thag_pyframe_object(end[1].frame) == last.base_object);
}

THAG_COLD static uint32_t
site_of_deep(const thag_pyframe *innermost)
{
    walk_ends(innermost);
    unsigned same = 0;
    while (same < last.count && last.frames[same + 1].at == walked.at[STACK - 1 - same]) {
        same++;
    }
    return stack_intern(STACK, same);
}

/* Once all of a stack has been looked at that is not so deep that some of its frames are left out. */
static void
base_find(void)
{
    unsigned place = *place_of_frame(base_of_thread.frame);
    if (place < last.count && last.frames[place + 1].frame == base_of_thread.frame) {
        last.base = place;
        last.base_number = base_of_thread.number;
        last.base_object = base_of_thread.object;
    }
}

/* The site of a stack of `count` frames, of which `same` are the last one's. */
static inline uint32_t
stack_site(const thag_pyframe *innermost, unsigned count, unsigned same)
{
    if (THAG_LIKELY(same == count && count != 0)) {
        last.count = count;
        return last.site[count - 1];
    }
    if (THAG_LIKELY(same + 1 == count)) {
        return innermost_intern(innermost, same);
    }
    (void)walk(innermost, count - same);
    return stack_intern(count, same);
}

uint32_t
thag_site_here(const PyThreadState *tstate)
{
    if (THAG_UNLIKELY(last.tstate != tstate || last.turn != turn || last.gone != thag_sites_gone)) {
        last_begin_at(tstate);
    }
    const thag_pyframe *innermost = thag_pyframe_top(tstate);
    unsigned newer, same, count = meet_last(innermost, &newer);
    bool met = compare_with_last(count > last.base ? last.base : 0, count, &same);
    if (THAG_LIKELY(met)) {
        count += newer;
    }
    else {
        base_forget();
        count = depth_of(innermost);
        same = 0;
    }
    if (THAG_UNLIKELY(count > STACK)) {
        return site_of_deep(innermost);
    }
    uint32_t site = stack_site(innermost, count, same);
    if (THAG_UNLIKELY(last.base_number != last.base_wanted)) {
        base_find();
    }
    return site;
}

thag_base_begun
thag_sites_begin_base(PyThreadState *tstate)
{
    const thag_pyframe *frame = thag_pyframe_top(tstate);
    if (frame == NULL || !thag_pyframe_begins_with(frame)) {
        return (thag_base_begun){0};
    }
    PyObject *object = (PyObject *)PyThreadState_GetFrame(tstate);
    if (object == NULL || thag_pyframe_object(frame) != object) {
        Py_XDECREF(object);
        PyErr_Clear();      /* without memory: then all of a stack is looked at */
        return (thag_base_begun){0};
    }
    thag_base before = base_of_thread;
    base_of_thread = (thag_base){frame, object, ++bases};
    turn++;
    return (thag_base_begun){object, bases, before};
}

/* They end in the order of the calls, but not where a thread has several stacks, as with greenlets, or where another thread ends
   them: then all end. */
void
thag_sites_end_base(thag_base_begun *begun)
{
    PyObject *object = begun->object;
    if (begun->number != 0) {
        least_base = base_of_thread.number == begun->number ? least_base : ++bases;
        base_of_thread = begun->before;
        turn++;
    }
    *begun = (thag_base_begun){0};
    Py_XDECREF(object);     /* the frame may be over, and what it had */
}

thag_spot
thag_spot_of(const PyThreadState *tstate)
{
    const thag_pyframe *frame = thag_pyframe_top(tstate);
    return (thag_spot){frame, frame == NULL ? NULL : thag_pyframe_instruction(frame)};
}

/* Work that hands over work that hands over work would have a stack without end: after some hops it begins anew. */
thag_origin
thag_sites_origin_here(const PyThreadState *tstate)
{
    enum { MOST_HOPS = 8 };
    thag_origin before = origin_of_thread;
    if (before.hops >= MOST_HOPS) {
        origin_of_thread = (thag_origin){0};
        turn++;
    }
    uint32_t site = thag_site_here(tstate);
    bool goes_on = last.origin != THAG_SITE_NO_FRAME;
    origin_of_thread = before;
    turn++;
    if (site < THAG_SITES_FIRST) {
        return (thag_origin){0};        /* that is no stack that others could go on from */
    }
    return (thag_origin){.site = site, .epoch = thag_sites_epoch, .hops = goes_on ? before.hops + 1 : 1, .given = thag_spot_of(tstate)};
}

/* Work that is done at once, where it is handed over, goes on in the stack that it is in. */
thag_origin
thag_sites_enter_origin(thag_origin origin, const PyThreadState *tstate)
{
    thag_origin before = origin_of_thread;
    if (!stack_has(tstate, origin.given)) {
        origin.taken = thag_spot_of(tstate);
        origin_of_thread = origin;
        turn++;
    }
    return before;
}

void
thag_sites_leave_origin(thag_origin before)
{
    origin_of_thread = before;
    turn++;
}
