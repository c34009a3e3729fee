/* Call sites as Python reads them: of recorded contexts, of a block, and of the frames that run. */

#include "accounts.h"
#include "bindings.h"
#include "call_sites.h"
#include "charges.h"
#include "current.h"
#include "lifecycle.h"
#include "sites.h"
#include "stacks.h"

#include <stdlib.h>

/* ---- asking for them ---- */

static bool
has_any_below(const thag_context *context)
{
    for (uint32_t i = thag_contexts.count; i-- > 0 && thag_contexts.by_age[i] != context;) {
        if (thag_context_parent(thag_contexts.by_age[i]) == context) {
            return true;
        }
    }
    return false;
}

static PyObject *
native_lines_begin(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2) {
        return PyErr_Format(PyExc_TypeError, "lines_begin takes 2 arguments, not %zd", count);
    }
    thag_context *context = thag_context_to_enter(arguments[0]);
    size_t least_bytes = context == NULL ? 0 : PyLong_AsSize_t(arguments[1]);
    if (context == NULL || PyErr_Occurred()) {
        return NULL;
    }
    if (!context->records || context == thag_contexts.root || (context->explained == NULL && has_any_below(context))) {
        return PyErr_Format(PyExc_ValueError, "the lines of the context %S cannot be recorded from now on", arguments[0]);
    }
    (void)thag_charges_catch_up();
    thag_batch_close();
    return PyBool_FromLong(thag_accounts_begin(context, least_bytes));
}

static PyObject *
native_lines_release(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    thag_sites_release_codes();
    Py_RETURN_NONE;
}

/* ---- reading them ---- */

/* The sites that are told of, callers first, and where each of them stands in the list that is made: 1 for the first, 0 for others. */
typedef struct {
    uint32_t *places;
    uint32_t *sites;
    uint32_t count;
    PyObject **texts;           /* made so far, owned: many sites have the same */
} site_list;

long
thag_site_number(uint32_t site)
{
    return site == THAG_SITE_UNKNOWN ? 0 : site < THAG_SITES_FIRST ? -1 - (long)site : (long)site;
}

/* What a recording calls a site. */
static long
site_in(const site_list *list, uint32_t site)
{
    return site < THAG_SITES_FIRST ? -1 - (long)site : (long)list->places[site] - 1;
}

/* Those of the stack that are not there yet: counted from the site outwards, and then put from the outermost one on. */
static void
sites_want(site_list *list, uint32_t site)
{
    uint32_t missing = 0;
    for (uint32_t i = site; i >= THAG_SITES_FIRST && list->places[i] == 0; i = thag_site_read(i).caller) {
        missing++;
    }
    list->count += missing;
    for (uint32_t i = site, place = list->count; missing > 0; missing--, place--) {
        list->places[i] = place;
        list->sites[place - 1] = i;
        i = thag_site_read(i).caller;
    }
}

static void
context_wants_sites(const thag_context *context, site_list *list)
{
    if (context->explained == NULL) {
        return;
    }
    sites_want(list, context->explained->peak_site);
    for (const thag_account *account = context->explained->accounts; account != NULL; account = account->next_of_context) {
        sites_want(list, account->site);
    }
}

static void
site_list_free(site_list *list)
{
    for (uint32_t i = 0; list->texts != NULL && i < thag_texts_end(); i++) {
        Py_XDECREF(list->texts[i]);
    }
    free(list->texts);
    free(list->places);
    free(list->sites);
}

static bool
site_list_make(site_list *list)
{
    list->places = calloc(thag_sites_end(), sizeof(*list->places));
    list->sites = calloc(thag_sites_end(), sizeof(*list->sites));
    list->texts = calloc(thag_texts_end(), sizeof(*list->texts));
    if (list->places == NULL || list->sites == NULL || list->texts == NULL) {
        return PyErr_NoMemory(), false;
    }
    for (uint32_t i = 0; i < thag_contexts.count; i++) {
        context_wants_sites(thag_contexts.by_age[i], list);
    }
    return true;
}

/* Adds what was made, or fails with the exception that is set. */
static bool
list_add(PyObject *list, PyObject *made)
{
    bool added = made != NULL && PyList_Append(list, made) == 0;
    Py_XDECREF(made);
    return added;
}

static PyObject *
text_of(uint32_t number)
{
    thag_text text = thag_text_read(number);
    return PyUnicode_DecodeUTF8(text.utf8, (Py_ssize_t)text.bytes, "surrogatepass");
}

/* Borrowed. */
static PyObject *
text_in(site_list *list, uint32_t number)
{
    if (list->texts[number] == NULL) {
        list->texts[number] = text_of(number);
    }
    return list->texts[number];
}

static PyObject *
site_make(PyObject *type, site_list *list, uint32_t number)
{
    thag_site site = thag_site_read(number);
    PyObject *fields[] = {
        PyLong_FromLong(site_in(list, site.caller)),
        Py_XNewRef(text_in(list, site.file)),
        PyLong_FromLong(site.line),
        Py_XNewRef(text_in(list, site.function)),
        PyBool_FromLong(site.is_hidden),
    };
    return thag_plain_named_tuple(type, fields, sizeof(fields) / sizeof(*fields));
}

static bool
sites_add(PyObject *sites, PyObject *numbers, PyObject *type, site_list *list)
{
    bool added = true;
    for (uint32_t i = 0; added && i < list->count; i++) {
        added = list_add(sites, site_make(type, list, list->sites[i]))
                && (numbers == NULL || list_add(numbers, PyLong_FromLong(thag_site_number(list->sites[i]))));
    }
    return added;
}

/* What an account had at the peak of a context, if anything, that watches. */
static bool
had_at_peak(const thag_account *account, uint32_t watcher, int64_t *bytes)
{
    return thag_account_at_peak(account, account->context->explained->watchers[watcher], bytes) && *bytes != 0;
}

static PyObject *
peak_make(const thag_context *watcher, int64_t bytes)
{
    PyObject *fields[] = {PyLong_FromUnsignedLongLong(watcher->id), PyLong_FromLongLong(bytes)};
    return thag_plain_named_tuple((PyObject *)&PyTuple_Type, fields, 2);
}

static PyObject *
peaks_of(const thag_account *account)
{
    const thag_explained *explained = account->context->explained;
    PyObject *peaks[THAG_WATCHERS_MOST];
    Py_ssize_t count = 0;
    for (uint32_t i = 0; i < explained->watcher_count; i++) {
        int64_t bytes;
        if (had_at_peak(account, i, &bytes)) {
            peaks[count++] = peak_make(explained->watchers[i], bytes);
        }
    }
    return count == 0 ? PyTuple_New(0) : thag_plain_named_tuple((PyObject *)&PyTuple_Type, peaks, count);
}

static PyObject *
figures_make(PyObject *type, const site_list *list, const thag_account *account)
{
    PyObject *fields[] = {
        PyLong_FromUnsignedLongLong(account->context->id),
        PyLong_FromLong(site_in(list, account->site)),
        PyLong_FromLongLong(account->live_bytes),
        PyLong_FromLongLong(account->total_bytes),
        PyLong_FromLongLong(account->allocations),
        PyLong_FromLongLong(account->frees),
        peaks_of(account),
    };
    return thag_plain_named_tuple(type, fields, sizeof(fields) / sizeof(*fields));
}

static bool
figures_add(PyObject *figures, PyObject *type, const site_list *list, const thag_context *context)
{
    bool added = true;
    for (const thag_account *account = context->explained->accounts; added && account != NULL;
         account = account->next_of_context) {
        bool is_anything = (account->live_bytes | account->total_bytes | account->allocations | account->frees) != 0;
        added = !is_anything || list_add(figures, figures_make(type, list, account));
    }
    return added;
}

/* Which cells there are is not known here. */
static PyObject *
lines_make(PyObject *type, const site_list *list, const thag_context *context)
{
    const thag_explained *explained = context->explained;
    return thag_named_tuple(type, Py_BuildValue("KnlO()", (unsigned long long)context->id, (Py_ssize_t)explained->least_bytes,
                                                site_in(list, explained->peak_site),
                                                explained->is_watched ? Py_True : Py_False));
}

static bool
contexts_add(PyObject *types, PyObject *figures, PyObject *lines, const site_list *list)
{
    bool added = true;
    for (uint32_t i = 0; added && i < thag_contexts.count; i++) {
        const thag_context *context = thag_contexts.by_age[i];
        if (context->explained != NULL && atomic_load(&context->heir) == NULL) {
            added = figures_add(figures, PyTuple_GET_ITEM(types, 1), list, context)
                    && list_add(lines, lines_make(PyTuple_GET_ITEM(types, 2), list, context));
        }
    }
    return added;
}

/* Of what no cycle can lead through, as above. */
static PyObject *
plain_tuple_of(PyObject *list)
{
    PyObject *tuple = PyList_AsTuple(list);
    if (tuple != NULL) {
        PyObject_GC_UnTrack(tuple);
    }
    return tuple;
}

/* Takes the lists over. */
static PyObject *
tuples_of(PyObject *sites, PyObject *figures, PyObject *lines, bool made)
{
    PyObject *tuples = !made ? NULL : Py_BuildValue("NNN", plain_tuple_of(sites), plain_tuple_of(figures),
                                                    PyList_AsTuple(lines));
    Py_XDECREF(sites);
    Py_XDECREF(figures);
    Py_XDECREF(lines);
    return tuples;
}

PyObject *
thag_call_sites_read(PyObject *types, PyObject *numbers)
{
    PyObject *sites = PyList_New(0), *figures = PyList_New(0), *lines = PyList_New(0);
    site_list list = {.places = NULL};
    bool made = sites != NULL && figures != NULL && lines != NULL;
    if (made && thag_explained_count() > 0 && PyTuple_GET_SIZE(types) > 0) {
        made = site_list_make(&list) && sites_add(sites, numbers, PyTuple_GET_ITEM(types, 0), &list)
               && contexts_add(types, figures, lines, &list);
        site_list_free(&list);
    }
    return tuples_of(sites, figures, lines, made);
}

/* ---- one stack ---- */

/* Of (file, line, function), the innermost first. */
static PyObject *
stack_list(uint32_t number)
{
    PyObject *stack = PyList_New(0);
    for (thag_site site; stack != NULL && number >= THAG_SITES_FIRST; number = site.caller) {
        site = thag_site_read(number);
        if (!list_add(stack, Py_BuildValue("NiN", text_of(site.file), (int)site.line, text_of(site.function)))) {
            Py_CLEAR(stack);
        }
    }
    return stack;
}

static PyObject *
stack_told(uint32_t number)
{
    int collector_was_on = thag_bookkeeping_begin();
    PyObject *stack = stack_list(number);
    thag_bookkeeping_end(collector_was_on);
    return stack;
}

static PyObject *
native_stack_here(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    if (!thag_sites_prepare()) {
        return PyList_New(0);
    }
    return stack_told(thag_site_here(PyThreadState_Get()));
}

static PyObject *
native_allocated_at(PyObject *Py_UNUSED(module), PyObject *argument)
{
    void *address = PyLong_AsVoidPtr(argument);
    if (address == NULL && PyErr_Occurred()) {
        return NULL;
    }
    uint32_t site = thag_lifecycle_block_at(address).site;
    if (site == THAG_SITE_UNKNOWN) {
        Py_RETURN_NONE;
    }
    return stack_told(site);
}

PyMethodDef thag_call_sites_methods[] = {
    {"lines_begin", THAG_FASTCALL(native_lines_begin), METH_FASTCALL, NULL},
    {"lines_release", native_lines_release, METH_NOARGS, NULL},
    {"stack_here", native_stack_here, METH_NOARGS, NULL},
    {"allocated_at", native_allocated_at, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
