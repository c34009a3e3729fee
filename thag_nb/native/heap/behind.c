/* A block may be given back by a thread without the GIL while it is read, or be mapped memory that is not to be read. So the
   system is asked to copy it, which says no instead of crashing. */

#define _GNU_SOURCE

#include "behind.h"

#include "owners.h"
#include "visited.h"

#if defined(__linux__)

#include <sys/uio.h>
#include <unistd.h>

enum { READ_AT_ONCE = 1 << 12, WORDS_AT_ONCE = READ_AT_ONCE / sizeof(uintptr_t) };

typedef struct {
    thag_visited visited;
    thag_frontier frontier;     /* blocks that are to be read */
    bool (*found)(const void *block, void *data);
    void *data;
} search;

static bool
block_meet(search *search, const void *block)
{
    thag_visit *visit = thag_visited_find(&search->visited, block);
    if (visit == NULL || visit->first_holder != THAG_UNVISITED) {
        return visit != NULL;
    }
    visit->first_holder = 0;
    return search->found(block, search->data) && thag_frontier_push(&search->frontier, (PyObject *)block);
}

static bool
words_look(search *search, const uintptr_t *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const void *block = (const void *)words[i];
        if (thag_owners_peek(block).slot != 0 && !block_meet(search, block)) {
            return false;
        }
    }
    return true;
}

/* How many words could be read, of as many as `words` has room for at most. */
static size_t
words_read(uintptr_t *words, const void *start, size_t bytes)
{
    size_t wanted = bytes < READ_AT_ONCE ? bytes : READ_AT_ONCE;
    struct iovec into = {words, wanted}, from = {(void *)start, wanted};
    ssize_t read = process_vm_readv(getpid(), &into, 1, &from, 1, 0);
    return read > 0 ? (size_t)read / sizeof(*words) : 0;
}

static bool
range_look(search *search, const char *start, size_t bytes)
{
    uintptr_t words[WORDS_AT_ONCE];
    for (size_t at = 0; at + sizeof(*words) <= bytes; at += sizeof(words)) {
        if (!words_look(search, words, words_read(words, start + at, bytes - at))) {
            return false;
        }
    }
    return true;
}

static bool
exclude(search *search, const void *block)
{
    thag_visit *visit = thag_visited_find(&search->visited, block);
    if (visit != NULL) {
        visit->first_holder = THAG_EXCLUDED;
    }
    return visit != NULL;
}

/* Excludes what a word points to at whose place both of the new ones have the same; where they do not, each has a block of its
   own, and of these `blocks_below` levels are compared in the same way. */
static bool
shared_exclude(search *search, const void *start, size_t bytes, const void *const new_starts[2], int blocks_below)
{
    uintptr_t words[WORDS_AT_ONCE], first[WORDS_AT_ONCE], second[WORDS_AT_ONCE];
    size_t count = words_read(words, start, bytes);
    if (words_read(first, new_starts[0], bytes) < count || words_read(second, new_starts[1], bytes) < count) {
        return true;
    }
    for (size_t i = 0; i < count; i++) {
        const void *block = (const void *)words[i], *const new_blocks[] = {(const void *)first[i], (const void *)second[i]};
        if (first[i] == second[i]) {
            if (first[i] != 0 && !exclude(search, block)) {
                return false;
            }
        } else if (blocks_below > 0) {
            thag_owner owner = thag_owners_peek(block);
            if (owner.slot != 0 && !shared_exclude(search, block, owner.size, new_blocks, blocks_below - 1)) {
                return false;
            }
        }
    }
    return true;
}

bool
thag_behind_visit(PyObject *object, PyObject *const new_objects[2], bool (*found)(const void *block, void *data), void *data)
{
    search search = {.found = found, .data = data};
    size_t size = (size_t)Py_TYPE(object)->tp_basicsize;
    const void *const new_starts[] = {new_objects[0], new_objects[1]};
    bool done = exclude(&search, object)                                /* itself is not behind it */
        && (new_objects[0] == NULL || shared_exclude(&search, object, size, new_starts, 1))
        && range_look(&search, (const char *)object, size);
    while (done && search.frontier.count > 0) {
        const void *block = search.frontier.objects[--search.frontier.count];
        done = range_look(&search, block, thag_owners_peek(block).size);
    }
    thag_frontier_clear(&search.frontier);
    thag_visited_clear(&search.visited);
    return done;
}

#else

bool
thag_behind_visit(PyObject *object, PyObject *const new_objects[2], bool (*found)(const void *block, void *data), void *data)
{
    (void)object;
    (void)new_objects;
    (void)found;
    (void)data;
    return true;
}

#endif
