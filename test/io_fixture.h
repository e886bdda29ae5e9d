/* What tests of files share: a folder of their own, files as bytes, open descriptors. */
#ifndef PSG_TEST_IO_FIXTURE_H
#define PSG_TEST_IO_FIXTURE_H

#include "support.h"

/* For cmocka_run_group_tests: makes and removes the folder. */
int io_setup(void **state);
int io_teardown(void **state);

/* The path of a name in the folder; the last eight are valid at a time. */
const char *io_path(const char *name);
/* The path of a golden file of safetensors; valid as those are. */
const char *io_golden(const char *name);
/* Of an npy or npz, whose suffix is part of the name. */
const char *io_golden_array(const char *name);
bool io_exists(const char *path);
void io_write(const char *path, const void *bytes, size_t count);
/* Its bytes, one 0 after them (caller frees); fails the test where there is no file. */
unsigned char *io_read(const char *path, size_t *count);
/* Whether the file holds exactly this text. */
bool io_holds(const char *path, const char *text);
/* Open descriptors of the process. */
size_t io_descriptors(void);
/* A context that writes the size of the largest block it asked for since to *largest; psg_context_destroy. */
psg_context *io_context_that_measures(size_t *largest);

#endif
