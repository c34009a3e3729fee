/* Loaded objects and their slots.

   A shared library calls a function of another one through a slot, a word in its own data that the dynamic linker has
   filled in. So whoever writes another address there is called instead, without a byte of code being changed, and whoever
   writes the first address back was never there.

     library ──► slot ──► malloc           before
     library ──► slot ──► hook ──► malloc  while redirected

   Slots are named in the library's relocations: JUMP_SLOT for calls, GLOB_DAT for addresses that code loads, and plain words
   in tables of functions. A slot is written only if it is known what it is:

     it holds the function itself, and is redirected;
     or it was never called yet (lazy binding) and points back into its own library, which does not define the function;
     anything else is a function of the same name that is somebody's own, whose blocks are not the C library's: left alone.

   A program that is linked to fixed addresses has an entry of its own for a function whose address it takes; all libraries
   that load the address then hold that entry, so that the function has one address everywhere. It is as good as the function,
   and is what such a slot gets back.

   Nothing is remembered of a slot: what is to be restored is found by what it holds. So libraries may be closed and loaded
   meanwhile. Most have their slots on pages that the linker makes read-only (RELRO) when it is done with the library; they are
   made so again. Before it is done, they must not be, and may not hold yet what they will. So whoever wants slots redirected reads
   how often objects came and went, waits for whoever is loading one, and then nothing is written if one came or went meanwhile.
   Slots that lead to a hook are of objects that are loaded: to restore them, nothing is waited for. */

#define _GNU_SOURCE

#include "objects.h"

#if defined(__linux__) && defined(__GLIBC__) && (defined(__x86_64__) || defined(__aarch64__))

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
enum { JUMP_SLOT = R_X86_64_JUMP_SLOT, GLOB_DAT = R_X86_64_GLOB_DAT, PLAIN_WORD = R_X86_64_64 };
#else
enum { JUMP_SLOT = R_AARCH64_JUMP_SLOT, GLOB_DAT = R_AARCH64_GLOB_DAT, PLAIN_WORD = R_AARCH64_ABS64 };
#endif

/* What an object says of itself to the dynamic linker. */
typedef struct {
    const struct dl_phdr_info *info;
    const ElfW(Sym) *symbols;
    const char *names;
    const ElfW(Rela) *relocations, *calls;      /* of the object's data, and of what it calls */
    size_t relocations_bytes, calls_bytes;
    uintptr_t read_only, read_only_end;         /* whole pages */
} dynamics;

typedef struct {
    const thag_redirection *redirections;
    int count;
    unsigned (*wanted)(const thag_object *object);
    bool restores;
    uint64_t changes;       /* as it must still be, unless slots are restored */
    bool is_late;           /* it is not */
    bool looks_at_all;      /* not only at what was loaded since the last time */
    int place;              /* of the object that is visited, in the linker's list */
    bool is_known;          /* so far, the list is as it was the last time */
    bool writes;            /* else it is only found out what there is to be written */
    unsigned groups;        /* of the object that is looked at */
    bool is_due;            /* that object has something to be written */
    bool refuses;           /* and a slot that cannot be */
    thag_redirected found;
} exchange;

/* What was looked at the last time that slots were redirected, in the order of the linker's list. What is loaded comes behind, so
   only that has to be looked at, unless something was closed meanwhile. GIL. */
enum { KNOWN_ROOM = 4096 };
static struct {
    ElfW(Addr) bases[KNOWN_ROOM];
    int count;
    uint64_t closed;        /* objects, until then */
    thag_redirected found;
} known;

/* ---- one slot ---- */

static const thag_redirection *
redirection_of(const exchange *all, const char *name)
{
    for (int i = 0; i < all->count; i++) {
        const thag_redirection *redirection = &all->redirections[i];
        bool is_meant = redirection->real != NULL && (redirection->group & all->groups) != 0;
        if (redirection->name[0] == name[0] && is_meant && strcmp(redirection->name, name) == 0) {
            return redirection;
        }
    }
    return NULL;
}

/* The one, of several of a name, whose hook it is; else the first. */
static const thag_redirection *
redirection_to(const exchange *all, const void *hook, const thag_redirection *first)
{
    for (int i = 0; i < all->count; i++) {
        if (all->redirections[i].hook == hook && strcmp(all->redirections[i].name, first->name) == 0) {
            return &all->redirections[i];
        }
    }
    return first;
}

/* Not by dladdr, which takes a lock that must not be taken while the linker's list is read. */
static bool
is_within(const struct dl_phdr_info *info, const void *address)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && (uintptr_t)address - (info->dlpi_addr + part->p_vaddr) < part->p_memsz) {
            return true;
        }
    }
    return false;
}

/* True if the pages of a slot are writable, or were until the linker was done with them. */
static bool
is_writable(const struct dl_phdr_info *info, const void *slot)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && (uintptr_t)slot - (info->dlpi_addr + part->p_vaddr) < part->p_memsz) {
            return (part->p_flags & PF_W) != 0;
        }
    }
    return false;
}

/* True if the slot of a call was never used: it points to code of its own object, which has no such function. */
static bool
is_unbound(const dynamics *object, unsigned type, const ElfW(Sym) *symbol, const void *held)
{
    return type == JUMP_SLOT && symbol->st_shndx == SHN_UNDEF && is_within(object->info, held);
}

/* What a slot shall hold that holds `held` now. */
static void *
word_redirected(exchange *all, const dynamics *object, unsigned type, const ElfW(Sym) *symbol, void *held,
                const thag_redirection *redirection)
{
    bool is_known = held == redirection->hook || held == redirection->real || held == redirection->of_program
                    || is_unbound(object, type, symbol, held);
    if (!all->writes) {
        all->found.redirected += is_known;
        all->found.foreign += !is_known;
    }
    return is_known ? redirection->hook : held;
}

static void *
word_restored(unsigned type, void *held, const thag_redirection *redirection)
{
    if (held != redirection->hook) {
        return held;
    }
    return type == JUMP_SLOT ? redirection->real : redirection->of_program;
}

static void
relocation_exchange(exchange *all, const dynamics *object, const ElfW(Rela) *relocation)
{
    unsigned type = ELF64_R_TYPE(relocation->r_info), index = ELF64_R_SYM(relocation->r_info);
    if (index == 0 || relocation->r_addend != 0 || (type != JUMP_SLOT && type != GLOB_DAT && type != PLAIN_WORD)) {
        return;
    }
    const ElfW(Sym) *symbol = &object->symbols[index];
    const thag_redirection *redirection = redirection_of(all, object->names + symbol->st_name);
    if (redirection == NULL) {
        return;
    }
    void **slot = (void **)(object->info->dlpi_addr + relocation->r_offset);
    if (!is_writable(object->info, slot)) {
        all->refuses = true;        /* in the middle of code, for instance, as the linker is still able to write there */
        return;
    }
    void *held = __atomic_load_n(slot, __ATOMIC_RELAXED);
    void *word = all->restores ? word_restored(type, held, redirection_to(all, held, redirection))
                               : word_redirected(all, object, type, symbol, held, redirection);
    all->is_due |= word != held;
    if (all->writes && word != held) {
        __atomic_store_n(slot, word, __ATOMIC_RELEASE);
    }
}

/* ---- one object ---- */

/* The linker has added the object's address to these, unless they are on pages that are never written to. */
static const void *
dynamics_address(const struct dl_phdr_info *info, ElfW(Addr) address)
{
    return (const void *)(is_within(info, (const void *)address) ? address : info->dlpi_addr + address);
}

static void
dynamics_read(dynamics *object, const ElfW(Dyn) *entry)
{
    for (; entry->d_tag != DT_NULL; entry++) {
        const void *address = dynamics_address(object->info, entry->d_un.d_ptr);
        switch (entry->d_tag) {
        case DT_SYMTAB:
            object->symbols = address;
            break;
        case DT_STRTAB:
            object->names = address;
            break;
        case DT_RELA:
            object->relocations = address;
            break;
        case DT_RELASZ:
            object->relocations_bytes = entry->d_un.d_val;
            break;
        case DT_JMPREL:
            object->calls = address;
            break;
        case DT_PLTRELSZ:
            object->calls_bytes = entry->d_un.d_val;
            break;
        default:
            break;
        }
    }
}

static bool
object_read(const struct dl_phdr_info *info, dynamics *object)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    *object = (dynamics){.info = info};
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_DYNAMIC) {
            dynamics_read(object, (const void *)start);
        }
        else if (part->p_type == PT_GNU_RELRO) {
            object->read_only = start & ~(page - 1);
            object->read_only_end = (start + part->p_memsz) & ~(page - 1);
        }
    }
    return object->symbols != NULL && object->names != NULL;
}

/* True if the pages can be written now, or are to be read only again and are. */
static bool
read_only_set(const dynamics *object, bool writable)
{
    size_t bytes = object->read_only_end - object->read_only;
    return bytes == 0 || mprotect((void *)object->read_only, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ) == 0;
}

static void
slots_exchange(exchange *all, const dynamics *object)
{
    for (size_t i = 0; i < object->relocations_bytes / sizeof(ElfW(Rela)); i++) {
        relocation_exchange(all, object, &object->relocations[i]);
    }
    for (size_t i = 0; i < object->calls_bytes / sizeof(ElfW(Rela)); i++) {
        relocation_exchange(all, object, &object->calls[i]);
    }
}

static void
object_refuses(thag_redirected *found, const char *path)
{
    if (found->unwritable++ == 0) {
        const char *folder_end = strrchr(path, '/');
        (void)snprintf(found->unwritable_name, sizeof(found->unwritable_name), "%s",
                       folder_end == NULL ? path : folder_end + 1);
    }
}

static void
slots_write(exchange *all, const dynamics *object)
{
    if (!read_only_set(object, true)) {
        object_refuses(&all->found, object->info->dlpi_name);
        return;
    }
    all->writes = true;
    slots_exchange(all, object);
    (void)read_only_set(object, false);
    all->writes = false;
}

/* The linker itself must go on with its own functions; the kernel's object has none. */
static bool
is_of_the_system(const char *path)
{
    return strstr(path, "/ld-linux") != NULL || strstr(path, "linux-vdso") != NULL;
}

/* True if the object was looked at before; else it is noted that now it was. */
static bool
object_is_known(exchange *all, const struct dl_phdr_info *info)
{
    if (all->place == 0) {
        all->is_known = !all->looks_at_all && known.closed == info->dlpi_subs;
        known.closed = info->dlpi_subs;
    }
    int place = all->place++;
    if (all->is_known && place < known.count && known.bases[place] == info->dlpi_addr) {
        return true;
    }
    if (all->is_known && place < known.count) {
        all->is_known = false;
    }
    if (place == 0) {
        known.found = (thag_redirected){0};
    }
    if (place < KNOWN_ROOM) {
        known.bases[place] = info->dlpi_addr;
        known.count = place + 1;
    }
    return false;
}

static int
object_exchange(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    exchange *all = data;
    dynamics object;
    all->is_late = !all->restores && all->changes != info->dlpi_adds + info->dlpi_subs;
    if (all->is_late) {
        return 1;
    }
    if (!all->restores && object_is_known(all, info)) {
        return 0;
    }
    if (is_of_the_system(info->dlpi_name) || !object_read(info, &object)) {
        return 0;
    }
    thag_object seen = {
        .path = info->dlpi_name,
        .has_python = is_within(info, (void *)PyObject_Malloc),
        .has_real = is_within(info, all->redirections[0].real),
        .is_ours = is_within(info, (void *)thag_objects_redirect),
    };
    all->groups = all->restores ? ~0u : all->wanted(&seen);
    if (all->groups == 0) {
        return 0;
    }
    all->is_due = all->refuses = false;
    slots_exchange(all, &object);
    if (all->refuses && !all->restores) {
        object_refuses(&all->found, info->dlpi_name);
    }
    if (all->is_due) {
        slots_write(all, &object);
    }
    return 0;
}

/* ---- all objects ---- */

typedef struct {
    void (*visit)(const char *path, uintptr_t start, uintptr_t end);
} visitor;

static int
object_visit(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    uintptr_t start = UINTPTR_MAX, end = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD) {
            uintptr_t from = info->dlpi_addr + part->p_vaddr, until = from + part->p_memsz;
            start = from < start ? from : start;
            end = until > end ? until : end;
        }
    }
    ((visitor *)data)->visit(info->dlpi_name, start, end);
    return 0;
}

void
thag_objects_visit(void (*visit)(const char *path, uintptr_t start, uintptr_t end))
{
    visitor wanted = {.visit = visit};
    (void)dl_iterate_phdr(object_visit, &wanted);
}

typedef struct {
    exchange all;           /* nothing is written: it is only found out whether there is something to be restored */
    void (*visit)(const char *path, const void *inside, void *data);
    void *data;
} redirected_visitor;

static int
redirected_visit(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    redirected_visitor *visitor = data;
    dynamics object;
    if (object_read(info, &object)) {
        visitor->all.is_due = false;
        slots_exchange(&visitor->all, &object);
        if (visitor->all.is_due) {
            visitor->visit(info->dlpi_name, object.symbols, visitor->data);
        }
    }
    return 0;
}

void
thag_objects_visit_redirected(const thag_redirection *redirections, int count, unsigned groups,
                              void (*visit)(const char *path, const void *inside, void *data), void *data)
{
    redirected_visitor visitor = {
        .all = {.redirections = redirections, .count = count, .restores = true, .groups = groups},
        .visit = visit, .data = data};
    (void)dl_iterate_phdr(redirected_visit, &visitor);
}

typedef struct {
    const char *part, *path;
} path_wanted;

static int
path_look(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    path_wanted *wanted = data;
    bool is_it = strstr(info->dlpi_name, wanted->part) != NULL;
    wanted->path = is_it ? info->dlpi_name : NULL;
    return is_it;
}

const char *
thag_objects_path(const char *part)
{
    path_wanted wanted = {.part = part};
    (void)dl_iterate_phdr(path_look, &wanted);
    return wanted.path;
}

bool
thag_objects_are_one(const void *one, const void *other)
{
    Dl_info where_one, where_other;
    return dladdr(one, &where_one) != 0 && dladdr(other, &where_other) != 0
           && where_one.dli_fbase == where_other.dli_fbase;
}

typedef struct {
    void **slot, *word;
    bool is_written;
} word_wanted;

static int
word_write(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    word_wanted *wanted = data;
    dynamics object;
    if (!is_within(info, wanted->slot) || !object_read(info, &object)) {
        return 0;
    }
    bool is_read_only = (uintptr_t)wanted->slot - object.read_only < object.read_only_end - object.read_only;
    if (!is_read_only || read_only_set(&object, true)) {
        __atomic_store_n(wanted->slot, wanted->word, __ATOMIC_RELEASE);
        wanted->is_written = true;
        (void)(is_read_only && read_only_set(&object, false));
    }
    return 1;
}

bool
thag_objects_write(void **slot, void *word)
{
    word_wanted wanted = {.slot = slot, .word = word};
    (void)dl_iterate_phdr(word_write, &wanted);
    return wanted.is_written;
}

static int
changes_read(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    *(uint64_t *)data = info->dlpi_adds + info->dlpi_subs;
    return 1;
}

uint64_t
thag_objects_changes(void)
{
    uint64_t changes = 0;
    (void)dl_iterate_phdr(changes_read, &changes);
    return changes;
}

/* True for what is no function, but the program's own entry for one that it does not define. */
static bool
is_entry(void *function)
{
    Dl_info where;
    const ElfW(Sym) *symbol = NULL;
    return dladdr1(function, &where, (void **)&symbol, RTLD_DL_SYMENT) != 0 && symbol != NULL
           && symbol->st_shndx == SHN_UNDEF;
}

static void *
function_of(const struct link_map *library, const char *name)
{
    void *handle = dlopen(library->l_name, RTLD_LAZY | RTLD_NOLOAD);
    if (handle == NULL) {
        return NULL;
    }
    void *function = dlsym(handle, name);       /* looked for in what the library needs, too */
    (void)dlclose(handle);
    return function != NULL && thag_objects_are_one(function, library->l_ld) ? function : NULL;
}

/* What the program's own entry leads to: the first function of the name in the objects behind it, in the order of their loading. */
static void *
function_behind(const struct link_map *program, const char *name)
{
    void *function = NULL;
    for (const struct link_map *next = program->l_next; next != NULL && function == NULL; next = next->l_next) {
        function = function_of(next, name);
    }
    return function;
}

static void
function_find(thag_redirection *redirection, const struct link_map *program)
{
    if (redirection->real != NULL) {
        return;         /* found before: a thread may still be in the hook, and go on to this */
    }
    void *everywhere = dlsym(RTLD_DEFAULT, redirection->name);
    void *real = everywhere != NULL && is_entry(everywhere) ? function_behind(program, redirection->name) : everywhere;
    redirection->of_program = everywhere;
    __atomic_store_n(&redirection->real, real, __ATOMIC_RELAXED);       /* no slot leads to the hook yet */
}

bool
thag_objects_find(thag_redirection *redirections, int count)
{
    struct link_map *program = NULL;
    void *handle = dlopen(NULL, RTLD_LAZY);
    if (handle == NULL || dlinfo(handle, RTLD_DI_LINKMAP, &program) != 0) {
        return false;
    }
    for (int i = 0; i < count; i++) {
        function_find(&redirections[i], program);
    }
    (void)dlclose(handle);
    return true;
}

void
thag_objects_wait(void)
{
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);      /* the linker does one at a time */
    if (libc != NULL) {
        (void)dlclose(libc);
    }
}

bool
thag_objects_redirect(const thag_redirection *redirections, int count, unsigned (*wanted)(const thag_object *object),
                      bool looks_at_all, uint64_t changes, thag_redirected *found)
{
    exchange all = {.redirections = redirections, .count = count, .wanted = wanted, .looks_at_all = looks_at_all,
                    .changes = changes};
    (void)dl_iterate_phdr(object_exchange, &all);
    if (all.is_late) {
        return false;
    }
    known.found.redirected += all.found.redirected;
    known.found.foreign += all.found.foreign;
    if (known.found.unwritable == 0) {
        memcpy(known.found.unwritable_name, all.found.unwritable_name, sizeof(known.found.unwritable_name));
    }
    known.found.unwritable += all.found.unwritable;
    *found = known.found;
    return true;
}

void
thag_objects_restore(const thag_redirection *redirections, int count)
{
    exchange all = {.redirections = redirections, .count = count, .restores = true};
    (void)dl_iterate_phdr(object_exchange, &all);
}

#else

bool
thag_objects_find(thag_redirection *redirections, int count)
{
    (void)redirections;
    (void)count;
    return false;
}

void
thag_objects_wait(void)
{
}

bool
thag_objects_redirect(const thag_redirection *redirections, int count, unsigned (*wanted)(const thag_object *object),
                      bool looks_at_all, uint64_t changes, thag_redirected *found)
{
    (void)redirections;
    (void)count;
    (void)wanted;
    (void)looks_at_all;
    (void)changes;
    *found = (thag_redirected){0};
    return true;
}

void
thag_objects_restore(const thag_redirection *redirections, int count)
{
    (void)redirections;
    (void)count;
}

void
thag_objects_visit(void (*visit)(const char *path, uintptr_t start, uintptr_t end))
{
    (void)visit;
}

const char *
thag_objects_path(const char *part)
{
    (void)part;
    return NULL;
}

void
thag_objects_visit_redirected(const thag_redirection *redirections, int count, unsigned groups,
                              void (*visit)(const char *path, const void *inside, void *data), void *data)
{
    (void)redirections;
    (void)count;
    (void)groups;
    (void)visit;
    (void)data;
}

bool
thag_objects_are_one(const void *one, const void *other)
{
    (void)one;
    (void)other;
    return false;
}

bool
thag_objects_write(void **slot, void *word)
{
    (void)slot;
    (void)word;
    return false;
}

uint64_t
thag_objects_changes(void)
{
    return 0;
}

#endif
