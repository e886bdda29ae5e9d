/* The different texts of a column, each with a code. */
#ifndef PSG_IO_CATEGORIES_H
#define PSG_IO_CATEGORIES_H

#include <stdbool.h>

#include "base/memory.h"

/* A node of the tree. */
typedef struct psg_category {
    const char *text;
    size_t length;
    size_t left, right;            /* nodes; 0: none */
    int level;
} psg_category;

/* A balanced tree by ascending bytes (Andersson, Balanced search trees made simple, 1993): whatever texts a file has,
 * in whatever order, one is found in twice the logarithm of their number of comparisons. */
typedef struct psg_categories {
    psg_context *context;
    psg_category *nodes;           /* nodes[0] stands for none; text k has nodes[k + 1] */
    size_t count, capacity, root;
} psg_categories;

void psg_categories_init(psg_categories *categories, psg_context *context);
void psg_categories_release(psg_categories *categories);
/* The number of a text, from 0 in the order of their coming; -1: not there. */
int64_t psg_categories_find(const psg_categories *categories, const char *text, size_t length);
/* Adds a text that is not there, and that stays; false: no memory. */
bool psg_categories_add(psg_categories *categories, const char *text, size_t length);
/* The numbers by ascending bytes of their texts, count of them. */
void psg_categories_sorted(const psg_categories *categories, int64_t *numbers);

#endif
