/* A library with a malloc of its own, whose blocks the C library does not know. */

#include <stddef.h>

static char room[1 << 20];
static size_t used;

void *malloc(size_t size) { void *block = room + used; used += (size + 15) & ~(size_t)15; return block; }
void free(void *block) { (void)block; }
void *take(size_t size) { return malloc(size); }
void give_back(void *block) { free(block); }
