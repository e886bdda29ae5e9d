/* Scalar functions and their gradients, the slow and plain way: every operation is a node that remembers its operands
 * and its partial derivatives.  Models are written as formulas; nothing of the library is used. */
#ifndef PSG_TEST_GRAPH_H
#define PSG_TEST_GRAPH_H

#include <stddef.h>

typedef struct graph_node {
    double value, grad;
    size_t a, b;            /* operands; a node of its own: none */
    double da, db;          /* partial derivatives */
} graph_node;

typedef struct graph {
    graph_node *nodes;
    size_t count, capacity;
} graph;

typedef size_t scalar;      /* a node */

void graph_free(graph *g);
scalar graph_leaf(graph *g, double value);
scalar graph_add(graph *g, scalar a, scalar b);
scalar graph_subtract(graph *g, scalar a, scalar b);
scalar graph_multiply(graph *g, scalar a, scalar b);
scalar graph_tanh(graph *g, scalar a);
scalar graph_sigmoid(graph *g, scalar a);
scalar graph_relu(graph *g, scalar a);
/* Gradients of everything with respect to sum of seeds already added to grad fields. */
void graph_backward(graph *g);

#endif
