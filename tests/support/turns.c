/* Events of CPython's domains, with nothing between them: one after the other in one call, or by threads that take turns. */

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

void *PyMem_RawMalloc(size_t size);
void *PyMem_RawRealloc(void *block, size_t size);
void PyMem_RawFree(void *block);
void *PyMem_Malloc(size_t size);
void *PyMem_Realloc(void *block, size_t size);
void PyMem_Free(void *block);

typedef struct {
    int64_t who;
    int64_t slot;       /* even ones are of the raw domain, odd ones of mem */
    int64_t size;       /* that the block is to have; 0: none */
} step;

static void
step_take(const step *taken, void **slots)
{
    void **block = &slots[taken->slot];
    int raw = taken->slot % 2 == 0;
    size_t size = (size_t)taken->size;
    if (size == 0) {
        (raw ? PyMem_RawFree : PyMem_Free)(*block);
        *block = NULL;
    }
    else if (*block == NULL) {
        *block = (raw ? PyMem_RawMalloc : PyMem_Malloc)(size);
    }
    else {
        *block = (raw ? PyMem_RawRealloc : PyMem_Realloc)(*block, size);
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
