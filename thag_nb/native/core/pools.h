/* Memory that libraries hand out from allocators they bring along: Arrow's, Polars' and DuckDB's. */

#ifndef THAG_POOLS_H
#define THAG_POOLS_H

#include "thag.h"

typedef enum {
    THAG_ARROW,
    THAG_POLARS,
    THAG_DUCKDB,
    THAG_POOLS,
} thag_pool;

typedef enum {
    THAG_POOL_ABSENT,       /* the library is not loaded, or Polars' allocator not shown to us */
    THAG_POOL_SEEN,
    THAG_POOL_UNFIT,        /* not made as we know it: left alone */
} thag_pool_state;

/* Whether the library of this path keeps blocks of its own in what it maps: then its mappings are not blocks. Any thread. */
bool thag_pools_keep_mappings(const char *path);

/* Whether it tells of these blocks. GIL. */
bool thag_pools_tell(const char *path);

/* Has the pools tell of their blocks, of the libraries that are loaded; but of Polars, that only if its allocator has been shown.
   Twice is once. GIL. */
void thag_pools_attach(void);

/* Has none tell anything any more. GIL. */
void thag_pools_detach(void);

/* GIL. */
thag_pool_state thag_pools_state(thag_pool pool);

#endif
