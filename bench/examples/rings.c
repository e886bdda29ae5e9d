/* ./rings rings.npz: points in the plane on three rings, as npz_classifier reads them: x (N, 2) of f32, y (N) of
 * i64. */
#include <psg/psg.h>
#include <math.h>
#include <stdio.h>

enum { RECORDS = 6000, RINGS = 3 };

int main(int argc, char **argv) {
    static float x[RECORDS][2];
    static int64_t y[RECORDS];
    psg_context *context;
    if (argc != 2) return fprintf(stderr, "usage: rings FILE.npz\n"), 2;
    for (int n = 0; n < RECORDS; n++) {
        const double radius = 0.4 + 0.6 * (n % RINGS) + 0.1 * sin(7.0 * n), angle = 2.4 * n;
        x[n][0] = (float)(radius * cos(angle));
        x[n][1] = (float)(radius * sin(angle));
        y[n] = n % RINGS;
    }
    if (psg_context_create(NULL, &context) != PSG_OK) return 1;
    const psg_named arrays[2] = { { "x", psg_f32_2d(x[0], RECORDS, 2) }, { "y", psg_i64_1d(y, RECORDS) } };
    psg_status status = psg_npz_write(context, argv[1], arrays, 2);
    if (status) fprintf(stderr, "rings: %s\n", psg_context_message(context));
    psg_context_destroy(context);
    return status;
}
