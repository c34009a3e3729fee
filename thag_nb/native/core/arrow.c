/* Arrow's pools. Each is an object, which is called through a table of functions. It is given a copy of the table, with three
   functions of ours. So these are Arrow's own figures, whatever stands behind the pool.

   They are known by a class of Arrow's whose table and functions have names. */

#define _GNU_SOURCE

#include "arrow.h"

#if defined(__linux__) && defined(__GLIBC__) && (defined(__x86_64__) || defined(__aarch64__))

#include "objects.h"
#include "pool_block.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>

/* The words of a table of a class with virtual functions: two that are found before the address that an object holds, and then
   the functions: two destructors, and those. */
enum { BEFORE_FUNCTIONS = 2, ALLOCATE = 2, REALLOCATE, FREE, FUNCTIONS_ROOM = 32 };

/* arrow::Status is one pointer, NULL for success, and is returned in memory, as C++ has it for what must be destroyed. C does not
   return a pointer like that: where it lies, x86-64 tells as if it were the first argument, and in its result as well; AArch64
   in a register that no argument is in (x8). So there, what is called moves the arguments on by one, and the other way round. */

void *thag_arrow_allocate(void **status, void *pool, int64_t size, int64_t alignment, uint8_t **block) THAG_HIDDEN;
void *thag_arrow_reallocate(void **status, void *pool, int64_t old_size, int64_t size, int64_t alignment,
                            uint8_t **block) THAG_HIDDEN;
typedef void arrow_free_function(void *pool, uint8_t *block, int64_t size, int64_t alignment);

#if defined(__x86_64__)

#define enter_allocate thag_arrow_allocate
#define enter_reallocate thag_arrow_reallocate

static inline void
forward_allocate(void **status, void *pool, int64_t size, int64_t alignment, uint8_t **block, void *function)
{
    (void)((void *(*)(void **, void *, int64_t, int64_t, uint8_t **))function)(status, pool, size, alignment, block);
}

static inline void
forward_reallocate(void **status, void *pool, int64_t old_size, int64_t size, int64_t alignment, uint8_t **block,
                   void *function)
{
    (void)((void *(*)(void **, void *, int64_t, int64_t, int64_t, uint8_t **))function)(status, pool, old_size, size,
                                                                                        alignment, block);
}

static inline void
forward_find(void **status, void ****pool, void *function)
{
    (void)((void *(*)(void **, void ****))function)(status, pool);
}

#else

void thag_arrow_enter_allocate(void) THAG_HIDDEN;
void thag_arrow_enter_reallocate(void) THAG_HIDDEN;
void thag_arrow_forward_allocate(void **status, void *pool, int64_t size, int64_t alignment, uint8_t **block,
                                 void *function) THAG_HIDDEN;
void thag_arrow_forward_reallocate(void **status, void *pool, int64_t old_size, int64_t size, int64_t alignment,
                                   uint8_t **block, void *function) THAG_HIDDEN;
void thag_arrow_forward_find(void **status, void ****pool, void *function) THAG_HIDDEN;

#define enter_allocate thag_arrow_enter_allocate
#define enter_reallocate thag_arrow_enter_reallocate
#define forward_allocate thag_arrow_forward_allocate
#define forward_reallocate thag_arrow_forward_reallocate
#define forward_find thag_arrow_forward_find

/* Each begins with what may be jumped to (bti c), and ends with a jump: whoever called sees none of it. */
#define FUNCTION(name, moves) \
    ".text\n.p2align 4\n.hidden " name "\n.global " name "\n.type " name ", %function\n" name ":\n" \
    "hint #34\n" moves ".size " name ", . - " name "\n"
#define MOVE(to, from) "mov " #to ", " #from "\n"

__asm__(
    FUNCTION("thag_arrow_enter_allocate",
             MOVE(x4, x3) MOVE(x3, x2) MOVE(x2, x1) MOVE(x1, x0) MOVE(x0, x8) "b thag_arrow_allocate\n")
    FUNCTION("thag_arrow_enter_reallocate",
             MOVE(x5, x4) MOVE(x4, x3) MOVE(x3, x2) MOVE(x2, x1) MOVE(x1, x0) MOVE(x0, x8) "b thag_arrow_reallocate\n")
    FUNCTION("thag_arrow_forward_allocate",
             MOVE(x8, x0) MOVE(x16, x5) MOVE(x0, x1) MOVE(x1, x2) MOVE(x2, x3) MOVE(x3, x4) "br x16\n")
    FUNCTION("thag_arrow_forward_reallocate",
             MOVE(x8, x0) MOVE(x16, x6) MOVE(x0, x1) MOVE(x1, x2) MOVE(x2, x3) MOVE(x3, x4) MOVE(x4, x5) "br x16\n")
    FUNCTION("thag_arrow_forward_find", MOVE(x8, x0) MOVE(x16, x2) MOVE(x0, x1) "br x16\n"));

#endif

typedef struct {
    void ***pool;           /* what the pool begins with: where its table is */
    void **real;            /* table */
    void *words[BEFORE_FUNCTIONS + FUNCTIONS_ROOM];
} arrow_pool;

/* Neither pools nor their library ever go. */
static arrow_pool arrow_pools[4];
static int arrow_pool_count;

static void *
arrow_real(const void *pool, int function)
{
    int i = 0;
    while (arrow_pools[i].pool != pool) {
        i++;
    }
    return arrow_pools[i].real[function];
}

void *
thag_arrow_allocate(void **status, void *pool, int64_t size, int64_t alignment, uint8_t **block)
{
    void *function = arrow_real(pool, ALLOCATE);
    thag_this_thread.depth++;
    forward_allocate(status, pool, size, alignment, block, function);
    thag_this_thread.depth--;
    if (*status == NULL && size > 0) {      /* those of no bytes are all one place */
        thag_pool_block_seen(*block, (size_t)size);
    }
    return status;
}

void *
thag_arrow_reallocate(void **status, void *pool, int64_t old_size, int64_t size, int64_t alignment, uint8_t **block)
{
    void *function = arrow_real(pool, REALLOCATE);
    thag_thread *thread = &thag_this_thread;
    uint8_t *old_block = old_size > 0 ? *block : NULL;
    thag_claim claim = {.owned = false};
    if (size > 0) {
        claim = thag_event_claim(thread, THAG_NATIVE, old_block);
    }
    else {
        thag_native_gone(old_block);
    }
    thread->depth++;
    forward_reallocate(status, pool, old_size, size, alignment, block, function);
    thread->depth--;
    if (size > 0) {
        thag_pool_block_resized(claim, old_block, *status == NULL ? *block : NULL, (size_t)size);
    }
    return status;
}

static void
arrow_free(void *pool, uint8_t *block, int64_t size, int64_t alignment)
{
    arrow_free_function *forward = (arrow_free_function *)arrow_real(pool, FREE);
    if (size > 0) {
        thag_native_gone(block);
    }
    thag_this_thread.depth++;
    forward(pool, block, size, alignment);
    thag_this_thread.depth--;
}

/* How many functions are in the tables of Arrow's pools; 0 if these are not as we know them. */
static size_t
arrow_functions(void *library)
{
    static const char *const names[] = {
        "_ZN5arrow17LoggingMemoryPool8AllocateEllPPh",
        "_ZN5arrow17LoggingMemoryPool10ReallocateElllPPh",
        "_ZN5arrow17LoggingMemoryPool4FreeEPhll",
    };
    void **words = dlsym(library, "_ZTVN5arrow17LoggingMemoryPoolE");
    Dl_info where;
    const ElfW(Sym) *symbol = NULL;
    if (words == NULL || dladdr1(words, &where, (void **)&symbol, RTLD_DL_SYMENT) == 0 || symbol == NULL) {
        return 0;
    }
    size_t count = symbol->st_size / sizeof(*words);
    if (count <= BEFORE_FUNCTIONS + FREE || count > BEFORE_FUNCTIONS + FUNCTIONS_ROOM) {
        return 0;
    }
    for (int i = 0; i < 3; i++) {
        void *function = dlsym(library, names[i]);
        if (function == NULL || words[BEFORE_FUNCTIONS + ALLOCATE + i] != function) {
            return 0;
        }
    }
    return count - BEFORE_FUNCTIONS;
}

/* Adds a pool, unless it is known. False if it is not as we know it. */
static bool
arrow_pool_add(void ***pool, size_t functions)
{
    for (int i = 0; i < arrow_pool_count; i++) {
        if (arrow_pools[i].pool == pool) {
            return true;
        }
    }
    void **real = *pool;
    if (!thag_objects_are_one(pool, real) || !thag_objects_are_one(real, real[FREE])) {
        return false;
    }
    arrow_pool *added = &arrow_pools[arrow_pool_count];
    added->pool = pool;
    added->real = real;
    memcpy(added->words, real - BEFORE_FUNCTIONS, (BEFORE_FUNCTIONS + functions) * sizeof(void *));
    added->words[BEFORE_FUNCTIONS + ALLOCATE] = (void *)enter_allocate;
    added->words[BEFORE_FUNCTIONS + REALLOCATE] = (void *)enter_reallocate;
    added->words[BEFORE_FUNCTIONS + FREE] = (void *)arrow_free;
    arrow_pool_count++;
    return true;
}

/* Finds the pools of all back ends: the default one is one of these, and is only decided on when it is first asked for. */
static bool
arrow_pools_find(void *library, size_t functions)
{
    void ***(*system_pool)(void) = (void ***(*)(void))dlsym(library, "_ZN5arrow18system_memory_poolEv");
    if (system_pool == NULL || !arrow_pool_add(system_pool(), functions)) {
        return false;
    }
    static const char *const others[] = {
        "_ZN5arrow20mimalloc_memory_poolEPPNS_10MemoryPoolE", "_ZN5arrow20jemalloc_memory_poolEPPNS_10MemoryPoolE"};
    for (int i = 0; i < 2; i++) {
        void *find = dlsym(library, others[i]);
        void *status = NULL;        /* why there is none: some bytes that are never freed, once */
        void ***pool = NULL;
        if (find != NULL) {
            forward_find(&status, &pool, find);
        }
        if (status == NULL && pool != NULL && !arrow_pool_add(pool, functions)) {
            return false;
        }
    }
    return true;
}

bool
thag_arrow_attach(const char *path)
{
    if (arrow_pool_count == 0) {
        void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);      /* never closed: its pools are referred to */
        size_t functions = library == NULL ? 0 : arrow_functions(library);
        if (functions == 0 || !arrow_pools_find(library, functions)) {
            arrow_pool_count = 0;
            return false;
        }
    }
    for (int i = 0; i < arrow_pool_count; i++) {
        __atomic_store_n(arrow_pools[i].pool, &arrow_pools[i].words[BEFORE_FUNCTIONS], __ATOMIC_RELEASE);
    }
    return true;
}

void
thag_arrow_detach(void)
{
    for (int i = 0; i < arrow_pool_count; i++) {
        __atomic_store_n(arrow_pools[i].pool, arrow_pools[i].real, __ATOMIC_RELEASE);
    }
}

#else       /* elsewhere a Status is returned in ways that are not known here */

bool
thag_arrow_attach(const char *path)
{
    (void)path;
    return false;
}

void
thag_arrow_detach(void)
{
}

#endif
