/* The walk over objects: from each holder along everything that it holds, each object once.

     roots ──► visited ──► frontier ──► the blocks of an object: bytes, by context
                  ^                 └──► the objects it refers to
                  └───────────────────────────┘

   An object is visited on behalf of the first holder that comes to it, and its blocks count for that one; so the sums over
   all holders add up. A holder that comes across it later shares it. Some objects lead everywhere (classes, modules,
   frames ...): these are special, and it is the caller who decides whether to go on from them.

   Of all engines here this is one that works on Python objects, because they are what is walked. It only borrows them: it
   makes none, changes no count of references, runs no Python code and sets no exception. What is found goes to a listener
   at once, so nothing of it is kept here. */

#include "walk.h"

#include "lifecycle.h"

void
thag_walk_init(thag_walk *walk, const thag_kinds *kinds, PyTypeObject *cache_type)
{
    *walk = (thag_walk){
        .kinds = *kinds,
        .cache_type = cache_type,
        .last_holder = -1,
        .last_search = THAG_FIRST_SEARCH + 1,
    };
}

void
thag_walk_clear(thag_walk *walk)
{
    thag_visited_clear(&walk->visited);
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
        visit->seen_again = THAG_SEEN_BY_NOBODY;
    }
    return true;
}

static int
referent_visit(PyObject *held, void *data)
{
    const thag_blocks_visitor *visitor = data;
    return visitor->object(held, visitor->data) ? 0 : -1;
}

/* Calls `visitor` for the object's blocks and for all that it refers to, as gc.get_referents does but without a list. */
static void
object_expand(PyObject *object, const thag_kinds *kinds, const thag_blocks_visitor *visitor)
{
    traverseproc traverse = PyObject_IS_GC(object) ? Py_TYPE(object)->tp_traverse : NULL;
    if (thag_blocks_visit(object, kinds, visitor) && traverse != NULL) {
        (void)traverse(object, referent_visit, (void *)visitor);
    }
}

/* ---- following ---- */

/* One call of thag_walk_follow. */
typedef struct {
    thag_walk *walk;
    int32_t holder;
    const thag_walk_listener *listener;
    bool loops;
    bool failed;
    uint32_t context_id;        /* consecutive blocks usually have one owner: whose bytes these are, not yet reported */
    int64_t bytes;
} follow;

static void
follow_report_bytes(follow *follow)
{
    if (follow->bytes != 0) {
        follow->failed |= !follow->listener->held(follow->context_id, follow->bytes, follow->listener->data);
    }
    follow->bytes = 0;
}

static void
follow_block(const void *address, void *data)
{
    follow *follow = data;
    size_t size;
    uint32_t context_id = thag_lifecycle_owner_of(address, &size);
    if (context_id == 0) {
        return;
    }
    if (context_id != follow->context_id) {
        follow_report_bytes(follow);
        follow->context_id = context_id;
    }
    follow->bytes += (int64_t)size;
}

/* What so many share that it says nothing. */
static bool
is_atom(PyObject *object)
{
    return PyLong_CheckExact(object) || PyUnicode_CheckExact(object) || PyFloat_CheckExact(object)
           || PyBytes_CheckExact(object) || PyBool_Check(object) || PyComplex_CheckExact(object) || object == Py_None
           || PyCode_Check(object) || PyFunction_Check(object) || PyCFunction_CheckExact(object);
}

/* An object that an earlier holder has; reported once for each holder. */
static void
follow_share(follow *follow, PyObject *object, thag_visit *visit)
{
    if (follow->listener->shared != NULL && visit->first_holder >= 0 && visit->seen_again != follow->holder
        && !is_atom(object)) {
        visit->seen_again = follow->holder;
        follow->failed |= !follow->listener->shared(object, visit->first_holder, follow->listener->data);
    }
}

/* What leads everywhere, or is gone into in another way than the collector does. */
static bool
is_special(PyObject *object, const thag_walk *walk)
{
    return PyType_Check(object) || PyFunction_Check(object) || PyModule_Check(object) || PyFrame_Check(object)
           || PyTraceBack_Check(object) || Py_IS_TYPE(object, walk->cache_type);
}

static void
follow_report_special(follow *follow, PyObject *object, thag_visit *visit)
{
    if (visit->seen_again != follow->holder && visit->seen_again != THAG_SEEN_AS_ROOT) {
        visit->seen_again = follow->holder;
        follow->failed |= !follow->listener->special(object, follow->listener->data);
    }
}

static void
follow_visit(follow *follow, PyObject *object, thag_visit *visit)
{
    visit->first_holder = follow->holder;
    follow->failed |= !thag_frontier_push(&follow->walk->frontier, object);
}

static bool
follow_object(PyObject *object, void *data)
{
    follow *follow = data;
    thag_visit *visit = thag_visited_find(&follow->walk->visited, object);
    if (visit == NULL) {
        follow->failed = true;
    }
    else if (visit->first_holder == follow->holder) {
        follow->loops |= visit->seen_again == THAG_SEEN_AS_ROOT;
    }
    else if (visit->first_holder != THAG_UNVISITED) {
        follow_share(follow, object, visit);
    }
    else if (is_special(object, follow->walk)) {
        follow_report_special(follow, object, visit);
    }
    else {
        follow_visit(follow, object, visit);
    }
    return !follow->failed;
}

/* In the first call for a holder: if the walk comes to a root again, it has found a loop. */
static void
root_mark(follow *follow, PyObject *root)
{
    thag_visit *visit = thag_visited_find(&follow->walk->visited, root);
    if (visit != NULL && (visit->first_holder == follow->holder || visit->first_holder == THAG_UNVISITED)) {
        visit->seen_again = THAG_SEEN_AS_ROOT;
    }
}

static void
follow_roots(follow *follow, thag_objects roots)
{
    bool first = follow->walk->last_holder != follow->holder;
    follow->walk->last_holder = follow->holder;
    for (size_t i = 0; i < roots.count && follow_object(roots.items[i], follow); i++) {
        if (first) {
            root_mark(follow, roots.items[i]);
        }
    }
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
                 const thag_walk_listener *listener, bool *loops)
{
    enum { AT_ONCE = 100000 };      /* not so many that nothing else could run, or be shown */
    assert(holder >= 0);
    follow follow = {.walk = walk, .holder = holder, .listener = listener};
    thag_blocks_visitor visitor = {follow_block, follow_object, &follow};
    follow_roots(&follow, roots);
    PyObject *object;
    for (int i = 0; i < AT_ONCE && (object = follow_next(&follow, pending)) != NULL; i++) {
        object_expand(object, &walk->kinds, &visitor);
    }
    follow_report_bytes(&follow);
    *loops = follow.loops;
    return !follow.failed;
}

/* ---- searching: how much hangs on some objects ---- */

/* One call of thag_walk_reaches. */
typedef struct {
    thag_walk *walk;
    int32_t holder;
    uint32_t context_id;
    int64_t bytes;
    bool failed;
} search;

static void
search_block(const void *address, void *data)
{
    search *search = data;
    size_t size;
    if (thag_lifecycle_owner_of(address, &size) == search->context_id) {
        search->bytes += (int64_t)size;
    }
}

static bool
search_object(PyObject *object, void *data)
{
    search *search = data;
    thag_visit *visit = thag_visited_find(&search->walk->visited, object);
    search->failed |= visit == NULL;
    if (visit != NULL && visit->first_holder == search->holder && visit->seen_again != search->walk->last_search) {
        visit->seen_again = search->walk->last_search;
        search->failed |= !thag_frontier_push(&search->walk->frontier, object);
    }
    return !search->failed;
}

int
thag_walk_reaches(thag_walk *walk, int32_t holder, thag_objects objects, uint32_t context_id, int64_t enough_bytes)
{
    enum { TOO_MANY = 100000 };     /* of objects that weigh nothing, to go on looking */
    assert(walk->frontier.count == 0 && walk->last_search > INT32_MIN);
    walk->last_search--;
    search search = {.walk = walk, .holder = holder, .context_id = context_id};
    thag_blocks_visitor visitor = {search_block, search_object, &search};
    thag_frontier *frontier = &walk->frontier;
    for (size_t i = 0; i < objects.count && search_object(objects.items[i], &search); i++) {
    }
    for (int i = 0; !search.failed && frontier->count > 0 && search.bytes < enough_bytes && i < TOO_MANY; i++) {
        object_expand(frontier->objects[--frontier->count], &walk->kinds, &visitor);
    }
    frontier->count = 0;
    return search.failed ? -1 : search.bytes >= enough_bytes;
}
