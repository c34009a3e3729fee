/* How NumPy's objects are laid out: arrays, their dtypes, and `np.void`, one record of a structured array.

       array ──► data: numbers; or references; or records with both; or texts, the longer ones elsewhere
         └─────► dtype ──► fields, the part of a subarray, the buffer of texts

   Only what owns its data tells of them; a view tells of its base. Where the references are in the data says the dtype. */

#include "arrays.h"

/* ---- dtypes ---- */

typedef struct {
    PyObject_HEAD
    PyTypeObject *scalar_type;
    char kind, letter, byte_order, former_flags;
    int number;
} numpy_dtype;

enum { NUMPY_OBJECT = 17, NUMPY_VOID = 20, NUMPY_TEXT = 2056 };

typedef struct {
    numpy_dtype *part;
    PyObject *shape;
} numpy_subarray;

/* NumPy 1.26. */
typedef struct {
    numpy_dtype head;
    int item_bytes, alignment;
    numpy_subarray *subarray;
    PyObject *fields, *names;
    void *functions;
    PyObject *metadata;
    void *unit;
    Py_hash_t hash;
} numpy_1_dtype;

/* NumPy 2: what all dtypes have, and what those have that there were before. */
typedef struct {
    numpy_dtype head;
    uint64_t flags;
    Py_ssize_t item_bytes, alignment;
    PyObject *metadata;
    Py_hash_t hash;
    void *reserved[2];
} numpy_2_dtype;

typedef struct {
    numpy_2_dtype common;
    numpy_subarray *subarray;
    PyObject *fields, *names;
    void *unit;
} numpy_2_former_dtype;

/* What we ask of a dtype of any NumPy. Borrowed; NULL for what it does not have. */
typedef struct {
    Py_ssize_t item_bytes;
    const numpy_subarray *subarray;
    PyObject *fields, *names, *metadata;
    const void *unit;
} dtype_parts;

static dtype_parts
parts_of_1(const numpy_1_dtype *dtype)
{
    return (dtype_parts){dtype->item_bytes, dtype->subarray, dtype->fields, dtype->names, dtype->metadata, dtype->unit};
}

static dtype_parts
parts_of_2(const numpy_2_dtype *dtype)
{
    if (dtype->head.number < 0 || dtype->head.number >= NUMPY_TEXT) {
        return (dtype_parts){.item_bytes = dtype->item_bytes, .metadata = dtype->metadata};
    }
    const numpy_2_former_dtype *former = (const numpy_2_former_dtype *)dtype;
    return (dtype_parts){dtype->item_bytes, former->subarray, former->fields, former->names, dtype->metadata, former->unit};
}

/* Nothing, if this is a NumPy that we do not know. */
static dtype_parts
parts_of(const numpy_dtype *dtype, const thag_kinds *kinds)
{
    const PyTypeObject *type = kinds->types[THAG_NUMPY_DTYPE];
    if (type != NULL && type->tp_basicsize == sizeof(numpy_1_dtype)) {
        return parts_of_1((const numpy_1_dtype *)dtype);
    }
    if (type != NULL && type->tp_basicsize == sizeof(numpy_2_dtype)) {
        return parts_of_2((const numpy_2_dtype *)dtype);
    }
    return (dtype_parts){.item_bytes = 0};
}

static bool
dtype_visit(PyObject *dtype, const thag_kinds *kinds, const thag_blocks_visitor *visitor)
{
    dtype_parts parts = parts_of((const numpy_dtype *)dtype, kinds);
    visitor->block(parts.unit, visitor->data);
    visitor->block(parts.subarray, visitor->data);
    PyObject *const held[] = {parts.fields, parts.names, parts.metadata,
                              parts.subarray == NULL ? NULL : (PyObject *)parts.subarray->part,
                              parts.subarray == NULL ? NULL : parts.subarray->shape};
    return thag_visitor_objects(held, sizeof(held) / sizeof(*held), visitor);
}

/* ---- dtypes of texts of any length ---- */

typedef struct {
    void *functions[3];
    size_t used_bytes, bytes;
    void *texts;                /* most of the texts of an array, in one piece */
} text_buffer;

typedef struct {
    numpy_2_dtype common;
    PyObject *missing;
    char flags[4];
    size_t standard_bytes;
    const char *standard;
    size_t missing_bytes;
    const char *missing_name;
    text_buffer *buffer;
} numpy_text_dtype;

static bool
text_dtype_visit(PyObject *object, const thag_kinds *Py_UNUSED(kinds), const thag_blocks_visitor *visitor)
{
    if (Py_TYPE(object)->tp_basicsize != sizeof(numpy_text_dtype)) {
        return true;
    }
    const numpy_text_dtype *dtype = (const numpy_text_dtype *)object;
    if (dtype->buffer != NULL) {
        visitor->block(dtype->buffer, visitor->data);
        visitor->block(dtype->buffer->texts, visitor->data);
    }
    PyObject *const held[] = {dtype->missing, dtype->common.metadata};
    return thag_visitor_objects(held, sizeof(held) / sizeof(*held), visitor);
}

/* ---- data ---- */

/* One item of each record: of all records of an array, or of a row of it. */
typedef struct {
    char *first;
    Py_ssize_t step_bytes;
    Py_ssize_t count;
} column;

static bool
references_visit(column column, const thag_blocks_visitor *visitor)
{
    for (Py_ssize_t i = 0; i < column.count; i++) {
        PyObject *held;
        memcpy(&held, column.first + i * column.step_bytes, sizeof(held));      /* may not be aligned */
        if (held != NULL && !visitor->object(held, visitor->data)) {
            return false;
        }
    }
    return true;
}

/* A text has a block of its own if it became longer than what it replaced. */
static void
texts_visit(column column, const thag_blocks_visitor *visitor)
{
    enum { MISSING = 0x80, OUTSIDE = 0x20, LONG = 0x10 };
    struct {
        const void *address;
        uint64_t bytes_and_flags;
    } text;
    for (Py_ssize_t i = 0; i < column.count; i++) {
        memcpy(&text, column.first + i * column.step_bytes, sizeof(text));
#if PY_LITTLE_ENDIAN
        unsigned flags = (unsigned)(text.bytes_and_flags >> 56);
        if ((flags & (MISSING | OUTSIDE | LONG)) == (OUTSIDE | LONG)) {
            visitor->block(text.address, visitor->data);
        }
#endif
    }
}

static bool column_visit(const numpy_dtype *dtype, column column, const thag_kinds *kinds,
                         const thag_blocks_visitor *visitor);

static bool
subarray_visit(const numpy_dtype *part, Py_ssize_t bytes, column column, const thag_kinds *kinds,
               const thag_blocks_visitor *visitor)
{
    Py_ssize_t part_bytes = parts_of(part, kinds).item_bytes;
    char *end = column.first + (part_bytes > 0 ? bytes : 0);
    for (; column.first < end; column.first += part_bytes) {
        if (!column_visit(part, column, kinds, visitor)) {
            return false;
        }
    }
    return true;
}

/* `fields` has for each name, and for each title that is there beside it, the dtype and where that begins. */
static bool
fields_visit(PyObject *fields, column records, const thag_kinds *kinds, const thag_blocks_visitor *visitor)
{
    PyObject *name, *field;
    Py_ssize_t next = 0;
    while (PyDict_Next(fields, &next, &name, &field)) {
        bool is_title = PyTuple_GET_SIZE(field) > 2 && PyTuple_GET_ITEM(field, 2) == name;
        column column = records;
        column.first += PyLong_AsSsize_t(PyTuple_GET_ITEM(field, 1));
        const numpy_dtype *dtype = (const numpy_dtype *)PyTuple_GET_ITEM(field, 0);
        if (!is_title && !column_visit(dtype, column, kinds, visitor)) {
            return false;
        }
    }
    return true;
}

static bool
may_hold(const numpy_dtype *dtype)
{
    return dtype->number == NUMPY_OBJECT || dtype->number == NUMPY_VOID || dtype->number == NUMPY_TEXT;
}

static bool
column_visit(const numpy_dtype *dtype, column column, const thag_kinds *kinds, const thag_blocks_visitor *visitor)
{
    if (dtype->number == NUMPY_OBJECT) {
        return references_visit(column, visitor);
    }
    if (dtype->number == NUMPY_TEXT) {
        texts_visit(column, visitor);
    }
    if (dtype->number != NUMPY_VOID) {
        return true;
    }
    dtype_parts parts = parts_of(dtype, kinds);
    if (parts.subarray != NULL) {
        return subarray_visit(parts.subarray->part, parts.item_bytes, column, kinds, visitor);
    }
    return parts.fields == NULL || !PyDict_Check(parts.fields) || fields_visit(parts.fields, column, kinds, visitor);
}

/* ---- arrays ---- */

typedef struct {
    PyObject_HEAD
    char *data;
    int dimensions_count;
    Py_ssize_t *dimensions;         /* and behind them, in the same block, the strides */
    Py_ssize_t *strides;
    PyObject *base;
    numpy_dtype *dtype;
    int flags;
} numpy_array;

enum { NUMPY_OWNS_DATA = 4 };

/* What is at an index of the dimensions before `dimension`: row by row, whatever the order in memory. */
static bool
items_visit(const numpy_array *array, int dimension, char *first, const thag_kinds *kinds,
            const thag_blocks_visitor *visitor)
{
    if (dimension == array->dimensions_count) {
        return column_visit(array->dtype, (column){first, 0, 1}, kinds, visitor);
    }
    Py_ssize_t count = array->dimensions[dimension], step_bytes = array->strides[dimension];
    if (dimension == array->dimensions_count - 1) {
        return column_visit(array->dtype, (column){first, step_bytes, count}, kinds, visitor);
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!items_visit(array, dimension + 1, first + i * step_bytes, kinds, visitor)) {
            return false;
        }
    }
    return true;
}

static bool
array_visit(PyObject *object, const thag_kinds *kinds, const thag_blocks_visitor *visitor)
{
    const numpy_array *array = (const numpy_array *)object;
    PyObject *const held[] = {array->base, (PyObject *)array->dtype};
    if (!thag_visitor_objects(held, sizeof(held) / sizeof(*held), visitor)) {
        return false;
    }
    if (!(array->flags & NUMPY_OWNS_DATA) || array->data == NULL) {
        return true;
    }
    visitor->block(array->data, visitor->data);
    return !may_hold(array->dtype) || items_visit(array, 0, array->data, kinds, visitor);
}

bool
thag_array_borrows(PyObject *object, const thag_kinds *kinds)
{
    if (!Py_IS_TYPE(object, kinds->types[THAG_NUMPY_ARRAY])) {
        return false;
    }
    const numpy_array *array = (const numpy_array *)object;
    return !(array->flags & NUMPY_OWNS_DATA) && array->base != NULL && !PyObject_CheckBuffer(array->base);
}

/* A record with fields is a view, of an array of its own if it is a copy. Bytes without fields may be its alone. */
typedef struct {
    PyObject_VAR_HEAD
    char *data;
    numpy_dtype *dtype;
    int flags;
    PyObject *base;
} numpy_record;

static bool
record_visit(PyObject *object, const thag_kinds *Py_UNUSED(kinds), const thag_blocks_visitor *visitor)
{
    const numpy_record *record = (const numpy_record *)object;
    if (record->flags & NUMPY_OWNS_DATA) {
        visitor->block(record->data, visitor->data);
    }
    PyObject *const held[] = {record->base, (PyObject *)record->dtype};
    return thag_visitor_objects(held, sizeof(held) / sizeof(*held), visitor);
}

const thag_layout thag_array_layout = {sizeof(numpy_array), offsetof(numpy_array, dimensions), array_visit};
const thag_layout thag_record_layout = {sizeof(numpy_record), 0, record_visit};
const thag_layout thag_dtype_layout = {sizeof(numpy_2_dtype), 0, dtype_visit};
const thag_layout thag_text_dtype_layout = {sizeof(numpy_text_dtype), 0, text_dtype_visit};
