/* A block may be given back by a thread without the GIL while it is read, or be mapped memory that is not to be read. So the
   system is asked to copy it, which says no instead of crashing. */

#define _GNU_SOURCE

#include "behind.h"

#include "owners.h"
#include "visited.h"

#if defined(__linux__)

#include <sys/uio.h>
#include <unistd.h>

enum { READ_AT_ONCE = 1 << 12 };

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

static bool
range_look(search *search, const char *start, size_t bytes)
{
    uintptr_t words[READ_AT_ONCE / sizeof(uintptr_t)];
    for (size_t at = 0; at + sizeof(*words) <= bytes; at += sizeof(words)) {
        size_t wanted = bytes - at < sizeof(words) ? bytes - at : sizeof(words);
        struct iovec into = {words, wanted}, from = {(void *)(start + at), wanted};
        ssize_t read = process_vm_readv(getpid(), &into, 1, &from, 1, 0);
        if (read > 0 && !words_look(search, words, (size_t)read / sizeof(*words))) {
            return false;
        }
    }
    return true;
}

bool
thag_behind_visit(PyObject *object, bool (*found)(const void *block, void *data), void *data)
{
    search search = {.found = found, .data = data};
    bool done = thag_visited_find(&search.visited, object) != NULL;     /* itself is not behind it */
    if (done) {
        thag_visited_peek(&search.visited, object)->first_holder = 0;
        done = range_look(&search, (const char *)object, (size_t)Py_TYPE(object)->tp_basicsize);
    }
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
thag_behind_visit(PyObject *object, bool (*found)(const void *block, void *data), void *data)
{
    (void)object;
    (void)found;
    (void)data;
    return true;
}

#endif
