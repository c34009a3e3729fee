/* A library with a thread of its own, as Arrow, Polars or DuckDB have some: it allocates for whoever called, while that waits
   without the GIL. */

#include <Python.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>

static pthread_t worker;
static sem_t asked, done, may_go_on;
static size_t wanted_bytes;
static PyObject *callback;
static int calls_by_state;
static void *volatile block;

/* As pybind11 does it, for a thread that keeps its state: it gives up the GIL as if to wait. */
static void
call_by_state(void)
{
    static PyThreadState *state;
    state = state == NULL ? PyThreadState_New(PyInterpreterState_Main()) : state;
    PyEval_AcquireThread(state);
    Py_XDECREF(PyObject_CallNoArgs(callback));
    (void)PyEval_SaveThread();
}

static void *
work(void *unused)
{
    for (;;) {
        sem_wait(&asked);
        if (callback != NULL && calls_by_state) {
            call_by_state();
            callback = NULL;
        }
        else if (callback != NULL) {
            PyGILState_STATE state = PyGILState_Ensure();
            Py_XDECREF(PyObject_CallNoArgs(callback));
            PyGILState_Release(state);
            callback = NULL;
        }
        else {
            block = malloc(wanted_bytes);
        }
        sem_post(&done);
    }
    return unused;
}

int
begin(void)
{
    sem_init(&asked, 0, 0);
    sem_init(&done, 0, 0);
    sem_init(&may_go_on, 0, 0);
    return pthread_create(&worker, NULL, work, NULL);
}

/* With the GIL: the worker allocates so much, which is returned. */
void *
ask_for(size_t bytes)
{
    PyThreadState *state = PyEval_SaveThread();
    wanted_bytes = bytes;
    sem_post(&asked);
    sem_wait(&done);
    PyEval_RestoreThread(state);
    return block;
}

/* The same, but nobody waits without the GIL. */
void *
ask_holding(size_t bytes)
{
    wanted_bytes = bytes;
    sem_post(&asked);
    sem_wait(&done);
    return block;
}

/* The worker calls back into Python, by a state that it keeps or not. */
void
ask_to_call(PyObject *function, int by_state)
{
    PyThreadState *state = PyEval_SaveThread();
    calls_by_state = by_state;
    callback = function;
    sem_post(&asked);
    sem_wait(&done);
    PyEval_RestoreThread(state);
}

/* This thread calls back into Python itself, from code without the GIL. */
void
call_meanwhile(PyObject *function)
{
    PyThreadState *state = PyEval_SaveThread();
    PyGILState_STATE inside = PyGILState_Ensure();
    Py_XDECREF(PyObject_CallNoArgs(function));
    PyGILState_Release(inside);
    PyEval_RestoreThread(state);
}

/* Waits in this library's code, without the GIL, until somebody lets it go on. */
void
linger(void)
{
    PyThreadState *state = PyEval_SaveThread();
    sem_wait(&may_go_on);
    PyEval_RestoreThread(state);
}

void
let_go_on(void)
{
    sem_post(&may_go_on);
}

void
give_back(void *taken)
{
    free(taken);
}

/* The same as pybind11 does it: what got the GIL by its thread's state gives it up as if to wait. */
void
call_meanwhile_by_state(PyObject *function)
{
    PyThreadState *state = PyEval_SaveThread();
    PyEval_AcquireThread(state);
    Py_XDECREF(PyObject_CallNoArgs(function));
    (void)PyEval_SaveThread();
    PyEval_RestoreThread(state);
}

/* So many calls, each from within the one before. */
void
call_deeply(PyObject *function, int calls)
{
    PyThreadState *state = PyEval_SaveThread();
    PyGILState_STATE inside = PyGILState_Ensure();
    if (calls > 1) {
        call_deeply(function, calls - 1);
    }
    else {
        Py_XDECREF(PyObject_CallNoArgs(function));
    }
    PyGILState_Release(inside);
    PyEval_RestoreThread(state);
}
