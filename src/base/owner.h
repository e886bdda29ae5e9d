/* Who holds an object: its handle, until it is destroyed, and whatever was made of it and still reads it.  It goes with
 * the last of them, so handles may be destroyed in any order. */
#ifndef PSG_BASE_OWNER_H
#define PSG_BASE_OWNER_H

#include <stdbool.h>
#include <stddef.h>

#include "psg/base.h"

typedef struct psg_owner {
    size_t holders;       /* beside the handle */
    bool is_destroyed;    /* the handle is */
} psg_owner;

void psg_hold(psg_owner *owner);
/* One holder less; the handle destroyed: whether nobody is left, and the object is to be freed. */
bool psg_let_go(psg_owner *owner);
bool psg_destroy_handle(psg_owner *owner);

/* Memory of an object that holds its context; NULL when there is none.  Not cleared. */
void *psg_new_object(psg_context *context, size_t bytes);
/* object may be NULL.  What frees the context where it was the last. */
void psg_free_object(psg_context *context, void *object);

#endif
