/* What is compiled into Polars is jemalloc, called through six words of the library's data. No symbol that the loader knows tells
   where these are; but four functions that Polars shows to its plug-ins jump through them, and are read for that. They are known
   by how many there are, in which function, and what they lead to.

   Where that does not fit, jemalloc's own hooks are the second way, which costs more: the names of its functions are in the
   library's file, unless that was stripped. */

#include "polars.h"

#include "jemalloc.h"
#include "objects.h"
#include "pool_block.h"
#include "symbols.h"

#include <string.h>

enum { ALLOCATES, DEALLOCATES, ALLOCATES_ZEROS, REALLOCATES, SHOWN };

static bool is_shown;
static void *shown[SHOWN];

/* ---- by its words ---- */

#if defined(__linux__) && defined(__GLIBC__) && defined(__x86_64__)

/* jemalloc's functions by those of Polars that jump to them. Each of ours forwards all arguments that one of the two may have. */
enum { TAKE, TAKE_FLAGGED, TAKE_ZEROS, RESIZE, RESIZE_OTHER, GIVE_BACK, WORDS };

typedef struct {
    void **at, *real;
} polars_word;

static polars_word polars_words[WORDS];

static void *
polars_take(size_t size)
{
    void *block = ((void *(*)(size_t))polars_words[TAKE].real)(size);
    thag_pool_block_seen(block, size);
    return block;
}

static void *
polars_take_flagged(size_t size, int flags)
{
    void *block = ((void *(*)(size_t, int))polars_words[TAKE_FLAGGED].real)(size, flags);
    thag_pool_block_seen(block, size);
    return block;
}

static void *
polars_take_zeros(size_t count, size_t size)
{
    void *block = ((void *(*)(size_t, size_t))polars_words[TAKE_ZEROS].real)(count, size);
    thag_pool_block_seen(block, count * size);
    return block;
}

/* realloc, or rallocx, which has flags. */
__attribute__((always_inline)) static inline void *
polars_resize_by(const polars_word *word, void *old_block, size_t size, int flags)
{
    thag_claim claim = thag_event_claim(&thag_this_thread, THAG_NATIVE, old_block);
    void *block = ((void *(*)(void *, size_t, int))word->real)(old_block, size, flags);
    thag_pool_block_resized(claim, old_block, block, size);
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
        const uint8_t *other = shown[i];
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
        if ((uintptr_t)word % sizeof(*word) == 0 && thag_objects_are_one(word, function) && thag_objects_are_one(*word, function)) {
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
words_find(void)
{
    jumps takes = jumps_of(shown[ALLOCATES]), gives_back = jumps_of(shown[DEALLOCATES]);
    jumps takes_zeros = jumps_of(shown[ALLOCATES_ZEROS]), resizes = jumps_of(shown[REALLOCATES]);
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
words_restore(void)
{
    for (int i = 0; i < WORDS; i++) {
        polars_word *word = &polars_words[i];
        if (word->at != NULL && *word->at == polars_hooks[i]) {
            (void)thag_objects_write(word->at, word->real);
        }
    }
}

static bool
words_redirect(void)
{
    if (polars_words[0].at == NULL && !words_find()) {
        return false;
    }
    for (int i = 0; i < WORDS; i++) {
        if (*polars_words[i].at != polars_hooks[i] && !thag_objects_write(polars_words[i].at, polars_hooks[i])) {
            words_restore();
            return false;
        }
    }
    return true;
}

#else

static void
words_restore(void)
{
}

static bool
words_redirect(void)
{
    return false;
}

#endif

/* ---- by jemalloc's own hooks ---- */

static thag_jemalloc by_hooks;

static bool
hooks_find(const char *path)
{
    thag_symbol functions[] = {{"_rjem_mallctl", NULL}, {"_rjem_malloc", NULL}, {"_rjem_realloc", NULL}, {"_rjem_sdallocx", NULL}};
    if (by_hooks.control == NULL && thag_symbols_find(path, functions, 4)) {
        *(void **)&by_hooks.control = functions[0].address;
        *(void **)&by_hooks.take = functions[1].address;
        *(void **)&by_hooks.resize = functions[2].address;
        *(void **)&by_hooks.give_back = functions[3].address;
    }
    return by_hooks.control != NULL;
}

/* ---- one way or the other ---- */

void
thag_polars_show(void *const functions[4])
{
    is_shown = true;
    memset(shown, 0, sizeof(shown));
    if (functions != NULL) {
        memcpy(shown, functions, sizeof(shown));
    }
}

bool
thag_polars_is_shown(void)
{
    return is_shown;
}

bool
thag_polars_attach(const char *path)
{
    if (by_hooks.handle != NULL || (shown[ALLOCATES] != NULL && words_redirect())) {
        return true;
    }
    return hooks_find(path) && thag_jemalloc_attach(&by_hooks);
}

void
thag_polars_detach(void)
{
    words_restore();
    thag_jemalloc_detach(&by_hooks);
}
