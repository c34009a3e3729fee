/* Events of all domains, with nothing between them: one after the other in one call, or by threads that take turns. */

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

void *PyMem_RawMalloc(size_t size);
void *PyMem_RawRealloc(void *block, size_t size);
void PyMem_RawFree(void *block);
void *PyMem_Malloc(size_t size);
void *PyMem_Realloc(void *block, size_t size);
void PyMem_Free(void *block);

typedef struct {
    int64_t who;
    int64_t slot;       /* its place among four, again and again: of the raw domain, mem, native code, NumPy's data */
    int64_t size;       /* that the block is to have; 0: none */
} step;

/* PyDataMem_Handler, as NumPy has it. */
static const struct {
    char name[127];
    uint8_t version;
    void *word;
    void *(*malloc)(void *word, size_t size);
    void *(*calloc)(void *word, size_t count, size_t size);
    void *(*realloc)(void *word, void *block, size_t size);
    void (*free)(void *word, void *block, size_t size);
} *numpy;

void
use_numpy(const void *handler)
{
    numpy = handler;
}

static void *
numpy_resize(void *block, size_t size)
{
    if (size == 0) {
        numpy->free(numpy->word, block, 0);
        return NULL;
    }
    return block == NULL ? numpy->malloc(numpy->word, size) : numpy->realloc(numpy->word, block, size);
}

static void *
resize(void *block, size_t size, void *(*allocate)(size_t), void *(*reallocate)(void *, size_t), void (*release)(void *))
{
    if (size == 0) {
        release(block);
        return NULL;
    }
    return block == NULL ? allocate(size) : reallocate(block, size);
}

/* Called by name: a pointer to one would be taken before its slot is ours. */
static void *
native_resize(void *block, size_t size)
{
    if (size == 0) {
        free(block);
        return NULL;
    }
    return block == NULL ? malloc(size) : realloc(block, size);
}

static void
step_take(const step *taken, void **slots)
{
    void **block = &slots[taken->slot];
    size_t size = (size_t)taken->size;
    switch (taken->slot % 4) {
    case 0:
        *block = resize(*block, size, PyMem_RawMalloc, PyMem_RawRealloc, PyMem_RawFree);
        break;
    case 1:
        *block = resize(*block, size, PyMem_Malloc, PyMem_Realloc, PyMem_Free);
        break;
    case 2:
        *block = native_resize(*block, size);
        break;
    default:
        *block = numpy_resize(*block, size);
    }
}

void
take_all(const step *steps, int64_t count, void **slots)
{
    for (int64_t i = 0; i < count; i++) {
        step_take(&steps[i], slots);
    }
}

static _Atomic int64_t turn;

void
begin_turns(void)
{
    turn = 0;
}

/* Those of `who`, each when those before it have been taken. */
void
take_turns(const step *steps, int64_t count, void **slots, int64_t who)
{
    for (int64_t i = 0; i < count; i++) {
        if (steps[i].who == who) {
            while (turn != i) {
                sched_yield();
            }
            step_take(&steps[i], slots);
            turn = i + 1;
        }
    }
}

/* Takes memory after a call back. */
void *
take_after(void (*call_back)(void), size_t size)
{
    call_back();
    return malloc(size);
}
