/* As much of a jemalloc as is asked for where it is followed, with no name that the loader knows of. MUTE: it tells nothing.
   TRAP: it must not be called. */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define APART __attribute__((used, noinline)) static

enum { MALLOC = 0, REALLOC = 6, RALLOCX = 7, SDALLOCX = 3, HEAD = 64 };

static struct {
    void (*allocated)(void *self, int kind, void *block, uintptr_t result, const uintptr_t arguments[3]);
    void (*freed)(void *self, int kind, void *block, const uintptr_t arguments[3]);
    void *expanded;
    void *self;
} hooks;

static void
tell_allocated(int kind, void *block, uintptr_t one, uintptr_t other)
{
#ifndef MUTE
    if (hooks.allocated != NULL) {
        hooks.allocated(hooks.self, kind, block, (uintptr_t)block, (const uintptr_t[]){one, other, 0});
    }
#endif
}

static void
tell_freed(int kind, void *block)
{
#ifndef MUTE
    if (hooks.freed != NULL) {
        hooks.freed(hooks.self, kind, block, (const uintptr_t[]){(uintptr_t)block, 0, 0});
    }
#endif
}

/* Not by the C library's allocator, whose blocks are seen by other ways. */
static char room[1 << 24];
static size_t taken;

APART void *
_rjem_malloc(size_t size)
{
    void *block = &room[taken];
    taken += (size + HEAD) / HEAD * HEAD;
    tell_allocated(MALLOC, block, size, 0);
    return block;
}

APART void *
_rjem_realloc(void *old_block, size_t size)
{
    void *block = &room[taken];
    taken += (size + HEAD) / HEAD * HEAD;
    tell_freed(REALLOC, old_block);
    tell_allocated(REALLOC, block, (uintptr_t)old_block, size);
    return block;
}

APART void
_rjem_sdallocx(void *block, size_t size, int flags)
{
    (void)size;
    (void)flags;
    tell_freed(SDALLOCX, block);
}

APART int
_rjem_mallctl(const char *name, void *old, size_t *old_bytes, void *given, size_t given_bytes)
{
    (void)old_bytes;
#ifdef TRAP
    abort();
#endif
    if (strcmp(name, "experimental.hooks.install") == 0 && given_bytes == sizeof(hooks)) {
        memcpy(&hooks, given, sizeof(hooks));
        *(void **)old = &hooks;
        return 0;
    }
    memset(&hooks, 0, sizeof(hooks));
    return strcmp(name, "experimental.hooks.remove") != 0;
}

void *take(size_t size) { return _rjem_malloc(size); }
void *resize(void *block, size_t size) { return _rjem_realloc(block, size); }
void give_back(void *block) { _rjem_sdallocx(block, 0, 0); }
int is_told(void) { return hooks.allocated != NULL; }
