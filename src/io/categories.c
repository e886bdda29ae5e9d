#include "io/categories.h"

#include <string.h>

void psg_categories_init(psg_categories *categories, psg_context *context) {
    *categories = (psg_categories){ .context = context };
}

void psg_categories_release(psg_categories *categories) {
    psg_free(categories->context, categories->nodes);
    psg_categories_init(categories, categories->context);
}

static int order(const char *text, size_t length, const psg_category *node) {
    const size_t shared = length < node->length ? length : node->length;
    const int bytes = memcmp(text, node->text, shared);
    return bytes ? bytes : (length > node->length) - (length < node->length);
}

int64_t psg_categories_find(const psg_categories *categories, const char *text, size_t length) {
    size_t node = categories->root;
    while (node) {
        const int side = order(text, length, &categories->nodes[node]);
        if (!side) return (int64_t)node - 1;
        node = side < 0 ? categories->nodes[node].left : categories->nodes[node].right;
    }
    return -1;
}

/* ---- growth ---- */

static bool make_room(psg_categories *c) {
    if (c->count + 1 < c->capacity) return true;
    const size_t capacity = c->capacity ? 2 * c->capacity : 16;
    psg_category *nodes = psg_alloc(c->context, capacity * sizeof *nodes);
    if (!nodes) return false;
    if (c->nodes) memcpy(nodes, c->nodes, (c->count + 1) * sizeof *nodes);
    else nodes[0] = (psg_category){ .text = "" };
    psg_free(c->context, c->nodes);
    c->nodes = nodes;
    c->capacity = capacity;
    return true;
}

/* A left child of the node's own level becomes its parent. */
static size_t skew(psg_category *nodes, size_t node) {
    const size_t left = nodes[node].left;
    if (nodes[left].level != nodes[node].level) return node;
    nodes[node].left = nodes[left].right;
    nodes[left].right = node;
    return left;
}

/* Of two right children of one level the first goes up. */
static size_t split(psg_category *nodes, size_t node) {
    const size_t right = nodes[node].right;
    if (nodes[nodes[right].right].level != nodes[node].level) return node;
    nodes[node].right = nodes[right].left;
    nodes[right].left = node;
    nodes[right].level++;
    return right;
}

/* The subtree with the new node in it; one of more nodes than 2^k has a depth of at most 2 k. */
static size_t insert(psg_category *nodes, size_t node, size_t added) {
    if (!node) return added;
    if (order(nodes[added].text, nodes[added].length, &nodes[node]) < 0) {
        nodes[node].left = insert(nodes, nodes[node].left, added);
    } else {
        nodes[node].right = insert(nodes, nodes[node].right, added);
    }
    return split(nodes, skew(nodes, node));
}

bool psg_categories_add(psg_categories *categories, const char *text, size_t length) {
    if (!make_room(categories)) return false;
    const size_t added = ++categories->count;
    categories->nodes[added] = (psg_category){ .text = text, .length = length, .level = 1 };
    categories->root = insert(categories->nodes, categories->root, added);
    return true;
}

/* ---- order ---- */

static int64_t *visit(const psg_category *nodes, size_t node, int64_t *numbers) {
    if (!node) return numbers;
    numbers = visit(nodes, nodes[node].left, numbers);
    *numbers++ = (int64_t)node - 1;
    return visit(nodes, nodes[node].right, numbers);
}

void psg_categories_sorted(const psg_categories *categories, int64_t *numbers) {
    visit(categories->nodes, categories->root, numbers);
}
