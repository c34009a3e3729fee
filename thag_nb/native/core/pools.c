/* Pools.

   Some libraries take memory from the system in large pieces, and keep their blocks in there by themselves. What they map says
   little: address space that may never be used, or that is kept long after the blocks are gone. So they are followed from
   within, each in the way that it is open to, and their mappings are not blocks.

     Arrow     A pool is an object, which is called through a table of functions. It is given a copy of the table, with three
               functions of ours. So these are Arrow's own figures, whatever stands behind the pool.
     Polars    What is compiled in is jemalloc, called through six words of the library's data. No symbol tells where these
               are; but four functions that Polars shows to its plug-ins jump through them, and are read for that.
     DuckDB    Is jemalloc as well, and exports it. That calls whom one asks it to call.

   Each is looked at before it is touched, and left alone if it is not as we know it: a pool by a class of Arrow's whose table
   and functions have names; the words by how many there are, in which function, and what they lead to; jemalloc by a block that
   must be told of as expected.

   What a pool asks of the C library on its way is inside of our hook, and so is not told of again. */

#define _GNU_SOURCE

#include "pools.h"

#include "native_block.h"
#include "objects.h"

#include <string.h>

/* How the paths of their libraries may be told, by some of their versions. */
enum { NAMES = 2 };
static const char *const libraries[THAG_POOLS][NAMES] = {
    [THAG_ARROW] = {"/libarrow.so"},
    [THAG_POLARS] = {"/_polars_runtime", "/polars/polars.abi3."},
    [THAG_DUCKDB] = {"/_duckdb.", "/duckdb/duckdb."},
};

static thag_pool_state states[THAG_POOLS];

/* The pool that the library of this path has; THAG_POOLS for none. */
static thag_pool
pool_of(const char *path)
{
    for (int i = 0; i < THAG_POOLS; i++) {
        for (int name = 0; name < NAMES; name++) {
            if (libraries[i][name] != NULL && strstr(path, libraries[i][name]) != NULL) {
                return (thag_pool)i;
            }
        }
    }
    return THAG_POOLS;
}

bool
thag_pools_keep_mappings(const char *path)
{
    return pool_of(path) != THAG_POOLS;
}

bool
thag_pools_tell(const char *path)
{
    thag_pool pool = pool_of(path);
    return pool != THAG_POOLS && states[pool] == THAG_POOL_SEEN;
}

/* The path of the library, if it is loaded. */
static const char *
library_path(thag_pool pool)
{
    const char *path = NULL;
    for (int name = 0; name < NAMES && path == NULL; name++) {
        path = libraries[pool][name] == NULL ? NULL : thag_objects_path(libraries[pool][name]);
    }
    return path;
}

thag_pool_state
thag_pools_state(thag_pool pool)
{
    return states[pool];
}

/* jemalloc aligns what is smaller than 16 bytes to 8; the owner table has no place for such an address. */
static inline bool
has_record(const void *block)
{
    return (uintptr_t)block % (1 << THAG_GRANULE_SHIFT) == 0;
}

__attribute__((always_inline)) static inline void
seen(void *block, size_t size)
{
    if (has_record(block)) {
        (void)thag_native_seen(block, size);
    }
}

__attribute__((always_inline)) static inline void
resized(thag_claim claim, void *old_block, void *block, size_t size)
{
    thag_waiting_called_from(&thag_this_thread.waiter, __builtin_return_address(0));
    if (claim.owned || has_record(block)) {
        thag_event_resized(&thag_this_thread, THAG_NATIVE, claim, old_block, block, size);
    }
}

#if defined(__linux__) && defined(__GLIBC__) && defined(__x86_64__)

#include <dlfcn.h>
#include <link.h>

/* ---- Arrow ---- */

/* The words of a table of a class with virtual functions: two that are found before the address that an object holds, and then
   the functions: two destructors, and those. */
enum { BEFORE_FUNCTIONS = 2, ALLOCATE = 2, REALLOCATE, FREE, FUNCTIONS_ROOM = 32 };

/* arrow::Status is returned in memory, and is one pointer: NULL for success. */
typedef void *arrow_allocate_function(void **status, void *pool, int64_t size, int64_t alignment, uint8_t **block);
typedef void *arrow_reallocate_function(void **status, void *pool, int64_t old_size, int64_t size, int64_t alignment,
                                        uint8_t **block);
typedef void arrow_free_function(void *pool, uint8_t *block, int64_t size, int64_t alignment);

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

static void *
arrow_allocate(void **status, void *pool, int64_t size, int64_t alignment, uint8_t **block)
{
    arrow_allocate_function *forward = (arrow_allocate_function *)arrow_real(pool, ALLOCATE);
    thag_this_thread.depth++;
    (void)forward(status, pool, size, alignment, block);
    thag_this_thread.depth--;
    if (*status == NULL && size > 0) {      /* those of no bytes are all one place */
        seen(*block, (size_t)size);
    }
    return status;
}

static void *
arrow_reallocate(void **status, void *pool, int64_t old_size, int64_t size, int64_t alignment, uint8_t **block)
{
    arrow_reallocate_function *forward = (arrow_reallocate_function *)arrow_real(pool, REALLOCATE);
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
    (void)forward(status, pool, old_size, size, alignment, block);
    thread->depth--;
    if (size > 0) {
        resized(claim, old_block, *status == NULL ? *block : NULL, (size_t)size);
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

static bool
is_of_same_object(const void *one, const void *other)
{
    Dl_info where_one, where_other;
    return dladdr(one, &where_one) != 0 && dladdr(other, &where_other) != 0
           && where_one.dli_fbase == where_other.dli_fbase;
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
    if (!is_of_same_object(pool, real) || !is_of_same_object(real, real[FREE])) {
        return false;
    }
    arrow_pool *added = &arrow_pools[arrow_pool_count];
    added->pool = pool;
    added->real = real;
    memcpy(added->words, real - BEFORE_FUNCTIONS, (BEFORE_FUNCTIONS + functions) * sizeof(void *));
    added->words[BEFORE_FUNCTIONS + ALLOCATE] = (void *)arrow_allocate;
    added->words[BEFORE_FUNCTIONS + REALLOCATE] = (void *)arrow_reallocate;
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
        void *(*find)(void **status, void ****pool) = (void *(*)(void **, void ****))dlsym(library, others[i]);
        void *status = NULL;        /* why there is none: some bytes that are never freed, once */
        void ***pool = NULL;
        if (find != NULL) {
            (void)find(&status, &pool);
        }
        if (status == NULL && pool != NULL && !arrow_pool_add(pool, functions)) {
            return false;
        }
    }
    return true;
}

static thag_pool_state
arrow_attach(const char *path)
{
    if (arrow_pool_count == 0) {
        void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);      /* never closed: its pools are referred to */
        size_t functions = library == NULL ? 0 : arrow_functions(library);
        if (functions == 0 || !arrow_pools_find(library, functions)) {
            arrow_pool_count = 0;
            return THAG_POOL_UNFIT;
        }
    }
    for (int i = 0; i < arrow_pool_count; i++) {
        __atomic_store_n(arrow_pools[i].pool, &arrow_pools[i].words[BEFORE_FUNCTIONS], __ATOMIC_RELEASE);
    }
    return THAG_POOL_SEEN;
}

static void
arrow_detach(void)
{
    for (int i = 0; i < arrow_pool_count; i++) {
        __atomic_store_n(arrow_pools[i].pool, arrow_pools[i].real, __ATOMIC_RELEASE);
    }
}

/* ---- Polars ---- */

/* jemalloc's functions by those of Polars that jump to them. Each of ours forwards all arguments that one of the two may have. */
enum { TAKE, TAKE_FLAGGED, TAKE_ZEROS, RESIZE, RESIZE_OTHER, GIVE_BACK, WORDS };
enum { ALLOCATES, DEALLOCATES, ALLOCATES_ZEROS, REALLOCATES, SHOWN };

typedef struct {
    void **at, *real;
} polars_word;

static void *polars_shown[SHOWN];
static polars_word polars_words[WORDS];

static void *
polars_take(size_t size)
{
    void *block = ((void *(*)(size_t))polars_words[TAKE].real)(size);
    seen(block, size);
    return block;
}

static void *
polars_take_flagged(size_t size, int flags)
{
    void *block = ((void *(*)(size_t, int))polars_words[TAKE_FLAGGED].real)(size, flags);
    seen(block, size);
    return block;
}

static void *
polars_take_zeros(size_t count, size_t size)
{
    void *block = ((void *(*)(size_t, size_t))polars_words[TAKE_ZEROS].real)(count, size);
    seen(block, count * size);
    return block;
}

/* realloc, or rallocx, which has flags. */
__attribute__((always_inline)) static inline void *
polars_resize_by(const polars_word *word, void *old_block, size_t size, int flags)
{
    thag_claim claim = thag_event_claim(&thag_this_thread, THAG_NATIVE, old_block);
    void *block = ((void *(*)(void *, size_t, int))word->real)(old_block, size, flags);
    resized(claim, old_block, block, size);
    return block;
}

static void *
polars_resize(void *block, size_t size, int flags)
{
    return polars_resize_by(&polars_words[RESIZE], block, size, flags);
}

static void *
polars_resize_other(void *block, size_t size, int flags)
{
    return polars_resize_by(&polars_words[RESIZE_OTHER], block, size, flags);
}

static void
polars_give_back(void *block, size_t size, int flags)
{
    thag_native_gone(block);
    ((void (*)(void *, size_t, int))polars_words[GIVE_BACK].real)(block, size, flags);
}

static void *const polars_hooks[WORDS] = {
    [TAKE] = (void *)polars_take,
    [TAKE_FLAGGED] = (void *)polars_take_flagged,
    [TAKE_ZEROS] = (void *)polars_take_zeros,
    [RESIZE] = (void *)polars_resize,
    [RESIZE_OTHER] = (void *)polars_resize_other,
    [GIVE_BACK] = (void *)polars_give_back,
};

void
thag_pools_show_polars(void *const functions[4])
{
    memcpy(polars_shown, functions, sizeof(polars_shown));
}

/* The words that a function jumps through or calls through, each once; at most two, else 3. */
typedef struct {
    int count;
    void **at[2];
} jumps;

/* How many bytes of code are surely the function's: to where the next one begins, and no more than such a function has. */
static size_t
code_bytes(const uint8_t *function)
{
    enum { MOST = 256 };
    size_t bytes = MOST;
    for (int i = 0; i < SHOWN; i++) {
        const uint8_t *other = polars_shown[i];
        if (other > function && (size_t)(other - function) < bytes) {
            bytes = (size_t)(other - function);
        }
    }
    return bytes;
}

static void
jump_add(jumps *found, void **word)
{
    for (int i = 0; i < found->count && i < 2; i++) {
        if (found->at[i] == word) {
            return;
        }
    }
    if (found->count < 2) {
        found->at[found->count] = word;
    }
    found->count += found->count < 3;
}

/* The instructions are jmp and call through a word whose distance from the next instruction they hold. What looks like one and is
   not leads to no function of the library. What fills the room behind a function ends it. */
static jumps
jumps_of(const void *function)
{
    enum { THROUGH_WORD = 0xFF, JUMP = 0x25, CALL = 0x15, FILLING = 0xCC };
    jumps found = {0};
    const uint8_t *code = function;
    size_t bytes = code_bytes(function);
    for (size_t i = 0; i + 6 <= bytes; i++) {
        if (code[i] != THROUGH_WORD || (code[i + 1] != JUMP && code[i + 1] != CALL)) {
            continue;
        }
        int32_t distance;
        memcpy(&distance, &code[i + 2], sizeof(distance));
        void **word = (void **)(code + i + 6 + distance);
        if ((uintptr_t)word % sizeof(*word) == 0 && is_of_same_object(word, function) && is_of_same_object(*word, function)) {
            jump_add(&found, word);
        }
        if (code[i + 1] == JUMP && i + 6 < bytes && code[i + 6] == FILLING) {
            break;
        }
    }
    return found;
}

/* The one of two words that another function has as well; -1 if there is not one. */
static int
shared_of(const jumps *pair, const jumps *other)
{
    int shared = -1;
    for (int i = 0; i < 2; i++) {
        if (pair->at[i] == other->at[0] || pair->at[i] == other->at[1]) {
            shared = shared < 0 ? i : 2;
        }
    }
    return shared == 2 ? -1 : shared;
}

static bool
polars_words_find(void)
{
    jumps takes = jumps_of(polars_shown[ALLOCATES]), gives_back = jumps_of(polars_shown[DEALLOCATES]);
    jumps takes_zeros = jumps_of(polars_shown[ALLOCATES_ZEROS]), resizes = jumps_of(polars_shown[REALLOCATES]);
    if (takes.count != 2 || gives_back.count != 1 || takes_zeros.count != 2 || resizes.count != 2) {
        return false;
    }
    int flagged = shared_of(&takes, &takes_zeros), flagged_of_zeros = shared_of(&takes_zeros, &takes);
    if (flagged < 0 || flagged_of_zeros < 0) {
        return false;
    }
    void **at[WORDS] = {
        [TAKE] = takes.at[1 - flagged],
        [TAKE_FLAGGED] = takes.at[flagged],
        [TAKE_ZEROS] = takes_zeros.at[1 - flagged_of_zeros],
        [RESIZE] = resizes.at[0],
        [RESIZE_OTHER] = resizes.at[1],
        [GIVE_BACK] = gives_back.at[0],
    };
    for (int i = 0; i < WORDS; i++) {
        for (int j = 0; j < i; j++) {
            if (at[i] == at[j]) {
                return false;
            }
        }
    }
    for (int i = 0; i < WORDS; i++) {
        polars_words[i] = (polars_word){.at = at[i], .real = *at[i]};
    }
    return true;
}

static void
polars_detach(void)
{
    for (int i = 0; i < WORDS; i++) {
        polars_word *word = &polars_words[i];
        if (word->at != NULL && *word->at == polars_hooks[i]) {
            (void)thag_objects_write(word->at, word->real);
        }
    }
}

static thag_pool_state
polars_attach(const char *path)
{
    (void)path;
    if (polars_shown[0] == NULL) {
        return THAG_POOL_ABSENT;
    }
    if (polars_words[0].at == NULL && !polars_words_find()) {
        return THAG_POOL_UNFIT;
    }
    for (int i = 0; i < WORDS; i++) {
        if (*polars_words[i].at != polars_hooks[i] && !thag_objects_write(polars_words[i].at, polars_hooks[i])) {
            polars_detach();
            return THAG_POOL_UNFIT;
        }
    }
    return THAG_POOL_SEEN;
}

/* ---- DuckDB ---- */

typedef struct {
    void (*allocated)(void *self, int kind, void *block, uintptr_t result, const uintptr_t arguments[3]);
    void (*freed)(void *self, int kind, void *block, const uintptr_t arguments[3]);
    void (*expanded)(void *self, int kind, void *block, size_t old_usable, size_t usable, uintptr_t result,
                     const uintptr_t arguments[4]);
    void *self;
} jemalloc_hooks;

/* By the order in which jemalloc numbers its functions; some versions have pvalloc before mallocx, and some have not. */
enum { POSIX_MEMALIGN = 1, ALIGNED_ALLOC, CALLOC, MEMALIGN, EXPANDED_BY_XALLOCX = 2 };

static struct {
    int (*control)(const char *name, void *old, size_t *old_bytes, void *new, size_t new_bytes);
    void *(*take)(size_t size);
    void *(*resize)(void *block, size_t size);
    void (*give_back)(void *block);
    void *handle;           /* of the hooks that are installed; NULL for none */
    _Atomic int resizing;   /* the number of realloc, which only rallocx comes after; 0: not known yet */
    size_t probed_bytes;
    int probed_kind, probed_frees;
} duckdb;

static size_t
jemalloc_size(int kind, int resizing, const uintptr_t arguments[3])
{
    switch (kind) {
    case POSIX_MEMALIGN:
        return arguments[2];
    case ALIGNED_ALLOC:
    case MEMALIGN:
        return arguments[1];
    case CALLOC:
        return arguments[0] * arguments[1];
    default:
        return arguments[kind >= resizing];
    }
}

static void
duckdb_allocated(void *self, int kind, void *block, uintptr_t result, const uintptr_t arguments[3])
{
    (void)self;
    (void)result;
    int resizing = atomic_load_explicit(&duckdb.resizing, memory_order_relaxed);
    if (thag_this_thread.depth >= THAG_PROBING) {
        duckdb.probed_kind = kind;
        duckdb.probed_bytes = arguments[0];
    }
    else if (resizing != 0) {
        seen(block, jemalloc_size(kind, resizing, arguments));
    }
}

static void
duckdb_freed(void *self, int kind, void *block, const uintptr_t arguments[3])
{
    (void)self;
    (void)kind;
    (void)arguments;
    if (thag_this_thread.depth >= THAG_PROBING) {
        duckdb.probed_frees++;
    }
    else {
        thag_native_gone(block);
    }
}

static void
duckdb_expanded(void *self, int kind, void *block, size_t old_usable, size_t usable, uintptr_t result,
                const uintptr_t arguments[4])
{
    (void)self;
    (void)old_usable;
    (void)result;
    if (thag_this_thread.depth < THAG_PROBING) {
        thag_claim claim = thag_event_claim(&thag_this_thread, THAG_NATIVE, block);
        resized(claim, block, block, kind == EXPANDED_BY_XALLOCX ? usable : arguments[1]);
    }
}

/* Takes, moves and gives back a block: are we told of that as we expect? */
static bool
duckdb_tells(void)
{
    enum { LITTLE = 100, MUCH = 1 << 20 };
    void *block = duckdb.take(LITTLE);
    bool tells = block != NULL && duckdb.probed_kind == 0 && duckdb.probed_bytes == LITTLE;
    void *moved = block == NULL ? NULL : duckdb.resize(block, MUCH);
    tells = tells && moved != NULL && duckdb.probed_bytes == (uintptr_t)block && duckdb.probed_kind > MEMALIGN + 1
            && duckdb.probed_frees == 1;
    int resizing = duckdb.probed_kind;
    duckdb.give_back(moved != NULL ? moved : block);
    tells = tells && duckdb.probed_frees == 2;
    atomic_store_explicit(&duckdb.resizing, tells ? resizing : 0, memory_order_relaxed);
    return tells;
}

static bool
duckdb_install(void)
{
    jemalloc_hooks hooks = {.allocated = duckdb_allocated, .freed = duckdb_freed, .expanded = duckdb_expanded};
    size_t bytes = sizeof(duckdb.handle);
    return duckdb.control("experimental.hooks.install", &duckdb.handle, &bytes, &hooks, sizeof(hooks)) == 0;
}

static void
duckdb_detach(void)
{
    if (duckdb.handle != NULL) {
        (void)duckdb.control("experimental.hooks.remove", NULL, NULL, &duckdb.handle, sizeof(duckdb.handle));
        duckdb.handle = NULL;
    }
}

static bool
duckdb_find(const char *path)
{
    void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);      /* never closed: its functions are referred to */
    if (library == NULL) {
        return false;
    }
    *(void **)&duckdb.control = dlsym(library, "duckdb_je_mallctl");
    *(void **)&duckdb.take = dlsym(library, "duckdb_je_malloc");
    *(void **)&duckdb.resize = dlsym(library, "duckdb_je_realloc");
    *(void **)&duckdb.give_back = dlsym(library, "duckdb_je_free");
    return duckdb.control != NULL && duckdb.take != NULL && duckdb.resize != NULL && duckdb.give_back != NULL;
}

static thag_pool_state
duckdb_attach(const char *path)
{
    if (duckdb.handle != NULL) {
        return THAG_POOL_SEEN;
    }
    if (!duckdb_find(path) || !duckdb_install()) {
        return THAG_POOL_UNFIT;
    }
    thag_thread *thread = &thag_this_thread;
    unsigned depth = thread->depth;
    duckdb.probed_frees = 0;
    thread->depth = THAG_PROBING;
    bool tells = duckdb_tells();
    thread->depth = depth;
    if (!tells) {
        duckdb_detach();
    }
    return tells ? THAG_POOL_SEEN : THAG_POOL_UNFIT;
}

/* ---- all of them ---- */

static const struct {
    thag_pool_state (*attach)(const char *path);
    void (*detach)(void);
} ways[THAG_POOLS] = {
    [THAG_ARROW] = {arrow_attach, arrow_detach},
    [THAG_POLARS] = {polars_attach, polars_detach},
    [THAG_DUCKDB] = {duckdb_attach, duckdb_detach},
};

void
thag_pools_attach(void)
{
    for (int i = 0; i < THAG_POOLS; i++) {
        const char *path = states[i] == THAG_POOL_UNFIT ? NULL : library_path((thag_pool)i);
        if (path != NULL) {
            states[i] = ways[i].attach(path);
        }
    }
}

void
thag_pools_detach(void)
{
    for (int i = 0; i < THAG_POOLS; i++) {
        if (states[i] == THAG_POOL_SEEN) {
            ways[i].detach();
        }
        states[i] = THAG_POOL_ABSENT;
    }
}

#else

void
thag_pools_attach(void)
{
    for (int i = 0; i < THAG_POOLS; i++) {
        states[i] = library_path((thag_pool)i) == NULL ? THAG_POOL_ABSENT : THAG_POOL_UNFIT;
    }
}

void
thag_pools_show_polars(void *const functions[4])
{
    (void)functions;
}

void
thag_pools_detach(void)
{
    memset(states, 0, sizeof(states));
}

#endif
