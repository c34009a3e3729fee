/* Which blocks an object is made of: the one that it lies in, and the buffers that belong to it alone.

       block                                     buffers: a list's items, a dict's keys and values, an array's data
         | the collector's head, an instance's pre-header                     ^
         v                                                                    |
         [ dict, weakrefs ][ gc head ][ object: count, type, fields ... pointer ]
                                      ^ id()

   The visitor is given addresses where a block may begin. It does no harm if none does: memory inside the object, static
   memory, and memory older than the recording have no record in the table of owners. What would do harm is a block that
   is given twice, for two objects. That is why the keys that instances of a class share are given for the class, and
   data that an array does not own for its base.

   Here is what the headers of CPython describe, or almost. The structs of its modules and of NumPy are in no header that
   could be included: layouts.c and arrays.c know as much of them as is read. The tests compare what is found with what was
   allocated, for all of them. */

#include "blocks.h"

#include "foreign.h"
#include "layouts.h"

/* ---- the object itself ---- */

static size_t
bytes_in_front(PyObject *object)
{
    unsigned long flags = Py_TYPE(object)->tp_flags;
    size_t bytes = 0;
#ifndef Py_GIL_DISABLED
    enum { GC_HEAD_BYTES = 2 * sizeof(void *) };
    bytes += PyObject_IS_GC(object) ? GC_HEAD_BYTES : 0;
#endif
#if PY_VERSION_HEX >= 0x030C0000
    const unsigned long pre_header = Py_TPFLAGS_MANAGED_DICT | Py_TPFLAGS_MANAGED_WEAKREF;
#else
    const unsigned long pre_header = Py_TPFLAGS_MANAGED_DICT;
#endif
    return bytes + (flags & pre_header ? 2 * sizeof(void *) : 0);
}

/* Before 3.13 the values of attributes are in a block of their own. The byte in front of them says where it begins. */
#if PY_VERSION_HEX < 0x030D0000
static const void *
values_block(const void *values)
{
    return (const uint8_t *)values - ((const uint8_t *)values)[-1];
}

static const void *
instance_values(PyObject *object)
{
    if (!PyType_HasFeature(Py_TYPE(object), Py_TPFLAGS_MANAGED_DICT)) {
        return NULL;
    }
#if PY_VERSION_HEX < 0x030C0000
    const void *values = ((void **)object)[-4];
    return values == NULL ? NULL : values_block(values);
#else
    uintptr_t tagged = ((uintptr_t *)object)[-3];       /* a dict, or the values less one */
    return tagged & 1 ? values_block((const void *)(tagged + 1)) : NULL;
#endif
}
#else
static const void *
values_block(const void *values)
{
    return values;
}

static const void *
instance_values(PyObject *Py_UNUSED(object))
{
    return NULL;
}
#endif

/* The dict of an instance that has its values inside: since 3.13 the collector is shown the values, and not the dict. */
static PyObject *
instance_dict(PyObject *object)
{
#if PY_VERSION_HEX >= 0x030D0000
#ifdef Py_GIL_DISABLED
    enum { DICT_OFFSET = -1 };
#else
    enum { DICT_OFFSET = -3 };
#endif
    return PyType_HasFeature(Py_TYPE(object), Py_TPFLAGS_MANAGED_DICT) ? ((PyObject **)object)[DICT_OFFSET] : NULL;
#else
    (void)object;
    return NULL;
#endif
}

/* ---- buffers ---- */

static void
visit_text(PyObject *text, const thag_blocks_visitor *visitor)
{
    const PyASCIIObject *ascii = (const PyASCIIObject *)text;
    if (ascii->state.compact && ascii->state.ascii) {
        return;
    }
    const char *utf8 = ((const PyCompactUnicodeObject *)text)->utf8;
    const void *letters = ascii->state.compact ? NULL : ((const PyUnicodeObject *)text)->data.any;
    if (letters != NULL) {
        visitor->block(letters, visitor->data);
    }
    if (utf8 != NULL && utf8 != letters) {
        visitor->block(utf8, visitor->data);
    }
}

/* The links of an OrderedDict, each a block. */
typedef struct ordered_link {
    PyObject *key;
    Py_hash_t hash;
    struct ordered_link *next;
} ordered_link;

typedef struct {
    PyDictObject dict;
    ordered_link *first;
    ordered_link *last;
    void *fast_nodes;
} ordered_dict;

static bool
is_dict(PyObject *object)
{
#if PY_VERSION_HEX >= 0x030F0000
    return PyAnyDict_Check(object);
#else
    return PyDict_Check(object);
#endif
}

/* How the keys of a dict begin. */
typedef struct {
    Py_ssize_t references;
    uint8_t bits, index_bits;
    uint8_t kind;
} dict_keys;

enum { KEYS_OF_ANY_KIND = 0 };

/* A dict whose keys are all text shows the collector its values only. */
static bool
visit_text_keys(PyObject *dict, const thag_blocks_visitor *visitor)
{
    PyObject *key;
    Py_ssize_t position = 0;
    while (PyDict_Next(dict, &position, &key, NULL)) {
        if (!visitor->object(key, visitor->data)) {
            return false;
        }
    }
    return true;
}

static bool
visit_dict(PyObject *object, const thag_blocks_visitor *visitor)
{
    const PyDictObject *dict = (const PyDictObject *)object;
    if (dict->ma_values != NULL) {
        visitor->block(values_block(dict->ma_values), visitor->data);
        return true;
    }
    visitor->block(dict->ma_keys, visitor->data);
    if (PyODict_Check(object)) {
        visitor->block(((const ordered_dict *)object)->fast_nodes, visitor->data);
        for (ordered_link *link = ((const ordered_dict *)object)->first; link != NULL; link = link->next) {
            visitor->block(link, visitor->data);
        }
    }
    return ((const dict_keys *)dict->ma_keys)->kind == KEYS_OF_ANY_KIND || visit_text_keys(object, visitor);
}

/* Without the GIL, the items of a list follow a word that tells for how many there is room. */
static const void *
items_block(const PyListObject *list)
{
#ifdef Py_GIL_DISABLED
    return list->ob_item == NULL ? NULL : (const char *)list->ob_item - sizeof(Py_ssize_t);
#else
    return list->ob_item;
#endif
}

static bool
visit_bytearray(const PyByteArrayObject *array, const thag_blocks_visitor *visitor)
{
#if PY_VERSION_HEX >= 0x030F0000
    return thag_visitor_objects(&array->ob_bytes_object, 1, visitor);
#else
    visitor->block(array->ob_bytes, visitor->data);
    return true;
#endif
}

static bool
visit_type(PyTypeObject *type, const thag_blocks_visitor *visitor)
{
    if (!PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)) {
        return true;
    }
    const PyHeapTypeObject *heap_type = (const PyHeapTypeObject *)type;
    visitor->block(heap_type->ht_cached_keys, visitor->data);
    visitor->block(heap_type->_ht_tpname, visitor->data);
    visitor->block(type->tp_doc, visitor->data);
    PyObject *const held[] = {heap_type->ht_name, heap_type->ht_qualname, heap_type->ht_slots,
                              (PyObject *)type->tp_subclasses};
    return thag_visitor_objects(held, sizeof(held) / sizeof(*held), visitor);
}

/* What was computed when somebody asked for it. */
static bool
visit_cached_code(const PyCodeObject *code, const thag_blocks_visitor *visitor)
{
#if PY_VERSION_HEX >= 0x030C0000
    const _PyCoCached *cached = code->_co_cached;
    if (cached == NULL) {
        return true;
    }
    visitor->block(cached, visitor->data);
    PyObject *const held[] = {cached->_co_code, cached->_co_varnames, cached->_co_cellvars, cached->_co_freevars};
    return thag_visitor_objects(held, sizeof(held) / sizeof(*held), visitor);
#else
    return thag_visitor_objects(&code->_co_code, 1, visitor);
#endif
}

/* Without the GIL, each thread specializes instructions of its own; the first one those in the object itself. */
static void
visit_instructions_by_thread(const PyCodeObject *code, const thag_blocks_visitor *visitor)
{
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
    const _PyCodeArray *by_thread = code->co_tlbc;
    visitor->block(by_thread, visitor->data);
    for (Py_ssize_t i = 1; by_thread != NULL && i < by_thread->size; i++) {
        visitor->block(by_thread->entries[i], visitor->data);
    }
#else
    (void)code;
    (void)visitor;
#endif
}

/* Code is unknown to the collector. */
static bool
visit_code(const PyCodeObject *code, const thag_blocks_visitor *visitor)
{
    visit_instructions_by_thread(code, visitor);
    PyObject *const held[] = {code->co_consts,     code->co_names,    code->co_localsplusnames,
                              code->co_localspluskinds, code->co_filename, code->co_name,
                              code->co_qualname,   code->co_linetable, code->co_exceptiontable};
    return thag_visitor_objects(held, sizeof(held) / sizeof(*held), visitor) && visit_cached_code(code, visitor);
}

/* ---- any object ---- */

bool
thag_blocks_visit(PyObject *object, const thag_kinds *kinds, const thag_blocks_visitor *visitor)
{
    visitor->block((char *)object - bytes_in_front(object), visitor->data);
    const void *values = instance_values(object);
    if (values != NULL) {
        visitor->block(values, visitor->data);
    }
    PyObject *names = instance_dict(object);
    if (names != NULL && !visitor->object(names, visitor->data)) {
        return false;
    }
    if (PyLong_Check(object) || PyTuple_Check(object) || PyBytes_Check(object)) {
        return true;
    }
    if (PyUnicode_Check(object)) {
        visit_text(object, visitor);
    }
    else if (PyList_Check(object)) {
        visitor->block(items_block((const PyListObject *)object), visitor->data);
    }
    else if (is_dict(object)) {
        return visit_dict(object, visitor);
    }
    else if (PyAnySet_Check(object)) {
        visitor->block(((PySetObject *)object)->table, visitor->data);
    }
    else if (PyByteArray_Check(object)) {
        return visit_bytearray((const PyByteArrayObject *)object, visitor);
    }
    else if (PyType_Check(object)) {
        return visit_type((PyTypeObject *)object, visitor);
    }
    else if (PyCode_Check(object)) {
        return visit_code((PyCodeObject *)object, visitor);
    }
    else if (Py_IS_TYPE(object, &thag_buffer_type)) {
        visitor->block(((const thag_buffer *)object)->address, visitor->data);
    }
    else {
        return thag_layouts_visit(object, kinds, visitor);
    }
    return true;
}
