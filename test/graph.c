#include "graph.h"

#include <math.h>
#include <stdlib.h>

void graph_free(graph *g) {
    free(g->nodes);
    *g = (graph){ NULL, 0, 0 };
}

static scalar push(graph *g, double value, scalar a, double da, scalar b, double db) {
    if (g->count == g->capacity) {
        g->capacity = g->capacity ? 2 * g->capacity : 1024;
        g->nodes = realloc(g->nodes, g->capacity * sizeof *g->nodes);
        if (!g->nodes) abort();
    }
    g->nodes[g->count] = (graph_node){ value, 0, a, b, da, db };
    return g->count++;
}

static double value(const graph *g, scalar a) { return g->nodes[a].value; }

scalar graph_leaf(graph *g, double x) { return push(g, x, g->count, 0, g->count, 0); }

scalar graph_add(graph *g, scalar a, scalar b) { return push(g, value(g, a) + value(g, b), a, 1, b, 1); }

scalar graph_subtract(graph *g, scalar a, scalar b) { return push(g, value(g, a) - value(g, b), a, 1, b, -1); }

scalar graph_multiply(graph *g, scalar a, scalar b) {
    return push(g, value(g, a) * value(g, b), a, value(g, b), b, value(g, a));
}

scalar graph_tanh(graph *g, scalar a) {
    double c = cosh(value(g, a));
    return push(g, tanh(value(g, a)), a, 1 / (c * c), g->count, 0);
}

scalar graph_sigmoid(graph *g, scalar a) {
    double s = 1 / (1 + exp(-value(g, a)));
    return push(g, s, a, s / (1 + exp(value(g, a))), g->count, 0);
}

scalar graph_relu(graph *g, scalar a) {
    double x = value(g, a);
    return push(g, x > 0 ? x : 0, a, x > 0, g->count, 0);
}

void graph_backward(graph *g) {
    for (size_t k = g->count; k-- > 0;) {
        const graph_node *node = &g->nodes[k];
        if (node->a != k) g->nodes[node->a].grad += node->da * node->grad;
        if (node->b != k) g->nodes[node->b].grad += node->db * node->grad;
    }
}
