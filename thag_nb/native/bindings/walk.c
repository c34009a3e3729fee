/* Walks as Python takes them: objects in, what was found as dicts and lists. The engine is in heap/walk.c. */

#include "release.h"

#include "bindings.h"
#include "call_sites.h"
#include "clock.h"
#include "current.h"
#include "layouts.h"

typedef struct {
    PyObject_HEAD
    thag_walk walk;
    PyObject *types;            /* keeps those that the engine only borrows */
} walk_object;

static thag_objects
objects_of(PyObject *list)
{
    return (thag_objects){PySequence_Fast_ITEMS(list), (size_t)PyList_GET_SIZE(list)};
}

/* ---- following ---- */

/* What one call finds. */
typedef struct {
    PyObject *held;             /* bytes by context id and the number of a site */
    PyObject *special;          /* objects that the caller decides on */
} findings;

static bool
findings_make(findings *found)
{
    *found = (findings){.held = PyDict_New(), .special = PyList_New(0)};
    return found->held != NULL && found->special != NULL;
}

static void
findings_drop(findings *found)
{
    Py_XDECREF(found->held);
    Py_XDECREF(found->special);
}

/* Adds to what a dict has of a key, which is taken over; NULL is passed on. */
static bool
bytes_add(PyObject *sums, PyObject *key, int64_t bytes)
{
    PyObject *before = key == NULL ? NULL : PyDict_GetItemWithError(sums, key);
    long long sum = before == NULL ? bytes : PyLong_AsLongLong(before) + bytes;
    PyObject *after = key == NULL || PyErr_Occurred() ? NULL : PyLong_FromLongLong(sum);
    bool added = after != NULL && PyDict_SetItem(sums, key, after) == 0;
    Py_XDECREF(key);
    Py_XDECREF(after);
    return added;
}

static bool
held_add(uint64_t context_id, uint32_t site, int64_t bytes, void *data)
{
    PyObject *key = Py_BuildValue("(Kl)", (unsigned long long)context_id, thag_site_number(site));
    return bytes_add(((findings *)data)->held, key, bytes);
}

static bool
special_add(PyObject *object, void *data)
{
    return PyList_Append(((findings *)data)->special, object) == 0;
}

/* What is left in the frontier stands behind what is pending, as only a list keeps it alive until the next call. */
static bool
frontier_move(thag_frontier *frontier, PyObject *pending)
{
    bool moved = true;
    for (size_t i = 0; moved && i < frontier->count; i++) {
        moved = PyList_Append(pending, frontier->objects[i]) == 0;
    }
    frontier->count = 0;
    return moved;
}

/* Follows, and sets how many of those `pending` are left. */
static PyObject *
walk_follow(thag_walk *walk, int32_t holder, PyObject *roots, PyObject *pending, Py_ssize_t *left)
{
    findings found;
    thag_walk_listener listener = {held_add, special_add, &found};
    thag_objects waiting = objects_of(pending);
    bool followed = findings_make(&found) && thag_walk_follow(walk, holder, objects_of(roots), &waiting, &listener);
    *left = (Py_ssize_t)waiting.count;
    followed = frontier_move(&walk->frontier, pending) && followed;
    PyObject *result = followed ? PyTuple_Pack(2, found.held, found.special) : NULL;
    findings_drop(&found);
    return result != NULL || PyErr_Occurred() ? result : PyErr_NoMemory();
}

/* The number of a holder, or -1 with an exception. */
static int32_t
holder_number(PyObject *number)
{
    long holder = PyLong_AsLong(number);
    if (holder < 0 || holder > INT32_MAX) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "no holder has the number %R", number);
        return -1;
    }
    return (int32_t)holder;
}

static PyObject *
native_follow(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 3 || !PyLong_Check(arguments[0]) || !PyList_Check(arguments[1]) || !PyList_Check(arguments[2])) {
        return PyErr_Format(PyExc_TypeError, "follow takes a number and two lists");
    }
    int32_t holder = holder_number(arguments[0]);
    if (holder < 0) {
        return NULL;
    }
    PyObject *pending = arguments[2];
    Py_ssize_t given = PyList_GET_SIZE(pending), left;
    int collector_was_on = thag_bookkeeping_begin();
    PyObject *result = walk_follow(&((walk_object *)self)->walk, holder, arguments[1], pending, &left);
    thag_bookkeeping_end(collector_was_on);
    /* Not before: what only the list kept alive is freed here, and that is no bookkeeping of ours. */
    if (result != NULL && PyList_SetSlice(pending, left, given, NULL) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

/* ---- trying ---- */

/* Whether all are what a trial can clear. False with an exception. */
static bool
are_caches(const thag_walk *walk, thag_objects objects)
{
    for (size_t i = 0; i < objects.count; i++) {
        if (!thag_walk_is_cache(objects.items[i], walk)) {
            PyErr_Format(PyExc_TypeError, "no cache: %R", (PyObject *)Py_TYPE(objects.items[i]));
            return false;
        }
    }
    return true;
}

static bool
group_of(const thag_walk *walk, PyObject *described, thag_group *group)
{
    if (!PyTuple_Check(described) || PyTuple_GET_SIZE(described) != 3 || !PyLong_Check(PyTuple_GET_ITEM(described, 0))
        || !PyLong_Check(PyTuple_GET_ITEM(described, 1)) || !PyList_Check(PyTuple_GET_ITEM(described, 2))) {
        PyErr_Format(PyExc_TypeError, "a group is a number, a kind and a list");
        return false;
    }
    long kind = PyLong_AsLong(PyTuple_GET_ITEM(described, 1));
    if (kind < THAG_NAMES || kind > THAG_DETOUR) {
        PyErr_Format(PyExc_ValueError, "no group is of the kind %R", PyTuple_GET_ITEM(described, 1));
        return false;
    }
    *group = (thag_group){
        .holder = holder_number(PyTuple_GET_ITEM(described, 0)),
        .kind = (thag_group_kind)kind,
        .objects = objects_of(PyTuple_GET_ITEM(described, 2)),
    };
    return group->holder >= 0 && (group->kind != THAG_CACHE || are_caches(walk, group->objects));
}

/* What a trial tells. */
typedef struct {
    PyObject *sums;             /* bytes by holder, label, is_pinned, is_cyclic, context */
    PyObject *sets;             /* tuples of holders by label */
    thag_labels labels;
} shares;

static PyObject *
holders_of(const thag_labels *labels, uint32_t label)
{
    Py_ssize_t count = labels->items[label].count;
    PyObject *holders = label == THAG_LABEL_MANY ? Py_NewRef(Py_None) : PyTuple_New(count);
    for (; holders != NULL && label > THAG_LABEL_MANY; label = labels->items[label].others) {
        PyObject *holder = PyLong_FromLong(labels->items[label].holder);
        if (holder == NULL) {
            Py_CLEAR(holders);
            break;
        }
        PyTuple_SET_ITEM(holders, --count, holder);
    }
    return holders;
}

static bool
set_add(shares *shares, uint32_t label)
{
    PyObject *key = PyLong_FromUnsignedLong(label);
    int is_known = key == NULL ? -1 : PyDict_Contains(shares->sets, key);
    PyObject *holders = is_known == 0 ? holders_of(&shares->labels, label) : NULL;
    bool added = is_known == 1 || (holders != NULL && PyDict_SetItem(shares->sets, key, holders) == 0);
    Py_XDECREF(holders);
    Py_XDECREF(key);
    return added;
}

static bool
portion_add(const thag_portion *portion, void *data)
{
    shares *shares = data;
    PyObject *key = Py_BuildValue("(iIOOK)", (int)portion->first_holder, (unsigned)portion->label,
                                  portion->is_pinned ? Py_True : Py_False, portion->is_cyclic ? Py_True : Py_False,
                                  (unsigned long long)portion->context_id);
    return bytes_add(shares->sums, key, portion->bytes) && set_add(shares, portion->label);
}

/* The sums and the sets of holders; None if there was not enough time; NULL with an exception. */
static PyObject *
walk_try(thag_walk *walk, const thag_group *groups, size_t count, uint64_t deadline_ns)
{
    shares shares = {.sums = PyDict_New(), .sets = PyDict_New()};
    PyObject *result = NULL;
    if (shares.sums != NULL && shares.sets != NULL) {
        thag_trial_result done = thag_release_try(walk, groups, count, deadline_ns, &shares.labels, portion_add, &shares);
        result = done == THAG_TRIAL_LATE ? Py_NewRef(Py_None)
                 : done == THAG_TRIAL_DONE ? PyTuple_Pack(2, shares.sums, shares.sets)
                 : NULL;
    }
    thag_labels_clear(&shares.labels);
    Py_XDECREF(shares.sums);
    Py_XDECREF(shares.sets);
    return result != NULL || PyErr_Occurred() ? result : PyErr_NoMemory();
}

static PyObject *
native_release(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyList_Check(arguments[0]) || !PyLong_Check(arguments[1])) {
        return PyErr_Format(PyExc_TypeError, "release takes a list of groups and a number of milliseconds");
    }
    long long limit_ms = PyLong_AsLongLong(arguments[1]);
    size_t groups_count = (size_t)PyList_GET_SIZE(arguments[0]);
    thag_group *groups = PyMem_RawCalloc(groups_count + 1, sizeof(*groups));
    if (groups == NULL) {
        return PyErr_NoMemory();
    }
    thag_walk *walk = &((walk_object *)self)->walk;
    bool parsed = limit_ms >= 0;
    if (!parsed && !PyErr_Occurred()) {
        PyErr_Format(PyExc_ValueError, "a limit is no less than 0, not %R", arguments[1]);
    }
    for (size_t i = 0; parsed && i < groups_count; i++) {
        parsed = group_of(walk, PyList_GET_ITEM(arguments[0], (Py_ssize_t)i), &groups[i]);
    }
    PyObject *result = NULL;
    if (parsed) {
        const uint64_t deadline_ns = thag_clock_read() + (uint64_t)limit_ms * 1000000;
        int collector_was_on = thag_bookkeeping_begin();
        result = walk_try(walk, groups, groups_count, deadline_ns);
        thag_bookkeeping_end(collector_was_on);
    }
    PyMem_RawFree(groups);
    return result;
}

/* ---- asking ---- */

static PyObject *
walk_mark(PyObject *self, PyObject *objects, int32_t first_holder)
{
    if (!PyList_Check(objects)) {
        return PyErr_Format(PyExc_TypeError, "a list of objects is needed, not %R", (PyObject *)Py_TYPE(objects));
    }
    if (!thag_walk_mark(&((walk_object *)self)->walk, objects_of(objects), first_holder)) {
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

static PyObject *
native_exclude(PyObject *self, PyObject *objects)
{
    return walk_mark(self, objects, THAG_EXCLUDED);
}

static PyObject *
native_include(PyObject *self, PyObject *objects)
{
    return walk_mark(self, objects, THAG_UNVISITED);
}

static bool
has_given(const void *block, const void *walk)
{
    return thag_walk_has_given(walk, block);
}

static PyObject *
native_hold(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyTuple_Check(arguments[1])) {
        return PyErr_Format(PyExc_TypeError, "hold takes an object and a tuple of addresses");
    }
    thag_walk *walk = &((walk_object *)self)->walk;
    int collector_was_on = thag_bookkeeping_begin();
    PyObject *held = thag_foreign_hold(&walk->foreign, arguments[0], arguments[1], has_given, walk);
    PyObject *listed = held == NULL ? NULL : PySequence_List(held);
    thag_bookkeeping_end(collector_was_on);
    return listed;
}

static PyObject *
native_unvisited(PyObject *self, PyObject *objects)
{
    if (!PyList_Check(objects)) {
        return PyErr_Format(PyExc_TypeError, "unvisited takes a list, not %R", (PyObject *)Py_TYPE(objects));
    }
    PyObject *unvisited = PyList_New(0);
    for (Py_ssize_t i = 0; unvisited != NULL && i < PyList_GET_SIZE(objects); i++) {
        PyObject *object = PyList_GET_ITEM(objects, i);
        const thag_visit *visit = thag_visited_peek(&((walk_object *)self)->walk.visited, object);
        if (visit != NULL && visit->first_holder == THAG_UNVISITED && PyList_Append(unvisited, object) < 0) {
            Py_CLEAR(unvisited);
        }
    }
    return unvisited;
}

/* Those of a list that something else refers to as well, taken out of it. */
static PyObject *
native_divide(PyObject *self, PyObject *objects)
{
    if (!PyList_Check(objects)) {
        return PyErr_Format(PyExc_TypeError, "divide takes a list, not %R", (PyObject *)Py_TYPE(objects));
    }
    size_t held_count;
    PyObject **items = PySequence_Fast_ITEMS(objects);
    if (!thag_release_divide(&((walk_object *)self)->walk, items, (size_t)PyList_GET_SIZE(objects), &held_count)) {
        return PyErr_NoMemory();
    }
    PyObject *held = PyList_GetSlice(objects, 0, (Py_ssize_t)held_count);
    if (held != NULL && PyList_SetSlice(objects, 0, (Py_ssize_t)held_count, NULL) < 0) {
        Py_CLEAR(held);
    }
    return held;
}

static PyObject *
seen_count_get(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(((walk_object *)self)->walk.seen_count);
}

/* ---- the type ---- */

/* A type, or NULL for what is no type, and behind the end. */
static PyTypeObject *
type_or_null(PyObject *types, Py_ssize_t i)
{
    PyObject *type = i < PyTuple_GET_SIZE(types) ? PyTuple_GET_ITEM(types, i) : Py_None;
    return PyType_Check(type) ? (PyTypeObject *)type : NULL;
}

static bool
walk_init(walk_object *self, PyObject *types, PyObject *foreign)
{
    thag_kinds kinds;
    for (thag_kind kind = 0; kind < THAG_KINDS; kind++) {
        thag_layouts_set(&kinds, kind, type_or_null(types, kind));
    }
    self->types = PyTuple_Pack(2, types, foreign);
    thag_walk_init(&self->walk, &kinds);
    bool added = self->types != NULL;
    for (Py_ssize_t i = 0; added && i < PyTuple_GET_SIZE(foreign); i++) {
        PyTypeObject *type = type_or_null(foreign, i);
        added = type == NULL || thag_walk_add_foreign(&self->walk, type);
    }
    return added;
}

static PyObject *
walk_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *types, *foreign;
    if (keywords != NULL && PyDict_GET_SIZE(keywords) > 0) {
        return PyErr_Format(PyExc_TypeError, "Walk takes no keyword arguments");
    }
    if (!PyArg_ParseTuple(arguments, "O!O!:Walk", &PyTuple_Type, &types, &PyTuple_Type, &foreign)) {
        return NULL;
    }
    if (PyTuple_GET_SIZE(types) > THAG_KINDS) {
        return PyErr_Format(PyExc_TypeError, "Walk takes a tuple of %d types at most", THAG_KINDS);
    }
    int collector_was_on = thag_bookkeeping_begin();
    walk_object *self = (walk_object *)type->tp_alloc(type, 0);
    if (self != NULL && !walk_init(self, types, foreign)) {
        Py_CLEAR(self);
        (void)PyErr_NoMemory();
    }
    thag_bookkeeping_end(collector_was_on);
    return (PyObject *)self;
}

static void
walk_dealloc(PyObject *object)
{
    walk_object *self = (walk_object *)object;
    thag_walk_clear(&self->walk);
    Py_XDECREF(self->types);
    Py_TYPE(object)->tp_free(object);
}

static PyMethodDef walk_methods[] = {
    {"follow", THAG_FASTCALL(native_follow), METH_FASTCALL, NULL},
    {"release", THAG_FASTCALL(native_release), METH_FASTCALL, NULL},
    {"exclude", native_exclude, METH_O, NULL},
    {"include", native_include, METH_O, NULL},
    {"hold", THAG_FASTCALL(native_hold), METH_FASTCALL, NULL},
    {"unvisited", native_unvisited, METH_O, NULL},
    {"divide", native_divide, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef walk_properties[] = {
    {"seen_count", seen_count_get, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject thag_walk_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "thag_nb._native.Walk",
    .tp_basicsize = sizeof(walk_object),
    .tp_new = walk_new,
    .tp_dealloc = walk_dealloc,
    .tp_methods = walk_methods,
    .tp_getset = walk_properties,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_doc = PyDoc_STR("A walk from holder to holder. It keeps no object alive."),
};
