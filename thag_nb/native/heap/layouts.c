/* How objects are laid out whose types no header of CPython describes: those of its own modules in C, and numba's memory.
   NumPy's are in arrays.c.

   Only as many fields of each are written down as lie before the last one that is read. */

#include "layouts.h"

#include "arrays.h"

/* ---- modules of CPython ---- */

typedef struct {
    PyObject_VAR_HEAD
    void *items;
} array;

typedef struct deque_block {
    struct deque_block *left;
    PyObject *items[64];
    struct deque_block *right;
} deque_block;

typedef struct {
    PyObject_VAR_HEAD
    deque_block *leftmost;
    deque_block *rightmost;
} deque;

static bool
deque_visit(PyObject *object, const thag_kinds *Py_UNUSED(kinds), const thag_blocks_visitor *visitor)
{
    const deque *held = (const deque *)object;
    for (deque_block *block = held->leftmost; block != NULL; block = block->right) {
        visitor->block(block, visitor->data);
        if (block == held->rightmost) {
            break;
        }
    }
    return true;
}

typedef struct {
    PyObject_HEAD
    PyObject *bytes;
} bytes_io;

static bool
bytes_io_visit(PyObject *object, const thag_kinds *Py_UNUSED(kinds), const thag_blocks_visitor *visitor)
{
    return thag_visitor_objects(&((const bytes_io *)object)->bytes, 1, visitor);
}

/* What was only written is not in the buffer yet. */
typedef struct {
    PyObject_HEAD
    Py_UCS4 *buffer;
    Py_ssize_t position;
    Py_ssize_t length;
    size_t room;
    enum { STRING_IO_READABLE = 1, STRING_IO_WRITTEN = 2 } state;
#if PY_VERSION_HEX < 0x030C0000
    PyObject *written[2];           /* a list of long texts, one of short ones */
#elif PY_VERSION_HEX < 0x030E0000
    PyObject *written[1];           /* the first field of a writer that lies here */
#else
    struct {
        PyObject *written[1];
    } *writer;
#endif
} string_io;

static bool
string_io_visit(PyObject *object, const thag_kinds *Py_UNUSED(kinds), const thag_blocks_visitor *visitor)
{
    const string_io *stream = (const string_io *)object;
    if (stream->state != STRING_IO_WRITTEN) {
        return true;
    }
#if PY_VERSION_HEX < 0x030E0000
    return thag_visitor_objects(stream->written, sizeof(stream->written) / sizeof(*stream->written), visitor);
#else
    visitor->block(stream->writer, visitor->data);
    return thag_visitor_objects(stream->writer->written, 1, visitor);
#endif
}

/* A BufferedReader, BufferedWriter or BufferedRandom. */
typedef struct {
    PyObject_HEAD
    PyObject *raw;
    int ready, detached, readable, writable;
    char finalizing;
    int is_quick;
    off_t position;
    char *buffer;
} buffered;

typedef struct {
    PyObject_HEAD
#if PY_VERSION_HEX >= 0x030D0000
    bool waits;
    Py_ssize_t end, begin;
    PyObject **items;
#else
    PyThread_type_lock lock;        /* the items are in a list, which the collector is shown */
#endif
} simple_queue;

/* What functools.lru_cache makes. It begins as one of its results does, in a ring of them; it has a reference to each, as
   has the dict that finds them, but shows the collector only what they hold. */
typedef struct cached_result {
    PyObject_HEAD
    struct cached_result *previous, *next;
} cached_result;

static bool
lru_cache_visit(PyObject *object, const thag_kinds *Py_UNUSED(kinds), const thag_blocks_visitor *visitor)
{
    const cached_result *ring = (const cached_result *)object;
    for (cached_result *result = ring->next; result != NULL && result != ring; result = result->next) {
        if (!visitor->object((PyObject *)result, visitor->data)) {
            return false;
        }
    }
    return true;
}

/* Since 3.13 or 3.14 a lock lies in the object itself, which is smaller than this. */
typedef struct {
    PyObject_HEAD
    PyThread_type_lock lock;
    void *former[2];
} lock;

typedef struct {
    PyObject_HEAD
    PyThread_type_lock lock;
    void *former[3];
} rlock;

typedef struct {
    PyObject_HEAD
    Py_ssize_t size, length;
    void *codes;
    PyObject *format;
} struct_format;

static bool
struct_format_visit(PyObject *object, const thag_kinds *Py_UNUSED(kinds), const thag_blocks_visitor *visitor)
{
    return thag_visitor_objects(&((const struct_format *)object)->format, 1, visitor);
}

typedef struct {
    PyObject_HEAD
    PyObject *limits[4];            /* start, stop, step and length */
} range;

static bool
range_visit(PyObject *object, const thag_kinds *Py_UNUSED(kinds), const thag_blocks_visitor *visitor)
{
    return thag_visitor_objects(((const range *)object)->limits, 4, visitor);
}

/* Of ElementTree. */
typedef struct {
    PyObject *attributes;
    Py_ssize_t length, room;
    PyObject **children;            /* `few`, or a buffer */
    PyObject *few[4];
} element_extra;

typedef struct {
    PyObject_HEAD
    PyObject *tag, *text, *tail;
    element_extra *extra;
} element;

static bool
element_visit(PyObject *object, const thag_kinds *Py_UNUSED(kinds), const thag_blocks_visitor *visitor)
{
    const element_extra *extra = ((const element *)object)->extra;
    if (extra != NULL) {
        visitor->block(extra, visitor->data);
        visitor->block(extra->children, visitor->data);
    }
    return true;
}

/* Of ctypes. */
typedef struct {
    PyObject_HEAD
    void *memory;
    int owns_memory;
} ctypes_data;

static bool
ctypes_data_visit(PyObject *object, const thag_kinds *Py_UNUSED(kinds), const thag_blocks_visitor *visitor)
{
    const ctypes_data *held = (const ctypes_data *)object;
    if (held->owns_memory) {
        visitor->block(held->memory, visitor->data);
    }
    return true;
}

/* ---- numba ---- */

/* What the base of an array of numba's leads to. Another object may lead there as well. */
typedef struct {
    size_t references;
    void (*destroy)(void);
    void *destroyed;
    void *data;                     /* behind this, in the same block, or in one of its own */
    size_t size;                    /* 0 if the data are those of a Python object */
} numba_block;

typedef struct {
    PyObject_HEAD
    const numba_block *block;
} numba_memory;

static bool
numba_memory_visit(PyObject *object, const thag_kinds *Py_UNUSED(kinds), const thag_blocks_visitor *visitor)
{
    const numba_block *block = ((const numba_memory *)object)->block;
    if (block != NULL && block->references == 1) {
        visitor->block(block, visitor->data);
        if (block->size != 0) {
            visitor->block(block->data, visitor->data);
        }
    }
    return true;
}

/* ---- pandas ---- */

/* khash's, as pandas has it. */
typedef struct {
    uint32_t buckets, size, occupied, limit;
    const uint32_t *empty;          /* a bit for each bucket */
    PyObject **keys;
} pandas_buckets;

/* What an index finds labels with that are Python objects. It has a reference to each, of which it shows the collector none. */
typedef struct {
    PyObject_HEAD
    void *methods;
    const pandas_buckets *buckets;
} pandas_table;

static bool
pandas_table_visit(PyObject *object, const thag_kinds *Py_UNUSED(kinds), const thag_blocks_visitor *visitor)
{
    const pandas_buckets *table = ((const pandas_table *)object)->buckets;
    for (uint32_t i = 0; table != NULL && table->size > 0 && i < table->buckets; i++) {
        bool is_empty = table->empty[i / 32] >> i % 32 & 1;
        if (!is_empty && !visitor->object(table->keys[i], visitor->data)) {
            return false;
        }
    }
    return true;
}

/* ---- any of them ---- */

static const thag_layout array_layout = {sizeof(array), offsetof(array, items), NULL};
static const thag_layout buffered_layout = {sizeof(buffered), offsetof(buffered, buffer), NULL};
static const thag_layout bytes_io_layout = {sizeof(bytes_io), 0, bytes_io_visit};
static const thag_layout ctypes_data_layout = {sizeof(ctypes_data), 0, ctypes_data_visit};
static const thag_layout deque_layout = {sizeof(deque), 0, deque_visit};
static const thag_layout element_layout = {sizeof(element), 0, element_visit};
static const thag_layout lock_layout = {sizeof(lock), offsetof(lock, lock), NULL};
static const thag_layout lru_cache_layout = {sizeof(cached_result), 0, lru_cache_visit};
static const thag_layout numba_memory_layout = {sizeof(numba_memory), 0, numba_memory_visit};
static const thag_layout pandas_table_layout = {sizeof(pandas_table), 0, pandas_table_visit};
static const thag_layout range_layout = {sizeof(range), 0, range_visit};
static const thag_layout rlock_layout = {sizeof(rlock), offsetof(rlock, lock), NULL};
#if PY_VERSION_HEX >= 0x030D0000
static const thag_layout simple_queue_layout = {sizeof(simple_queue), offsetof(simple_queue, items), NULL};
#else
static const thag_layout simple_queue_layout = {sizeof(simple_queue), offsetof(simple_queue, lock), NULL};
#endif
static const thag_layout string_io_layout = {sizeof(string_io), offsetof(string_io, buffer), string_io_visit};
static const thag_layout struct_layout = {sizeof(struct_format), offsetof(struct_format, codes), struct_format_visit};

static const thag_layout *const layouts[THAG_KINDS] = {
    [THAG_ARRAY] = &array_layout,
    [THAG_BUFFERED_READER] = &buffered_layout,
    [THAG_BUFFERED_WRITER] = &buffered_layout,
    [THAG_BUFFERED_RANDOM] = &buffered_layout,
    [THAG_BYTES_IO] = &bytes_io_layout,
    [THAG_CTYPES_DATA] = &ctypes_data_layout,
    [THAG_DEQUE] = &deque_layout,
    [THAG_ELEMENT] = &element_layout,
    [THAG_LOCK] = &lock_layout,
    [THAG_LRU_CACHE] = &lru_cache_layout,
    [THAG_NUMBA_MEMORY] = &numba_memory_layout,
    [THAG_NUMPY_ARRAY] = &thag_array_layout,
    [THAG_NUMPY_DTYPE] = &thag_dtype_layout,
    [THAG_NUMPY_TEXT_DTYPE] = &thag_text_dtype_layout,
    [THAG_NUMPY_VOID] = &thag_record_layout,
    [THAG_PANDAS_TABLE] = &pandas_table_layout,
    [THAG_RANGE] = &range_layout,
    [THAG_RLOCK] = &rlock_layout,
    [THAG_SIMPLE_QUEUE] = &simple_queue_layout,
    [THAG_STRING_IO] = &string_io_layout,
    [THAG_STRUCT] = &struct_layout,
};

void
thag_layouts_set(thag_kinds *kinds, thag_kind kind, PyTypeObject *type)
{
    assert(kind < THAG_KINDS);
    bool fits = type != NULL && (size_t)type->tp_basicsize >= layouts[kind]->least_bytes;
    kinds->types[kind] = fits ? type : NULL;
}

/* The layout of the object's type, or of the one that it was derived from in C; NULL if that is none of ours. */
static const thag_layout *
layout_find(PyObject *object, const thag_kinds *kinds)
{
    for (PyTypeObject *type = Py_TYPE(object); type != NULL; type = type->tp_base) {
        for (int kind = 0; kind < THAG_KINDS; kind++) {
            if (kinds->types[kind] == type) {
                return layouts[kind];
            }
        }
    }
    return NULL;
}

bool
thag_layouts_visit(PyObject *object, const thag_kinds *kinds, const thag_blocks_visitor *visitor)
{
    const thag_layout *layout = layout_find(object, kinds);
    if (layout == NULL) {
        return true;
    }
    if (layout->buffer != 0) {
        const void *buffer;
        memcpy(&buffer, (const char *)object + layout->buffer, sizeof(buffer));
        visitor->block(buffer, visitor->data);
    }
    return layout->visit == NULL || layout->visit(object, kinds, visitor);
}
