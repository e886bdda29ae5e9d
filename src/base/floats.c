#include "base/floats.h"

void psg_floats_save(psg_floats *floats) {
    fegetenv(&floats->host);
    fesetenv(FE_DFL_ENV);
}
