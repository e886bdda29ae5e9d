/* Files: one that is replaced as a whole or not at all, and the system calls that it takes, with what interrupts them.
 * Failures are PSG_ERR_FILE (and PSG_ERR_MEMORY); messages name the function, the path and the system's reason. */
#ifndef PSG_BASE_FILE_H
#define PSG_BASE_FILE_H

#include <stdbool.h>

#include "psg/base.h"

/* ---- system calls that an interruption does not end; false or -1 with errno ---- */

int psg_open(const char *path, int flags, unsigned mode);
/* All of the bytes, also when the system takes a part of them at a time. */
bool psg_write_all(int descriptor, const void *bytes, size_t count);
/* All of the bytes from offset on; ENODATA where the file ends before. */
bool psg_read_at(int descriptor, void *bytes, size_t count, int64_t offset);
bool psg_sync(int descriptor);
bool psg_truncate(int descriptor, int64_t bytes);
bool psg_close(int descriptor);
/* Makes what stands in the folder of path durable: names, not contents. */
bool psg_sync_folder(const char *path);

/* A regular file for reading, and its size; PSG_ERR_FILE for anything else of that name. */
psg_status psg_open_regular(psg_context *context, const char *function, const char *path, int *descriptor,
                            int64_t *bytes);

#define PSG_TEMPORARY_SUFFIX ".psg-tmp"

/* ---- a file on its way ----
 * What is written goes to PATH.psg-tmp, which takes the place of PATH once it is on disk: whatever happens, PATH is the
 * old file or the new one, with the old one's mode.  A process that is killed leaves PATH.psg-tmp, which the next one
 * overwrites.  A lock on PATH.psg-tmp keeps two writers of one PATH apart: the second is refused. */
typedef struct psg_file {
    psg_context *context;
    const char *function;          /* for messages */
    char *path, *temporary;
    int descriptor;
    bool locked;                   /* the temporary file is ours to remove */
    psg_status failed;             /* of the first write that failed: later ones and commit return it too */
} psg_file;

/* PSG_ERR_FILE also where PATH is there and no regular file; then, and on any error, nothing is left to end. */
psg_status psg_file_begin(psg_context *context, const char *function, const char *path, psg_file *file);
psg_status psg_file_write(psg_file *file, const void *bytes, size_t count);
/* Either of them ends it.  An error of commit leaves the old file as it was; one of the last steps alone, of closing
 * the new file and making its name durable, leaves the new one. */
psg_status psg_file_commit(psg_file *file);
void psg_file_abandon(psg_file *file);

/* The message "FUNCTION: PATH: VERB: what errno says", and PSG_ERR_FILE.  Of a long path its end is shown. */
psg_status psg_fail_file(psg_context *context, const char *function, const char *path, const char *verb);
/* The message "FUNCTION: PATH: " and the text, and PSG_ERR_FORMAT. */
psg_status psg_fail_format(psg_context *context, const char *function, const char *path, const char *format, ...)
    PSG_PRINTF(4, 5);

#endif
