/* Walks as Python takes them: objects in, what was found as dicts and lists. The engine is in heap/walk.c. */

#include "walk.h"

#include "bindings.h"
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
    PyObject *held;             /* bytes by context id */
    PyObject *special;          /* objects that the caller decides on */
    PyObject *shared;           /* lists of objects by the holder that visited them first */
    PyObject *last_list;        /* the one that was added to last, borrowed */
    int32_t last_holder;        /* whose that is */
} findings;

static bool
findings_make(findings *found)
{
    *found = (findings){.held = PyDict_New(), .special = PyList_New(0), .shared = PyDict_New()};
    return found->held != NULL && found->special != NULL && found->shared != NULL;
}

static void
findings_drop(findings *found)
{
    Py_XDECREF(found->held);
    Py_XDECREF(found->special);
    Py_XDECREF(found->shared);
}

static bool
held_add(uint32_t context_id, int64_t bytes, void *data)
{
    findings *found = data;
    PyObject *key = PyLong_FromUnsignedLong(context_id);
    PyObject *before = key == NULL ? NULL : PyDict_GetItemWithError(found->held, key);
    long long sum = before == NULL ? bytes : PyLong_AsLongLong(before) + bytes;
    PyObject *after = key == NULL || PyErr_Occurred() ? NULL : PyLong_FromLongLong(sum);
    bool added = after != NULL && PyDict_SetItem(found->held, key, after) == 0;
    Py_XDECREF(key);
    Py_XDECREF(after);
    return added;
}

static bool
special_add(PyObject *object, void *data)
{
    return PyList_Append(((findings *)data)->special, object) == 0;
}

/* The list for a holder, borrowed, or NULL with an exception. */
static PyObject *
shared_list(PyObject *shared, int32_t holder)
{
    PyObject *key = PyLong_FromLong(holder);
    PyObject *fresh = key == NULL ? NULL : PyList_New(0);
    PyObject *list = fresh == NULL ? NULL : PyDict_SetDefault(shared, key, fresh);
    Py_XDECREF(key);
    Py_XDECREF(fresh);
    return list;
}

static bool
shared_add(PyObject *object, int32_t first_holder, void *data)
{
    enum { ENOUGH = 1000 };     /* of one holder, to tell how much hangs on them */
    findings *found = data;
    if (found->last_list == NULL || found->last_holder != first_holder) {
        found->last_list = shared_list(found->shared, first_holder);
        found->last_holder = first_holder;
    }
    return found->last_list != NULL
           && (PyList_GET_SIZE(found->last_list) >= ENOUGH || PyList_Append(found->last_list, object) == 0);
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
walk_follow(thag_walk *walk, int32_t holder, PyObject *roots, PyObject *pending, bool tells, Py_ssize_t *left)
{
    findings found;
    thag_walk_listener listener = {held_add, special_add, tells ? shared_add : NULL, &found};
    thag_objects waiting = objects_of(pending);
    bool loops = false;
    bool followed = findings_make(&found)
                    && thag_walk_follow(walk, holder, objects_of(roots), &waiting, &listener, &loops);
    *left = (Py_ssize_t)waiting.count;
    followed = frontier_move(&walk->frontier, pending) && followed;
    PyObject *result = NULL;
    if (followed) {
        result = PyTuple_Pack(4, found.held, found.special, found.shared, loops ? Py_True : Py_False);
    }
    findings_drop(&found);
    return result != NULL || PyErr_Occurred() ? result : PyErr_NoMemory();
}

static PyObject *
native_follow(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 4 || !PyLong_Check(arguments[0]) || !PyList_Check(arguments[1]) || !PyList_Check(arguments[2])) {
        return PyErr_Format(PyExc_TypeError, "follow takes a number, two lists and a bool");
    }
    long holder = PyLong_AsLong(arguments[0]);
    if (holder < 0 || holder > INT32_MAX) {
        PyErr_Clear();
        return PyErr_Format(PyExc_ValueError, "no holder has the number %R", arguments[0]);
    }
    PyObject *pending = arguments[2];
    Py_ssize_t given = PyList_GET_SIZE(pending), left;
    int collector_was_on = thag_bookkeeping_begin();
    PyObject *result = walk_follow(&((walk_object *)self)->walk, (int32_t)holder, arguments[1], pending,
                                   arguments[3] == Py_True, &left);
    thag_bookkeeping_end(collector_was_on);
    /* Not before: what only the list kept alive is freed here, and that is no bookkeeping of ours. */
    if (result != NULL && PyList_SetSlice(pending, left, given, NULL) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

/* ---- asking ---- */

static PyObject *
native_reaches(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 4 || !PyList_Check(arguments[1])) {
        return PyErr_Format(PyExc_TypeError, "reaches takes a number, a list and two numbers");
    }
    int32_t holder = (int32_t)PyLong_AsLong(arguments[0]);
    uint32_t context_id = (uint32_t)PyLong_AsUnsignedLong(arguments[2]);
    long long enough_bytes = PyLong_AsLongLong(arguments[3]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    thag_walk *walk = &((walk_object *)self)->walk;
    int reaches = thag_walk_reaches(walk, holder, objects_of(arguments[1]), context_id, enough_bytes);
    return reaches < 0 ? PyErr_NoMemory() : PyBool_FromLong(reaches);
}

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

/* Adds the object to the list if it was not visited. False with an exception. */
static bool
unvisited_add(thag_visited *visited, PyObject *object, PyObject *unvisited)
{
    const thag_visit *visit = thag_visited_find(visited, object);
    if (visit == NULL) {
        (void)PyErr_NoMemory();
        return false;
    }
    return visit->first_holder != THAG_UNVISITED || PyList_Append(unvisited, object) == 0;
}

static PyObject *
native_unvisited(PyObject *self, PyObject *objects)
{
    if (!PyList_Check(objects)) {
        return PyErr_Format(PyExc_TypeError, "unvisited takes a list, not %R", (PyObject *)Py_TYPE(objects));
    }
    PyObject *unvisited = PyList_New(0);
    for (Py_ssize_t i = 0; unvisited != NULL && i < PyList_GET_SIZE(objects); i++) {
        if (!unvisited_add(&((walk_object *)self)->walk.visited, PyList_GET_ITEM(objects, i), unvisited)) {
            Py_CLEAR(unvisited);
        }
    }
    return unvisited;
}

static PyObject *
known_count_get(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(((walk_object *)self)->walk.visited.count);
}

/* ---- the type ---- */

/* A type, or NULL for what is no type, and behind the end. */
static PyTypeObject *
type_or_null(PyObject *types, Py_ssize_t i)
{
    PyObject *type = i < PyTuple_GET_SIZE(types) ? PyTuple_GET_ITEM(types, i) : Py_None;
    return PyType_Check(type) ? (PyTypeObject *)type : NULL;
}

static void
walk_init(walk_object *self, PyObject *types)
{
    thag_kinds kinds;
    for (thag_kind kind = 0; kind < THAG_KINDS; kind++) {
        thag_layouts_set(&kinds, kind, type_or_null(types, kind + 1));
    }
    self->types = Py_NewRef(types);
    thag_walk_init(&self->walk, &kinds, type_or_null(types, 0));
}

static PyObject *
walk_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *types;
    if (keywords != NULL && PyDict_GET_SIZE(keywords) > 0) {
        return PyErr_Format(PyExc_TypeError, "Walk takes no keyword arguments");
    }
    if (!PyArg_ParseTuple(arguments, "O!:Walk", &PyTuple_Type, &types)) {
        return NULL;
    }
    if (PyTuple_GET_SIZE(types) > 1 + THAG_KINDS) {
        return PyErr_Format(PyExc_TypeError, "Walk takes a tuple of %d types at most", 1 + THAG_KINDS);
    }
    int collector_was_on = thag_bookkeeping_begin();
    walk_object *self = (walk_object *)type->tp_alloc(type, 0);
    thag_bookkeeping_end(collector_was_on);
    if (self != NULL) {
        walk_init(self, types);
    }
    return (PyObject *)self;
}

static void
walk_dealloc(PyObject *object)
{
    walk_object *self = (walk_object *)object;
    thag_walk_clear(&self->walk);
    Py_DECREF(self->types);
    Py_TYPE(object)->tp_free(object);
}

static PyMethodDef walk_methods[] = {
    {"follow", THAG_FASTCALL(native_follow), METH_FASTCALL, NULL},
    {"reaches", THAG_FASTCALL(native_reaches), METH_FASTCALL, NULL},
    {"exclude", native_exclude, METH_O, NULL},
    {"include", native_include, METH_O, NULL},
    {"unvisited", native_unvisited, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef walk_properties[] = {
    {"known_count", known_count_get, NULL, NULL, NULL},
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
