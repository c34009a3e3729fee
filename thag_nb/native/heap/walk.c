/* The walk over objects: from each holder along everything that it holds, each object once.

     roots ──► visited ──► frontier ──► the blocks of an object: bytes, by context and call site
                  ^                 └──► the objects it refers to
                  └───────────────────────────┘

   An object is visited on behalf of the first holder that comes to it, and its blocks count for that one; so the sums over
   all holders add up. Who shares it, and what would let go of it, is another question: see release.c. Some objects lead
   everywhere (classes, modules, frames ...): these are special, and it is the caller who decides whether to go on from them.

   Of all engines here this is one that works on Python objects, because they are what is walked. It only borrows them: it
   makes none, changes no count of references, runs no Python code and sets no exception. What is found goes to a listener
   at once, so nothing of it is kept here. */

#include "walk.h"

#include "arrays.h"
#include "lifecycle.h"

void
thag_walk_init(thag_walk *walk, const thag_kinds *kinds)
{
    *walk = (thag_walk){.kinds = *kinds};
}

void
thag_walk_clear(thag_walk *walk)
{
    thag_visited_clear(&walk->visited);
    thag_visited_clear(&walk->foreign_types);
    thag_visited_clear(&walk->given);
    thag_foreign_clear(&walk->foreign);
    thag_frontier_clear(&walk->frontier);
}

bool
thag_walk_mark(thag_walk *walk, thag_objects objects, int32_t first_holder)
{
    assert(first_holder == THAG_EXCLUDED || first_holder == THAG_UNVISITED);
    for (size_t i = 0; i < objects.count; i++) {
        thag_visit *visit = thag_visited_find(&walk->visited, objects.items[i]);
        if (visit == NULL) {
            return false;
        }
        visit->first_holder = first_holder;
        visit->asked_for = THAG_ASKED_FOR_NOBODY;
    }
    return true;
}

/* ---- the references of an object ---- */

/* What only thag_blocks_visit tells of is told after what the collector is shown, and not again if that was the same:
   which of both tells of it changes from one CPython to the next. Objects with more than so many have no such doubles. */
enum { EXTRAS_AT_MOST = 10 };

typedef struct {
    const thag_blocks_visitor *visitor;
    PyObject *extras[EXTRAS_AT_MOST];
    size_t count;
} expansion;

static void
expand_block(const void *address, void *data)
{
    const thag_blocks_visitor *visitor = ((expansion *)data)->visitor;
    visitor->block(address, visitor->data);
}

static bool
expand_extra(PyObject *held, void *data)
{
    expansion *expansion = data;
    if (expansion->count == EXTRAS_AT_MOST) {
        return expansion->visitor->object(held, expansion->visitor->data);
    }
    expansion->extras[expansion->count++] = held;
    return true;
}

static int
expand_referent(PyObject *held, void *data)
{
    expansion *expansion = data;
    for (size_t i = 0; i < expansion->count; i++) {
        if (expansion->extras[i] == held) {
            expansion->extras[i] = NULL;
            break;
        }
    }
    return expansion->visitor->object(held, expansion->visitor->data) ? 0 : -1;
}

void
thag_walk_expand(PyObject *object, const thag_walk *walk, const thag_blocks_visitor *visitor)
{
    if (PyModule_Check(object)) {       /* CPython 3.12's asyncio tells of objects that are dead */
        (void)visitor->object(PyModule_GetDict(object), visitor->data);
        return;
    }
    expansion expansion = {.visitor = visitor};
    const thag_blocks_visitor collecting = {expand_block, expand_extra, &expansion};
    traverseproc traverse = PyObject_IS_GC(object) ? Py_TYPE(object)->tp_traverse : NULL;
    if (!thag_blocks_visit(object, &walk->kinds, &collecting) || !thag_foreign_visit(&walk->foreign, object, visitor)
        || (traverse != NULL && traverse(object, expand_referent, &expansion) != 0)) {
        return;
    }
    for (size_t i = 0; i < expansion.count; i++) {
        if (expansion.extras[i] != NULL && !visitor->object(expansion.extras[i], visitor->data)) {
            return;
        }
    }
}

static int
expand_shown(PyObject *held, void *data)
{
    const thag_blocks_visitor *visitor = data;
    return visitor->object(held, visitor->data) ? 0 : -1;
}

void
thag_walk_expand_shown(PyObject *object, const thag_blocks_visitor *visitor)
{
    if (PyModule_Check(object)) {
        (void)visitor->object(PyModule_GetDict(object), visitor->data);
    }
    else if (PyObject_GC_IsTracked(object)) {
        (void)Py_TYPE(object)->tp_traverse(object, expand_shown, (void *)visitor);
    }
}

/* ---- following ---- */

/* Bytes that were not reported yet. */
typedef struct {
    uint64_t context_id;
    uint32_t site;
    int64_t bytes;
} portion;

/* What an object is made of usually has one owner, and comes from a few lines: as many as that are summed up at a time. */
enum { PORTIONS = 32 };

/* One call of thag_walk_follow. */
typedef struct {
    thag_walk *walk;
    int32_t holder;
    const thag_walk_listener *listener;
    bool failed;
    bool lends;                 /* whether a library may know the blocks that are told as well */
    portion portions[PORTIONS]; /* each at the place that its context and site have */
} follow;

static void
follow_report(follow *follow, const portion *found)
{
    if (found->bytes != 0) {
        const thag_walk_listener *listener = follow->listener;
        follow->failed |= !listener->held(found->context_id, found->site, found->bytes, listener->data);
    }
}

static void
follow_add(follow *follow, const thag_known_block *block)
{
    portion *at = &follow->portions[(block->context_id * 5 + block->site) % PORTIONS];
    if (at->context_id != block->context_id || at->site != block->site) {
        follow_report(follow, at);
        *at = (portion){.context_id = block->context_id, .site = block->site};
    }
    at->bytes += (int64_t)block->size;
}

/* False if the block was told before: by an object that was lent it, or for the one that lent it. */
static bool
follow_gives(follow *follow, const void *address)
{
    thag_visit *visit = thag_visited_find(&follow->walk->given, address);
    if (visit == NULL) {
        follow->failed = true;
        return false;
    }
    bool is_first = visit->first_holder == THAG_UNVISITED;
    visit->first_holder = follow->holder;
    return is_first;
}

static void
follow_block(const void *address, void *data)
{
    follow *follow = data;
    thag_known_block block = thag_lifecycle_block_at(address);
    if (block.context_id != 0 && (!follow->lends || follow_gives(follow, address))) {
        follow_add(follow, &block);
    }
}

bool
thag_walk_is_cache(PyObject *object, const thag_walk *walk)
{
    return Py_IS_TYPE(object, walk->kinds.types[THAG_LRU_CACHE]);
}

bool
thag_walk_add_foreign(thag_walk *walk, PyTypeObject *type)
{
    if (type == walk->kinds.types[THAG_NUMPY_ARRAY]) {
        walk->asks_arrays = true;
        return true;
    }
    return thag_visited_find(&walk->foreign_types, type) != NULL;
}

static bool
is_foreign(PyObject *object, const thag_walk *walk)
{
    return thag_visited_peek(&walk->foreign_types, Py_TYPE(object)) != NULL;
}

bool
thag_walk_is_special(PyObject *object, const thag_walk *walk)
{
    return PyType_Check(object) || PyFunction_Check(object) || PyModule_Check(object) || PyFrame_Check(object)
           || PyTraceBack_Check(object) || thag_walk_is_cache(object, walk) || is_foreign(object, walk)
           || (walk->asks_arrays && thag_array_borrows(object, &walk->kinds));
}

bool
thag_walk_has_given(const thag_walk *walk, const void *block)
{
    if (thag_visited_peek(&walk->given, block) != NULL) {
        return true;
    }
    enum { MOST_IN_FRONT = 4 };     /* words of an object that has a head for the collector and a dict */
    for (int i = 0; i <= MOST_IN_FRONT; i += 2) {
        const thag_visit *visit = thag_visited_peek(&walk->visited, (void *const *)block + i);
        if (visit != NULL && visit->first_holder >= 0) {
            return true;
        }
    }
    return false;
}

static void
follow_report_special(follow *follow, PyObject *object, thag_visit *visit)
{
    if (visit->asked_for != follow->holder) {
        visit->asked_for = follow->holder;
        follow->failed |= !follow->listener->special(object, follow->listener->data);
    }
}

static void
follow_visit(follow *follow, PyObject *object, thag_visit *visit)
{
    visit->first_holder = follow->holder;
    follow->failed |= !thag_frontier_push(&follow->walk->frontier, object);
}

/* Refers to nothing, and one reference leads to it: nobody can come to it again, so that it need not be remembered. */
static bool
is_single_leaf(PyObject *object)
{
    return Py_REFCNT(object) == 1
           && (PyLong_CheckExact(object) || PyUnicode_CheckExact(object) || PyFloat_CheckExact(object)
               || PyBytes_CheckExact(object));
}

static bool follow_object(PyObject *object, void *data);

/* Libraries take over memory of objects that show it as a buffer, and tell of it as theirs. */
static bool
may_lend(PyObject *object)
{
    return PyObject_CheckBuffer(object) || Py_IS_TYPE(object, &thag_buffer_type);
}

static void
follow_expand(follow *follow, PyObject *object)
{
    thag_blocks_visitor visitor = {follow_block, follow_object, follow};
    follow->walk->seen_count++;
    follow->lends = (follow->walk->asks_arrays || follow->walk->foreign_types.count > 0) && may_lend(object);
    thag_walk_expand(object, follow->walk, &visitor);
}

static bool
follow_object(PyObject *object, void *data)
{
    follow *follow = data;
    if (is_single_leaf(object)) {
        follow_expand(follow, object);
        return !follow->failed;
    }
    thag_visit *visit = thag_visited_find(&follow->walk->visited, object);
    if (visit == NULL) {
        follow->failed = true;
    }
    else if (visit->first_holder == THAG_UNVISITED) {
        if (thag_walk_is_special(object, follow->walk)) {
            follow_report_special(follow, object, visit);
        }
        else {
            follow_visit(follow, object, visit);
        }
    }
    return !follow->failed;
}

/* What is pending may be special, or have been visited in an earlier call: the caller has decided that it be gone on from. */
static void
follow_pending(follow *follow, PyObject *object)
{
    thag_visit *visit = thag_visited_find(&follow->walk->visited, object);
    follow->failed |= visit == NULL;
    if (visit != NULL) {
        follow_visit(follow, object, visit);
    }
}

/* The next object to go on from, or NULL: from the frontier, else the last one of `pending`. */
static PyObject *
follow_next(follow *follow, thag_objects *pending)
{
    thag_frontier *frontier = &follow->walk->frontier;
    if (frontier->count == 0 && pending->count > 0) {
        follow_pending(follow, pending->items[--pending->count]);
    }
    return follow->failed || frontier->count == 0 ? NULL : frontier->objects[--frontier->count];
}

bool
thag_walk_follow(thag_walk *walk, int32_t holder, thag_objects roots, thag_objects *pending,
                 const thag_walk_listener *listener)
{
    enum { AT_ONCE = 100000 };      /* not so many that nothing else could run, or be shown */
    assert(holder >= 0);
    follow follow = {.walk = walk, .holder = holder, .listener = listener};
    for (size_t i = 0; i < roots.count && follow_object(roots.items[i], &follow); i++) {
    }
    PyObject *object;
    for (int i = 0; i < AT_ONCE && (object = follow_next(&follow, pending)) != NULL; i++) {
        follow_expand(&follow, object);
    }
    for (int i = 0; i < PORTIONS; i++) {
        follow_report(&follow, &follow.portions[i]);
    }
    return !follow.failed;
}
