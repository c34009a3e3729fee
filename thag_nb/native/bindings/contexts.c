/* Contexts as Python opens, enters, holds and drops them. */

#include "bindings.h"
#include "contexts.h"
#include "current.h"
#include "dispatcher.h"
#include "lifecycle.h"

/* A new context under the one of an id, or under the innermost here that records; the parent itself if there have been too
   many contexts. */
static thag_context *
context_open(PyObject *parent_id, bool records, PyObject *name, PyObject *kind, thag_context **parent)
{
    *parent = parent_id == Py_None ? thag_current_parent() : thag_context_argument(parent_id);
    if (*parent == NULL) {
        return NULL;
    }
    *parent = thag_context_today(*parent);      /* another thread's reset may have dropped it meanwhile */
    if (!(*parent)->records) {
        return PyErr_Format(PyExc_ValueError, "the context %llu is not recorded, so nothing can be under it",
                            (unsigned long long)(*parent)->id), NULL;
    }
    if (thag_contexts_exhausted()) {
        (void)thag_add(&thag_events.dropped, 1);
        return records ? *parent : thag_contexts.system;
    }
    PyObject *label = PyTuple_Pack(2, name, kind);
    if (label == NULL) {
        return NULL;
    }
    thag_context *context = thag_context_create(*parent, records, label);
    Py_DECREF(label);
    return context == NULL ? (PyErr_NoMemory(), NULL) : context;
}

/* What `open_guard` makes: a guard of a given type, with its two slots filled, and nothing of Python run. */
static PyObject *
guard_new(PyTypeObject *type, PyObject *context)
{
    PyObject *nothing = PyTuple_New(0);
    PyObject *guard = nothing == NULL ? NULL : type->tp_new(type, nothing, NULL);
    Py_XDECREF(nothing);
    if (guard != NULL
        && (PyObject_SetAttrString(guard, "context", context) < 0
            || PyObject_SetAttrString(guard, "entering", Py_None) < 0)) {
        Py_CLEAR(guard);
    }
    return guard;
}

static PyObject *
guard_open(PyObject *const *arguments)
{
    enum { GUARD_TYPE, CONTEXT_TYPE, ALLOCATOR, RECORDS, NAME, KIND, PARENT };
    thag_context *parent;
    thag_context *context = context_open(arguments[PARENT], PyObject_IsTrue(arguments[RECORDS]), arguments[NAME],
                                         arguments[KIND], &parent);
    if (context == NULL) {
        return NULL;
    }
    PyObject *fields = Py_BuildValue("KOOOK", (unsigned long long)context->id, arguments[ALLOCATOR], arguments[NAME],
                                     arguments[KIND], (unsigned long long)parent->id);
    PyObject *described = thag_named_tuple(arguments[CONTEXT_TYPE], fields);
    PyObject *guard = described == NULL ? NULL : guard_new((PyTypeObject *)arguments[GUARD_TYPE], described);
    Py_XDECREF(described);
    if (guard == NULL) {
        /* Nobody will ever enter it: it has ended. */
        thag_lifecycle_hold(context);
        thag_lifecycle_release(context);
    }
    return guard;
}

static PyObject *
native_open_guard(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 7 || !PyType_Check(arguments[0]) || !thag_is_tuple_type(arguments[1])) {
        return PyErr_Format(PyExc_TypeError, "open_guard takes 2 types and 5 more arguments");
    }
    int collector_was_on = thag_bookkeeping_begin();
    PyObject *guard = guard_open(arguments);
    thag_bookkeeping_end(collector_was_on);
    return guard;
}

static PyObject *
native_enter(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2) {
        return PyErr_Format(PyExc_TypeError, "enter takes 2 arguments, not %zd", count);
    }
    thag_context *context = thag_context_argument(arguments[0]);
    if (context == NULL) {
        return NULL;
    }
    if (atomic_load(&context->heir) != NULL) {
        return PyErr_Format(PyExc_ValueError, "the context %S has been dropped by a reset", arguments[0]);
    }
    return thag_current_enter(context, PyObject_IsTrue(arguments[1]) ? THAG_ENTER_DETACHED : THAG_ENTER_NESTED);
}

static PyObject *
native_flow(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    thag_frame *frame = thag_current_frame();
    if (frame == NULL && PyErr_Occurred()) {
        return NULL;
    }
    if (frame == NULL || thag_context_today(frame->context) == thag_contexts.root) {
        Py_RETURN_NONE;
    }
    return Py_NewRef((PyObject *)frame);
}

static PyObject *
native_adopt(PyObject *Py_UNUSED(module), PyObject *flow)
{
    if (flow == Py_None) {
        return thag_current_enter(thag_contexts.root, THAG_ENTER_ADOPTED);
    }
    if (!Py_IS_TYPE(flow, &thag_frame_type)) {
        return PyErr_Format(PyExc_TypeError, "adopt wants what flow() gave, not %R", flow);
    }
    return thag_current_enter(thag_context_today(((thag_frame *)flow)->context), THAG_ENTER_ADOPTED);
}

/* (id, parent id or 0, records, label) */
static PyObject *
context_description(const thag_context *context)
{
    thag_context *above = thag_context_parent(context);
    unsigned long long parent = above == NULL ? 0 : thag_context_today(above)->id;
    return Py_BuildValue("KKOO", (unsigned long long)context->id, parent, context->records ? Py_True : Py_False,
                         context->label);
}

static PyObject *
native_context(PyObject *Py_UNUSED(module), PyObject *id)
{
    thag_context *context = thag_context_argument(id);
    if (context == NULL) {
        return NULL;
    }
    if (atomic_load(&context->heir) != NULL) {
        Py_RETURN_NONE;
    }
    return context_description(context);
}

static PyObject *
context_apply(PyObject *id, void (*change)(thag_context *context))
{
    thag_context *context = thag_context_argument(id);
    if (context == NULL) {
        return NULL;
    }
    change(context);
    Py_RETURN_NONE;
}

static PyObject *
native_hold(PyObject *Py_UNUSED(module), PyObject *id)
{
    return context_apply(id, thag_lifecycle_hold);
}

static PyObject *
native_release(PyObject *Py_UNUSED(module), PyObject *id)
{
    return context_apply(id, thag_lifecycle_release);
}

static PyObject *
native_context_ids(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *ids = PyList_New(0);
    for (uint32_t i = 0; ids != NULL && i < thag_contexts.count; i++) {
        const thag_context *context = thag_contexts.by_age[i];
        if (atomic_load(&context->heir) != NULL) {
            continue;
        }
        PyObject *number = PyLong_FromUnsignedLongLong(context->id);
        if (number == NULL || PyList_Append(ids, number) < 0) {
            Py_CLEAR(ids);
        }
        Py_XDECREF(number);
    }
    return ids;
}

static PyObject *
native_current_id(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    thag_context *charged = thag_current_look_up(&thag_this_thread, true);
    thag_context *context = charged == NULL ? thag_current_context() : charged;
    if (PyErr_Occurred()) {
        return NULL;
    }
    int collector_was_on = thag_bookkeeping_begin();
    PyObject *id = PyLong_FromUnsignedLongLong(thag_context_today(context)->id);
    thag_bookkeeping_end(collector_was_on);
    return id;
}

/* A frame's address is used again when it is done; with its code, only a call of the same function could be mistaken. */
static long long
frame_number(PyFrameObject *frame)
{
    PyCodeObject *code = PyFrame_GetCode(frame);
    uintptr_t number = (uintptr_t)frame ^ (uintptr_t)code << 16;
    Py_DECREF((PyObject *)code);
    return (long long)number;
}

static PyObject *
native_caller_id(PyObject *Py_UNUSED(module), PyObject *levels)
{
    long back = PyLong_AsLong(levels);
    if (back == -1 && PyErr_Occurred()) {
        return NULL;
    }
    /* A frame becomes an object only when it is asked for. */
    int collector_was_on = thag_bookkeeping_begin();
    PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
    while (frame != NULL && back-- > 0) {
        PyFrameObject *caller = PyFrame_GetBack(frame);
        Py_DECREF((PyObject *)frame);
        frame = caller;
    }
    PyObject *id = PyLong_FromLongLong(frame == NULL ? 0 : frame_number(frame));
    Py_XDECREF((PyObject *)frame);
    thag_bookkeeping_end(collector_was_on);
    return id;
}

static PyObject *
native_base_id(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLongLong(thag_current_base()->id);
}

static PyObject *
native_set_foreground(PyObject *Py_UNUSED(module), PyObject *id)
{
    thag_context *context = thag_context_argument(id);
    if (context == NULL) {
        return NULL;
    }
    if (!thag_current_set_foreground(context)) {
        return PyErr_Format(PyExc_ValueError, "the context %S was not entered here, or was left", id);
    }
    Py_RETURN_NONE;
}

static PyObject *
native_reset(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    thag_lifecycle_reset();
    Py_RETURN_NONE;
}

static PyObject *
native_forget(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLongLong(thag_lifecycle_forget_blocks());
}

static PyObject *
native_after_fork(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    thag_lifecycle_after_fork();
    Py_RETURN_NONE;
}

static PyObject *
native_skip_ids(PyObject *Py_UNUSED(module), PyObject *id)
{
    unsigned long long number = PyLong_AsUnsignedLongLong(id);
    if (number == (unsigned long long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    thag_contexts_skip_ids(number);
    Py_RETURN_NONE;
}

PyMethodDef thag_contexts_methods[] = {
    {"open_guard", THAG_FASTCALL(native_open_guard), METH_FASTCALL, NULL},
    {"enter", THAG_FASTCALL(native_enter), METH_FASTCALL, NULL},
    {"adopt", native_adopt, METH_O, NULL},
    {"flow", native_flow, METH_NOARGS, NULL},
    {"context", native_context, METH_O, NULL},
    {"context_ids", native_context_ids, METH_NOARGS, NULL},
    {"hold", native_hold, METH_O, NULL},
    {"release", native_release, METH_O, NULL},
    {"current_id", native_current_id, METH_NOARGS, NULL},
    {"caller_id", native_caller_id, METH_O, NULL},
    {"base_id", native_base_id, METH_NOARGS, NULL},
    {"set_foreground", native_set_foreground, METH_O, NULL},
    {"reset", native_reset, METH_NOARGS, NULL},
    {"forget", native_forget, METH_NOARGS, NULL},
    {"skip_ids", native_skip_ids, METH_O, NULL},
    {"after_fork", native_after_fork, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
