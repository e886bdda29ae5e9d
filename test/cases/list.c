#include <string.h>

#include "cases.h"

#define CASE_OP(name) extern const case_op case_op_##name;
#include "case_list.h"
#undef CASE_OP

#define CASE_OP(name) &case_op_##name,
static const case_op *const rows[] = {
#include "case_list.h"
    NULL
};
#undef CASE_OP

const case_op *case_op_at(int k) { return rows[k]; }

const case_op *case_op_find(const char *name) {
    for (int k = 0; rows[k]; k++) {
        if (!strcmp(rows[k]->name, name)) return rows[k];
    }
    return NULL;
}
