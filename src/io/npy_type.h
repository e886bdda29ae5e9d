/* The element types of npy: "descr", which is an order of bytes, a kind and a size. */
#ifndef PSG_IO_NPY_TYPE_H
#define PSG_IO_NPY_TYPE_H

#include "io/stored_type.h"

/* NULL: not one of those that are read; *why then says what it is. */
const psg_stored_type *psg_npy_type_find(const char *descr, const char **why);
/* The one that a tensor is written as. */
const psg_stored_type *psg_npy_type_of(psg_dtype dtype);
/* Whether it is numpy's bool, whose bytes are 0 and 1. */
bool psg_npy_type_is_bool(const psg_stored_type *type);

#endif
