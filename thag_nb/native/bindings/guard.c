/* Guards: what makes a context current and undoes that; and how contexts are opened, mostly with a guard of their own.

   A context that is opened with a guard belongs to it from the beginning: it is open as long as there is the guard, or somebody
   inside. So whoever drops a guard that was never entered, as an interrupt does, ends the context. A guard that is made for a
   context that there is does nothing to it before it is entered, and finds it by its id then.

   What people see of a context is made when they look: who decorates a function never does. */

#include "guard.h"

#include "accounts.h"
#include "contexts.h"
#include "dispatcher.h"
#include "lifecycle.h"

/* ---- what people see of a context ---- */

/* Owned. As `describe_as` was told: the class of what is seen, and what is to be seen in it of contexts that record and of
   those that do not. */
static PyObject *context_type, *recorded_allocator, *system_allocator;
static PyObject *task_kind;

static PyObject *
described(unsigned long long id, unsigned long long parent_id, bool records, PyObject *label)
{
    PyObject *fields = Py_BuildValue("KOOOK", id, records ? recorded_allocator : system_allocator,
                                     PyTuple_GET_ITEM(label, 0), PyTuple_GET_ITEM(label, 1), parent_id);
    return thag_named_tuple(context_type, fields);
}

static PyObject *
native_describe_as(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 3 || !thag_is_tuple_type(arguments[0])) {
        return PyErr_Format(PyExc_TypeError, "describe_as takes a class of tuples and 2 allocators");
    }
    Py_XSETREF(context_type, Py_NewRef(arguments[0]));
    Py_XSETREF(recorded_allocator, Py_NewRef(arguments[1]));
    Py_XSETREF(system_allocator, Py_NewRef(arguments[2]));
    Py_RETURN_NONE;
}

/* ---- opening ---- */

static PyObject *_Atomic last_label;    /* owned */

/* What a context is known by. Tasks that follow each other are often called alike: they share it. */
static PyObject *
label_of(PyObject *name, PyObject *kind)
{
    PyObject *label = atomic_exchange(&last_label, NULL);
    if (label == NULL || PyTuple_GET_ITEM(label, 0) != name || PyTuple_GET_ITEM(label, 1) != kind) {
        Py_XDECREF(label);
        label = PyTuple_Pack(2, name, kind);
    }
    Py_XDECREF(atomic_exchange(&last_label, Py_XNewRef(label)));
    return label;
}

void
thag_guard_forget_label(void)
{
    Py_XDECREF(atomic_exchange(&last_label, NULL));
}

/* Under the context of an id, or under the innermost here that records; it must do so. */
static thag_context *
parent_from(PyObject *parent_id)
{
    thag_lifecycle_make_room();         /* first: it may give back the one that is meant */
    thag_context *parent = parent_id == Py_None ? thag_current_parent() : thag_context_argument(parent_id);
    if (parent == NULL) {
        return NULL;
    }
    parent = thag_context_today(parent);        /* another thread's reset may have dropped it meanwhile */
    if (!parent->records) {
        return PyErr_Format(PyExc_ValueError, "the context %llu is not recorded, so nothing can be under it",
                            (unsigned long long)parent->id), NULL;
    }
    return parent;
}

/* A new context; the parent itself, or the system context, if there have been too many. */
static thag_context *
context_new(thag_context *parent, bool records, PyObject *label)
{
    if (thag_contexts_exhausted()) {
        (void)thag_add(&thag_events.dropped, 1);
        return records ? parent : thag_contexts.system;
    }
    thag_context *context = thag_context_create(parent, records, label);
    if (context == NULL) {
        return PyErr_NoMemory(), NULL;
    }
    thag_accounts_inherit(context);
    return context;
}

/* What is seen of a new context, which is nobody's and stays open until it was entered. */
static PyObject *
context_open(bool records, PyObject *label, PyObject *parent_id)
{
    thag_context *parent = parent_from(parent_id);
    thag_context *context = parent == NULL ? NULL : context_new(parent, records, label);
    return context == NULL ? NULL : described(context->id, parent->id, records, label);
}

/* A guard that has nothing yet. */
static thag_guard *
guard_new(PyTypeObject *type)
{
    return (thag_guard *)type->tp_alloc(type, 0);
}

/* Gives a context to a guard, which keeps it open from now on. */
static void
guard_own(thag_guard *guard, thag_context *context, const thag_context *parent, PyObject *label)
{
    thag_lifecycle_hold(context);
    guard->own = context;
    guard->label = Py_NewRef(label);
    guard->id = context->id;
    guard->parent_id = parent->id;
    guard->records = context->records;
}

/* A guard for a new context. */
static thag_guard *
guard_open(PyTypeObject *type, bool records, PyObject *label, PyObject *parent_id)
{
    thag_context *parent = parent_from(parent_id);
    thag_guard *guard = parent == NULL ? NULL : guard_new(type);
    if (guard == NULL) {
        return NULL;
    }
    thag_context *context = context_new(parent, records, label);
    if (context == NULL) {
        Py_CLEAR(guard);
    }
    else {
        guard_own(guard, context, parent, label);
    }
    return guard;
}

enum { RECORDS, NAME, KIND, PARENT, FIELDS };

/* (guard type, *fields), or the fields alone for a context that is nobody's. */
static PyObject *
native_open(PyTypeObject *type, PyObject *const *fields)
{
    int collector_was_on = thag_bookkeeping_begin();
    PyObject *label = label_of(fields[NAME], fields[KIND]);
    bool records = PyObject_IsTrue(fields[RECORDS]);
    PyObject *opened = NULL;
    if (label != NULL) {
        opened = type == NULL ? context_open(records, label, fields[PARENT])
                              : (PyObject *)guard_open(type, records, label, fields[PARENT]);
    }
    Py_XDECREF(label);
    thag_bookkeeping_end(collector_was_on);
    return opened;
}

static PyObject *
native_open_context(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != FIELDS) {
        return PyErr_Format(PyExc_TypeError, "open_context takes %d arguments, not %zd", FIELDS, count);
    }
    return native_open(NULL, arguments);
}

static PyObject *
native_open_guard(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != FIELDS + 1 || !PyType_Check(arguments[0])
        || !PyType_IsSubtype((PyTypeObject *)arguments[0], &thag_guard_type)) {
        return PyErr_Format(PyExc_TypeError, "open_guard takes a type of guards and %d more arguments", FIELDS);
    }
    return native_open((PyTypeObject *)arguments[0], arguments + 1);
}

thag_guard *
thag_guard_for_task(PyObject *name)
{
    int collector_was_on = thag_bookkeeping_begin();
    PyObject *label = label_of(name, task_kind);
    thag_guard *guard = label == NULL ? NULL : guard_open(&thag_task_guard_type, true, label, Py_None);
    Py_XDECREF(label);
    thag_bookkeeping_end(collector_was_on);
    return guard;
}

thag_guard *
thag_guard_for_system(void)
{
    int collector_was_on = thag_bookkeeping_begin();
    thag_guard *guard = guard_new(&thag_guard_type);
    if (guard != NULL) {
        guard_own(guard, thag_contexts.system, thag_contexts.root, thag_contexts.system->label);
    }
    thag_bookkeeping_end(collector_was_on);
    return guard;
}

/* ---- being inside ---- */

PyObject *
thag_guard_describe(const thag_guard *guard)
{
    int collector_was_on = thag_bookkeeping_begin();
    PyObject *context = described(guard->id, guard->parent_id, guard->records, guard->label);
    thag_bookkeeping_end(collector_was_on);
    return context;
}

/* A borrowed reference to what people see of the context, or NULL with an exception. */
static PyObject *
context_seen(thag_guard *guard)
{
    if (guard->context == NULL && guard->label == NULL) {
        PyErr_SetString(PyExc_AttributeError, "context");       /* nobody has called `__init__` */
    }
    else if (guard->context == NULL) {
        guard->context = thag_guard_describe(guard);
    }
    return guard->context;
}

/* The context by its id: nothing has kept it, and a reset may have dropped it. */
static thag_context *
context_found(thag_guard *guard)
{
    PyObject *context = context_seen(guard);
    PyObject *id = context == NULL ? NULL : PyObject_GetAttrString(context, "id");
    thag_context *found = id == NULL ? NULL : thag_context_to_enter(id);
    Py_XDECREF(id);
    return found;
}

bool
thag_guard_enter(thag_guard *guard, thag_entry_mode mode)
{
    if (guard->entering != NULL) {
        return true;
    }
    thag_context *context = guard->own != NULL ? guard->own : context_found(guard);
    guard->entering = context == NULL ? NULL : thag_current_enter(context, mode);
    return guard->entering != NULL;
}

void
thag_guard_begin_with(thag_guard *guard)
{
    if (guard->own != NULL && guard->own->explained != NULL) {
        int collector_was_on = thag_bookkeeping_begin();
        guard->base = thag_sites_begin_base(PyThreadState_Get());
        thag_bookkeeping_end(collector_was_on);
    }
}

void
thag_guard_close(thag_guard *guard, bool orphan)
{
    PyObject *entering = guard->entering;
    thag_context *own = guard->own;
    guard->entering = NULL;
    guard->own = NULL;
    if (entering != NULL) {
        (void)thag_current_leave((thag_entering *)entering, orphan);
        Py_DECREF(entering);
    }
    if (own != NULL) {
        thag_lifecycle_release(own);
    }
    thag_sites_end_base(&guard->base);
}

bool
thag_guard_is_around(const thag_guard *guard)
{
    return guard->entering != NULL && thag_current_is_around((thag_entering *)guard->entering);
}

/* ---- the types ---- */

static int
guard_init(PyObject *self, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"context", NULL};
    PyObject *context;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O:ContextGuard", names, &context)) {
        return -1;
    }
    Py_XSETREF(((thag_guard *)self)->context, Py_NewRef(context));
    return 0;
}

static void
guard_dealloc(PyObject *self)
{
    thag_guard *guard = (thag_guard *)self;
    thag_guard_close(guard, true);
    Py_XDECREF(guard->context);
    Py_XDECREF(guard->label);
    Py_TYPE(self)->tp_free(self);
}

/* The one argument that a method takes by its name, or what it is otherwise. -1 with an exception. */
static int
flag_from(PyObject *const *arguments, Py_ssize_t count, PyObject *names, const char *name, bool otherwise)
{
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    if (count > 0 || named > 1) {
        PyErr_Format(PyExc_TypeError, "only the keyword argument '%s' can be given", name);
        return -1;
    }
    if (named == 0) {
        return otherwise;
    }
    if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), name) != 0) {
        PyErr_Format(PyExc_TypeError, "%R is an invalid keyword argument", PyTuple_GET_ITEM(names, 0));
        return -1;
    }
    return PyObject_IsTrue(arguments[0]);
}

static PyObject *
guard_enter(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    int detach = flag_from(arguments, count, names, "detach", false);
    if (detach < 0) {
        return NULL;
    }
    bool entered;
    Py_BEGIN_CRITICAL_SECTION(self);
    entered = thag_guard_enter((thag_guard *)self, detach ? THAG_ENTER_DETACHED : THAG_ENTER_NESTED);
    Py_END_CRITICAL_SECTION();
    return entered ? Py_NewRef(Py_None) : NULL;
}

static PyObject *
guard_close(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    int orphan = flag_from(arguments, count, names, "orphan", true);
    if (orphan < 0) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    thag_guard_close((thag_guard *)self, orphan);
    Py_END_CRITICAL_SECTION();
    Py_RETURN_NONE;
}

static PyObject *
guard_is_around(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    bool is_around;
    Py_BEGIN_CRITICAL_SECTION(self);
    is_around = thag_guard_is_around((thag_guard *)self);
    Py_END_CRITICAL_SECTION();
    return PyBool_FromLong(is_around);
}

static PyObject *
guard_context(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *context;
    Py_BEGIN_CRITICAL_SECTION(self);
    context = Py_XNewRef(context_seen((thag_guard *)self));
    Py_END_CRITICAL_SECTION();
    return context;
}

static PyObject *
guard_with(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return guard_context(self, NULL);
}

static PyObject *
guard_end_with(PyObject *self, PyObject *const *Py_UNUSED(error), Py_ssize_t Py_UNUSED(count))
{
    return guard_close(self, NULL, 0, NULL);
}

/* As one that is not entered: somebody is inside here, and not where it is copied to. */
static PyObject *
guard_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (((thag_guard *)self)->entering != NULL) {
        return PyErr_Format(PyExc_TypeError, "a '%.200s' object that is entered cannot be pickled or copied",
                            Py_TYPE(self)->tp_name);
    }
    PyObject *context = guard_context(self, NULL);
    return context == NULL ? NULL : Py_BuildValue("O(N)", Py_TYPE(self), context);
}

PyDoc_STRVAR(enter_doc,
"enter($self, /, *, detach=False)\n--\n\n\
Make the context current. Twice is once.\n\
\n\
With `detach`, `close` restores what was current before anything was entered so: a cell keeps nothing that was left open in\n\
the one before it.\n\
\n\
Raises MemoryError without memory, and ValueError if a reset has dropped the context; then nothing has changed.");

PyDoc_STRVAR(close_doc,
"close($self, /, *, orphan=True)\n--\n\n\
Leave the context. Twice is once. What was opened for this guard and never entered has ended then.\n\
\n\
A guard that is not innermost here is passed over by every flow from now on; with `orphan` False it is left alone, for a\n\
flow that has ended elsewhere.");

PyDoc_STRVAR(is_around_doc, "is_around($self, /)\n--\n\nWhether this flow is inside, however deep.");

static PyMethodDef guard_methods[] = {
    {"enter", THAG_FASTCALL(guard_enter), METH_FASTCALL | METH_KEYWORDS, enter_doc},
    {"close", THAG_FASTCALL(guard_close), METH_FASTCALL | METH_KEYWORDS, close_doc},
    {"is_around", guard_is_around, METH_NOARGS, is_around_doc},
    {"__enter__", guard_with, METH_NOARGS, NULL},
    {"__exit__", THAG_FASTCALL(guard_end_with), METH_FASTCALL, NULL},
    {"__reduce__", guard_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef guard_attributes[] = {
    {"context", guard_context, NULL, PyDoc_STR("The context, as an AllocatorContext."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject thag_guard_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "thag_nb.ContextGuard",
    .tp_basicsize = sizeof(thag_guard),
    .tp_new = PyType_GenericNew,
    .tp_init = guard_init,
    .tp_dealloc = guard_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_methods = guard_methods,
    .tp_getset = guard_attributes,
    .tp_doc = PyDoc_STR(
"ContextGuard(context)\n--\n\n\
Makes a context current on `enter`, and on `close` restores what it found: in any order, on any thread, without raising. A\n\
guard that is dropped closes itself. As a context manager it closes at the end of the block."),
};

PyTypeObject thag_task_guard_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "thag_nb.TaskGuard",
    .tp_basicsize = sizeof(thag_guard),
    .tp_base = &thag_guard_type,
    .tp_new = PyType_GenericNew,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_doc = PyDoc_STR(
"TaskGuard(context)\n--\n\nThe guard of a task; the task has ended when the last of its guards is closed."),
};

PyMethodDef thag_guard_methods[] = {
    {"describe_as", THAG_FASTCALL(native_describe_as), METH_FASTCALL, NULL},
    {"open_context", THAG_FASTCALL(native_open_context), METH_FASTCALL, NULL},
    {"open_guard", THAG_FASTCALL(native_open_guard), METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

int
thag_guard_init(PyObject *module)
{
    task_kind = PyUnicode_InternFromString("task");
    if (task_kind == NULL || PyModule_AddType(module, &thag_guard_type) < 0) {
        return -1;
    }
    return PyModule_AddType(module, &thag_task_guard_type);
}
