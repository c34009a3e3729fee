/* Guards, as other files of the bindings make and use them: each is for one use of a context. All with the GIL, or in the
   critical section of whoever has the guard. */

#ifndef THAG_GUARD_H
#define THAG_GUARD_H

#include "bindings.h"
#include "current.h"
#include "stacks.h"

typedef struct thag_guard {
    PyObject_HEAD
    thag_context *own;              /* what was opened for it, and is kept open until it is closed or dropped; then NULL */
    PyObject *entering;             /* owned: what undoes the entering; NULL outside */
    PyObject *context;              /* owned: what people see of the context; NULL until somebody asks the guard for it */
    PyObject *label;                /* owned: (name, kind); what is seen is made of this and the next three */
    uint64_t id;
    uint64_t parent_id;
    bool records;
    /* Where a scope keeps it while it is entered (see scope.c). */
    struct thag_guard *next;
    uint64_t caller;
    uint64_t turn;
    thag_base_begun base;           /* of the `with` statement that has entered it, if any (see stacks.h) */
} thag_guard;

/* A guard for a new task under the current context, and one for the shared system context. NULL with an exception. What is
   allocated for them is charged to nobody. */
thag_guard *thag_guard_for_task(PyObject *name);
thag_guard *thag_guard_for_system(void);

/* What people see of the context of a guard that was made here: a new one each time, as it would give the collector work for
   as long as somebody is inside. NULL with an exception. */
PyObject *thag_guard_describe(const thag_guard *guard);

/* Lets go of the name that was given last, for a reset. */
void thag_guard_forget_label(void);

/* As of Python. False with an exception and nothing changed. */
bool thag_guard_enter(thag_guard *guard, thag_entry_mode mode);

/* It was entered by the `with` statement that the innermost frame begins, if it does begin one. */
void thag_guard_begin_with(thag_guard *guard);
void thag_guard_close(thag_guard *guard, bool orphan);
bool thag_guard_is_around(const thag_guard *guard);

#endif
