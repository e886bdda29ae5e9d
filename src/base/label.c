#include "base/label.h"

#include <stdio.h>
#include <string.h>

psg_label psg_label_of(const char *what, const char *name) {
    psg_label label;
    if (name && *name && strcmp(name, what)) snprintf(label.text, sizeof label.text, "%s (%s)", what, name);
    else snprintf(label.text, sizeof label.text, "%s", what);
    return label;
}

psg_label psg_label_at(const char *what, size_t index, const char *name) {
    char place[64];
    snprintf(place, sizeof place, "%.32s[%zu]", what, index);
    return psg_label_of(place, name);
}
