/* The loader maps only what it needs, and that is the names that a library exports. The names of its other functions may be in
   its file all the same, for debuggers; in a section, whose place the end of the file tells.

   Nothing that the file says is trusted before it is looked at: neither that a section lies in it, nor that a function does. */

#define _GNU_SOURCE

#include "symbols.h"

#if defined(__linux__) && defined(__GLIBC__)

#include "objects.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_COMPARED = 256, MOST_SECTIONS = 1 << 12 };

typedef struct {
    int descriptor;
    uint64_t bytes;
    ElfW(Shdr) *sections;
    size_t section_count;
} file;

typedef struct {
    ElfW(Sym) *symbols;
    size_t count;
    char *names;            /* ends with a 0 */
    uint64_t names_bytes;
} table;

static bool
part_read_into(const file *file, uint64_t offset, void *into, size_t bytes)
{
    return offset <= file->bytes && bytes <= file->bytes - offset
           && pread(file->descriptor, into, bytes, (off_t)offset) == (ssize_t)bytes;
}

/* To be freed. NULL without memory, or if that is not in the file. */
static void *
part_read(const file *file, uint64_t offset, uint64_t bytes)
{
    void *part = bytes == 0 || bytes > file->bytes ? NULL : malloc(bytes);
    if (part != NULL && !part_read_into(file, offset, part, bytes)) {
        free(part);
        part = NULL;
    }
    return part;
}

static bool
file_open(const char *path, file *opened)
{
    struct stat about;
    ElfW(Ehdr) header;
    *opened = (file){.descriptor = open(path, O_RDONLY | O_CLOEXEC)};
    if (opened->descriptor < 0) {
        return false;
    }
    opened->bytes = fstat(opened->descriptor, &about) == 0 && about.st_size > 0 ? (uint64_t)about.st_size : 0;
    if (part_read_into(opened, 0, &header, sizeof(header)) && memcmp(header.e_ident, ELFMAG, SELFMAG) == 0
        && header.e_shentsize == sizeof(ElfW(Shdr)) && header.e_shnum <= MOST_SECTIONS) {
        opened->section_count = header.e_shnum;
        opened->sections = part_read(opened, header.e_shoff, header.e_shnum * sizeof(ElfW(Shdr)));
    }
    return opened->sections != NULL;
}

static void
file_close(file *opened)
{
    free(opened->sections);
    if (opened->descriptor >= 0) {
        (void)close(opened->descriptor);
    }
}

static void
table_read_section(const file *file, const ElfW(Shdr) *section, table *read)
{
    const ElfW(Shdr) *names = &file->sections[section->sh_link];
    *read = (table){
        .symbols = part_read(file, section->sh_offset, section->sh_size),
        .count = section->sh_size / sizeof(ElfW(Sym)),
        .names = part_read(file, names->sh_offset, names->sh_size),
        .names_bytes = names->sh_size,
    };
    if (read->names != NULL) {
        read->names[read->names_bytes - 1] = 0;
    }
}

static bool
table_read(const file *file, table *read)
{
    *read = (table){.symbols = NULL};
    for (size_t i = 0; i < file->section_count; i++) {
        const ElfW(Shdr) *section = &file->sections[i];
        if (section->sh_type == SHT_SYMTAB && section->sh_link < file->section_count) {
            table_read_section(file, section, read);
            break;
        }
    }
    return read->symbols != NULL && read->names != NULL;
}

/* Whether memory has the function that the file has. */
static bool
is_loaded(const file *file, const ElfW(Sym) *symbol, const struct link_map *library, const void *address)
{
    char of_file[MOST_COMPARED];
    size_t bytes = symbol->st_size < MOST_COMPARED ? symbol->st_size : MOST_COMPARED;
    const ElfW(Shdr) *section = &file->sections[symbol->st_shndx];
    return bytes > 0 && thag_objects_are_one(address, library->l_ld)
           && thag_objects_are_one((const char *)address + bytes - 1, library->l_ld)
           && part_read_into(file, section->sh_offset + (symbol->st_value - section->sh_addr), of_file, bytes)
           && memcmp(of_file, address, bytes) == 0;
}

static void
symbol_find(const file *file, const table *table, const struct link_map *library, thag_symbol *wanted)
{
    wanted->address = NULL;
    for (size_t i = 0; i < table->count && wanted->address == NULL; i++) {
        const ElfW(Sym) *symbol = &table->symbols[i];
        if ((symbol->st_info & 0xF) == STT_FUNC && symbol->st_name < table->names_bytes
            && symbol->st_shndx < file->section_count && strcmp(&table->names[symbol->st_name], wanted->name) == 0) {
            void *address = (void *)(library->l_addr + symbol->st_value);
            wanted->address = is_loaded(file, symbol, library, address) ? address : NULL;
        }
    }
}

static bool
symbols_find_in(const file *file, const struct link_map *library, thag_symbol *symbols, int count)
{
    table table;
    bool found = table_read(file, &table);
    for (int i = 0; found && i < count; i++) {
        symbol_find(file, &table, library, &symbols[i]);
        found = symbols[i].address != NULL;
    }
    free(table.symbols);
    free(table.names);
    return found;
}

bool
thag_symbols_find(const char *path, thag_symbol *symbols, int count)
{
    struct link_map *library = NULL;
    void *handle = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);       /* never closed: what is found is referred to */
    if (handle == NULL || dlinfo(handle, RTLD_DI_LINKMAP, &library) != 0) {
        return false;
    }
    file opened;
    bool found = file_open(path, &opened) && symbols_find_in(&opened, library, symbols, count);
    file_close(&opened);
    return found;
}

#else

bool
thag_symbols_find(const char *path, thag_symbol *symbols, int count)
{
    (void)path;
    (void)symbols;
    (void)count;
    return false;
}

#endif
