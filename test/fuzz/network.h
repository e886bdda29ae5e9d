/* Networks of lines of the case tables, drawn from bytes: an op takes what earlier ones gave where shapes agree, and
 * parameters of one shape may be one parameter. */
#ifndef PSG_TEST_NETWORK_H
#define PSG_TEST_NETWORK_H

#include "../cases/cases.h"
#include "fuzz.h"

enum { NETWORK_LAYERS = 5, NETWORK_PARAMS = 32, NETWORK_SAMPLES = 4, NETWORK_ARRAYS = 256 };

typedef struct network {
    psg_context *context;
    psg_tape *tape;
    psg_dtype real;
    int64_t batch_size;              /* the line's data is of so many samples */
    int layer_count;
    case_line layer[NETWORK_LAYERS];
    int shares[NETWORK_LAYERS];      /* whether its parameters may be earlier ones, and its inputs earlier outputs */
    psg_param *param[NETWORK_PARAMS];
    int param_count;
    void *array[NETWORK_ARRAYS];
    int array_count;
} network;

void network_draw(network *net, psg_context *context, fuzz_bytes *bytes);
void network_free(network *net);

/* A pass over samples [first, first + count): records all layers.  The last one's output, and the tape's status. */
psg_status network_forward(network *net, const psg_pass *pass, int64_t first, int64_t count, psg_var *output);

#endif
