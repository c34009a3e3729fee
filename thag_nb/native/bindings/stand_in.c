/* Objects that stand in for a callable of Python's: whoever looks finds that one, its name, signature, code and class, what it
   says of itself. Their own are what their type defines, as being called. */

#include "bindings.h"

PyObject *
thag_stand_in_getattro(PyObject *self, PyObject *name)
{
    int is_own = PyDict_Contains(Py_TYPE(self)->tp_dict, name);
    if (is_own < 0) {
        return NULL;
    }
    return is_own ? PyObject_GenericGetAttr(self, name) : PyObject_GetAttr(((thag_stand_in *)self)->original, name);
}

PyObject *
thag_stand_in_repr(PyObject *self)
{
    return PyObject_Repr(((thag_stand_in *)self)->original);
}

PyObject *
thag_stand_in_doc(PyObject *self, void *Py_UNUSED(closure))
{
    return PyObject_GetAttrString(((thag_stand_in *)self)->original, "__doc__");
}

static PyObject *
stand_in_wrapped(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(((thag_stand_in *)self)->original);
}

PyGetSetDef thag_wrapper_attributes[] = {
    {"__wrapped__", stand_in_wrapped, NULL, NULL, NULL},
    {"__doc__", thag_stand_in_doc, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
