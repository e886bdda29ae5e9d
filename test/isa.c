/* Prints the instruction set a default context uses; fails when PSG_ISA names one the processor lacks. */
#include <stdio.h>

#include "psg/psg.h"

int main(void) {
    psg_context *context;
    if (psg_context_create(NULL, &context)) return 1;
    puts(psg_context_isa(context));
    psg_context_destroy(context);
    return 0;
}
