/* Work that is handed over, and runs under the flow that handed it over, wherever that is.

   What is given to a thread or a pool is put into a carrier: a function that is to be called, an iterable that is to be
   iterated over, a thread's `run`. Each enters the flow, does what it was given to do, and leaves. None has a frame of
   Python's: tracebacks, debuggers and the depth of the stack are what they would be without us.

   A carrier refers to what it carries and to a flow, to nothing of the call that made it, and lives as long as what it
   takes the place of. Making one is charged to nobody. Like a bound method it never changes, so the collector, which has to
   know what it refers to, need not be able to take it apart: in every cycle there is something else that it can. */

#include "bindings.h"
#include "contexts.h"
#include "current.h"

/* ---- entering and leaving ---- */

/* Where work comes from. */
typedef struct {
    thag_frame *frame;              /* owned, or NULL for the root; it refers to nothing that could lead back here */
    thag_origin origin;
} thag_flow;

/* What undoes it. */
typedef struct {
    PyObject *entering;             /* owned; NULL, with an exception: nothing was done */
    thag_origin before;
} entered_flow;

static entered_flow
flow_enter(thag_flow flow)
{
    thag_context *context = flow.frame == NULL ? thag_contexts.root : thag_context_today(flow.frame->context);
    PyObject *entering = thag_current_enter(context, THAG_ENTER_ADOPTED);
    thag_origin before = {0};
    if (entering != NULL) {
        before = thag_sites_enter_origin(flow.origin, thag_tstate_attached());
    }
    return (entered_flow){entering, before};
}

static void
flow_leave(entered_flow entered)
{
    thag_sites_leave_origin(entered.before);
    (void)thag_current_leave((thag_entering *)entered.entering, false);
    Py_DECREF(entered.entering);
}

static PyObject *
flow_call(thag_flow flow, PyObject *function, PyObject *const *arguments, size_t count, PyObject *names)
{
    entered_flow entered = flow_enter(flow);
    if (entered.entering == NULL) {
        return NULL;
    }
    PyObject *result = PyObject_Vectorcall(function, arguments, count, names);
    flow_leave(entered);
    return result;
}

/* A new reference to the frame that `flow()` gave, or NULL for the root. False with TypeError for anything else. */
static bool
flow_argument(PyObject *flow, thag_frame **frame)
{
    if (flow != Py_None && !Py_IS_TYPE(flow, &thag_frame_type)) {
        PyErr_Format(PyExc_TypeError, "work is carried under what flow() gave, not %R", flow);
        return false;
    }
    *frame = flow == Py_None ? NULL : (thag_frame *)Py_NewRef(flow);
    return true;
}

/* ---- what is carried ---- */

typedef struct {
    thag_stand_in carried;          /* of a function: what the carrier is called as; of all: what is carried */
    thag_flow flow;
} thag_carrier;

static PyObject *
carrier_new(PyTypeObject *type, PyObject *carried, PyObject *flow, thag_origin origin)
{
    thag_frame *frame;
    if (!flow_argument(flow, &frame)) {
        return NULL;
    }
    int collector_was_on = thag_bookkeeping_begin();
    thag_carrier *carrier = PyObject_GC_New(thag_carrier, type);
    thag_bookkeeping_end(collector_was_on);
    if (carrier == NULL) {
        Py_XDECREF((PyObject *)frame);
        return NULL;
    }
    carrier->carried.call = NULL;
    carrier->carried.original = Py_NewRef(carried);
    carrier->flow = (thag_flow){frame, origin};
    return (PyObject *)carrier;
}

static int
carrier_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((thag_carrier *)self)->carried.original);
    return 0;
}

static void
carrier_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_DECREF(((thag_carrier *)self)->carried.original);
    Py_XDECREF((PyObject *)((thag_carrier *)self)->flow.frame);
    PyObject_GC_Del(self);
}

/* ---- a function ---- */

static PyObject *
function_call(PyObject *self, PyObject *const *arguments, size_t count, PyObject *names)
{
    const thag_carrier *carrier = (thag_carrier *)self;
    return flow_call(carrier->flow, carrier->carried.original, arguments, count, names);
}

/* Elsewhere, in another process, there is no flow to run under: what arrives is the function alone. */
static PyObject *
function_reduce(PyObject *self, PyObject *Py_UNUSED(protocol))
{
    PyObject *operators = PyImport_ImportModule("operator");
    PyObject *getitem = operators == NULL ? NULL : PyObject_GetAttrString(operators, "getitem");
    Py_XDECREF(operators);
    return getitem == NULL ? NULL : Py_BuildValue("N((O)i)", getitem, ((thag_carrier *)self)->carried.original, 0);
}

static PyMethodDef function_methods[] = {
    {"__reduce_ex__", function_reduce, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject function_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "thag_nb._native.Carrier",
    .tp_basicsize = sizeof(thag_carrier),
    .tp_dealloc = carrier_dealloc,
    .tp_traverse = carrier_traverse,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION
                | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_vectorcall_offset = offsetof(thag_stand_in, call),
    .tp_call = PyVectorcall_Call,
    .tp_getattro = thag_stand_in_getattro,
    .tp_repr = thag_stand_in_repr,
    .tp_methods = function_methods,
    .tp_getset = thag_wrapper_attributes,
};

static PyObject *
function_carry(PyObject *function, PyObject *flow, thag_origin origin)
{
    PyObject *carrier = carrier_new(&function_type, function, flow, origin);
    if (carrier != NULL) {
        ((thag_carrier *)carrier)->carried.call = function_call;
        PyObject_GC_Track(carrier);
    }
    return carrier;
}

static PyObject *
native_carrier(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyCallable_Check(arguments[0])) {
        return PyErr_Format(PyExc_TypeError, "carrier takes a callable and a flow");
    }
    return function_carry(arguments[0], arguments[1], thag_this_thread.handing_over);
}

/* ---- an iterable, and its iterator ---- */

static PyObject *
iterator_next(PyObject *self)
{
    const thag_carrier *carrier = (thag_carrier *)self;
    entered_flow entered = flow_enter(carrier->flow);
    if (entered.entering == NULL) {
        return NULL;
    }
    PyObject *item = PyIter_Next(carrier->carried.original);
    flow_leave(entered);
    return item;
}

static PyTypeObject iterator_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "thag_nb._native.CarriedIterator",
    .tp_basicsize = sizeof(thag_carrier),
    .tp_dealloc = carrier_dealloc,
    .tp_traverse = carrier_traverse,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = iterator_next,
};

static PyObject *
items_iter(PyObject *self)
{
    const thag_carrier *items = (thag_carrier *)self;
    entered_flow entered = flow_enter(items->flow);
    if (entered.entering == NULL) {
        return NULL;
    }
    PyObject *iterator = PyObject_GetIter(items->carried.original);
    flow_leave(entered);
    PyObject *flow = items->flow.frame == NULL ? Py_None : (PyObject *)items->flow.frame;
    PyObject *carrier = iterator == NULL ? NULL : carrier_new(&iterator_type, iterator, flow, items->flow.origin);
    Py_XDECREF(iterator);
    if (carrier != NULL) {
        PyObject_GC_Track(carrier);
    }
    return carrier;
}

static Py_ssize_t
items_length(PyObject *self)
{
    return PyObject_Size(((thag_carrier *)self)->carried.original);
}

static PySequenceMethods items_as_sequence = {.sq_length = items_length};

static PyTypeObject items_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "thag_nb._native.CarriedItems",
    .tp_basicsize = sizeof(thag_carrier),
    .tp_dealloc = carrier_dealloc,
    .tp_traverse = carrier_traverse,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_iter = items_iter,
    .tp_as_sequence = &items_as_sequence,
};

static PyObject *
native_carried_items(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2) {
        return PyErr_Format(PyExc_TypeError, "carried_items takes an iterable and a flow");
    }
    PyObject *items = carrier_new(&items_type, arguments[0], arguments[1], thag_this_thread.handing_over);
    if (items != NULL) {
        PyObject_GC_Track(items);
    }
    return items;
}

/* ---- a thread's `run` ---- */

typedef struct {
    thag_stand_in found;            /* what the thread had as its `run`, wherever that was: for whoever looks at this one */
    PyObject *thread;               /* owned */
    PyObject *own_entry;            /* owned; what the thread had as its own `run`, or NULL: its class has it */
    thag_flow flow;
} thag_run;

static PyObject *run_name;          /* "run", interned */

/* The thread has the `run` again that it had. It is put past the thread's own `__setattr__`. */
static bool
run_take_off(thag_run *run)
{
    PyObject *entries = PyObject_GenericGetDict(run->thread, NULL);
    if (entries == NULL) {
        return false;
    }
    int failed = run->own_entry == NULL ? PyDict_DelItem(entries, run_name)
                                        : PyDict_SetItem(entries, run_name, run->own_entry);
    Py_DECREF(entries);
    if (failed && PyErr_ExceptionMatches(PyExc_KeyError)) {
        PyErr_Clear();      /* somebody was first */
        failed = 0;
    }
    return !failed;
}

static PyObject *
run_call(PyObject *self, PyObject *const *arguments, size_t count, PyObject *names)
{
    thag_run *run = (thag_run *)self;
    PyObject *function = run_take_off(run) ? PyObject_GetAttr(run->thread, run_name) : NULL;
    PyObject *result = function == NULL ? NULL : flow_call(run->flow, function, arguments, count, names);
    Py_XDECREF(function);
    return result;
}

static PyObject *
run_give_up(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    thag_run *run = (thag_run *)self;
    PyObject *entries = PyObject_GenericGetDict(run->thread, NULL);
    if (entries == NULL) {
        return NULL;
    }
    bool is_there = PyDict_GetItemWithError(entries, run_name) == self;
    Py_DECREF(entries);
    if (PyErr_Occurred() || (is_there && !run_take_off(run))) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
run_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((thag_run *)self)->thread);
    Py_VISIT(((thag_run *)self)->own_entry);
    Py_VISIT(((thag_run *)self)->found.original);
    return 0;
}

static void
run_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_DECREF(((thag_run *)self)->thread);
    Py_XDECREF(((thag_run *)self)->own_entry);
    Py_DECREF(((thag_run *)self)->found.original);
    Py_XDECREF((PyObject *)((thag_run *)self)->flow.frame);
    PyObject_GC_Del(self);
}

/* Whoever wraps the `run` of a thread that is to start may take the function out of the method, and call that. */
static PyObject *
run_function(PyObject *self, void *Py_UNUSED(closure))
{
    const thag_run *run = (thag_run *)self;
    PyObject *function = PyObject_GetAttrString(run->found.original, "__func__");
    PyObject *flow = run->flow.frame == NULL ? Py_None : (PyObject *)run->flow.frame;
    PyObject *carrier = function == NULL ? NULL : function_carry(function, flow, run->flow.origin);
    Py_XDECREF(function);
    return carrier;
}

static PyMethodDef run_methods[] = {
    {"give_up", run_give_up, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef run_attributes[] = {
    {"__func__", run_function, NULL, NULL, NULL},
    {"__doc__", thag_stand_in_doc, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject run_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "thag_nb._native.Run",
    .tp_basicsize = sizeof(thag_run),
    .tp_dealloc = run_dealloc,
    .tp_traverse = run_traverse,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION
                | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_vectorcall_offset = offsetof(thag_stand_in, call),
    .tp_call = PyVectorcall_Call,
    .tp_getattro = thag_stand_in_getattro,
    .tp_repr = thag_stand_in_repr,
    .tp_methods = run_methods,
    .tp_getset = run_attributes,
};

static PyObject *
run_new(PyObject *thread, PyObject *own_entry, PyObject *found, thag_frame *flow)
{
    thag_run *run = PyObject_GC_New(thag_run, &run_type);       /* in a preparation, which nobody pays for */
    if (run == NULL) {
        return NULL;
    }
    run->found.call = run_call;
    run->thread = Py_NewRef(thread);
    run->own_entry = Py_XNewRef(own_entry);
    run->found.original = Py_NewRef(found);
    run->flow = (thag_flow){(thag_frame *)Py_XNewRef((PyObject *)flow), thag_this_thread.handing_over};
    PyObject_GC_Track((PyObject *)run);
    return (PyObject *)run;
}

static PyObject *
run_put(PyObject *thread, thag_frame *flow)
{
    PyObject *found = PyObject_GenericGetAttr(thread, run_name);
    PyObject *entries = found == NULL ? NULL : PyObject_GenericGetDict(thread, NULL);
    PyObject *own_entry = entries == NULL ? NULL : PyDict_GetItemWithError(entries, run_name);
    PyObject *run = PyErr_Occurred() ? NULL : run_new(thread, own_entry, found, flow);
    if (run != NULL && PyDict_SetItem(entries, run_name, run) < 0) {
        Py_CLEAR(run);
    }
    Py_XDECREF(entries);
    Py_XDECREF(found);
    return run;
}

static PyObject *
native_carry_run(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    thag_frame *flow;
    if (count != 2) {
        return PyErr_Format(PyExc_TypeError, "carry_run takes a thread and a flow");
    }
    if (!flow_argument(arguments[1], &flow)) {
        return NULL;
    }
    PyObject *run = run_put(arguments[0], flow);
    Py_XDECREF((PyObject *)flow);
    return run;
}

/* ---- */

PyMethodDef thag_carrier_methods[] = {
    {"carrier", THAG_FASTCALL(native_carrier), METH_FASTCALL, NULL},
    {"carried_items", THAG_FASTCALL(native_carried_items), METH_FASTCALL, NULL},
    {"carry_run", THAG_FASTCALL(native_carry_run), METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

int
thag_carrier_init(PyObject *module)
{
    if (run_name == NULL) {
        run_name = PyUnicode_InternFromString("run");
    }
    if (run_name == NULL || PyType_Ready(&function_type) < 0 || PyType_Ready(&iterator_type) < 0) {
        return -1;
    }
    return PyModule_AddType(module, &items_type) < 0 ? -1 : PyModule_AddType(module, &run_type);
}
