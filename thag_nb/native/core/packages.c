/* Packages.

   Of each loaded object it is kept what it spans and what package it is part of. Nothing is ever taken out, as any thread may be
   reading; what was loaded last is looked at first, should it lie where another object was. The answers for addresses that
   were asked for lately are kept in a table of single words. */

#include "packages.h"

#include "objects.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    OBJECTS_ROOM = 4096,
    NAME_ROOM = 64,
    LATELY = 512,               /* a power of two */
    PACKAGE_BITS = 8,
};

typedef struct {
    uintptr_t start, end;
    thag_package package;
} object_range;

static object_range ranges[OBJECTS_ROOM];
static _Atomic int range_count;
static char names[THAG_STANDARD][NAME_ROOM];    /* by number; the first is none's. GIL */
static int name_count = THAG_NO_PACKAGE + 1;
static _Atomic uint64_t lately[LATELY];         /* address and package in one word */

/* The number of a name of so many characters. GIL. */
static thag_package
package_number(const char *name, size_t length)
{
    length = length < NAME_ROOM ? length : NAME_ROOM - 1;
    for (int i = THAG_NO_PACKAGE + 1; i < name_count; i++) {
        if (strncmp(names[i], name, length) == 0 && names[i][length] == '\0') {
            return (thag_package)i;
        }
    }
    if (name_count == THAG_STANDARD) {
        return THAG_NO_PACKAGE;
    }
    memcpy(names[name_count], name, length);
    return (thag_package)name_count++;
}

/* True for names of code that works for whoever calls it. */
static bool
serves_anybody(const char *name, size_t length)
{
    static const char *const servants[] = {"_ctypes", "_cffi_backend"};
    for (int i = 0; i < 2; i++) {
        if (length == strlen(servants[i]) && strncmp(name, servants[i], length) == 0) {
            return true;
        }
    }
    /* Libraries that were packed into a wheel, as the C++ or OpenMP run time. */
    return length > 5 && strncmp(name + length - 5, ".libs", 5) == 0;
}

static const char *
after(const char *path, const char *folder)
{
    const char *found = NULL, *next = path;
    while ((next = strstr(next, folder)) != NULL) {
        next += strlen(folder);
        found = next;
    }
    return found;
}

static bool
is_package(const char *folder, size_t length)
{
    char path[PATH_MAX];
    int written = snprintf(path, sizeof(path), "%.*s/__init__.py", (int)length, folder);
    return written > 0 && (size_t)written < sizeof(path) && access(path, F_OK) == 0;
}

/* Of an object that is not where packages are installed, the name of the outermost package that it lies in, or of the extension
   module that it is; NULL for neither. */
static const char *
name_in_folders(const char *path)
{
    const char *file = strrchr(path, '/'), *name = NULL;
    for (const char *end = file; end != NULL && end != path && is_package(path, (size_t)(end - path));) {
        do {
            end--;
        } while (end != path && *end != '/');
        name = end + (*end == '/');
    }
    bool is_module = file != NULL && (strstr(file, ".cpython-") != NULL || strstr(file, ".abi3.") != NULL);
    return name == NULL && is_module ? file + 1 : name;
}

static thag_package
package_of_path(const char *path)
{
    const char *standard = after(path, "/lib-dynload/");
    const char *name = standard != NULL ? standard : after(path, "/site-packages/");
    name = name != NULL ? name : after(path, "/dist-packages/");
    name = name != NULL ? name : name_in_folders(path);
    if (name == NULL) {
        return THAG_NO_PACKAGE;
    }
    size_t folder = strcspn(name, "/"), file = strcspn(name, "./");
    size_t length = name[folder] == '/' ? folder : file;
    if (serves_anybody(name, length)) {
        return THAG_NO_PACKAGE;
    }
    return standard != NULL ? THAG_STANDARD : package_number(name, length);
}

static void
range_add(const char *path, uintptr_t start, uintptr_t end)
{
    thag_package package = package_of_path(path);
    int count = atomic_load_explicit(&range_count, memory_order_relaxed);
    for (int i = count; i-- > 0;) {
        const object_range *range = &ranges[i];
        if (range->start == start && range->end == end) {
            if (range->package == package) {
                return;
            }
            break;
        }
    }
    if (count < OBJECTS_ROOM) {
        ranges[count] = (object_range){start, end, package};
        atomic_store_explicit(&range_count, count + 1, memory_order_release);
    }
}

void
thag_packages_update(void)
{
    thag_objects_visit(range_add);
    for (int i = 0; i < LATELY; i++) {
        atomic_store_explicit(&lately[i], 0, memory_order_relaxed);
    }
}

int
thag_packages_object_of(const void *code)
{
    int object = atomic_load_explicit(&range_count, memory_order_acquire);
    for (; object > 0; object--) {
        const object_range *range = &ranges[object - 1];
        if ((uintptr_t)code - range->start < range->end - range->start) {
            break;
        }
    }
    return object;
}

static thag_package
package_find(const void *code)
{
    int object = thag_packages_object_of(code);
    return object == 0 ? THAG_NO_PACKAGE : ranges[object - 1].package;
}

thag_package
thag_package_of(const void *code)
{
    uintptr_t address = (uintptr_t)code;
    _Atomic uint64_t *place = &lately[(address ^ address >> 9) % LATELY];
    uint64_t word = atomic_load_explicit(place, memory_order_relaxed);
    if (word >> PACKAGE_BITS != address) {
        word = (uint64_t)address << PACKAGE_BITS | package_find(code);
        atomic_store_explicit(place, word, memory_order_relaxed);
    }
    return (thag_package)word;
}
