#include "dp/names.h"

#include <string.h>

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))

static const char *const samplings[] = { "poisson", "truncated_poisson", "fixed_size", "epochs", "balls_in_bins",
                                         "external" };
static const char *const relations[] = { "add_or_remove_one", "replace_one" };

static const char *name_of(const char *const *names, int count, int value) {
    return value >= 0 && value < count ? names[value] : NULL;
}

static int find(const char *const *names, int count, const char *name) {
    int value = count;
    while (value-- > 0 && strcmp(names[value], name)) continue;
    return value;
}

const char *psg_sampling_name(psg_sampling sampling) { return name_of(samplings, COUNT(samplings), (int)sampling); }
int psg_sampling_of_name(const char *name) { return find(samplings, COUNT(samplings), name); }
const char *psg_relation_name(psg_relation relation) { return name_of(relations, COUNT(relations), (int)relation); }
int psg_relation_of_name(const char *name) { return find(relations, COUNT(relations), name); }
