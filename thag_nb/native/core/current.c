/* Which context is current.

   This file has types of Python's, and sets exceptions: a flow's context is a value of a ContextVar, so it must be an
   object, and what undoes an entering must be one so that dropping it undoes it. Nothing of that runs in a hook.

   A ContextVar of our own holds a frame; a flow (an asyncio task, a thread, a callback) has the value that contextvars
   gives it. The hooks must not read it with PyContextVar_Get: an allocation may happen while that function's one-entry
   cache is half updated, and a read would then revive a dying value. They use this instead:

     thread-local cache   valid while thread state, its id, its Context object and that Context's version are the same.
                          CPython changes one of them on every switch of flow: asyncio enters and leaves Contexts,
                          threads have their own state, greenlets swap Context and version together.
     on a miss            a look-up in the Context mapping itself, which neither allocates nor touches that cache.
     on our own set       no key changes, so enter and leave refresh the cache themselves.

   Without the GIL no look-up is legal: the thread's last known context is used, and counted as stale if its key moved. A
   thread that Python never saw is charged to who waits for its library (see waiting.c), or else to the foreground; another
   interpreter's thread to the root. Several frames may
   be in the foreground, as cells that run at once are, and the newest counts. Each keeps its context open and is there until
   it is left, so the foreground is never a context that has ended.

   A library's own thread that calls back into Python has a state for as long as the call takes, and no flow. It works for
   somebody who waits. Who that is is known while the native domain is attached; else it is the main thread as a rule, and
   what that is in is charged, which is looked up each time.

   Frames form a chain, innermost first. Leaving one that is current restores the next that is not over; a frame left when it
   is not current is orphaned, which is over in every flow. A frame left in order is over in two: in the one that left it, and
   in the one that entered it, which is another one where a generator is closed in a copy of its Context. Any other flow has
   inherited it, and there it goes on being what its work is charged to. Which flow entered it, its Context tells; that is
   referred to weakly, as another one may come to lie at its address when it is gone.

   A flow that is not running cannot set its variable. Whoever leaves a frame elsewhere does so for it, so that nothing is
   copied from there any more that is over; and until that has been done, should it fail, look-ups pass over the frame.

   One thing escapes the cache: Python code that copies all ContextVars of one Context into another with set() moves our
   variable without entering or leaving anything. It is seen at the next switch of flow, or the next guard. */

#include "current.h"

#include "charges.h"
#include "lane.h"
#include "lifecycle.h"

_Thread_local thag_thread thag_this_thread;
thag_flows thag_flow_state;

/* Frames in the foreground, borrowed, the newest last. Few ever are: of more than there is room for, the oldest goes. GIL */
enum { FOREGROUND_ROOM = 64 };
static struct {
    thag_frame *frames[FOREGROUND_ROOM];
    int count;
} foreground;

static PyObject *variable;          /* the ContextVar; never freed: hooks may use it until the process ends */
static thag_frame *root_frame;

static void
frame_dealloc(PyObject *object)
{
    /* A chain may be ten thousand frames long: free it in a loop, not in a recursion. */
    thag_frame *frame = (thag_frame *)object;
    while (frame != NULL) {
        thag_frame *parent = frame->parent;
        int32_t before = atomic_fetch_sub(&frame->context->frames, 1);
        assert(before > 0);
        (void)before;
        assert(!frame->in_foreground);
        Py_XDECREF(frame->opener);
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

static void
entering_dealloc(PyObject *object)
{
    thag_entering *entering = (thag_entering *)object;
    (void)thag_current_leave(entering, true);
    Py_DECREF((PyObject *)entering->frame);
    PyObject_Free(entering);
}

static PyObject *
entering_leave(PyObject *self, PyObject *orphan)
{
    return PyBool_FromLong(thag_current_leave((thag_entering *)self, PyObject_IsTrue(orphan)));
}

static PyMethodDef entering_methods[] = {
    {"leave", entering_leave, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

PyTypeObject thag_entering_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "thag_nb._native.Entering",
    .tp_basicsize = sizeof(thag_entering),
    .tp_dealloc = entering_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_methods = entering_methods,
    .tp_doc = PyDoc_STR("What undoes the entering of a context; dropping it does so as well."),
};

bool
thag_current_is_around(const thag_entering *entering)
{
    const thag_frame *frame = thag_current_frame();
    while (frame != NULL && frame != entering->frame) {
        frame = frame->parent;
    }
    return frame != NULL;
}

void
thag_uncharged_begin(void)
{
    thag_this_thread.depth++;
}

void
thag_uncharged_end(void)
{
    assert((thag_this_thread.depth & (THAG_PROBING - 1)) > 0);
    thag_this_thread.depth--;
}

/* Our own allocations are charged to no context, and no others may happen meanwhile: before 3.12 an allocation can run the
   collector, and with it any finalizer. Returns what thag_bookkeeping_end wants. */
int
thag_bookkeeping_begin(void)
{
    thag_uncharged_begin();
    return PyGC_Disable();
}

void
thag_bookkeeping_end(int collector_was_on)
{
    if (collector_was_on) {
        PyGC_Enable();
    }
    thag_uncharged_end();
}

static void
cache_fill(thag_thread *thread, const PyThreadState *tstate, thag_context *context)
{
    assert(tstate->interp == thag_flow_state.interpreter);
    thag_lane_leave();
    /* No thread state matches while not recording, nor on a native thread: then every look-up is a full one. */
    thread->tstate = thag_is_recording() && !thread->native ? (PyThreadState *)tstate : NULL;
    thread->tstate_id = tstate->id;
    thread->contextvars = tstate->context;
    thread->contextvars_version = tstate->context_ver;
    thread->generation = thag_generation();
    thread->shortcut.version_at = NULL;
    thread->context = thag_context_today(context);      /* until a reset, which moves the generation, expires this */
}

/* The Context that the frame was entered in, borrowed; NULL if it is gone, or has nothing to restore. */
static PyObject *
frame_opener(const thag_frame *frame)
{
    PyObject *opener = frame->opener == NULL ? Py_None : ((PyWeakReference *)frame->opener)->wr_object;
    return opener == Py_None ? NULL : opener;
}

/* The frame itself, or the next below that is not over for the flow that has this Context. */
static thag_frame *
frame_in(thag_frame *frame, const PyObject *contextvars)
{
    while (frame != NULL && (frame->orphaned || (frame->left && frame_opener(frame) == contextvars))) {
        frame = frame->parent;
    }
    return frame;
}

/* The frame that a value of our variable stands for in a Context: what is no frame is none. */
static thag_frame *
frame_of_value(PyObject *value, const PyObject *contextvars)
{
    return frame_in(Py_IS_TYPE(value, &thag_frame_type) ? (thag_frame *)value : NULL, contextvars);
}

static thag_context *
frame_context(const thag_frame *frame)
{
    return frame == NULL ? thag_contexts.root : frame->context;
}

/* An exception that is set must not be seen by what we call, nor be lost. */
typedef struct {
    PyObject *type, *value, *traceback;     /* since 3.12, only the value */
} exception_state;

static exception_state
exception_save(void)
{
    exception_state pending = {NULL, NULL, NULL};
#if PY_VERSION_HEX >= 0x030C0000
    pending.value = PyErr_GetRaisedException();
#else
    PyErr_Fetch(&pending.type, &pending.value, &pending.traceback);
#endif
    return pending;
}

static void
exception_restore(exception_state pending)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(pending.value);
#else
    PyErr_Restore(pending.type, pending.value, pending.traceback);
#endif
}

/* Comparing keys may raise, at the recursion limit, when two variables' hashes collide; that must not be seen outside. */
static thag_context *
mapping_look_up(PyObject *contextvars, thag_context *otherwise)
{
    exception_state pending = exception_save();
    thag_context *found = otherwise;
    int contained = PySequence_Contains(contextvars, variable);
    if (contained == 0) {
        found = thag_contexts.root;
    }
    else if (contained == 1) {
        PyObject *frame = PyObject_GetItem(contextvars, variable);
        if (frame != NULL) {
            found = frame_context(frame_of_value(frame, contextvars));
            Py_DECREF(frame);
        }
    }
    exception_restore(pending);
    return found;
}

/* What the thread is in that the interpreter began with. Threads that end meanwhile need the GIL for it, which we have (where
   it can be off, nothing is recorded then), and those that come are put in front. */
static thag_context *
context_of_main_thread(void)
{
    const PyThreadState *oldest = PyInterpreterState_ThreadHead(thag_flow_state.interpreter);
    for (PyThreadState *tstate = (PyThreadState *)oldest; tstate != NULL; tstate = PyThreadState_Next(tstate)) {
        oldest = tstate->id < oldest->id ? tstate : oldest;
    }
    return oldest == NULL || oldest->context == NULL ? thag_contexts.root
                                                     : mapping_look_up(oldest->context, thag_contexts.root);
}

/* What a flow is charged to that has nothing of its own: the root, but on a native thread who waits for its library; if that
   cannot be told, what the main thread is in, or else the foreground. */
static thag_context *
context_without_frame(thag_thread *thread)
{
    if (!thread->native) {
        return thag_contexts.root;
    }
    thag_context *waiting = thag_waiting_for(&thread->waiter);
    thag_context *asking = waiting != NULL ? waiting : context_of_main_thread();
    return asking == thag_contexts.root ? atomic_load(&thag_flow_state.foreground) : asking;
}

bool
thag_current_is_lent(thag_thread *thread, const thag_context *context)
{
    if (!thread->native) {
        return false;
    }
    thread->depth++;
    bool is_lent = context == context_without_frame(thread);
    thread->depth--;
    return is_lent;
}

static thag_context *
look_up_attached(thag_thread *thread, PyThreadState *tstate)
{
    if (tstate->interp != thag_flow_state.interpreter) {
        return thag_contexts.root;
    }
    if (!thag_current_cache_is_valid(thread, tstate)) {
        bool is_known = thread->tstate == tstate && thread->generation == thag_generation();
        thag_context *last = is_known ? thread->context : thag_contexts.root;
        thread->depth++;
        thag_context *context =
            tstate->context == NULL ? thag_contexts.root : mapping_look_up(tstate->context, last);
        if (context == thag_contexts.root) {
            context = context_without_frame(thread);
        }
        thread->depth--;
        cache_fill(thread, tstate, context);
    }
    return thread->context;
}

/* All threads would wait for each other if all wrote here for each event. */
static void
stale_count(bool is_stale)
{
    if (is_stale) {
        (void)thag_add(&thag_flow_state.stale_lookups, 1);
    }
}

/* Without a look at the main thread, which would take the GIL. */
static thag_context *
context_of_native_thread(thag_thread *thread)
{
    thag_context *waiting = thag_waiting_for(&thread->waiter);
    return waiting != NULL ? waiting : atomic_load(&thag_flow_state.foreground);
}

thag_context *
thag_current_look_up_detached(thag_thread *thread, const PyThreadState *own)
{
    if (!thag_is_recording()) {
        return NULL;
    }
    if (own == NULL) {
        return context_of_native_thread(thread);
    }
    if (own->interp != thag_flow_state.interpreter) {
        return thag_contexts.root;
    }
    bool is_known = thread->generation == atomic_load(&thag_contexts_generation);   /* as in thag_current_detached */
    if (thread->tstate != own || thread->tstate_id != own->id || !is_known) {
        stale_count(own->context != NULL);
        return own->context == NULL && !thread->native ? thag_contexts.root : context_of_native_thread(thread);
    }
    stale_count(!thag_current_cache_is_valid(thread, own));
    return thread->context;
}

thag_context *
thag_current_look_up(thag_thread *thread, PyThreadState *tstate)
{
    if (!thag_is_recording()) {
        return NULL;
    }
    return tstate == NULL ? thag_current_look_up_detached(thread, PyGILState_GetThisThreadState())
                          : look_up_attached(thread, tstate);
}

/* What our variable has here, borrowed; NULL for nothing. */
static PyObject *
variable_value(void)
{
    PyObject *value = NULL;
    if (PyContextVar_Get(variable, NULL, &value) < 0 || value == NULL) {
        return NULL;
    }
    Py_DECREF(value);       /* the Context still holds it */
    return value;
}

thag_frame *
thag_current_frame(void)
{
    PyObject *value = variable_value();
    return value == NULL ? NULL : frame_of_value(value, thag_tstate_attached()->context);
}

static bool
frame_set(thag_frame *frame)
{
    PyObject *token = PyContextVar_Set(variable, (PyObject *)frame);
    if (token == NULL) {
        /* CPython 3.11 does not notice a token that finds no memory: the variable may have moved all the same. */
        exception_state failure = exception_save();
        bool moved = variable_value() == (PyObject *)frame;
        exception_restore(failure);
        if (!moved) {
            return false;
        }
        PyErr_Clear();
    }
    Py_XDECREF(token);
    cache_fill(&thag_this_thread, thag_tstate_attached(), frame->context);
    return true;
}

static thag_frame *
frame_new(thag_context *context, thag_frame *parent)
{
    thag_frame *frame = PyObject_New(thag_frame, &thag_frame_type);
    if (frame == NULL) {
        return NULL;
    }
    if (parent != NULL && parent->left && frame_opener(parent) == NULL && parent->context->records) {
        /* It was left already and is not over here, so it is not over in any flow that still has it: what is below it is
           never looked for. Without its parent, callbacks that schedule themselves inside a task do not grow a chain. */
        Py_CLEAR(parent->parent);
    }
    frame->context = context;
    (void)atomic_fetch_add(&context->frames, 1);
    frame->parent = (thag_frame *)Py_XNewRef((PyObject *)parent);
    frame->opener = NULL;
    frame->in_foreground = false;
    frame->holds = false;
    frame->detached = false;
    frame->left = false;
    frame->orphaned = false;
    return frame;
}

/* Takes over the frame. */
static thag_entering *
entering_new(thag_frame *frame)
{
    thag_entering *entering = PyObject_New(thag_entering, &thag_entering_type);
    if (entering == NULL) {
        Py_DECREF((PyObject *)frame);
        return NULL;
    }
    entering->frame = frame;
    return entering;
}

int
thag_current_init(void)
{
    if (variable != NULL) {
        return 0;
    }
    if (PyType_Ready(&thag_frame_type) < 0 || PyType_Ready(&thag_entering_type) < 0) {
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

thag_context *
thag_current_context(void)
{
    return frame_context(thag_current_frame());
}

/* What was current before the outermost detached entering in this flow: whatever was left open inside is passed over. */
static thag_frame *
base_frame(void)
{
    thag_frame *base = thag_current_frame();
    for (thag_frame *frame = base; frame != NULL; frame = frame->parent) {
        if (frame->detached) {
            base = frame->parent;
        }
    }
    return frame_in(base, thag_tstate_attached()->context);
}

/* Makes the frame current, and notes where. False with an exception, and then no flow is in it. */
static bool
frame_enter(thag_frame *frame)
{
    if (!frame_set(frame)) {
        frame->left = true;
        return false;
    }
    frame->opener = PyWeakref_NewRef(thag_tstate_attached()->context, NULL);
    if (frame->opener == NULL) {
        frame->left = frame->orphaned = true;
        thag_contexts_expire_caches();
    }
    return frame->opener != NULL;
}

static thag_entering *
current_change(thag_context *context, thag_entry_mode mode)
{
    thag_frame *parent = mode == THAG_ENTER_DETACHED ? base_frame() : thag_current_frame();
    thag_frame *frame = PyErr_Occurred() ? NULL : frame_new(context, parent);
    if (frame != NULL) {
        frame->detached = mode == THAG_ENTER_DETACHED;
    }
    thag_entering *entering = frame == NULL ? NULL : entering_new(frame);
    if (entering != NULL && !frame_enter(frame)) {
        Py_CLEAR(entering);
    }
    return entering;
}

PyObject *
thag_current_enter(thag_context *context, thag_entry_mode mode)
{
    int collector_was_on = thag_bookkeeping_begin();
    thag_entering *entering = current_change(context, mode);
    if (entering != NULL) {
        entering->frame->holds = mode != THAG_ENTER_ADOPTED;
        if (entering->frame->holds) {
            thag_lifecycle_hold(context);
        }
        thag_batch_expire();
    }
    thag_bookkeeping_end(collector_was_on);
    return (PyObject *)entering;
}

static void
frame_orphan(thag_frame *frame)
{
    frame->orphaned = true;
    thag_contexts_expire_caches();
}

/* Makes `below` current in the place of a frame that was left. */
static void
restore(thag_frame *frame, thag_frame *below)
{
    assert(frame->left);
    if (!frame_set(below == NULL ? root_frame : below)) {
        PyErr_Clear();
        frame_orphan(frame);
        (void)thag_add(&thag_flow_state.failed_restores, 1);
    }
}

/* Takes a Context for this flow's, as greenlets do when they switch; the one that it takes the place of. */
static PyObject *
contextvars_switch(PyObject *contextvars)
{
    PyThreadState *tstate = thag_tstate_attached();
    PyObject *before = tstate->context;
    tstate->context = contextvars;
    tstate->context_ver++;
    return before;
}

/* Restores what the frame found in the flow that entered it, which is another one than this. Its Context may be entered by
   nobody now, or by any thread, so it cannot be entered here. */
static void
opener_restore(thag_frame *frame, PyObject *opener)
{
    Py_INCREF(opener);
    PyObject *own = contextvars_switch(opener);
    restore(frame, thag_current_frame());
    (void)contextvars_switch(own);
    Py_DECREF(opener);
    thag_contexts_expire_caches();
}

static bool
frame_leave(thag_frame *frame, bool orphan)
{
    bool innermost = thag_current_frame() == frame;
    frame->left = true;
    if (!innermost && orphan) {
        frame_orphan(frame);
        (void)thag_add(&thag_flow_state.orphans, 1);
        return false;
    }
    PyObject *here = thag_tstate_attached()->context;
    PyObject *opener = frame_opener(frame);
    if (opener != NULL && opener != here) {
        opener_restore(frame, opener);
    }
    if (innermost) {
        restore(frame, frame_in(frame->parent, here));
        if (opener == here) {
            Py_CLEAR(frame->opener);
        }
    }
    return innermost;
}

static void
foreground_tell(void)
{
    thag_context *context = foreground.count == 0 ? thag_contexts.root : foreground.frames[foreground.count - 1]->context;
    assert(atomic_load(&context->holds) > 0);
    atomic_store(&thag_flow_state.foreground, context);
    thag_waiting_expire();
}

static void
foreground_leave(thag_frame *frame)
{
    if (!frame->in_foreground) {
        return;
    }
    frame->in_foreground = false;
    thag_frame **frames = foreground.frames;
    int kept = 0;
    for (int i = 0; i < foreground.count; i++) {
        if (frames[i] != frame) {
            frames[kept++] = frames[i];
        }
    }
    assert(kept == foreground.count - 1);
    foreground.count = kept;
    foreground_tell();
}

static void
foreground_enter(thag_frame *frame)
{
    foreground_leave(frame);
    if (foreground.count == FOREGROUND_ROOM) {
        foreground_leave(foreground.frames[0]);
    }
    foreground.frames[foreground.count++] = frame;
    frame->in_foreground = true;
    foreground_tell();
}

bool
thag_current_set_foreground(thag_context *context)
{
    if (context == thag_contexts.root) {
        while (foreground.count > 0) {
            foreground_leave(foreground.frames[0]);
        }
        return true;
    }
    thag_frame *frame = thag_current_frame();
    while (frame != NULL && (frame->context != context || !frame->holds || frame->left)) {
        frame = frame->parent;
    }
    if (frame != NULL) {
        foreground_enter(frame);
    }
    return frame != NULL;
}

bool
thag_current_leave(thag_entering *entering, bool orphan)
{
    thag_frame *frame = entering->frame;
    if (frame->left) {
        return true;
    }
    exception_state pending = exception_save();
    int collector_was_on = thag_bookkeeping_begin();
    foreground_leave(frame);
    bool innermost = frame_leave(frame, orphan);
    if (frame->holds) {
        thag_lifecycle_release(frame->context);
    }
    thag_batch_expire();
    thag_bookkeeping_end(collector_was_on);
    exception_restore(pending);
    return innermost;
}

/* How deep contexts nest before those that have ended are passed over as parents: work that goes on for ever, each piece
   started by the one before it, must not walk an ever longer chain for each allocation. */
enum { DEEP = 64 };

static thag_context *
parent_of(thag_frame *frame)
{
    const PyObject *here = thag_tstate_attached()->context;
    while (frame != NULL && !thag_context_today(frame->context)->records) {
        frame = frame_in(frame->parent, here);
    }
    thag_context *context = frame == NULL ? thag_contexts.root : thag_context_today(frame->context);
    while (context->depth > DEEP && context->ended) {
        context = thag_context_parent(context);
    }
    return context;
}

thag_context *
thag_current_parent(void)
{
    thag_context *parent = parent_of(thag_current_frame());
    if (parent != thag_contexts.root) {
        return parent;
    }
    thag_context *context = thag_context_today(context_without_frame(&thag_this_thread));
    return context->records ? context : parent;
}

thag_context *
thag_current_base(void)
{
    return parent_of(base_frame());
}
