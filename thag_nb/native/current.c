/* Which context is current.

   A ContextVar of our own holds a frame; a flow (an asyncio task, a thread, a callback) has the value that contextvars
   gives it. The hooks must not read it with PyContextVar_Get: an allocation may happen while that function's one-entry
   cache is half updated, and a read would then revive a dying value. They use this instead:

     thread-local cache   valid while thread state, its id, its Context object and that Context's version are the same.
                          CPython changes one of them on every switch of flow: asyncio enters and leaves Contexts,
                          threads have their own state, greenlets swap Context and version together.
     on a miss            a look-up in the Context mapping itself, which neither allocates nor touches that cache.
     on our own set       no key changes, so enter and leave refresh the cache themselves.

   Without the GIL no look-up is legal: the thread's last known context is used, and counted as stale if its key moved. A
   thread that Python never saw is charged to the foreground context; another interpreter's thread to the root.

   Frames form a chain, innermost first. Leaving one that is current restores the next that is not orphaned; a frame left
   when it is not current is orphaned, so whoever restores later passes over it. A frame left in order is not: another
   flow may have inherited it, and there it goes on being what its work is charged to. */

#include "current.h"

_Thread_local thag_thread thag_this_thread;
thag_flows thag_flow_state;

static PyObject *variable;          /* the ContextVar; never freed: hooks may use it until the process ends */
static thag_frame *root_frame;

static void
frame_dealloc(PyObject *object)
{
    /* A chain may be ten thousand frames long: free it in a loop, not in a recursion. */
    thag_frame *frame = (thag_frame *)object;
    while (frame != NULL) {
        thag_frame *parent = frame->parent;
        PyObject_Free(frame);
        if (parent == NULL || Py_REFCNT(parent) > 1) {
            Py_XDECREF(parent);
            return;
        }
        frame = parent;
    }
}

PyTypeObject thag_frame_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "thag_nb._native.Frame",
    .tp_basicsize = sizeof(thag_frame),
    .tp_dealloc = frame_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_doc = PyDoc_STR("A context made current, and what was current before it."),
};

/* Our own allocations are not charged to anybody, and nobody else's may happen meanwhile: before 3.12 an allocation can
   run the collector, and with it any finalizer. Returns what
   thag_bookkeeping_end wants. */
int
thag_bookkeeping_begin(void)
{
    thag_this_thread.depth++;
#if PY_VERSION_HEX < 0x030C0000
    return PyGC_Disable();
#else
    return 0;
#endif
}

void
thag_bookkeeping_end(int collector_was_on)
{
#if PY_VERSION_HEX < 0x030C0000
    if (collector_was_on) {
        PyGC_Enable();
    }
#else
    (void)collector_was_on;
#endif
    thag_this_thread.depth--;
}

static void
cache_fill(thag_thread *thread, const PyThreadState *tstate, thag_context *context)
{
    thread->tstate = (PyThreadState *)tstate;
    thread->tstate_id = tstate->id;
    thread->contextvars = tstate->context;
    thread->contextvars_version = tstate->context_ver;
    thread->context = context;
}

/* An exception that was set before must survive, and one that comparing keys raises (it may, at the recursion limit,
   when two variables' hashes collide) must not be seen. */
static thag_context *
mapping_look_up(PyObject *contextvars, thag_context *otherwise)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *pending = PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
#endif
    thag_context *found = otherwise;
    int contained = PySequence_Contains(contextvars, variable);
    if (contained == 0) {
        found = thag_contexts.root;
    }
    else if (contained == 1) {
        PyObject *frame = PyObject_GetItem(contextvars, variable);
        if (frame != NULL) {
            found = ((thag_frame *)frame)->context;
            Py_DECREF(frame);
        }
    }
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(pending);
#else
    PyErr_Restore(type, value, traceback);
#endif
    return found;
}

thag_flow
thag_current_look_up(thag_thread *thread, PyThreadState *tstate)
{
    if (tstate->interp != thag_flow_state.interpreter) {
        return (thag_flow){.context = thag_contexts.root, .attached = false};
    }
    if (!thag_current_is_known(thread, tstate)) {
        thag_context *last = thread->tstate == tstate && thread->context ? thread->context : thag_contexts.root;
        thread->depth++;
        thag_context *context =
            tstate->context == NULL ? thag_contexts.root : mapping_look_up(tstate->context, last);
        thread->depth--;
        cache_fill(thread, tstate, context);
    }
    return (thag_flow){.context = thread->context, .attached = !thag_flow_state.gil_off};
}

thag_flow
thag_current_without_gil(thag_thread *thread)
{
    thag_flow flow = {.context = atomic_load(&thag_flow_state.foreground), .attached = false};
    const PyThreadState *own = PyGILState_GetThisThreadState();
    if (own == NULL) {
        return flow;
    }
    if (own->interp != thag_flow_state.interpreter) {
        flow.context = thag_contexts.root;
        return flow;
    }
    if (thread->tstate != own || thread->tstate_id != own->id) {
        flow.context = own->context == NULL ? thag_contexts.root : flow.context;
        (void)thag_add(&thag_flow_state.stale_lookups, own->context != NULL);
        return flow;
    }
    (void)thag_add(&thag_flow_state.stale_lookups, !thag_current_is_known(thread, own));
    flow.context = thread->context;
    return flow;
}

thag_frame *
thag_current_frame(void)
{
    PyObject *frame = NULL;
    if (PyContextVar_Get(variable, NULL, &frame) < 0 || frame == NULL) {
        return NULL;
    }
    Py_DECREF(frame);       /* the Context still holds it */
    return (thag_frame *)frame;
}

static bool
frame_set(thag_frame *frame)
{
    PyObject *token = PyContextVar_Set(variable, (PyObject *)frame);
    if (token == NULL) {
        return false;
    }
    Py_DECREF(token);
    cache_fill(&thag_this_thread, thag_tstate_attached(), frame->context);
    return true;
}

static thag_frame *
frame_new(thag_context *context, thag_frame *parent)
{
    thag_frame *frame = PyObject_New(thag_frame, &thag_frame_type);
    if (frame != NULL) {
        frame->context = context;
        frame->parent = (thag_frame *)Py_XNewRef((PyObject *)parent);
        frame->holds = false;
        frame->left = false;
        frame->orphaned = false;
    }
    return frame;
}

int
thag_current_init(void)
{
    if (variable != NULL) {
        return 0;
    }
    if (PyType_Ready(&thag_frame_type) < 0) {
        return -1;
    }
    root_frame = frame_new(thag_contexts.root, NULL);
    variable = root_frame == NULL ? NULL : PyContextVar_New("thag_nb_frame", NULL);
    if (variable == NULL) {
        return -1;
    }
    thag_flow_state.interpreter = PyInterpreterState_Get();
    atomic_store(&thag_flow_state.foreground, thag_contexts.root);
    return 0;
}

PyObject *
thag_current_enter(thag_context *context, thag_entry_mode mode)
{
    int collector_was_on = thag_bookkeeping_begin();
    thag_frame *parent = mode == THAG_ENTER_DETACHED ? NULL : thag_current_frame();
    thag_frame *frame = PyErr_Occurred() ? NULL : frame_new(context, parent);
    if (frame != NULL && !frame_set(frame)) {
        Py_CLEAR(frame);
    }
    if (frame != NULL) {
        frame->holds = mode != THAG_ENTER_ADOPTED;
        if (frame->holds) {
            thag_context_hold(context);
        }
        thag_shared_clock.events_left = 0;
    }
    thag_bookkeeping_end(collector_was_on);
    return (PyObject *)frame;
}

/* Makes the nearest frame below `frame` current that is not orphaned. */
static void
restore_below(thag_frame *frame)
{
    thag_frame *below = frame->parent;
    while (below != NULL && below->orphaned) {
        below = below->parent;
    }
    if (!frame_set(below == NULL ? root_frame : below)) {
        PyErr_Clear();
        frame->orphaned = true;
        (void)thag_add(&thag_flow_state.failed_restores, 1);
    }
}

bool
thag_current_leave(thag_frame *frame, bool orphan)
{
    if (frame->left) {
        return true;
    }
    frame->left = true;
    int collector_was_on = thag_bookkeeping_begin();
    bool innermost = thag_current_frame() == frame;
    if (innermost) {
        restore_below(frame);
    }
    else if (orphan) {
        frame->orphaned = true;
        (void)thag_add(&thag_flow_state.orphans, 1);
    }
    if (frame->holds) {
        thag_context_release(frame->context);
    }
    thag_shared_clock.events_left = 0;
    thag_bookkeeping_end(collector_was_on);
    return innermost;
}

thag_context *
thag_current_parent(void)
{
    thag_frame *frame = thag_current_frame();
    while (frame != NULL && (frame->orphaned || !thag_context_today(frame->context)->records)) {
        frame = frame->parent;
    }
    return frame == NULL ? thag_contexts.root : thag_context_today(frame->context);
}
