/* Trial deletion, as the cycle collector does it, for all names at once.

   Which holders lead to an object is its label, a set. It dies with a set of holders if its label lies in that set, and
   all references to it, and to what leads to it, were found: the count that CPython keeps knows of those from C as well.

       df ──► DataFrame ──► block {df} ──► array {df, merged} ◄── block {merged} ◄── DataFrame ◄── merged
                                               ▲
                                           C code: a reference more than was found, so it is pinned

   Five passes from the names along all references, each over every object at most once, but the first, which comes by
   once for each holder in its label:

     label    which holders lead to it
     count    how many of its references come from what has a label
     pin      what has more of them than that, and all it leads to
     settle   take all names away and see what falls at once; the rest is in a cycle or behind one. Its bytes are told.
     collect  do as the collector does with the rest, and see what falls now. It takes for held what has a reference that
              it is not shown, such as one from an array of objects, and what that shows. What stays is told as pinned.

   An object that has one reference lies in its only referrer as a leaf in a tree: it needs no label of its own, and is
   not looked up. That is why nothing else may hold the objects while this runs.

   What a library has is left out where that is possible: nobody lets go of it. It only matters what of the user's it leads
   to. So only a library itself goes into its objects, to label what is not its own. */

#include "release.h"

#include <string.h>

#include "clock.h"
#include "lifecycle.h"

/* ---- labels ---- */

enum { FIRST_LABELS = 1 << 10, LABELS_AT_MOST = 1 << 27 };

static bool
labels_grow(thag_labels *labels)
{
    size_t capacity = labels->capacity == 0 ? FIRST_LABELS : labels->capacity * 2;
    thag_label *items = thag_pages_map(capacity * sizeof(*items));
    if (items == NULL) {
        return false;
    }
    if (labels->count > 0) {
        memcpy(items, labels->items, labels->count * sizeof(*items));
    }
    size_t count = labels->count;
    thag_labels_clear(labels);
    *labels = (thag_labels){items, count, capacity};
    return true;
}

void
thag_labels_clear(thag_labels *labels)
{
    if (labels->items != NULL) {
        thag_pages_unmap(labels->items, labels->capacity * sizeof(*labels->items));
    }
    *labels = (thag_labels){.items = NULL};
}

/* The label's index, or THAG_LABEL_NONE without memory. */
static uint32_t
label_add(thag_labels *labels, thag_label label)
{
    if (labels->count == labels->capacity && !labels_grow(labels)) {
        return THAG_LABEL_NONE;
    }
    labels->items[labels->count] = label;
    return (uint32_t)labels->count++;
}

static bool
labels_begin(thag_labels *labels)
{
    labels->count = 0;
    return label_add(labels, (thag_label){.holder = -1}) == THAG_LABEL_NONE && labels->capacity > 0
           && label_add(labels, (thag_label){.holder = -1, .count = THAG_LABEL_AT_MOST}) == THAG_LABEL_MANY;
}

/* The label with a holder in it that no label has a higher one of; THAG_LABEL_NONE without memory. One library is enough:
   no line lets go of what it has. */
static uint32_t
label_with(thag_labels *labels, uint32_t index, int32_t holder, bool is_library)
{
    thag_label *label = &labels->items[index];
    if (label->holder == holder || (is_library && label->has_library)) {
        return index;
    }
    if (label->count == THAG_LABEL_AT_MOST || labels->count == LABELS_AT_MOST) {
        return THAG_LABEL_MANY;
    }
    if (label->latest != THAG_LABEL_NONE && labels->items[label->latest].holder == holder) {
        return label->latest;
    }
    uint32_t made = label_add(labels, (thag_label){
        .holder = holder,
        .others = index,
        .count = (uint16_t)(label->count + 1),
        .has_library = label->has_library || is_library,
    });
    labels->items[index].latest = made;
    return made;
}

/* ---- a trial ---- */

typedef struct trial {
    thag_walk *walk;
    thag_labels *labels;
    int32_t first_library, end_of_libraries;    /* the holders that are libraries: from, up to but without */
    int32_t garbage;                    /* the holder that is all garbage; it gives no label */
    const thag_group *detours;
    size_t detours_count;
    bool (*reach)(struct trial *trial, PyObject *object, thag_visit *visit);    /* what the pass does with each reference */
    void (*block)(const void *address, void *data);                             /* and with each block */
    bool is_shown_only;                 /* whether to go along those references only that the collector is shown */
    bool stays;                         /* collect: whether what is told now is what is left at the end */
    bool has_failed;
    bool is_late;
    uint64_t deadline_ns;
    unsigned expanded_count;
    int32_t holder;                     /* label: on whose behalf */
    thag_frontier settled;              /* settle: what to go on from once its tree is done */
    thag_portion portion;                  /* settle: what is not told yet */
    thag_portion_listener listener;
    void *data;
} trial;

static bool
is_of_library(const trial *trial, int32_t holder)
{
    return holder >= trial->first_library && holder < trial->end_of_libraries;
}

static bool
trial_push(trial *trial, PyObject *object)
{
    trial->has_failed |= !thag_frontier_push(&trial->walk->frontier, object);
    return !trial->has_failed;
}

/* Has a label only through its one referrer. What is special may have been left alone by the walk. */
static bool
is_leaf_of_tree(const trial *trial, PyObject *object)
{
    return Py_REFCNT(object) == 1 && !thag_walk_is_special(object, trial->walk);
}

/* What is known of an object that the walk has visited, or NULL. */
static thag_visit *
trial_find(const trial *trial, PyObject *object)
{
    thag_visit *visit = thag_visited_peek(&trial->walk->visited, object);
    return visit == NULL || visit->first_holder < 0 ? NULL : visit;
}

/* Whether it may fall, and has not yet. */
static bool
is_left(const thag_visit *visit)
{
    return visit->is_counted && !visit->is_settled;
}

static void
ignore_block(const void *Py_UNUSED(address), void *Py_UNUSED(data))
{
}

/* Leaves are gone on from, whatever the pass; it is asked of the other objects that the walk has visited. */
static bool
reach_object(PyObject *object, void *data)
{
    trial *trial = data;
    if (is_leaf_of_tree(trial, object)) {
        return trial_push(trial, object);
    }
    thag_visit *visit = trial_find(trial, object);
    return visit == NULL || trial->reach(trial, object, visit);
}

/* Of a cache's references, those that clearing it leaves alone. */
static bool
is_kept_by_cache(PyObject *wrapper, PyObject *held)
{
    Py_ssize_t offset = Py_TYPE(wrapper)->tp_dictoffset;
    assert(offset > 0);
    return *(PyObject **)((char *)wrapper + offset) == held || PyFunction_Check(held) || PyType_Check(held);
}

typedef struct {
    trial *trial;
    PyObject *wrapper;
    bool kept;
} cache_part;

static bool
reach_cache_part(PyObject *held, void *data)
{
    const cache_part *part = data;
    return is_kept_by_cache(part->wrapper, held) != part->kept || reach_object(held, part->trial);
}

static void
trial_expand(const trial *trial, PyObject *object, const thag_blocks_visitor *visitor)
{
    if (trial->is_shown_only) {
        thag_walk_expand_shown(object, visitor);
    }
    else {
        thag_walk_expand(object, trial->walk, visitor);
    }
}

/* Reaches either what clearing a cache would keep, or what it would throw away. */
static void
expand_cache(trial *trial, PyObject *wrapper, bool kept)
{
    cache_part part = {trial, wrapper, kept};
    thag_blocks_visitor visitor = {ignore_block, reach_cache_part, &part};
    trial_expand(trial, wrapper, &visitor);
}

static bool
is_cut(const trial *trial, PyObject *object)
{
    if (!thag_walk_is_cache(object, trial->walk)) {
        return false;
    }
    const thag_visit *visit = trial_find(trial, object);
    return visit != NULL && visit->is_cut;
}

/* Reaches what a frame leads to by detours. */
static void
expand_detours(trial *trial, PyObject *frame)
{
    for (size_t i = 0; i < trial->detours_count; i++) {
        const thag_objects *detour = &trial->detours[i].objects;
        for (size_t j = 1; j < detour->count && detour->items[0] == frame; j++) {
            (void)reach_object(detour->items[j], trial);
        }
    }
}

/* Goes on from all that is in the frontier. */
static void
trial_spread(trial *trial)
{
    enum { BETWEEN_LOOKS_AT_THE_CLOCK = 1 << 12 };
    thag_frontier *frontier = &trial->walk->frontier;
    thag_blocks_visitor visitor = {trial->block, reach_object, trial};
    while (frontier->count > 0 && !trial->has_failed && !trial->is_late) {
        PyObject *object = frontier->objects[--frontier->count];
        if (is_cut(trial, object)) {
            expand_cache(trial, object, true);
        }
        else {
            trial_expand(trial, object, &visitor);
        }
        if (PyFrame_Check(object)) {
            expand_detours(trial, object);
        }
        if (++trial->expanded_count % BETWEEN_LOOKS_AT_THE_CLOCK == 0) {
            trial->is_late = thag_clock_read() > trial->deadline_ns;
        }
    }
}

/* Calls it with each object that is left, and goes on from what it pushes. */
static void
for_each_left(trial *trial, void (*look)(struct trial *trial, PyObject *object, thag_visit *visit))
{
    thag_visited *visited = &trial->walk->visited;
    size_t count = visited->slots == NULL ? 0 : (size_t)1 << visited->bits;
    for (size_t i = 0; i < count && !trial->has_failed && !trial->is_late; i++) {
        thag_visit *visit = &visited->slots[i];
        if (is_left(visit)) {
            look(trial, (PyObject *)(uintptr_t)visit->object, visit);
            trial_spread(trial);
        }
    }
}

/* ---- label ---- */

static bool
reach_to_label(trial *trial, PyObject *object, thag_visit *visit)
{
    if (visit->first_holder != trial->holder && is_of_library(trial, visit->first_holder)) {
        return true;
    }
    uint32_t label = label_with(trial->labels, visit->label, trial->holder, is_of_library(trial, trial->holder));
    if (label == THAG_LABEL_NONE) {
        trial->has_failed = true;
        return false;
    }
    if (label == visit->label) {
        return true;
    }
    visit->label = label;
    return trial_push(trial, object);
}

/* Reaches what a name or a cache is a reference to. Nothing, if meanwhile only the list refers to it. */
static void
reach_named(trial *trial, const thag_group *group, PyObject *object)
{
    if (group->kind == THAG_CACHE) {
        expand_cache(trial, object, false);
    }
    else if (Py_REFCNT(object) > 1) {
        (void)reach_object(object, trial);
    }
}

static bool
is_holder(const thag_group *group)
{
    return group->kind == THAG_NAMES || group->kind == THAG_LIBRARY || group->kind == THAG_CACHE;
}

static void
group_label(trial *trial, const thag_group *group)
{
    trial->holder = group->holder;
    for (size_t i = 0; i < group->objects.count && is_holder(group) && !trial->has_failed; i++) {
        reach_named(trial, group, group->objects.items[i]);
    }
    trial_spread(trial);
}

/* ---- count ---- */

static bool
reach_to_count(trial *trial, PyObject *object, thag_visit *visit)
{
    if (visit->label == THAG_LABEL_NONE && visit->first_holder != trial->garbage) {
        return true;
    }
    visit->references++;
    if (visit->is_counted || is_of_library(trial, visit->first_holder)) {
        return true;
    }
    visit->is_counted = true;
    return trial_push(trial, object);
}

/* The reference from the list that names an object. */
static void
count_from_list(trial *trial, PyObject *object)
{
    thag_visit *visit = trial_find(trial, object);
    if (visit != NULL) {
        visit->references++;
    }
}

/* Garbage is gone into, whether something leads to it or not. */
static void
count_garbage(trial *trial, PyObject *object)
{
    thag_visit *visit = trial_find(trial, object);
    if (visit == NULL || !visit->is_counted) {
        (void)trial_push(trial, object);
    }
    if (visit != NULL) {
        visit->is_counted = true;
    }
}

static void
group_count(trial *trial, const thag_group *group)
{
    for (size_t i = 0; i < group->objects.count && !trial->has_failed; i++) {
        PyObject *object = group->objects.items[i];
        count_from_list(trial, object);
        if (group->kind == THAG_GARBAGE) {
            count_garbage(trial, object);
        }
        else if (group->kind != THAG_LIBRARY && group->kind != THAG_DETOUR) {
            reach_named(trial, group, object);
        }
    }
    trial_spread(trial);
}

/* ---- pin ---- */

static bool
reach_to_pin(trial *trial, PyObject *object, thag_visit *visit)
{
    if (visit->is_pinned || visit->label == THAG_LABEL_NONE || trial->labels->items[visit->label].has_library) {
        return true;
    }
    visit->is_pinned = true;
    return trial_push(trial, object);
}

static void
pin_held(trial *trial, PyObject *object, thag_visit *visit)
{
    if ((uint64_t)Py_REFCNT(object) > visit->references) {
        (void)reach_to_pin(trial, object, visit);
    }
}

/* ---- settle ---- */

static void
portion_tell(trial *trial)
{
    if (trial->portion.bytes != 0) {
        trial->has_failed |= !trial->listener(&trial->portion, trial->data);
    }
    trial->portion.bytes = 0;
}

static void
settle_block(const void *address, void *data)
{
    trial *trial = data;
    size_t size;
    uint64_t context_id = thag_lifecycle_owner_of(address, &size);
    if (context_id == 0) {
        return;
    }
    if (context_id != trial->portion.context_id) {
        portion_tell(trial);
        trial->portion.context_id = context_id;
    }
    trial->portion.bytes += (int64_t)size;
}

/* Takes one reference away; what loses its last one is settled. */
static bool
reach_to_settle(trial *trial, PyObject *object, thag_visit *visit)
{
    if (!is_left(visit)) {
        return true;
    }
    assert(visit->references > 0);
    if (--visit->references == 0) {
        visit->is_settled = true;
        trial->has_failed |= !thag_frontier_push(&trial->settled, object);
    }
    return !trial->has_failed;
}

/* Makes what follows count for an object, or for what is like it. */
static void
portion_turn(trial *trial, thag_portion like)
{
    thag_portion *portion = &trial->portion;
    if (portion->first_holder != like.first_holder || portion->label != like.label || portion->is_pinned != like.is_pinned
        || portion->is_cyclic != like.is_cyclic) {
        portion_tell(trial);
        *portion = like;
    }
}

static void
settle_all(trial *trial, bool is_cyclic)
{
    thag_frontier *settled = &trial->settled;
    while (settled->count > 0 && !trial->has_failed && !trial->is_late) {
        PyObject *object = settled->objects[--settled->count];
        const thag_visit *visit = trial_find(trial, object);
        bool is_pinned = visit->is_pinned || trial->stays;
        portion_turn(trial, (thag_portion){visit->first_holder, visit->label, is_pinned, is_cyclic, 0, 0});
        (void)trial_push(trial, object);
        trial_spread(trial);
    }
}

/* What only the cache refers to has no label of its own. */
static void
settle_cache_leaves(trial *trial, int32_t holder)
{
    uint32_t label = label_with(trial->labels, THAG_LABEL_NONE, holder, false);
    trial->has_failed |= label == THAG_LABEL_NONE;
    portion_turn(trial, (thag_portion){.first_holder = holder, .label = label});
    trial_spread(trial);
}

/* Of garbage only the list lets go; what it refers to waits for it to be collected. */
static void
group_settle(trial *trial, const thag_group *group)
{
    for (size_t i = 0; i < group->objects.count && group->kind != THAG_LIBRARY && !trial->has_failed; i++) {
        PyObject *object = group->objects.items[i];
        if (group->kind != THAG_DETOUR && group->kind != THAG_GARBAGE) {
            reach_named(trial, group, object);
        }
        if (trial->walk->frontier.count > 0) {
            settle_cache_leaves(trial, group->holder);
        }
        if (Py_REFCNT(object) > 1) {
            (void)reach_object(object, trial);      /* the list's */
        }
    }
}

/* ---- collect ---- */

/* Goes on from that garbage which was not walked, and so is not left. */
static void
for_each_garbage(trial *trial, const thag_group *groups, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < groups[i].objects.count && groups[i].kind == THAG_GARBAGE && !trial->has_failed; j++) {
            if (trial_find(trial, groups[i].objects.items[j]) == NULL) {
                (void)trial_push(trial, groups[i].objects.items[j]);
                trial_spread(trial);
            }
        }
    }
}

/* Only those references are left that the collector is not shown. */
static bool
reach_to_hide(trial *Py_UNUSED(trial), PyObject *Py_UNUSED(object), thag_visit *visit)
{
    assert(!is_left(visit) || visit->references > 0);
    visit->references -= is_left(visit);
    return true;
}

static bool
reach_to_restore(trial *Py_UNUSED(trial), PyObject *Py_UNUSED(object), thag_visit *visit)
{
    visit->references += is_left(visit);
    return true;
}

static bool
reach_to_keep(trial *trial, PyObject *object, thag_visit *visit)
{
    if (!is_left(visit) || visit->is_kept) {
        return true;
    }
    visit->is_kept = true;
    return trial_push(trial, object);
}

static void
look_along(trial *trial, PyObject *object, thag_visit *Py_UNUSED(visit))
{
    (void)trial_push(trial, object);
}

static void
keep_held(trial *trial, PyObject *object, thag_visit *visit)
{
    if (visit->references > 0 || visit->is_pinned) {
        (void)reach_to_keep(trial, object, visit);
    }
}

/* Finds what the collector takes for held. */
static void
collect_begin(trial *trial, const thag_group *groups, size_t count)
{
    trial->block = ignore_block;
    trial->is_shown_only = true;
    trial->reach = reach_to_hide;
    for_each_left(trial, look_along);
    for_each_garbage(trial, groups, count);
    trial->reach = reach_to_keep;
    for_each_left(trial, keep_held);
    trial->reach = reach_to_restore;
    for_each_left(trial, look_along);
    for_each_garbage(trial, groups, count);
    trial->is_shown_only = false;
}

static void
settle_anyway(trial *trial, PyObject *object, thag_visit *visit)
{
    visit->is_settled = true;
    trial->has_failed |= !thag_frontier_push(&trial->settled, object);
    settle_all(trial, true);
}

static void
collect_object(trial *trial, PyObject *object, thag_visit *visit)
{
    if (!visit->is_kept && PyObject_GC_IsTracked(object)) {
        settle_anyway(trial, object, visit);
    }
}

static void
collect_all(trial *trial, const thag_group *groups, size_t count)
{
    collect_begin(trial, groups, count);
    trial->reach = reach_to_settle;
    for_each_garbage(trial, groups, count);
    trial->block = settle_block;
    settle_all(trial, true);
    for_each_left(trial, collect_object);
    trial->stays = true;
    for_each_left(trial, settle_anyway);
}

/* ---- all passes ---- */

/* What an earlier trial said goes first: the objects that it knew may be gone by now. */
static void
trial_forget(thag_visited *visited)
{
    for (size_t i = 0; visited->slots != NULL && i < (size_t)1 << visited->bits; i++) {
        thag_visit *visit = &visited->slots[i];
        visit->references = 0;
        visit->label = THAG_LABEL_NONE;
        visit->is_counted = visit->is_pinned = visit->is_settled = visit->is_cut = visit->is_kept = false;
    }
}

static void
trial_begin(trial *trial, const thag_group *groups, size_t count)
{
    trial_forget(&trial->walk->visited);
    trial->has_failed = !labels_begin(trial->labels);
    for (size_t i = 0; i < count; i++) {
        if (groups[i].kind == THAG_LIBRARY) {
            trial->first_library = trial->end_of_libraries == 0 ? groups[i].holder : trial->first_library;
            trial->end_of_libraries = groups[i].holder + 1;
        }
        if (groups[i].kind == THAG_GARBAGE) {
            trial->garbage = groups[i].holder;
        }
        if (groups[i].kind == THAG_DETOUR) {
            trial->detours = trial->detours == NULL ? &groups[i] : trial->detours;
            trial->detours_count++;
        }
        for (size_t j = 0; j < groups[i].objects.count && groups[i].kind == THAG_CACHE; j++) {
            thag_visit *visit = trial_find(trial, groups[i].objects.items[j]);
            if (visit != NULL) {
                visit->is_cut = true;
            }
        }
    }
}

static void
trial_pass(trial *trial, const thag_group *groups, size_t count, void (*pass)(struct trial *, const thag_group *))
{
    for (size_t i = 0; i < count && !trial->has_failed && !trial->is_late; i++) {
        pass(trial, &groups[i]);
    }
}

static void
trial_run(trial *trial, const thag_group *groups, size_t count)
{
    trial->block = ignore_block;
    trial->reach = reach_to_label;
    trial_pass(trial, groups, count, group_label);
    trial->reach = reach_to_count;
    trial_pass(trial, groups, count, group_count);
    trial->reach = reach_to_pin;
    for_each_left(trial, pin_held);
    trial->block = settle_block;
    trial->reach = reach_to_settle;
    trial_pass(trial, groups, count, group_settle);
    settle_all(trial, false);
    collect_all(trial, groups, count);
    portion_tell(trial);
}

thag_trial_result
thag_release_try(thag_walk *walk, const thag_group *groups, size_t count, uint64_t deadline_ns, thag_labels *labels,
                 thag_portion_listener listener, void *data)
{
    assert(walk->frontier.count == 0);
    trial trial = {
        .walk = walk,
        .labels = labels,
        .deadline_ns = deadline_ns,
        .portion = {.first_holder = -1},
        .garbage = -1,
        .listener = listener,
        .data = data,
    };
    trial_begin(&trial, groups, count);
    trial_run(&trial, groups, count);
    walk->frontier.count = 0;
    thag_frontier_clear(&trial.settled);
    return trial.has_failed ? THAG_TRIAL_FAILED : trial.is_late ? THAG_TRIAL_LATE : THAG_TRIAL_DONE;
}

/* ---- what nobody names ---- */

static bool
reach_to_divide(PyObject *object, void *data)
{
    const thag_walk *walk = data;
    thag_visit *visit = thag_visited_peek(&walk->visited, object);
    if (visit != NULL && visit->is_counted) {
        visit->references++;
    }
    return true;
}

static bool
divide_begin(thag_walk *walk, PyObject *const *objects, size_t count)
{
    trial_forget(&walk->visited);
    for (size_t i = 0; i < count; i++) {
        thag_visit *visit = thag_visited_find(&walk->visited, objects[i]);
        if (visit == NULL) {
            return false;
        }
        visit->is_counted = true;
        visit->references = 1;      /* from where they lie */
    }
    return true;
}

bool
thag_release_divide(thag_walk *walk, PyObject **objects, size_t count, size_t *held_count)
{
    const thag_blocks_visitor visitor = {ignore_block, reach_to_divide, walk};
    *held_count = 0;
    if (!divide_begin(walk, objects, count)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        thag_walk_expand(objects[i], walk, &visitor);
    }
    for (size_t i = 0; i < count; i++) {
        PyObject *object = objects[i];
        if ((uint64_t)Py_REFCNT(object) > thag_visited_peek(&walk->visited, object)->references) {
            objects[i] = objects[*held_count];
            objects[(*held_count)++] = object;
        }
    }
    return true;
}
