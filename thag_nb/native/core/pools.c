/* Pools.

   Some libraries take memory from the system in large pieces, and keep their blocks in there by themselves. What they map says
   little: address space that may never be used, or that is kept long after the blocks are gone. So they are followed from
   within, each in the way that it is open to, and their mappings are not blocks.

     Arrow     by the table of functions that each of its pools has (arrow.c);
     Polars    by the words that it calls its jemalloc through, or by that one's hooks (polars.c);
     DuckDB    by the hooks of its jemalloc, whose functions it exports (jemalloc.c).

   Each is looked at before it is touched, and left alone if it is not as we know it.

   What a pool asks of the C library on its way is inside of our hook, and so is not told of again. */

#define _GNU_SOURCE

#include "pools.h"

#include "arrow.h"
#include "jemalloc.h"
#include "objects.h"
#include "polars.h"

#include <dlfcn.h>
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

/* ---- DuckDB ---- */

static thag_jemalloc duckdb;

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
    *(void **)&duckdb.give_back = dlsym(library, "duckdb_je_sdallocx");
    return duckdb.control != NULL && duckdb.take != NULL && duckdb.resize != NULL && duckdb.give_back != NULL;
}

static bool
duckdb_attach(const char *path)
{
    return (duckdb.handle != NULL || duckdb_find(path)) && thag_jemalloc_attach(&duckdb);
}

static void
duckdb_detach(void)
{
    thag_jemalloc_detach(&duckdb);
}

/* ---- all of them ---- */

static const struct {
    bool (*attach)(const char *path);
    void (*detach)(void);
} ways[THAG_POOLS] = {
    [THAG_ARROW] = {thag_arrow_attach, thag_arrow_detach},
    [THAG_POLARS] = {thag_polars_attach, thag_polars_detach},
    [THAG_DUCKDB] = {duckdb_attach, duckdb_detach},
};

void
thag_pools_attach(void)
{
    for (int i = 0; i < THAG_POOLS; i++) {
        bool is_due = states[i] != THAG_POOL_UNFIT && (i != THAG_POLARS || thag_polars_is_shown());
        const char *path = is_due ? library_path((thag_pool)i) : NULL;
        if (path != NULL) {
            states[i] = ways[i].attach(path) ? THAG_POOL_SEEN : THAG_POOL_UNFIT;
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
