/* Loaded objects (the program and its shared libraries), and the slots through which they call each other's functions. */

#ifndef THAG_OBJECTS_H
#define THAG_OBJECTS_H

#include "thag.h"

/* A function that objects call by its name, and what they shall call instead. */
typedef struct {
    const char *name;
    void *hook;
    void *real;             /* as libraries find it; NULL where there is none */
    void *of_program;       /* as it is found by its address: the program's own entry for it, in some; else the same */
    unsigned group;         /* a bit; see `wanted` */
} thag_redirection;

/* An object, as far as one must know it to say which of its slots are to be redirected. */
typedef struct {
    const char *path;       /* empty for the program itself */
    bool has_python;        /* it holds CPython's own allocators */
    bool has_real;          /* it holds a function that others are redirected from */
    bool is_ours;
} thag_object;

enum { THAG_OBJECT_NAME_ROOM = 64 };

/* What was found in all objects. */
typedef struct {
    int redirected;         /* slots that lead to a hook now */
    int foreign;            /* slots that lead to a function of the same name that is somebody's own: left alone */
    int unwritable;         /* objects whose slots the system does not let us change */
    char unwritable_name[THAG_OBJECT_NAME_ROOM];    /* of the file of the first of them, perhaps cut; empty for the program */
} thag_redirected;

/* Finds the functions of these names. False where there are no such slots to be exchanged. GIL. */
bool thag_objects_find(thag_redirection *redirections, int count);

/* Returns when all is loaded that was being loaded. Others may need the GIL for that: any thread, better without it. */
void thag_objects_wait(void);

/* Lets all slots of what is loaded lead to the hooks, of those groups that `wanted` says for an object: of what was loaded since the
   last time, or of all if somebody may have written in the others meanwhile. `found` is what was in all, then and now. False, and
   nothing is done, if objects have come or gone since `changes` was read, which must have been before the last wait. GIL. */
bool thag_objects_redirect(const thag_redirection *redirections, int count, unsigned (*wanted)(const thag_object *object),
                           bool looks_at_all, uint64_t changes, thag_redirected *found);

/* Lets all slots that lead to a hook lead to where they led. GIL. */
void thag_objects_restore(const thag_redirection *redirections, int count);

/* Calls `visit` for each loaded object with its path and the addresses that it spans. GIL. */
void thag_objects_visit(void (*visit)(const char *path, uintptr_t start, uintptr_t end));

/* Calls `visit` for each loaded object with slots that lead to a hook, with its path and an address in it. Only functions of these
   groups count. GIL; the linker's list is locked meanwhile. */
void thag_objects_visit_redirected(const thag_redirection *redirections, int count, unsigned groups,
                                   void (*visit)(const char *path, const void *inside, void *data), void *data);

/* The path of a loaded object that has this part in it; NULL if there is none. It lives as long as the object is loaded. GIL. */
const char *thag_objects_path(const char *part);

/* Whether two addresses lie in the same loaded object. */
bool thag_objects_are_one(const void *one, const void *other);

/* Writes a word into data of a loaded object, read-only or not. False if the system does not let us. GIL. */
bool thag_objects_write(void **slot, void *word);

/* A number that moves when an object was loaded or closed. Any thread. */
uint64_t thag_objects_changes(void);

#endif
