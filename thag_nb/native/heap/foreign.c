/* What Arrow, Polars or torch allocate belongs to Python objects that only their code can look into: Python asks them where it
   is, and tells it here. A buffer of theirs may be shared, by a table and a slice of it. So each is an object for the walk, as
   an array's data would be that several views have for their base: whoever shares it holds a reference, and it goes when all
   are gone. What may hold anything holds one such object for the address 0, which then is told to hold all the others.

   A hash table by address, open, with linear probing, at most half full. A holder's key is its address, and what is kept there a
   tuple of its buffers; a buffer's key is that of its block, plus one, and what is kept is borrowed from these tuples. */

#include "foreign.h"

typedef struct thag_holding {
    uintptr_t key;          /* 0: none */
    PyObject *kept;
} holding;

enum { FIRST_BITS = 10, OF_BUFFER = 1 };

static void
buffer_dealloc(PyObject *object)
{
    PyObject_Free(object);
}

PyTypeObject thag_buffer_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "thag_nb._native.Buffer",
    .tp_basicsize = sizeof(thag_buffer),
    .tp_dealloc = buffer_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_doc = PyDoc_STR("A block of a library's, for as long as a walk lasts."),
};

static holding *
slot_find(const thag_foreign *foreign, uintptr_t key)
{
    size_t mask = ((size_t)1 << foreign->bits) - 1;
    size_t i = (size_t)((uint64_t)key * UINT64_C(0x9E3779B97F4A7C15) >> (64 - foreign->bits));
    while (foreign->slots[i].key != 0 && foreign->slots[i].key != key) {
        i = (i + 1) & mask;
    }
    return &foreign->slots[i];
}

static size_t
slots_bytes(unsigned bits)
{
    return sizeof(holding) << bits;
}

static bool
slots_grow(thag_foreign *foreign)
{
    unsigned bits = foreign->slots == NULL ? FIRST_BITS : foreign->bits + 1;
    thag_foreign grown = {.bits = bits, .count = foreign->count, .slots = thag_pages_map(slots_bytes(bits))};
    if (grown.slots == NULL) {
        return false;
    }
    for (size_t i = 0; foreign->slots != NULL && i < (size_t)1 << foreign->bits; i++) {
        if (foreign->slots[i].key != 0) {
            *slot_find(&grown, foreign->slots[i].key) = foreign->slots[i];
        }
    }
    if (foreign->slots != NULL) {
        thag_pages_unmap(foreign->slots, slots_bytes(foreign->bits));
    }
    *foreign = grown;
    return true;
}

/* The slot of the key, which it has from now on. NULL without memory. */
static holding *
slot_take(thag_foreign *foreign, uintptr_t key)
{
    bool full = foreign->slots == NULL || foreign->count * 2 >= (size_t)1 << foreign->bits;
    if (full && !slots_grow(foreign)) {
        (void)PyErr_NoMemory();
        return NULL;
    }
    holding *slot = slot_find(foreign, key);
    if (slot->key == 0) {
        *slot = (holding){.key = key};
        foreign->count++;
    }
    return slot;
}

/* What stands for the block at an address: known, or new; borrowed from the list that it is added to. */
static bool
buffer_add(thag_foreign *foreign, const void *block, PyObject *buffers)
{
    holding *slot = slot_take(foreign, (uintptr_t)block | OF_BUFFER);
    if (slot == NULL) {
        return false;
    }
    if (slot->kept != NULL) {
        return PyList_Append(buffers, slot->kept) == 0;
    }
    thag_buffer *buffer = PyObject_New(thag_buffer, &thag_buffer_type);
    if (buffer == NULL) {
        return false;
    }
    buffer->address = block;
    bool added = PyList_Append(buffers, (PyObject *)buffer) == 0;
    slot->kept = added ? (PyObject *)buffer : NULL;
    Py_DECREF(buffer);
    return added;
}

static bool
is_known(const thag_foreign *foreign, const void *block)
{
    return foreign->slots != NULL && slot_find(foreign, (uintptr_t)block | OF_BUFFER)->kept != NULL;
}

PyObject *
thag_foreign_hold(thag_foreign *foreign, PyObject *object, PyObject *addresses,
                  bool (*has_given)(const void *block, const void *data), const void *data)
{
    PyObject *listed = PyList_New(0);
    bool done = listed != NULL;
    for (Py_ssize_t i = 0; done && i < PyTuple_GET_SIZE(addresses); i++) {
        const void *block = PyLong_AsVoidPtr(PyTuple_GET_ITEM(addresses, i));
        done = !PyErr_Occurred();
        if (done && (block == NULL || is_known(foreign, block) || !has_given(block, data))) {
            done = buffer_add(foreign, block, listed);
        }
    }
    PyObject *buffers = done ? PyList_AsTuple(listed) : NULL;
    Py_XDECREF(listed);
    holding *slot = buffers == NULL ? NULL : slot_take(foreign, (uintptr_t)object);
    if (slot != NULL && slot->kept != NULL) {
        PyErr_Format(PyExc_ValueError, "what it holds was told before: %R", (PyObject *)Py_TYPE(object));
        slot = NULL;
    }
    if (slot == NULL) {
        Py_XDECREF(buffers);
        return NULL;
    }
    PyObject_GC_UnTrack(buffers);       /* nobody else comes to it */
    slot->kept = buffers;
    return buffers;
}

bool
thag_foreign_visit(const thag_foreign *foreign, PyObject *object, const thag_blocks_visitor *visitor)
{
    const holding *slot = foreign->slots == NULL ? NULL : slot_find(foreign, (uintptr_t)object);
    if (slot == NULL || slot->kept == NULL) {
        return true;
    }
    return thag_visitor_objects(PySequence_Fast_ITEMS(slot->kept), (size_t)PyTuple_GET_SIZE(slot->kept), visitor);
}

void
thag_foreign_clear(thag_foreign *foreign)
{
    for (size_t i = 0; foreign->slots != NULL && i < (size_t)1 << foreign->bits; i++) {
        if (foreign->slots[i].key != 0 && (foreign->slots[i].key & OF_BUFFER) == 0) {
            Py_XDECREF(foreign->slots[i].kept);
        }
    }
    if (foreign->slots != NULL) {
        thag_pages_unmap(foreign->slots, slots_bytes(foreign->bits));
    }
    *foreign = (thag_foreign){.slots = NULL};
}
