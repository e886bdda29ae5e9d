#include "base/floats.h"

void psg_floats_set(const fenv_t *environment) { fesetenv(environment); }

void psg_floats_save(psg_floats *floats) {
    fegetenv(&floats->host);
    psg_floats_set(FE_DFL_ENV);
}
