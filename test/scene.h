/* Scenes: passes that go wrong in one way, and tables of what they must answer. */
#ifndef PSG_TEST_SCENE_H
#define PSG_TEST_SCENE_H

#include "support.h"
#include "toy_ops.h"

enum { B = 4, IN = 6, OUT = 3 };

typedef struct scene {
    psg_context *context;
    psg_tape *tape;
    psg_param *weight, *bias, *scale;      /* (OUT, IN), (OUT), (IN), f64 */
    psg_tensor x;                          /* (B, IN) */
} scene;

/* What every scene computes with: zeros. */
extern double scene_memory[4 * 1024];
extern int64_t scene_integers[64];

/* A view of scene_memory of any shape. */
psg_tensor scene_view(int rank, const int64_t *shape);
#define VIEW(...) scene_view((int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[]){ __VA_ARGS__ })

/* Each returns the status of the tape. */
psg_status scene_begin(scene *s);
psg_status scene_record(scene *s, const psg_op *op, psg_var a, psg_var b);
/* Begins a pass with one input and gives it to linear. */
psg_status scene_linear(scene *s, const psg_pass *pass, psg_tensor x);
psg_var scene_input(scene *s, psg_tensor value);

typedef struct scene_row {
    const char *original;                  /* what it answers */
    psg_status status;
    psg_status (*scene)(scene *s);         /* NULL: cannot arise in C */
    const char *text;                      /* part of our message; or why it cannot arise */
} scene_row;

/* Plays every scene on a context, tape and parameters of its own; after a failed pass checks that the tape stays failed
 * with the first status and message whatever is called, until the next pass. */
void scene_check_rows(const scene_row *rows, size_t count);

#endif
