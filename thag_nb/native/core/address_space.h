/* What address space each loaded object has mapped, and still has. */

#ifndef THAG_ADDRESS_SPACE_H
#define THAG_ADDRESS_SPACE_H

#include "thag.h"

/* An object that has mapped something. */
typedef struct thag_mapper thag_mapper;

/* The object that `code` is in has mapped whole pages. Nobody's before, or taken. Any thread, no lock. */
void thag_address_space_mapped(const void *code, const void *start, size_t bytes);

/* The same for an object that is known; NULL for nobody. */
void thag_address_space_give(thag_mapper *mapper, const void *start, size_t bytes);

/* Takes pages from whoever has mapped them, before they are unmapped. Returns who had them all; NULL if that was nobody, or if
   some were not its own. Any thread, no lock. */
thag_mapper *thag_address_space_take(const void *start, size_t bytes);

/* How many bytes of its address space the object that `code` is in still has. Slow; GIL. */
size_t thag_address_space_of(const void *code);

/* Whether that is where an address lies. GIL. */
bool thag_address_space_has(const void *code, const void *address);

/* Nobody has mapped anything. GIL; only while no slot leads to us. */
void thag_address_space_forget(void);

/* Bytes of the table's pages that are in use. GIL. */
size_t thag_address_space_in_use(void);

#endif
