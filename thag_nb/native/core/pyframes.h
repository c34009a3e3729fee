/* The frames of running Python code, read without a reference being taken or anything allocated. The only file that knows
   how CPython lays them out; `sites.c` and `stacks.c` include it.

   A frame is read by the thread that runs it, or whose state is attached, with the GIL: so none of them ends meanwhile. The
   layout is that of the minor version that this is compiled for; whether it is right is tried before it is relied on. */

#ifndef THAG_PYFRAMES_H
#define THAG_PYFRAMES_H

#define Py_BUILD_CORE_MODULE 1      /* before anything of Python's: so this is included first */
#include "thag.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wcast-qual"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wconversion"
#if PY_VERSION_HEX >= 0x030E0000
#include <internal/pycore_interpframe.h>
#else
#include <internal/pycore_frame.h>
#endif
#include <internal/pycore_code.h>
#include <opcode.h>
#if PY_VERSION_HEX >= 0x030D0000
#include <internal/pycore_runtime.h>
#endif
#pragma GCC diagnostic pop

typedef struct _PyInterpreterFrame thag_pyframe;

/* Whether the interpreter that runs says that its frames are like this. Before 3.13, none does. */
static inline bool
thag_pyframes_fit(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    const _Py_DebugOffsets *told = &_PyRuntime.debug_offsets;
    return told->interpreter_frame.previous == offsetof(thag_pyframe, previous)
           && told->interpreter_frame.executable == offsetof(thag_pyframe, f_executable)
           && told->interpreter_frame.instr_ptr == offsetof(thag_pyframe, instr_ptr)
           && told->interpreter_frame.owner == offsetof(thag_pyframe, owner)
           && told->thread_state.current_frame == offsetof(PyThreadState, current_frame);
#else
    return true;
#endif
}

/* The innermost one; NULL: none. */
static inline const thag_pyframe *
thag_pyframe_top(const PyThreadState *tstate)
{
#if PY_VERSION_HEX >= 0x030D0000
    return tstate->current_frame;
#else
    return tstate->cframe->current_frame;
#endif
}

/* Its caller. */
static inline const thag_pyframe *
thag_pyframe_previous(const thag_pyframe *frame)
{
    return frame->previous;
}

/* The code that it runs, borrowed; NULL for what the interpreter puts between frames. */
static inline PyCodeObject *
thag_pyframe_code(const thag_pyframe *frame)
{
#if PY_VERSION_HEX >= 0x030E0000
    if (frame->owner >= FRAME_OWNED_BY_INTERPRETER) {
        return NULL;
    }
    PyObject *code = PyStackRef_AsPyObjectBorrow(frame->f_executable);
    return code != NULL && PyCode_Check(code) ? (PyCodeObject *)code : NULL;
#elif PY_VERSION_HEX >= 0x030D0000
    PyObject *code = frame->owner == FRAME_OWNED_BY_CSTACK ? NULL : frame->f_executable;
    return code != NULL && PyCode_Check(code) ? (PyCodeObject *)code : NULL;
#elif PY_VERSION_HEX >= 0x030C0000
    return frame->owner == FRAME_OWNED_BY_CSTACK ? NULL : frame->f_code;
#else
    return frame->f_code;
#endif
}

static inline const _Py_CODEUNIT *
thag_pyframe_instruction(const thag_pyframe *frame)
{
#if PY_VERSION_HEX >= 0x030D0000
    return frame->instr_ptr;
#else
    return frame->prev_instr;
#endif
}

/* The instructions that it runs of that code. Without a GIL, threads have copies of their own. */
static inline const _Py_CODEUNIT *
thag_pyframe_instructions(const thag_pyframe *frame, PyCodeObject *code)
{
#if PY_VERSION_HEX >= 0x030E0000 && defined(Py_GIL_DISABLED)
    return (const _Py_CODEUNIT *)(const void *)_PyCode_GetTLBCArray(code)->entries[frame->tlbc_index];
#else
    (void)frame;
    return _PyCode_CODE(code);
#endif
}

/* The object that Python has made of it, borrowed; NULL for none. */
static inline const void *
thag_pyframe_object(const thag_pyframe *frame)
{
    return frame->frame_obj;
}

/* Where it stands: an address within its code, the same for all threads. */
static inline const void *
thag_pyframe_at(const thag_pyframe *frame)
{
#if PY_VERSION_HEX >= 0x030E0000 && defined(Py_GIL_DISABLED)
    PyCodeObject *code = thag_pyframe_code(frame);
    if (code != NULL) {
        return _PyCode_CODE(code) + (thag_pyframe_instruction(frame) - thag_pyframe_instructions(frame, code));
    }
#endif
    return thag_pyframe_instruction(frame);
}

/* True for one that is being set up: Python does not show it yet. */
static inline bool
thag_pyframe_is_incomplete(const thag_pyframe *frame, PyCodeObject *code)
{
    return frame->owner != FRAME_OWNED_BY_GENERATOR
           && thag_pyframe_instruction(frame) < thag_pyframe_instructions(frame, code) + code->_co_firsttraceable;
}

/* Whether it is at the beginning of a `with` statement that nothing can leave but its end: not one of a generator or coroutine. */
static inline bool
thag_pyframe_begins_with(const thag_pyframe *frame)
{
    PyCodeObject *code = thag_pyframe_code(frame);
    if (code == NULL || frame->owner != FRAME_OWNED_BY_THREAD) {
        return false;
    }
    const _Py_CODEUNIT *at = thag_pyframe_instruction(frame), *first = thag_pyframe_instructions(frame, code);
#if PY_VERSION_HEX >= 0x030E0000
    enum { OF_ENTER = 0 };      /* that `LOAD_SPECIAL` looks up; then it is called */
    return at > first && at[-1].op.code == LOAD_SPECIAL && at[-1].op.arg == OF_ENTER;
#elif PY_VERSION_HEX >= 0x030C0000
    return at >= first && at->op.code == BEFORE_WITH;
#else
    return at >= first && _Py_OPCODE(*at) == BEFORE_WITH;
#endif
}

/* How far the table of a code's lines has been read, which can only be read from its beginning on; zeros at first. */
typedef struct {
    uint32_t begin, end;        /* the instructions that the last entry is of */
    uint32_t bytes;             /* of the table that are read */
    int32_t lines;              /* from the code's first line to the entry's */
    bool has_line;
} thag_pyframe_reading;

/* A number in groups of six bits, the lowest first; its own lowest bit is the sign. */
static inline int32_t
thag_pyframe_signed_number(const unsigned char *from)
{
    uint32_t number = *from & 63u;
    for (unsigned shift = 6; *from++ & 64u; shift += 6) {
        number |= (*from & 63u) << shift;
    }
    return number & 1 ? -(int32_t)(number >> 1) : (int32_t)(number >> 1);
}

/* Reads on by an entry. Its first byte has the highest bit set, and a kind and a length; the format, with the kinds' numbers, is
   described in CPython's "Locations table" (InternalDocs/code_objects.md, and before that Objects/locations.md). */
static inline void
thag_pyframe_read_entry(thag_pyframe_reading *reading, const unsigned char *table, uint32_t table_bytes)
{
    enum { ONE_LINE = 10, NO_COLUMNS = 13, LONG = 14, NO_LINE = 15 };
    const unsigned char *entry = table + reading->bytes;
    int kind = *entry >> 3 & 15;
    if (kind == NO_COLUMNS || kind == LONG) {
        reading->lines += thag_pyframe_signed_number(entry + 1);
    }
    else if (ONE_LINE <= kind && kind < NO_COLUMNS) {
        reading->lines += kind - ONE_LINE;
    }
    reading->has_line = kind != NO_LINE;
    reading->begin = reading->end;
    reading->end += (*entry & 7u) + 1;
    do {
        reading->bytes++;
    } while (reading->bytes < table_bytes && (table[reading->bytes] & 128) == 0);
}

/* The line that it is in; 0 for none. What is read of its code's table is kept for the next one. */
static inline int
thag_pyframe_line(const thag_pyframe *frame, PyCodeObject *code, thag_pyframe_reading *reading)
{
    ptrdiff_t place = thag_pyframe_instruction(frame) - thag_pyframe_instructions(frame, code);
    if (place < 0) {
        return code->co_firstlineno;
    }
    if ((size_t)place < reading->begin) {
        *reading = (thag_pyframe_reading){0};
    }
    const unsigned char *table = (const unsigned char *)PyBytes_AS_STRING(code->co_linetable);
    uint32_t table_bytes = (uint32_t)PyBytes_GET_SIZE(code->co_linetable);
    while (reading->end <= (size_t)place && reading->bytes < table_bytes) {
        thag_pyframe_read_entry(reading, table, table_bytes);
    }
    int line = (size_t)place < reading->end && reading->has_line ? code->co_firstlineno + reading->lines : 0;
    return line < 0 ? 0 : line;
}

#endif
