/* Who is told what each op of a pass takes. */
#include <time.h>

#include "tape/tape_struct.h"

psg_status psg_tape_observe(psg_tape *tape, psg_op_observer observer, void *user) {
    if (!tape) return PSG_ERR_ARGUMENT;
    tape->observer = observer;
    tape->observer_user = user;
    return PSG_OK;
}

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double psg_tape_start(const psg_tape *tape) { return tape->observer ? seconds_now() : 0; }

void psg_tape_tell(const psg_tape_node *node, bool backward, double start) {
    const psg_tape *tape = node->tape;
    if (tape->observer) tape->observer(tape->observer_user, &node->call, backward, seconds_now() - start);
}
