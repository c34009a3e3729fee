/* Scopes: what `task` and `untracked` give, as a context manager. Each use has a guard, and leaving finds it again.

   A scope may be used many times at once: nested, by several flows and by several threads. Whoever leaves means, as a rule, what
   it entered itself last, so guards are found by the function call that entered. Whoever leaves what somebody else entered, as
   an ExitStack does, gets what this flow is in, or else what was entered first.

   The guards of a scope stand in lists. Those of one caller are all in one of them, the newest first: in the only list that
   there is at first, and from there on in as many as keep them short. Nothing here is charged to anybody. */

#include "guard.h"

#include <stdlib.h>
#include <structmember.h>
#if PY_VERSION_HEX < 0x030C0000
#define Py_BUILD_CORE           /* the last version that has no function for a frame's code */
#include <internal/pycore_frame.h>
#undef Py_BUILD_CORE
#endif

typedef struct {
    PyObject_HEAD
    bool is_of_tasks;           /* each use is a task of its own; else it is one of the shared system context */
    PyObject *name;             /* owned: of the tasks */
    PyObject *least_bytes;      /* owned: of the allocations whose lines the tasks record; None for no lines, NULL as `name` */
    thag_guard *only;           /* the list that there is at first */
    thag_guard **lists;         /* more of them, or NULL: then it is `only` */
    size_t list_count;          /* of `lists`; a power of two */
    size_t entered;             /* how many guards there are in all of them, each owned */
    uint64_t turn;              /* of the guard that was entered last */
} thag_scope;

/* ---- the lists ---- */

static thag_guard **
list_of(thag_scope *scope, uint64_t caller)
{
    const uint64_t golden_ratio = 0x9E3779B97F4A7C15u;     /* spreads numbers that are alike */
    return scope->lists == NULL ? &scope->only
                                : &scope->lists[(caller * golden_ratio >> 32) & (scope->list_count - 1)];
}

static thag_guard **
list_at(thag_scope *scope, size_t number)
{
    return scope->lists == NULL ? &scope->only : &scope->lists[number];
}

static void
list_push(thag_guard **list, thag_guard *guard)
{
    guard->next = *list;
    *list = guard;
}

/* The same list, the oldest first. */
static thag_guard *
list_reversed(thag_guard *list)
{
    thag_guard *reversed = NULL;
    while (list != NULL) {
        thag_guard *guard = list;
        list = guard->next;
        list_push(&reversed, guard);
    }
    return reversed;
}

/* Hands all guards over to so many lists. Without memory they stay where they are, and are only slower to find. */
static void
lists_make(thag_scope *scope, size_t count)
{
    thag_scope before = *scope;
    thag_guard **lists = calloc(count, sizeof(*lists));
    if (lists == NULL) {
        return;
    }
    scope->lists = lists;
    scope->list_count = count;
    scope->only = NULL;
    for (size_t number = 0; number < before.list_count; number++) {
        thag_guard *list = list_reversed(*list_at(&before, number));
        while (list != NULL) {
            thag_guard *guard = list;
            list = guard->next;
            list_push(list_of(scope, guard->caller), guard);
        }
    }
    free(before.lists);
}

/* Takes over the guard. */
static void
scope_remember(thag_scope *scope, thag_guard *guard, uint64_t caller)
{
    enum { LONG = 4 };
    if (scope->entered >= LONG * scope->list_count) {
        lists_make(scope, LONG * scope->list_count);
    }
    guard->caller = caller;
    guard->turn = ++scope->turn;
    list_push(list_of(scope, caller), guard);
    scope->entered++;
}

/* Takes a guard out of where it stands. It is the caller's from now on. */
static thag_guard *
scope_take(thag_scope *scope, thag_guard **place)
{
    thag_guard *guard = *place;
    *place = guard->next;
    if (--scope->entered == 0) {
        free(scope->lists);
        scope->lists = NULL;
        scope->list_count = 1;
    }
    return guard;
}

/* What a caller entered last, or NULL. */
static thag_guard *
scope_take_own(thag_scope *scope, uint64_t caller)
{
    thag_guard **place = list_of(scope, caller);
    while (*place != NULL && (*place)->caller != caller) {
        place = &(*place)->next;
    }
    return *place == NULL ? NULL : scope_take(scope, place);
}

/* What this flow entered last of all that it is in, or else what was entered first; NULL if there is none. */
static thag_guard *
scope_take_from_others(thag_scope *scope)
{
    thag_guard **innermost = NULL, **first = NULL;
    for (size_t number = 0; number < scope->list_count; number++) {
        for (thag_guard **place = list_at(scope, number); *place != NULL; place = &(*place)->next) {
            bool is_newer = innermost == NULL || (*place)->turn > (*innermost)->turn;
            innermost = is_newer && thag_guard_is_around(*place) ? place : innermost;
            first = first == NULL || (*place)->turn < (*first)->turn ? place : first;
        }
    }
    thag_guard **chosen = innermost == NULL ? first : innermost;
    return chosen == NULL ? NULL : scope_take(scope, chosen);
}

/* ---- entering and leaving ---- */

/* The frame of Python's that runs, or NULL. It stays where it is until it is done; PyThreadState_GetFrame would make an object
   of it, which lives as long, and ten thousand flows with one each keep the collector busy. */
static struct _PyInterpreterFrame *
running_frame(const PyThreadState *tstate)
{
#if PY_VERSION_HEX < 0x030D0000
    return tstate->cframe->current_frame;
#elif PY_VERSION_HEX < 0x030F0000
    return tstate->current_frame;
#else
    return tstate->current_frame == tstate->base_frame ? NULL : tstate->current_frame;
#endif
}

/* The address of its code. */
static uintptr_t
frame_code(struct _PyInterpreterFrame *frame)
{
#if PY_VERSION_HEX < 0x030C0000
    return (uintptr_t)frame->f_code;
#else
    PyObject *code = PyUnstable_InterpreterFrame_GetCode(frame);
    Py_DECREF(code);        /* the frame has it */
    return (uintptr_t)code;
#endif
}

/* A number for the function call that runs. A frame's address is used again when it is done; with its code, only a call of the
   same function could be mistaken. */
static uint64_t
caller_number(void)
{
    struct _PyInterpreterFrame *frame = running_frame(PyThreadState_Get());
    return frame == NULL ? 0 : (uint64_t)(uintptr_t)frame ^ (uint64_t)frame_code(frame) << 16;
}

/* Asks the class for what only Python can do. */
static bool
scope_start(thag_scope *scope)
{
    if (thag_recording_goes_on()) {
        return true;
    }
    PyObject *nothing = PyObject_CallMethod((PyObject *)scope, "_start", NULL);
    Py_XDECREF(nothing);
    return nothing != NULL;
}

/* Has the lines of a task recorded, before anybody enters it. */
static bool
scope_record_lines(thag_scope *scope, const thag_guard *guard)
{
    if (scope->least_bytes == Py_None) {
        return true;
    }
    thag_uncharged_begin();
    PyObject *nothing = PyObject_CallMethod((PyObject *)scope, "_record_lines", "KO", (unsigned long long)guard->id,
                                            scope->least_bytes);
    thag_uncharged_end();
    Py_XDECREF(nothing);
    return nothing != NULL;
}

/* A guard for one use, not yet entered. */
static thag_guard *
scope_guard(thag_scope *scope)
{
    if (!scope->is_of_tasks) {
        return thag_guard_for_system();
    }
    if (scope->name == NULL) {
        return PyErr_Format(PyExc_AttributeError, "name"), NULL;      /* nobody has called `__init__` */
    }
    thag_guard *guard = scope_start(scope) ? thag_guard_for_task(scope->name) : NULL;
    if (guard != NULL && !scope_record_lines(scope, guard)) {
        Py_CLEAR(guard);
    }
    return guard;
}

/* What people see of the context that was entered, or NULL with an exception. */
static PyObject *
scope_enter(PyObject *self, bool is_with)
{
    thag_guard *guard = scope_guard((thag_scope *)self);
    PyObject *context = guard == NULL ? NULL : thag_guard_describe(guard);
    if (context == NULL || !thag_guard_enter(guard, THAG_ENTER_NESTED)) {
        Py_XDECREF(context);
        Py_XDECREF((PyObject *)guard);
        return NULL;
    }
    if (is_with) {
        thag_guard_begin_with(guard);
    }
    uint64_t caller = caller_number();
    Py_BEGIN_CRITICAL_SECTION(self);
    scope_remember((thag_scope *)self, guard, caller);
    Py_END_CRITICAL_SECTION();
    return context;
}

static void
scope_leave(PyObject *self)
{
    uint64_t caller = caller_number();
    thag_guard *guard;
    Py_BEGIN_CRITICAL_SECTION(self);
    guard = scope_take_own((thag_scope *)self, caller);
    if (guard == NULL) {
        guard = scope_take_from_others((thag_scope *)self);
    }
    Py_END_CRITICAL_SECTION();
    if (guard != NULL) {
        thag_guard_close(guard, true);
        Py_DECREF((PyObject *)guard);
    }
}

/* ---- what `async with` awaits: it waits for nothing, and does its work when it is awaited ---- */

typedef struct {
    PyObject_HEAD
    PyObject *scope;            /* owned; NULL once it is done */
    bool enters;
} thag_step;

static void
step_dealloc(PyObject *self)
{
    Py_XDECREF(((thag_step *)self)->scope);
    PyObject_Free(self);
}

/* The scope, for the one who does the step; NULL for anybody after that. */
static PyObject *
step_take(PyObject *self)
{
    PyObject *scope;
    Py_BEGIN_CRITICAL_SECTION(self);
    scope = ((thag_step *)self)->scope;
    ((thag_step *)self)->scope = NULL;
    Py_END_CRITICAL_SECTION();
    return scope;
}

static PySendResult
step_send(PyObject *self, PyObject *Py_UNUSED(value), PyObject **result)
{
    PyObject *scope = step_take(self);
    if (scope == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "cannot await what was awaited already");
        *result = NULL;
    }
    else if (((thag_step *)self)->enters) {
        *result = scope_enter(scope, false);
    }
    else {
        scope_leave(scope);
        *result = Py_NewRef(Py_None);
    }
    Py_XDECREF(scope);
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

static PyObject *
step_next(PyObject *self)
{
    PyObject *result;
    if (step_send(self, Py_None, &result) == PYGEN_RETURN) {
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);
        Py_DECREF(result);
        if (stop != NULL) {
            PyErr_SetObject(PyExc_StopIteration, stop);
            Py_DECREF(stop);
        }
    }
    return NULL;
}

static PyObject *
step_send_method(PyObject *self, PyObject *Py_UNUSED(value))
{
    return step_next(self);
}

/* Nothing is done then. */
static PyObject *
step_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_XDECREF(step_take(self));
    Py_RETURN_NONE;
}

static PyObject *
step_throw(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    Py_XDECREF(step_take(self));
    if (count == 0) {
        return PyErr_Format(PyExc_TypeError, "throw takes an exception");
    }
    bool is_type = PyExceptionClass_Check(arguments[0]);
    if (!is_type && !PyExceptionInstance_Check(arguments[0])) {
        return PyErr_Format(PyExc_TypeError, "throw takes an exception, not %R", arguments[0]);
    }
    PyObject *type = is_type ? arguments[0] : (PyObject *)Py_TYPE(arguments[0]);
    PyErr_SetObject(type, !is_type ? arguments[0] : count > 1 ? arguments[1] : NULL);
    return NULL;
}

static PyMethodDef step_methods[] = {
    {"send", step_send_method, METH_O, NULL},
    {"throw", THAG_FASTCALL(step_throw), METH_FASTCALL, NULL},
    {"close", step_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyAsyncMethods step_async = {
    .am_await = PyObject_SelfIter,
    .am_send = step_send,
};

static PyTypeObject step_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "thag_nb._native.ScopeStep",
    .tp_basicsize = sizeof(thag_step),
    .tp_dealloc = step_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_as_async = &step_async,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = step_next,
    .tp_methods = step_methods,
};

static PyObject *
step_new(PyObject *scope, bool enters)
{
    thag_uncharged_begin();
    thag_step *step = PyObject_New(thag_step, &step_type);
    thag_uncharged_end();
    if (step != NULL) {
        step->scope = Py_NewRef(scope);
        step->enters = enters;
    }
    return (PyObject *)step;
}

/* ---- the types ---- */

/* True of names that are as they shall be and plainly so: most of them. */
static bool
is_plain(PyObject *name)
{
    enum { LONGEST = 200 };
    if (!PyUnicode_CheckExact(name) || !PyUnicode_IS_COMPACT_ASCII(name) || PyUnicode_GET_LENGTH(name) > LONGEST) {
        return false;
    }
    const Py_UCS1 *letters = PyUnicode_1BYTE_DATA(name);
    bool seen = false;
    for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(name); i++) {
        if (letters[i] < ' ' || letters[i] > '~') {
            return false;
        }
        seen |= letters[i] != ' ';
    }
    return seen;
}

static int
task_scope_init(PyObject *self, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"name", "lines", NULL};
    PyObject *given, *lines = Py_False;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O|O:TaskScope", names, &given, &lines)) {
        return -1;
    }
    PyObject *name = is_plain(given) ? Py_NewRef(given) : PyObject_CallMethod(self, "_clean", "(O)", given);
    PyObject *least_bytes = name == NULL        ? NULL
                            : lines == Py_False ? Py_NewRef(Py_None)
                                                : PyObject_CallMethod(self, "_least_bytes", "(O)", lines);
    if (least_bytes == NULL) {
        Py_XDECREF(name);
        return -1;
    }
    Py_XSETREF(((thag_scope *)self)->name, name);
    Py_XSETREF(((thag_scope *)self)->least_bytes, least_bytes);
    return 0;
}

static PyObject *
scope_new(PyTypeObject *type, bool is_of_tasks)
{
    thag_scope *scope = (thag_scope *)type->tp_alloc(type, 0);
    if (scope != NULL) {
        scope->is_of_tasks = is_of_tasks;
        scope->list_count = 1;
    }
    return (PyObject *)scope;
}

static PyObject *
task_scope_new(PyTypeObject *type, PyObject *Py_UNUSED(arguments), PyObject *Py_UNUSED(keywords))
{
    return scope_new(type, true);
}

static PyObject *
untracked_scope_new(PyTypeObject *type, PyObject *Py_UNUSED(arguments), PyObject *Py_UNUSED(keywords))
{
    return scope_new(type, false);
}

static void
scope_dealloc(PyObject *self)
{
    thag_scope *scope = (thag_scope *)self;
    for (size_t number = 0; number < scope->list_count; number++) {
        while (*list_at(scope, number) != NULL) {
            Py_DECREF((PyObject *)scope_take(scope, list_at(scope, number)));
        }
    }
    Py_XDECREF(scope->name);
    Py_XDECREF(scope->least_bytes);
    Py_TYPE(self)->tp_free(self);
}

/* For who looks for what holds a name. The collector only asks where Python has a class of this type. */
static int
scope_traverse(PyObject *self, visitproc visit, void *arg)
{
    thag_scope *scope = (thag_scope *)self;
    Py_VISIT(scope->name);
    Py_VISIT(scope->least_bytes);
    for (size_t number = 0; number < scope->list_count; number++) {
        for (const thag_guard *guard = *list_at(scope, number); guard != NULL; guard = guard->next) {
            Py_VISIT(guard->base.object);
        }
    }
    return 0;
}

static PyObject *
scope_with(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return scope_enter(self, true);
}

static PyObject *
scope_end_with(PyObject *self, PyObject *const *Py_UNUSED(error), Py_ssize_t Py_UNUSED(count))
{
    scope_leave(self);
    Py_RETURN_NONE;
}

static PyObject *
scope_async_with(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return step_new(self, true);
}

static PyObject *
scope_end_async_with(PyObject *self, PyObject *const *Py_UNUSED(error), Py_ssize_t Py_UNUSED(count))
{
    return step_new(self, false);
}

static PyObject *
scope_make_guard(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)scope_guard((thag_scope *)self);
}

static PyObject *
scope_entered(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    thag_guard *guard = scope_guard((thag_scope *)self);
    if (guard != NULL && !thag_guard_enter(guard, THAG_ENTER_NESTED)) {
        Py_CLEAR(guard);
    }
    return (PyObject *)guard;
}

static PyMethodDef scope_methods[] = {
    {"__enter__", scope_with, METH_NOARGS, NULL},
    {"__exit__", THAG_FASTCALL(scope_end_with), METH_FASTCALL, NULL},
    {"__aenter__", scope_async_with, METH_NOARGS, NULL},
    {"__aexit__", THAG_FASTCALL(scope_end_async_with), METH_FASTCALL, NULL},
    {"guard", scope_make_guard, METH_NOARGS, PyDoc_STR("guard($self, /)\n--\n\nA guard for one use, not yet entered.")},
    {"entered", scope_entered, METH_NOARGS, PyDoc_STR("entered($self, /)\n--\n\nA guard for one use, entered.")},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef task_scope_members[] = {
    {"name", T_OBJECT_EX, offsetof(thag_scope, name), READONLY, PyDoc_STR("What each use is called.")},
    {"least_bytes", T_OBJECT_EX, offsetof(thag_scope, least_bytes), READONLY,
     PyDoc_STR("The size from which on each use records the lines that allocate; None for no lines.")},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject task_scope_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "thag_nb._native.TaskScope",
    .tp_basicsize = sizeof(thag_scope),
    .tp_new = task_scope_new,
    .tp_init = task_scope_init,
    .tp_dealloc = scope_dealloc,
    .tp_traverse = scope_traverse,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_methods = scope_methods,
    .tp_members = task_scope_members,
};

static PyTypeObject untracked_scope_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "thag_nb._native.UntrackedScope",
    .tp_basicsize = sizeof(thag_scope),
    .tp_new = untracked_scope_new,
    .tp_dealloc = scope_dealloc,
    .tp_traverse = scope_traverse,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_methods = scope_methods,
};

int
thag_scope_init(PyObject *module)
{
    if (PyType_Ready(&step_type) < 0 || PyModule_AddType(module, &task_scope_type) < 0) {
        return -1;
    }
    return PyModule_AddType(module, &untracked_scope_type);
}
