/* One attention layer in f64 by plain loops. */
#ifndef PSG_TEST_ATTENTION_REFERENCE_H
#define PSG_TEST_ATTENTION_REFERENCE_H

#include "attention_fixture.h"

enum { Q, K, V };

/* Arrays of doubles, all indexed [n][...] batch first; gradients of parameters have one array a sample. */
typedef struct attention_scene {
    const attention_case *c;
    int64_t e, all, length[3], dim[3];      /* embedding, all keys, of each source */
    double *x[3], *w[3], *b[3], *bias[2], *wo, *bo, *mask, *padding, *gy, *kept;
    double *projected[3], *p, *o, *y, *weights;
    double *gx[3], *gw[3], *gb[3], *gbias[2], *gwo, *gbo, *gmask;
    void *taken[64];
    int count;
} attention_scene;

/* Memory of the scene, cleared; freed by attention_free. */
double *attention_take(attention_scene *s, int64_t count);
void attention_draw(attention_scene *s, test_random *random);
/* Fills the results; kept, if not NULL, says what dropout kept. */
void attention_refer(attention_scene *s);
void attention_free(attention_scene *s);

/* Whether source k is the same array as the one before. */
bool attention_copies(const attention_case *c, int k);
/* The place of a mask's element. */
int64_t attention_mask_at(const attention_scene *s, int64_t n, int64_t h, int64_t i, int64_t j);

#endif
