/* Contexts as Python enters, holds and drops them. How they are opened: guard.c. */

#include "bindings.h"
#include "contexts.h"
#include "guard.h"
#include "heap.h"
#include "lifecycle.h"
#include "linker.h"

thag_context *
thag_context_to_enter(PyObject *id)
{
    thag_context *context = thag_context_argument(id);
    if (context != NULL && atomic_load(&context->heir) != NULL) {
        return PyErr_Format(PyExc_ValueError, "the context %S is not known any more: a reset dropped it, or it had "
                            "ended and held nothing", id), NULL;
    }
    return context;
}

static PyObject *
native_enter(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2) {
        return PyErr_Format(PyExc_TypeError, "enter takes 2 arguments, not %zd", count);
    }
    thag_context *context = thag_context_to_enter(arguments[0]);
    if (context == NULL) {
        return NULL;
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
    thag_context *charged = thag_current_look_up(&thag_this_thread, thag_tstate_attached());
    thag_context *context = charged == NULL ? thag_current_context() : charged;
    if (PyErr_Occurred()) {
        return NULL;
    }
    int collector_was_on = thag_bookkeeping_begin();
    PyObject *id = PyLong_FromUnsignedLongLong(thag_context_today(context)->id);
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
    thag_waiting_forget_sharings();
    thag_guard_forget_label();
    Py_RETURN_NONE;
}

static PyObject *
native_forget(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLongLong(thag_lifecycle_forget_blocks());
}

/* Takes the row over; NULL is passed on. */
static void
row_add(PyObject *list, PyObject *row)
{
    if (row != NULL) {
        (void)PyList_Append(list, row);
        Py_DECREF(row);
    }
}

static void
sharing_tell(const thag_sharing *sharing, void *list)
{
    row_add(list, Py_BuildValue("KKKL", (unsigned long long)atomic_load(&sharing->charged_id),
                                (unsigned long long)atomic_load(&sharing->ids[0]),
                                (unsigned long long)atomic_load(&sharing->ids[1]),
                                (long long)thag_load(&sharing->bytes)));
}

static PyObject *
native_shared(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *list = PyList_New(0);
    if (list != NULL) {
        thag_waiting_visit_sharings(sharing_tell, list);
    }
    if (PyErr_Occurred()) {
        Py_CLEAR(list);
    }
    return list;
}

static void
workspace_tell(const void *start, void *list)
{
    size_t size;
    uint64_t id = thag_lifecycle_owner_of(start, &size);
    row_add(list, Py_BuildValue("Kn", (unsigned long long)id, (Py_ssize_t)size));
}

static PyObject *
native_workspaces(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *list = PyList_New(0);
    if (list != NULL) {
        thag_heap_visit_workspaces(workspace_tell, list);
    }
    if (PyErr_Occurred()) {
        Py_CLEAR(list);
    }
    return list;
}

static PyObject *
native_after_fork(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    thag_linker_after_fork();
    thag_waiting_forget();
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
    {"enter", THAG_FASTCALL(native_enter), METH_FASTCALL, NULL},
    {"adopt", native_adopt, METH_O, NULL},
    {"flow", native_flow, METH_NOARGS, NULL},
    {"context", native_context, METH_O, NULL},
    {"context_ids", native_context_ids, METH_NOARGS, NULL},
    {"hold", native_hold, METH_O, NULL},
    {"release", native_release, METH_O, NULL},
    {"current_id", native_current_id, METH_NOARGS, NULL},
    {"base_id", native_base_id, METH_NOARGS, NULL},
    {"set_foreground", native_set_foreground, METH_O, NULL},
    {"reset", native_reset, METH_NOARGS, NULL},
    {"forget", native_forget, METH_NOARGS, NULL},
    {"skip_ids", native_skip_ids, METH_O, NULL},
    {"shared", native_shared, METH_NOARGS, NULL},
    {"workspaces", native_workspaces, METH_NOARGS, NULL},
    {"after_fork", native_after_fork, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
