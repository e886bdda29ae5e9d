/* Who holds an object: its handle, until it is destroyed, and whatever was made of it and still reads it.  It goes with
 * the last of them, so handles may be destroyed in any order. */
#ifndef PSG_BASE_OWNER_H
#define PSG_BASE_OWNER_H

#include <stdbool.h>
#include <stddef.h>

#include "psg/base.h"

typedef struct psg_owner {
    void (*free)(void *object);
    void *object;
    size_t holders;       /* beside the handle */
    bool is_destroyed;    /* the handle is */
} psg_owner;

/* owner may be NULL: nobody. */
void psg_hold(psg_owner *owner);
/* One holder less; the handle destroyed: what frees the object where nobody is left. */
void psg_let_go(psg_owner *owner);
void psg_destroy_handle(psg_owner *owner);

/* Memory of an object that holds its context; NULL when there is none.  Not cleared. */
void *psg_new_object(psg_context *context, size_t bytes);
/* object may be NULL. */
void psg_free_object(psg_context *context, void *object);

/* ---- memory of an object that views of others may be of, which then hold it ---- */

typedef struct psg_lent {
    const char *data;
    size_t bytes;
    psg_owner *owner;
    struct psg_lent *next;    /* of the context */
} psg_lent;

/* *lent stays the context's until psg_take_back; bytes 0: nothing is lent. */
void psg_lend(psg_context *context, psg_lent *lent, psg_owner *owner, const void *data, size_t bytes);
void psg_take_back(psg_context *context, psg_lent *lent);
/* Whose memory it is; NULL: no object's of the context. */
psg_owner *psg_owner_of(const psg_context *context, const void *data);

#endif
