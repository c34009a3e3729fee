/* Runs of the garbage collector, noted as marks on the timeline. */

#include "bindings.h"
#include "clock.h"
#include "current.h"
#include "dispatcher.h"

/* When the collection that runs began; 0 if none was seen to begin. They do not nest. With the GIL. */
static uint64_t collection_started_ns;

/* Appends a mark to a deque of Python's. */
static bool
collection_keep(PyObject *mark_type, PyObject *marks, long generation, uint64_t started_ns, uint64_t duration_ns)
{
    const thag_context *current = thag_current_look_up(&thag_this_thread, thag_tstate_attached());
    unsigned long long context_id = current == NULL ? THAG_ROOT_ID : current->id;
    PyObject *name = PyUnicode_FromFormat("gc %ld", generation);
    PyObject *kind = PyUnicode_InternFromString("collection");
    PyObject *fields = name == NULL || kind == NULL
                           ? NULL
                           : Py_BuildValue("LKOOL", thag_since_origin(started_ns), context_id, name, kind,
                                           (long long)duration_ns);
    PyObject *mark = thag_named_tuple(mark_type, fields);
    PyObject *nothing = mark == NULL ? NULL : PyObject_CallMethod(marks, "append", "(O)", mark);
    Py_XDECREF(name);
    Py_XDECREF(kind);
    Py_XDECREF(mark);
    Py_XDECREF(nothing);
    return nothing != NULL;
}

static bool
collection_note(PyObject *watcher, PyObject *phase, PyObject *info)
{
    enum { OLDEST_GENERATION = 2, NOTABLE_NS = 1000000 };
    uint64_t now_ns = thag_clock_read();
    if (PyUnicode_CompareWithASCIIString(phase, "start") == 0) {
        collection_started_ns = now_ns;
        return true;
    }
    uint64_t started_ns = collection_started_ns;
    collection_started_ns = 0;
    if (started_ns == 0 || !thag_is_recording()) {
        return true;
    }
    uint64_t duration_ns = now_ns - started_ns;
    PyObject *number = PyMapping_GetItemString(info, "generation");
    long generation = number == NULL ? -1 : PyLong_AsLong(number);
    Py_XDECREF(number);
    if (PyErr_Occurred()) {
        return false;
    }
    if (generation < OLDEST_GENERATION && duration_ns <= NOTABLE_NS) {
        return true;
    }
    return collection_keep(PyTuple_GET_ITEM(watcher, 0), PyTuple_GET_ITEM(watcher, 1), generation, started_ns,
                           duration_ns);
}

/* Before 3.12 the collector runs in the middle of any allocation, also of one for the changing of a ContextVar. So this
   changes none, as Python code would that enters a context to be charged to nobody. It never raises. */
static PyObject *
collection_watch(PyObject *watcher, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyUnicode_Check(arguments[0])) {
        return PyErr_Format(PyExc_TypeError, "a callback of the collector takes a phase and a dict");
    }
    int collector_was_on = thag_bookkeeping_begin();
    if (!collection_note(watcher, arguments[0], arguments[1])) {
        PyErr_Clear();
        (void)thag_add(&thag_events.dropped, 1);
    }
    thag_bookkeeping_end(collector_was_on);
    Py_RETURN_NONE;
}

static PyMethodDef collection_method = {
    "watch_collection", THAG_FASTCALL(collection_watch), METH_FASTCALL, NULL,
};

static PyObject *
native_collection_watcher(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !thag_is_tuple_type(arguments[0])) {
        return PyErr_Format(PyExc_TypeError, "collection_watcher takes a type of tuples and a deque");
    }
    PyObject *watcher = PyTuple_Pack(2, arguments[0], arguments[1]);
    PyObject *watch = watcher == NULL ? NULL : PyCFunction_New(&collection_method, watcher);
    Py_XDECREF(watcher);
    return watch;
}

PyMethodDef thag_collector_methods[] = {
    {"collection_watcher", THAG_FASTCALL(native_collection_watcher), METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
