/* A generator whose work is a task's: what iterates over it, and enters the task around every resume.

   It is what the wrapper of a decorated generator function yields from, and it is no frame of Python's: a recursive
   generator reaches as deep as under any other decorator. It keeps the context open until the generator has ended. What is
   thrown into the wrapper is raised there, because it has no `throw` and no `close` of its own, and the wrapper passes it on
   with `raise_next`: so the generator is told of it as if nobody stood between. */

#include "bindings.h"
#include "contexts.h"
#include "guard.h"
#include "lifecycle.h"

typedef struct {
    PyObject_HEAD
    PyObject *generator;            /* owned; NULL once it has ended */
    PyObject *error;                /* owned; what the next resume raises in it, or NULL */
    thag_context *context;          /* held open as long as there is a generator */
} thag_resumes;

static void
resumes_end(thag_resumes *resumes)
{
    Py_CLEAR(resumes->error);
    if (resumes->generator != NULL) {
        Py_CLEAR(resumes->generator);
        thag_lifecycle_release(resumes->context);
    }
}

/* ---- a resume ---- */

/* Sets StopIteration with the value that a generator returned; takes it over. */
static PyObject *
returned(PyObject *value)
{
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
    Py_DECREF(value);
    if (stop != NULL) {
        PyErr_SetObject(PyExc_StopIteration, stop);
        Py_DECREF(stop);
    }
    return NULL;
}

/* What the generator yields next, or NULL with what it raised, StopIteration if it returned. */
static PyObject *
generator_resume(PyObject *generator, PyObject *value, PyObject *error)
{
    if (error != NULL) {
        return PyObject_CallMethod(generator, "throw", "(O)", error);
    }
    PyObject *result = NULL;
    PySendResult ending = PyIter_Send(generator, value, &result);
    return ending == PYGEN_RETURN ? returned(result) : result;
}

static PyObject *
resumes_send(PyObject *self, PyObject *value)
{
    thag_resumes *resumes = (thag_resumes *)self;
    PyObject *entering = resumes->generator == NULL ? NULL : thag_current_enter(resumes->context, THAG_ENTER_NESTED);
    if (entering == NULL) {
        return NULL;        /* it has ended, or there is no memory */
    }
    PyObject *error = resumes->error;
    resumes->error = NULL;
    PyObject *result = generator_resume(resumes->generator, value, error);
    Py_XDECREF(error);
    (void)thag_current_leave((thag_entering *)entering, true);
    Py_DECREF(entering);
    if (result == NULL) {
        resumes_end(resumes);
    }
    return result;
}

static PyObject *
resumes_next(PyObject *self)
{
    return resumes_send(self, Py_None);
}

static PyObject *
resumes_raise_next(PyObject *self, PyObject *error)
{
    thag_resumes *resumes = (thag_resumes *)self;
    if (resumes->generator == NULL) {
        Py_RETURN_FALSE;
    }
    Py_XSETREF(resumes->error, Py_NewRef(error));
    Py_RETURN_TRUE;
}

/* ---- the type ---- */

static int
resumes_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((thag_resumes *)self)->generator);
    Py_VISIT(((thag_resumes *)self)->error);
    return 0;
}

static int
resumes_clear(PyObject *self)
{
    resumes_end((thag_resumes *)self);
    return 0;
}

static void
resumes_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    resumes_end((thag_resumes *)self);
    PyObject_GC_Del(self);
}

static PyMethodDef resumes_methods[] = {
    {"send", resumes_send, METH_O, NULL},
    {"raise_next", resumes_raise_next, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject resumes_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "thag_nb._native.Resumes",
    .tp_basicsize = sizeof(thag_resumes),
    .tp_dealloc = resumes_dealloc,
    .tp_traverse = resumes_traverse,
    .tp_clear = resumes_clear,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = resumes_next,
    .tp_methods = resumes_methods,
};

/* ---- making one ---- */

/* Calls a generator function in the context. */
static PyObject *
generator_new(thag_context *context, PyObject *function, PyObject *const *arguments, size_t count, PyObject *names)
{
    PyObject *entering = thag_current_enter(context, THAG_ENTER_NESTED);
    if (entering == NULL) {
        return NULL;
    }
    PyObject *generator = PyObject_Vectorcall(function, arguments, count, names);
    (void)thag_current_leave((thag_entering *)entering, true);
    Py_DECREF(entering);
    return generator;
}

static thag_resumes *
resumes_new(thag_context *context)
{
    int collector_was_on = thag_bookkeeping_begin();
    thag_resumes *resumes = PyObject_GC_New(thag_resumes, &resumes_type);
    thag_bookkeeping_end(collector_was_on);
    if (resumes != NULL) {
        resumes->generator = NULL;
        resumes->error = NULL;
        resumes->context = context;
    }
    return resumes;
}

static PyObject *
native_resumes(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    enum { GUARD, FUNCTION, FIRST };
    if (count < FIRST || !PyObject_TypeCheck(arguments[GUARD], &thag_guard_type)) {
        return PyErr_Format(PyExc_TypeError, "resumes takes a guard, a function and its arguments");
    }
    thag_context *context = ((thag_guard *)arguments[GUARD])->own;
    if (context == NULL) {
        return PyErr_Format(PyExc_ValueError, "resumes takes a guard that a context was opened for");
    }
    thag_resumes *resumes = resumes_new(context);
    if (resumes == NULL) {
        return NULL;
    }
    thag_lifecycle_hold(context);
    PyObject *generator = generator_new(context, arguments[FUNCTION], arguments + FIRST, (size_t)(count - FIRST), names);
    resumes->generator = generator;
    PyObject_GC_Track((PyObject *)resumes);
    if (generator == NULL) {
        thag_lifecycle_release(context);
        Py_CLEAR(resumes);
    }
    return (PyObject *)resumes;
}

PyMethodDef thag_resumes_methods[] = {
    {"resumes", (PyCFunction)(void (*)(void))native_resumes, METH_FASTCALL | METH_KEYWORDS, NULL},
    {NULL, NULL, 0, NULL},
};

int
thag_resumes_init(PyObject *module)
{
    return PyModule_AddType(module, &resumes_type);
}
