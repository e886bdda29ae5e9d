/* PSG_TEST=name in the environment of any test program runs the tests of that name alone (* and ? stand for others). */
#include <stdlib.h>

#include "support.h"

__attribute__((constructor)) static void select_tests(void) {
    const char *name = getenv("PSG_TEST");
    if (name) cmocka_set_test_filter(name);
}
