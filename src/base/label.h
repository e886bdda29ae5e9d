/* How messages and plans call what belongs to a parameter: "gradients[3] (fc1.weight)", or "gradients[3]" where the
 * parameter has no name. */
#ifndef PSG_BASE_LABEL_H
#define PSG_BASE_LABEL_H

#include <stddef.h>

typedef struct psg_label {
    char text[224];   /* longer names are cut */
} psg_label;

/* "out (fc1.weight)"; "out" where name is NULL, "" or "out". */
psg_label psg_label_of(const char *what, const char *name);
/* "outs[3] (fc1.weight)". */
psg_label psg_label_at(const char *what, size_t index, const char *name);

#endif
