/* Pairs of an allocation and its free, over and over: what the hooks cost with nothing around them.

   A block is freed at once, so every pair gets the same address, which is in the cache: the least that a hook can cost.
   Only foreign pairs do not: there the block that is freed was allocated before, by whoever called `hold`.

   `forward` installs hooks that do nothing but call what they wrap, in the three domains of CPython and in place in
   NumPy's default data handler, where thag_nb installs its own. State is changed under the GIL only. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#include <numpy/arrayobject.h>

enum { CPYTHON_DOMAINS = 3, NUMPY = CPYTHON_DOMAINS, FOREIGN, DOMAINS };

static struct {
    bool forwarding;
    PyMemAllocatorEx wrapped[CPYTHON_DOMAINS];
    PyDataMem_Handler *handler;
    PyDataMemAllocator wrapped_data;
    void **foreign; /* what `hold` allocated, and then what the loop put in its place */
    long foreign_count;
} state;

/* ---- hooks that only forward ---- */

static void *
forward_malloc(void *word, size_t size)
{
    const PyMemAllocatorEx *wrapped = word;
    return wrapped->malloc(wrapped->ctx, size);
}

static void *
forward_calloc(void *word, size_t count, size_t size)
{
    const PyMemAllocatorEx *wrapped = word;
    return wrapped->calloc(wrapped->ctx, count, size);
}

static void *
forward_realloc(void *word, void *block, size_t size)
{
    const PyMemAllocatorEx *wrapped = word;
    return wrapped->realloc(wrapped->ctx, block, size);
}

static void
forward_free(void *word, void *block)
{
    const PyMemAllocatorEx *wrapped = word;
    wrapped->free(wrapped->ctx, block);
}

static void *
forward_data_malloc(void *word, size_t size)
{
    return state.wrapped_data.malloc(word, size);
}

static void *
forward_data_calloc(void *word, size_t count, size_t size)
{
    return state.wrapped_data.calloc(word, count, size);
}

static void *
forward_data_realloc(void *word, void *block, size_t size)
{
    return state.wrapped_data.realloc(word, block, size);
}

static void
forward_data_free(void *word, void *block, size_t size)
{
    state.wrapped_data.free(word, block, size);
}

static void
forwarding_begin(void)
{
    for (int domain = 0; domain < CPYTHON_DOMAINS; domain++) {
        PyMemAllocatorEx *wrapped = &state.wrapped[domain];
        PyMem_GetAllocator((PyMemAllocatorDomain)domain, wrapped);
        PyMemAllocatorEx hook = {wrapped, forward_malloc, forward_calloc, forward_realloc, forward_free};
        PyMem_SetAllocator((PyMemAllocatorDomain)domain, &hook);
    }
    state.wrapped_data = state.handler->allocator;
    state.handler->allocator = (PyDataMemAllocator){
        state.wrapped_data.ctx, forward_data_malloc, forward_data_calloc, forward_data_realloc, forward_data_free,
    };
}

static void
forwarding_end(void)
{
    for (int domain = 0; domain < CPYTHON_DOMAINS; domain++) {
        PyMem_SetAllocator((PyMemAllocatorDomain)domain, &state.wrapped[domain]);
    }
    state.handler->allocator = state.wrapped_data;
}

/* ---- the loop ---- */

/* What callgrind collects, and nothing else. */
__attribute__((noinline)) void
pairs_loop(int domain, size_t size, long count)
{
    const PyDataMemAllocator *data = &state.handler->allocator;
    switch (domain) {
    case PYMEM_DOMAIN_RAW:
        for (long i = 0; i < count; i++) {
            PyMem_RawFree(PyMem_RawMalloc(size));
        }
        break;
    case PYMEM_DOMAIN_MEM:
        for (long i = 0; i < count; i++) {
            PyMem_Free(PyMem_Malloc(size));
        }
        break;
    case PYMEM_DOMAIN_OBJ:
        for (long i = 0; i < count; i++) {
            PyObject_Free(PyObject_Malloc(size));
        }
        break;
    case FOREIGN:
        for (long i = 0; i < count; i++) {
            void *own = PyObject_Malloc(size);
            PyObject_Free(state.foreign[i]);
            state.foreign[i] = own;
        }
        break;
    default:
        for (long i = 0; i < count; i++) {
            data->free(data->ctx, data->malloc(data->ctx, size), size);
        }
        break;
    }
}

/* ---- a heap that is the same for every loop ---- */

enum { POOLED_SIZE = 512, HELD = 1024, NEIGHBOURS = 4, PAGE_SHIFT = 12, HEADER = 64 };

/* In a pool of pymalloc's, a page tells; larger blocks follow each other with nothing in between but malloc's header. */
static bool
are_neighbours(void *const *blocks, size_t size)
{
    for (int i = 1; i < NEIGHBOURS; i++) {
        uintptr_t before = (uintptr_t)blocks[i - 1], after = (uintptr_t)blocks[i];
        if (size <= POOLED_SIZE ? before >> PAGE_SHIFT != after >> PAGE_SHIFT : after - before >= size + HEADER) {
            return false;
        }
    }
    return true;
}

/* A pair takes longer where it fills or empties a pool, or where malloc splits and joins free blocks: all of that
   depends on what else is on the heap. A free place between held ones, which the next block goes into, keeps the loop
   away from it; in a pool it takes two, or the block would fill it. How many blocks are held. */
static int
heap_settle(void **held, size_t size)
{
    int count = 0;
    do {
        held[count++] = PyObject_Malloc(size);
    } while (count < HELD && (count < NEIGHBOURS || !are_neighbours(held + count - NEIGHBOURS, size)));
    int places = size <= POOLED_SIZE ? 2 : 1;
    for (int i = count - 1 - places; i < count - 1; i++) {
        PyObject_Free(held[i]);
        held[i] = NULL;
    }
    return count;
}

/* ---- blocks that another context owns ---- */

/* Every second block is freed again, so that no pool is full and most have something left: then the loop hardly ever
   fills or empties one. False without memory. */
static bool
foreign_hold(size_t size, long count)
{
    state.foreign = malloc((size_t)count * sizeof *state.foreign);
    void **between = malloc((size_t)count * sizeof *between);
    if (state.foreign == NULL || between == NULL) {
        free(between);
        return false;
    }
    for (long i = 0; i < count; i++) {
        state.foreign[i] = PyObject_Malloc(size);
        between[i] = PyObject_Malloc(size);
    }
    for (long i = 0; i < count; i++) {
        PyObject_Free(between[i]);
    }
    free(between);
    state.foreign_count = count;
    return true;
}

static void
foreign_release(void)
{
    for (long i = 0; i < state.foreign_count; i++) {
        PyObject_Free(state.foreign[i]);
    }
    free(state.foreign);
    state.foreign = NULL;
    state.foreign_count = 0;
}

/* ---- the module ---- */

static PyObject *
pairs_hold(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_ssize_t size;
    long count;
    if (!PyArg_ParseTuple(args, "nl", &size, &count)) {
        return NULL;
    }
    if (size < 0 || count <= 0) {
        return PyErr_Format(PyExc_ValueError, "no %ld blocks of %zd bytes", count, size);
    }
    foreign_release();
    if (!foreign_hold((size_t)size, count)) {
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

static PyObject *
pairs_run(PyObject *Py_UNUSED(module), PyObject *args)
{
    int domain;
    Py_ssize_t size;
    long count;
    if (!PyArg_ParseTuple(args, "inl", &domain, &size, &count)) {
        return NULL;
    }
    if (domain < 0 || domain >= DOMAINS || size < 0) {
        return PyErr_Format(PyExc_ValueError, "no domain %d, or a size of %zd", domain, size);
    }
    if (domain == FOREIGN && count != state.foreign_count) {
        return PyErr_Format(PyExc_ValueError, "%ld blocks are held, not %ld", state.foreign_count, count);
    }
    static void *held[HELD];
    int holding = domain == FOREIGN ? 0 : heap_settle(held, (size_t)size);
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    pairs_loop(domain, (size_t)size, count);
    clock_gettime(CLOCK_MONOTONIC, &to);
    while (holding > 0) {
        PyObject_Free(held[--holding]);
    }
    if (domain == FOREIGN) {
        foreign_release();
    }
    return PyLong_FromLongLong((to.tv_sec - from.tv_sec) * 1000000000ll + to.tv_nsec - from.tv_nsec);
}

static PyObject *
pairs_forward(PyObject *Py_UNUSED(module), PyObject *on)
{
    bool wanted = on == Py_True;
    if (wanted != state.forwarding) {
        wanted ? forwarding_begin() : forwarding_end();
        state.forwarding = wanted;
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"run", pairs_run, METH_VARARGS, "run(domain, size, count): nanoseconds for so many pairs."},
    {"hold", pairs_hold, METH_VARARGS, "hold(size, count): allocate what a run of foreign pairs will free."},
    {"forward", pairs_forward, METH_O, "forward(on): hooks that only forward, in or out."},
    {0},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "pairs", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC
PyInit_pairs(void)
{
    import_array();
    state.handler = PyCapsule_GetPointer(PyDataMem_DefaultHandler, "mem_handler");
    return state.handler == NULL ? NULL : PyModule_Create(&definition);
}
