/* Functions that hand work over, such as `ThreadPoolExecutor.submit`: wrapped, so that what they are given is carried.

   Whoever looks finds the function that is wrapped: its name, signature, code and class, what it says of itself. Only being
   called, being bound to an object and being pickled are the wrapper's own. It has no frame of Python's: it lets its
   arguments be prepared, at nobody's expense, which is over when the wrapped function begins. */

#include "bindings.h"
#include "current.h"

typedef struct {
    thag_stand_in wrapped;
    PyObject *prepare;              /* owned; what the arguments go through */
    PyObject *weak_references;
} thag_handover;

/* ---- a call ---- */

/* An exception is set, and stays; what came of the preparation is undone. */
static void
preparation_undo(PyObject *undo)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *nothing = PyObject_CallNoArgs(undo);
    if (nothing == NULL) {
        PyErr_WriteUnraisable(undo);
    }
    Py_XDECREF(nothing);
    PyErr_Restore(type, value, traceback);
}

static PyObject *
prepared_call(PyObject *original, PyObject *prepared)
{
    enum { ARGUMENTS, KEYWORDS, UNDO, FIELDS };
    assert(PyTuple_CheckExact(prepared) && PyTuple_GET_SIZE(prepared) == FIELDS);
    PyObject *result = PyObject_Call(original, PyTuple_GET_ITEM(prepared, ARGUMENTS), PyTuple_GET_ITEM(prepared, KEYWORDS));
    if (result == NULL && PyTuple_GET_ITEM(prepared, UNDO) != Py_None) {
        preparation_undo(PyTuple_GET_ITEM(prepared, UNDO));
    }
    return result;
}

/* Where this thread is now; nowhere unless its lines are recorded. */
static thag_origin
origin_here(thag_thread *thread)
{
    PyThreadState *tstate = thag_tstate_attached();
    const thag_context *context = thag_current_look_up(thread, tstate);
    return context == NULL || context->explained == NULL ? (thag_origin){0} : thag_sites_origin_here(tstate);
}

static PyObject *
handover_call(PyObject *self, PyObject *const *arguments, size_t count, PyObject *names)
{
    const thag_handover *handover = (thag_handover *)self;
    thag_thread *thread = &thag_this_thread;
    thag_origin before = thread->handing_over;
    thread->handing_over = origin_here(thread);
    thag_uncharged_begin();
    PyObject *prepared = PyObject_Vectorcall(handover->prepare, arguments, count, names);
    thag_uncharged_end();
    thread->handing_over = before;
    if (prepared == NULL) {
        return NULL;
    }
    PyObject *result = prepared == Py_None ? PyObject_Vectorcall(handover->wrapped.original, arguments, count, names)
                                           : prepared_call(handover->wrapped.original, prepared);
    Py_DECREF(prepared);
    return result;
}

/* ---- the type ---- */

static PyObject *
handover_bind(PyObject *self, PyObject *object, PyObject *Py_UNUSED(type))
{
    return object == NULL || object == Py_None ? Py_NewRef(self) : PyMethod_New(self, object);
}

static int
handover_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    return PyObject_SetAttr(((thag_handover *)self)->wrapped.original, name, value);
}

/* By name, as a function is pickled. */
static PyObject *
handover_reduce(PyObject *self, PyObject *Py_UNUSED(protocol))
{
    return PyObject_GetAttrString(((thag_handover *)self)->wrapped.original, "__qualname__");
}

static int
handover_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((thag_handover *)self)->wrapped.original);
    Py_VISIT(((thag_handover *)self)->prepare);
    return 0;
}

static void
handover_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    if (((thag_handover *)self)->weak_references != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    Py_DECREF(((thag_handover *)self)->wrapped.original);
    Py_DECREF(((thag_handover *)self)->prepare);
    PyObject_GC_Del(self);
}

static PyMethodDef handover_methods[] = {
    {"__reduce_ex__", handover_reduce, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject handover_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "thag_nb._native.Handover",
    .tp_basicsize = sizeof(thag_handover),
    .tp_dealloc = handover_dealloc,
    .tp_traverse = handover_traverse,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR
                | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_vectorcall_offset = offsetof(thag_stand_in, call),
    .tp_weaklistoffset = offsetof(thag_handover, weak_references),
    .tp_call = PyVectorcall_Call,
    .tp_descr_get = handover_bind,
    .tp_getattro = thag_stand_in_getattro,
    .tp_setattro = handover_setattro,
    .tp_repr = thag_stand_in_repr,
    .tp_methods = handover_methods,
    .tp_getset = thag_wrapper_attributes,
};

static PyObject *
native_handover(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyCallable_Check(arguments[0]) || !PyCallable_Check(arguments[1])) {
        return PyErr_Format(PyExc_TypeError, "handover takes 2 callables");
    }
    thag_handover *handover = PyObject_GC_New(thag_handover, &handover_type);
    if (handover == NULL) {
        return NULL;
    }
    handover->wrapped.call = handover_call;
    handover->wrapped.original = Py_NewRef(arguments[0]);
    handover->prepare = Py_NewRef(arguments[1]);
    handover->weak_references = NULL;
    PyObject_GC_Track((PyObject *)handover);
    return (PyObject *)handover;
}

PyMethodDef thag_handover_methods[] = {
    {"handover", THAG_FASTCALL(native_handover), METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

int
thag_handover_init(PyObject *Py_UNUSED(module))
{
    return PyType_Ready(&handover_type);
}
