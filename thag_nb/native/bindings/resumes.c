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

/* What a generator returned that has raised StopIteration; else NULL, and what it raised stays. */
static PyObject *
value_of_stop(void)
{
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return NULL;
    }
    PyObject *type, *stop, *traceback;
    PyErr_Fetch(&type, &stop, &traceback);
    PyErr_NormalizeException(&type, &stop, &traceback);
    PyObject *value = PyObject_GetAttrString(stop, "value");    /* without memory it is another exception, and has none */
    Py_XDECREF(type);
    Py_XDECREF(stop);
    Py_XDECREF(traceback);
    return value;
}

static PySendResult
generator_throw(PyObject *generator, PyObject *error, PyObject **result)
{
    *result = PyObject_CallMethod(generator, "throw", "(O)", error);
    if (*result != NULL) {
        return PYGEN_NEXT;
    }
    *result = value_of_stop();
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

/* The wrapper's `yield from` comes here on 3.11. As a method, `send` would be one more call for each level of a recursive
   generator, and there such calls count like frames. */
static PySendResult
resumes_resume(PyObject *self, PyObject *value, PyObject **result)
{
    thag_resumes *resumes = (thag_resumes *)self;
    if (resumes->generator == NULL) {
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;        /* it has ended */
    }
    *result = NULL;
    PyObject *entering = thag_current_enter(resumes->context, THAG_ENTER_NESTED);
    if (entering == NULL) {
        return PYGEN_ERROR;         /* there is no memory */
    }
    PyObject *error = resumes->error;
    resumes->error = NULL;
    PySendResult ending = error == NULL ? PyIter_Send(resumes->generator, value, result)
                                        : generator_throw(resumes->generator, error, result);
    Py_XDECREF(error);
    (void)thag_current_leave((thag_entering *)entering, true);
    Py_DECREF(entering);
    if (ending != PYGEN_NEXT) {
        resumes_end(resumes);
    }
    return ending;
}

/* And here, or to `send`, on later versions. */
static PyObject *
resumes_send(PyObject *self, PyObject *value)
{
    PyObject *result;
    return resumes_resume(self, value, &result) == PYGEN_RETURN ? returned(result) : result;
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

static PyAsyncMethods resumes_async = {
    .am_send = resumes_resume,
};

static PyTypeObject resumes_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "thag_nb._native.Resumes",
    .tp_basicsize = sizeof(thag_resumes),
    .tp_dealloc = resumes_dealloc,
    .tp_traverse = resumes_traverse,
    .tp_clear = resumes_clear,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_as_async = &resumes_async,
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
