/* Call sites.

   A stack is a path in a tree: a site is a line of a function, called from another site. What a frame stands at is told by the
   address of its instruction alone, which says both which code it runs and where. So a site is found by its caller's number and
   an address, and the line, the file and the function are looked up when a site is new, and never again:

     address ──► address ──► address          a stack, from the outermost frame on
        │           │           │
     (0, a) ──► (7, b) ──► (9, c) ──► 12      sites, found in a table

   Several instructions of one line are one site: the first of them to be met makes it, found by the line, and others lead there.

   An address means something else when its code dies and another one comes to lie there. From 3.12 on, the interpreter tells of
   code that dies; its sites are then no longer found, and stay readable for whoever knows their number. Before, and where it
   cannot be told, code is kept alive as long as its sites are found.

   All is in pages of our own, bounded, and nothing is allocated otherwise. */

#include "pyframes.h"

#include "sites.h"
#include "slabs.h"

#include <string.h>

enum {
    CHUNK = 1 << 12,            /* records in a chunk of pages */
    CHUNKS = THAG_SITES_MOST / CHUNK,
    TEXT_BYTES = 5000,          /* of a file's or a function's name, at most */
};

/* ---- tables of numbers ---- */

enum { NUMBER_BITS = 20 };

/* A number stands in a table with some bits of its hash: of most numbers that are not looked for, that is enough to know. */
typedef struct {
    uint32_t *entries;          /* 0: free. Those of numbers have the highest bit. */
    size_t mask;
    size_t used;                /* with those whose number was taken out */
    uint64_t (*hash)(uint32_t number);
} table;

#define NUMBER_OF(entry) ((entry) & ((UINT32_C(1) << NUMBER_BITS) - 1))
#define TAKEN_OUT 1

_Static_assert(THAG_SITES_MOST <= 1 << NUMBER_BITS, "a number fits into its part of an entry");

static size_t mapped_bytes;

static inline uint32_t
hash_bits(uint64_t hash)
{
    return (uint32_t)(hash >> (NUMBER_BITS + 1)) << NUMBER_BITS | UINT32_C(1) << 31;
}

/* From `place` on, which is the hash at first: the next number that may have it; 0 if there is none. */
static inline uint32_t
table_next(const table *in, uint64_t hash, uint64_t *place)
{
    while (in->entries != NULL) {
        uint32_t entry = in->entries[(*place)++ & in->mask];
        if (entry == 0 || entry - NUMBER_OF(entry) == hash_bits(hash)) {
            return NUMBER_OF(entry);
        }
    }
    return 0;
}

static void
table_put(const table *in, uint32_t number)
{
    uint64_t hash = in->hash(number);
    size_t i = hash & in->mask;
    while (in->entries[i] != 0) {
        i = (i + 1) & in->mask;
    }
    in->entries[i] = number | hash_bits(hash);
}

static void
table_unmap(table *old)
{
    if (old->entries != NULL) {
        thag_pages_unmap(old->entries, (old->mask + 1) * sizeof(*old->entries));
        mapped_bytes -= (old->mask + 1) * sizeof(*old->entries);
    }
    old->entries = NULL;
    old->mask = old->used = 0;
}

/* Room for one more, and for looking up. False without memory. */
static bool
table_has_room(table *in)
{
    if (in->entries != NULL && in->used * 2 <= in->mask) {
        return true;
    }
    size_t kept = 0;
    for (size_t i = 0; in->entries != NULL && i <= in->mask; i++) {
        kept += in->entries[i] != 0 && in->entries[i] != TAKEN_OUT;
    }
    size_t room = CHUNK;
    while (room < kept * 4) {
        room *= 2;
    }
    table bigger = {.entries = thag_pages_map(room * sizeof(uint32_t)), .mask = room - 1, .used = kept, .hash = in->hash};
    if (bigger.entries == NULL) {
        return false;
    }
    mapped_bytes += room * sizeof(uint32_t);
    for (size_t i = 0; in->entries != NULL && i <= in->mask; i++) {
        if (in->entries[i] != 0 && in->entries[i] != TAKEN_OUT) {
            table_put(&bigger, NUMBER_OF(in->entries[i]));
        }
    }
    table_unmap(in);
    *in = bigger;
    return true;
}

static void
table_add(table *in, uint32_t number)
{
    table_put(in, number);
    in->used++;
}

/* It may not be there, if there was no memory. */
static void
table_take_out(const table *from, uint32_t number)
{
    uint64_t hash = from->hash(number), place = hash;
    for (uint32_t found; (found = table_next(from, hash, &place)) != 0;) {
        if (found == number) {
            from->entries[(place - 1) & from->mask] = TAKEN_OUT;
            return;
        }
    }
}

static uint64_t
mixed(uint64_t one, uint64_t other)
{
    uint64_t sum = one * UINT64_C(0x9E3779B97F4A7C15) ^ other * UINT64_C(0xC2B2AE3D27D4EB4F);
    return sum >> 29;
}

/* ---- texts ---- */

typedef struct {
    uint64_t hash;
    size_t bytes;
    char data[];
} text;

enum {
    TEXT_UNKNOWN,               /* there was no memory for it */
    TEXT_LEFT_OUT,              /* for frames that a very deep stack does not keep */
    TEXTS_FIRST,
    TEXTS_MOST = 1 << 18,
};

static const text *texts[TEXTS_MOST];
static uint32_t text_count = TEXTS_FIRST - 1;

static uint64_t
text_hash(uint32_t number)
{
    return texts[number]->hash;
}

static table text_table = {.hash = text_hash};

/* One character more; false if there is no room. */
static bool
character_write(char *to, size_t *bytes, Py_UCS4 c)
{
    static const unsigned char leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    size_t count = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    if (*bytes + count > TEXT_BYTES) {
        return false;
    }
    for (size_t i = count; i-- > 1; c >>= 6) {
        to[*bytes + i] = (char)(0x80 | (c & 0x3F));
    }
    to[*bytes] = (char)(leads[count] | c);
    *bytes += count;
    return true;
}

/* Of what CPython's own function does, the part that allocates nothing. */
static size_t
text_encode(PyObject *string, char *to)
{
    size_t bytes = 0;
#if PY_VERSION_HEX < 0x030C0000
    if (!PyUnicode_IS_READY(string)) {
        return 0;
    }
#endif
    for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(string); i++) {
        if (!character_write(to, &bytes, PyUnicode_READ_CHAR(string, i))) {
            break;
        }
    }
    return bytes;
}

static uint64_t
bytes_hash(const char *bytes, size_t count)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);       /* FNV-1a */
    for (size_t i = 0; i < count; i++) {
        hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static uint32_t
text_make(const char *data, size_t bytes, uint64_t hash)
{
    text *made = text_count + 1 == TEXTS_MOST ? NULL : thag_slab_take(sizeof(text) + bytes);
    if (made == NULL) {
        return 0;
    }
    made->hash = hash;
    made->bytes = bytes;
    memcpy(made->data, data, bytes);
    texts[++text_count] = made;
    table_add(&text_table, text_count);
    return text_count;
}

/* The number of a text; 0 without memory. */
static uint32_t
text_intern(PyObject *string)
{
    static char data[TEXT_BYTES];
    size_t bytes = text_encode(string, data);
    uint64_t hash = bytes_hash(data, bytes);
    if (!table_has_room(&text_table)) {
        return 0;
    }
    uint64_t place = hash;
    for (uint32_t number; (number = table_next(&text_table, hash, &place)) != 0;) {
        if (texts[number]->hash == hash && texts[number]->bytes == bytes && memcmp(texts[number]->data, data, bytes) == 0) {
            return number;
        }
    }
    return text_make(data, bytes, hash);
}

/* ---- records in chunks ---- */

static void *
chunk_record(void **chunks, uint32_t number, size_t record_bytes)
{
    void **chunk = &chunks[number / CHUNK];
    if (*chunk == NULL && (*chunk = thag_pages_map(CHUNK * record_bytes)) != NULL) {
        mapped_bytes += CHUNK * record_bytes;
    }
    return *chunk == NULL ? NULL : (char *)*chunk + number % CHUNK * record_bytes;
}

static void
chunks_unmap(void **chunks, size_t record_bytes)
{
    for (int i = 0; i < CHUNKS; i++) {
        if (chunks[i] != NULL) {
            thag_pages_unmap(chunks[i], CHUNK * record_bytes);
            mapped_bytes -= CHUNK * record_bytes;
            chunks[i] = NULL;
        }
    }
}

/* ---- code ---- */

typedef struct {
    PyCodeObject *code;         /* NULL: dead */
    uint32_t file, function;    /* texts */
    uint32_t newest;            /* of its nodes, linked; of an unused record, the next of those */
    thag_pyframe_reading lines;
    bool is_hidden;
    bool is_over;               /* nobody needs it, but nobody has let go of it yet */
    bool is_unused;
} code_record;

static void *code_chunks[CHUNKS];
static uint32_t code_count;
static uint32_t unused_code;    /* linked; 0: none */
static bool keeps_alive;        /* nobody tells of code that dies */

static code_record *
code_at(uint32_t number)
{
    return (code_record *)code_chunks[number / CHUNK] + number % CHUNK;
}

static uint64_t
hash_of_code(const PyCodeObject *code)
{
    return mixed((uintptr_t)code >> 4, 0);
}

static uint64_t
code_hash(uint32_t number)
{
    return hash_of_code(code_at(number)->code);
}

static table code_table = {.hash = code_hash};

/* Whether a local variable is called as pytest and IPython have it for functions that are not to be shown. What its value is,
   only the frame knows, and it may not have one yet. */
static bool
code_is_hidden(const PyCodeObject *code)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_localsplusnames); i++) {
        if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(code->co_localsplusnames, i), "__tracebackhide__") == 0) {
            return true;
        }
    }
    return false;
}

/* ---- lines ---- */

/* An address is met again under each caller. So its line is kept once it was read; of addresses that share a place, the last one's. */
enum { LINES_KEPT = 1 << 12 };

static struct {
    const void *at;
    uint32_t code;
    int32_t line;
} lines_kept[LINES_KEPT];

static bool any_line_is_kept;

static int
line_of(const thag_pyframe *frame, PyCodeObject *code, const void *at, uint32_t number)
{
    size_t place = (uintptr_t)at >> 1 & (LINES_KEPT - 1);
    if (lines_kept[place].at != at || lines_kept[place].code != number) {
        lines_kept[place].at = at;
        lines_kept[place].code = number;
        lines_kept[place].line = thag_pyframe_line(frame, code, &code_at(number)->lines);
        any_line_is_kept = true;
    }
    return lines_kept[place].line;
}

/* The number of a code is about to be another one's, which may lie where the first did. */
static void
kept_lines_forget(void)
{
    if (any_line_is_kept) {
        memset(lines_kept, 0, sizeof(lines_kept));
        any_line_is_kept = false;
    }
}

static void
code_record_give_back(uint32_t number)
{
    kept_lines_forget();
    *code_at(number) = (code_record){.newest = unused_code, .is_unused = true};
    unused_code = number;
}

/* The number of a record that is not used; 0 if there is none. */
static uint32_t
code_take(void)
{
    uint32_t number = unused_code;
    if (number != 0) {
        unused_code = code_at(number)->newest;
    }
    else if (code_count + 1 < THAG_SITES_MOST && chunk_record(code_chunks, code_count + 1, sizeof(code_record)) != NULL) {
        number = ++code_count;
    }
    return number;
}

static uint32_t
code_make(PyCodeObject *code)
{
    uint32_t number = code_take();
    if (number == 0) {
        return 0;
    }
    *code_at(number) = (code_record){.code = code, .file = text_intern(code->co_filename),
                                     .function = text_intern(code->co_qualname), .is_hidden = code_is_hidden(code)};
    if (keeps_alive) {
        Py_INCREF(code);
    }
    table_add(&code_table, number);
    return number;
}

/* The number of a code that is alive; 0 if it has none. */
static uint32_t
code_find(const PyCodeObject *code)
{
    uint64_t hash = hash_of_code(code), place = hash;
    uint32_t number;
    do {
        number = table_next(&code_table, hash, &place);
    } while (number != 0 && code_at(number)->code != code);
    return number;
}

static uint32_t
code_intern(PyCodeObject *code)
{
    uint32_t number = code_find(code);
    return number == 0 && table_has_room(&code_table) ? code_make(code) : number;
}

/* ---- sites ---- */

/* What an address is, for one caller: a site, or nothing that is shown, and then the caller. */
typedef struct {
    const void *at;
    uint32_t caller;
    uint32_t site;
    uint32_t code;              /* 0: what the interpreter puts between frames */
    int32_t line;
    uint32_t next_of_code;      /* of an unused one, the next of those */
    bool is_kept;               /* as long as others are swept */
} node;

static void *node_chunks[CHUNKS];
static uint32_t node_count = THAG_SITES_FIRST - 1;
static uint32_t unused_node;    /* linked; 0: none */
static uint32_t unused_nodes;
static int64_t dropped;

thag_finding thag_findings[1 << THAG_FINDINGS_BITS];
uint64_t thag_sites_gone;
uint32_t thag_sites_epoch = 1;

static node *
node_at(uint32_t number)
{
    return (node *)node_chunks[number / CHUNK] + number % CHUNK;
}

static inline uint64_t
place_hash(uint32_t caller, const void *at)
{
    return mixed((uintptr_t)at >> 1, caller);
}

static uint64_t
node_hash(uint32_t number)
{
    return place_hash(node_at(number)->caller, node_at(number)->at);
}

static table node_table = {.hash = node_hash};

/* The number of one that is not used; 0 if there is none. */
static uint32_t
node_take(void)
{
    uint32_t number = unused_node;
    if (number != 0) {
        unused_node = node_at(number)->next_of_code;
        unused_nodes--;
    }
    else if (node_count + 1 < THAG_SITES_MOST && chunk_record(node_chunks, node_count + 1, sizeof(node)) != NULL) {
        number = ++node_count;
    }
    return number;
}

static void
node_give_back(uint32_t number)
{
    *node_at(number) = (node){.next_of_code = unused_node};
    unused_node = number;
    unused_nodes++;
}

#define ITSELF UINT32_MAX       /* the site of a node that is one */

/* What is at a place of which nothing is known yet. The number, or 0 without room. */
static uint32_t
node_add(node like)
{
    uint32_t number = table_has_room(&node_table) ? node_take() : 0;
    if (number == 0) {
        return 0;
    }
    node *made = node_at(number);
    *made = like;
    made->site = like.site == ITSELF ? number : like.site;
    if (like.code != 0) {
        made->next_of_code = code_at(like.code)->newest;
        code_at(like.code)->newest = number;
    }
    table_add(&node_table, number);
    return number;
}

/* The node of an address, or of what stands for a line; 0 if there is none. */
static inline uint32_t
node_find(uint32_t caller, const void *at)
{
    uint64_t hash = place_hash(caller, at), place = hash;
    uint32_t number;
    do {
        number = table_next(&node_table, hash, &place);
    } while (number != 0 && (node_at(number)->at != at || node_at(number)->caller != caller));
    return number;
}

/* No address: they end far below. */
static const void *
place_of_line(uint32_t code, int line)
{
    return (const void *)(UINT64_C(1) << 63 | (uint64_t)code << 32 | (uint32_t)line);
}

static uint32_t
site_of_line(uint32_t caller, uint32_t code, int line)
{
    const void *place = place_of_line(code, line);
    uint32_t number = node_find(caller, place);
    node missing = {.at = place, .caller = caller, .site = ITSELF, .code = code, .line = line};
    return number != 0 ? number : node_add(missing);
}

/* What is to be known of a frame that nobody has met yet. Those that Python does not show are their caller. False without room. */
static bool
node_describe(node *found, const thag_pyframe *frame)
{
    PyCodeObject *code = thag_pyframe_code(frame);
    found->site = found->caller;
    if (code == NULL) {
        return true;
    }
    found->code = code_intern(code);
    if (found->code == 0 || thag_pyframe_is_incomplete(frame, code)) {
        return found->code != 0;
    }
    found->line = line_of(frame, code, found->at, found->code);
    found->site = site_of_line(found->caller, found->code, found->line);
    return found->site != 0;
}

THAG_COLD static uint32_t
site_make(uint32_t caller, const void *at, const thag_pyframe *frame)
{
    node found = {.at = at, .caller = caller, .site = ITSELF};
    uint32_t number = frame == NULL || node_describe(&found, frame) ? node_add(found) : 0;
    if (number == 0) {
        dropped++;
        return THAG_SITE_TOO_MANY;
    }
    return node_at(number)->site;
}

static void
finding_forget(const node *gone)
{
    thag_finding *found = thag_finding_of(gone->caller, gone->at);
    found->site = found->at == gone->at && found->caller == gone->caller ? 0 : found->site;
}

uint32_t
thag_site_look_up(uint32_t caller, const void *at, const void *frame)
{
    uint32_t number = node_find(caller, at);
    uint32_t site = THAG_LIKELY(number != 0) ? node_at(number)->site : site_make(caller, at, frame);
    if (THAG_LIKELY(site != THAG_SITE_TOO_MANY)) {
        *thag_finding_of(caller, at) = (thag_finding){at, caller, site};
    }
    return site;
}

thag_site
thag_site_read(uint32_t site)
{
    assert(site >= THAG_SITES_FIRST && site <= node_count);
    const node *own = node_at(site);
    if (own->code == 0) {
        return (thag_site){.caller = own->caller, .file = TEXT_UNKNOWN, .function = TEXT_LEFT_OUT};
    }
    const code_record *code = code_at(own->code);
    return (thag_site){own->caller, own->line, code->is_hidden, code->file, code->function};
}

thag_text
thag_text_read(uint32_t number)
{
    if (number < TEXTS_FIRST) {
        return number == TEXT_LEFT_OUT ? (thag_text){"...", 3} : (thag_text){"", 0};
    }
    return (thag_text){texts[number]->data, texts[number]->bytes};
}

uint32_t
thag_texts_end(void)
{
    return text_count + 1;
}

/* ---- the end of code ---- */

static void
code_forget(uint32_t number)
{
    code_record *dead = code_at(number);
    for (uint32_t i = dead->newest; i != 0; i = node_at(i)->next_of_code) {
        finding_forget(node_at(i));
        table_take_out(&node_table, i);
    }
    table_take_out(&code_table, number);
    dead->code = NULL;
    thag_sites_gone++;
}

#if PY_VERSION_HEX >= 0x030C0000
static int
code_changed(PyCodeEvent event, PyCodeObject *code)
{
    uint32_t number = event == PY_CODE_EVENT_DESTROY ? code_find(code) : 0;
    if (number != 0) {
        code_forget(number);
    }
    return 0;
}
#endif

bool
thag_sites_prepare(void)
{
    static bool is_prepared;
    if (is_prepared || !thag_pyframes_fit()) {
        return is_prepared;
    }
    is_prepared = true;
    keeps_alive = true;
#if PY_VERSION_HEX >= 0x030C0000
    keeps_alive = PyCode_AddWatcher(code_changed) < 0;
    if (keeps_alive) {
        PyErr_Clear();      /* others have all that there are */
    }
#endif
    return true;
}

void
thag_sites_release_codes(void)
{
    for (uint32_t i = 1; keeps_alive && i <= code_count; i++) {
        PyCodeObject *code = code_at(i)->code;
        if (code != NULL && code_at(i)->is_over) {
            code_record_give_back(i);
            Py_DECREF(code);
        }
        else if (code != NULL && Py_REFCNT(code) == 1) {
            code_forget(i);
            Py_DECREF(code);
        }
    }
}

/* ---- sweeping ---- */

void
thag_site_keep(uint32_t site)
{
    while (site >= THAG_SITES_FIRST && !node_at(site)->is_kept) {
        node_at(site)->is_kept = true;
        site = node_at(site)->caller;
    }
}

/* One that stays is found again, if its code lives. */
static void
node_stay(uint32_t number)
{
    node *kept = node_at(number);
    code_record *code = kept->code == 0 ? NULL : code_at(kept->code);
    kept->is_kept = false;
    if (code != NULL) {
        kept->next_of_code = code->newest;
        code->newest = number;
    }
    if ((code == NULL || code->code != NULL) && table_has_room(&node_table)) {
        table_add(&node_table, number);
    }
}

static void
nodes_sweep(void)
{
    for (uint32_t i = 1; i <= code_count; i++) {
        code_at(i)->newest = code_at(i)->is_unused ? code_at(i)->newest : 0;
    }
    table_unmap(&node_table);
    for (uint32_t number = THAG_SITES_FIRST; number <= node_count; number++) {
        if (node_at(number)->is_kept) {
            node_stay(number);
        }
        else if (node_at(number)->at != NULL) {
            node_give_back(number);
        }
    }
}

/* Code that no site is of any more. Who keeps it alive lets go of it later: this may be within bookkeeping. */
static void
codes_sweep(void)
{
    for (uint32_t i = 1; i <= code_count; i++) {
        code_record *record = code_at(i);
        if (record->is_unused || record->is_over || record->newest != 0) {
            continue;
        }
        if (record->code != NULL) {
            table_take_out(&code_table, i);
        }
        if (keeps_alive && record->code != NULL) {
            record->is_over = true;
        }
        else {
            code_record_give_back(i);
        }
    }
}

/* Whoever has a number of one may not have it any more. */
static void
all_end(void)
{
    memset(thag_findings, 0, sizeof(thag_findings));
    thag_sites_gone++;
    thag_sites_epoch++;
}

void
thag_sites_sweep(void)
{
    all_end();
    nodes_sweep();
    codes_sweep();
}

/* The last reference to code may go, and then other code runs, which may make sites: nothing of the old ones is left by then. */
static void
codes_drop(void **chunks, uint32_t count)
{
    for (uint32_t i = 1; keeps_alive && i <= count; i++) {
        Py_XDECREF(((code_record *)chunks[i / CHUNK] + i % CHUNK)->code);
    }
    chunks_unmap(chunks, sizeof(code_record));
}

void
thag_sites_forget(void)
{
    all_end();
    kept_lines_forget();
    table_unmap(&node_table);
    chunks_unmap(node_chunks, sizeof(node));
    node_count = THAG_SITES_FIRST - 1;
    unused_node = unused_nodes = unused_code = 0;
    table_unmap(&code_table);
    for (; text_count >= TEXTS_FIRST; text_count--) {
        const text *gone = texts[text_count];
        thag_slab_give_back((void *)(uintptr_t)gone, sizeof(text) + gone->bytes);
    }
    table_unmap(&text_table);
    void *chunks[CHUNKS];
    uint32_t count = code_count;
    memcpy(chunks, code_chunks, sizeof(chunks));
    memset(code_chunks, 0, sizeof(code_chunks));
    code_count = 0;
    codes_drop(chunks, count);
}

uint32_t
thag_sites_end(void)
{
    return node_count + 1;
}

bool
thag_sites_are_many(void)
{
    return node_count - unused_nodes > THAG_SITES_MOST / 4 * 3;
}

int64_t
thag_sites_dropped(void)
{
    return dropped;
}

size_t
thag_sites_mapped(void)
{
    return mapped_bytes;
}
