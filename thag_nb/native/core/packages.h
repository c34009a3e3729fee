/* Which package's code an address is in. */

#ifndef THAG_PACKAGES_H
#define THAG_PACKAGES_H

#include "thag.h"

/* A number that stands for a package, as its directory below site-packages is named. */
typedef uint8_t thag_package;

enum {
    THAG_NO_PACKAGE = 0,        /* the C library and others that work for anybody, ctypes among them */
    THAG_STANDARD = UINT8_MAX,  /* the standard library's modules, but for ctypes: what they wait for, no library does */
};

/* Finds the packages of what is loaded. What was found before stays. GIL. */
void thag_packages_update(void);

/* Any thread, no GIL. */
thag_package thag_package_of(const void *code);

/* A number, from 1, that stands for the object that an address is in; 0 for none that was found. Slower; any thread, no GIL. */
int thag_packages_object_of(const void *code);

#endif
