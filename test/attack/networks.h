/* Networks under attack: their parameters and their inputs. */
#ifndef PSG_ATTACK_NETWORKS_H
#define PSG_ATTACK_NETWORKS_H

#include "attack_run.h"

enum { ATTACK_CLASSES = 3 };

/* The parameters' values: both sides read the same. */
typedef struct attack_weights {
    attack_shapes shapes;
    psg_tensor value[ATTACK_MOST_PARAMS];
    int bias;                /* of the last map before the ReLU */
} attack_weights;

typedef struct attack_graph {
    const attack_side *side;
    const attack_network *spec;
    psg_context *context;
    psg_tape *tape;
    psg_param *param[ATTACK_MOST_PARAMS];
    int params;
    psg_tensor x, gradient, labels, lengths, ids;   /* of all samples of the side */
} attack_graph;

attack_weights attack_new_weights(attack_memory *memory, const attack_pair *pair);
void attack_make_inputs(attack_memory *memory, attack_graph *net);
double attack_flat(const psg_tensor *x, int64_t i);
void attack_set_flat(const psg_tensor *x, int64_t i, double value);

#endif
