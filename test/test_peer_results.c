/* What bench/peers.py printed, as psg-bench reads it. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../bench/measure/peer_results.h"

static char path[] = "/tmp/psg-peers-XXXXXX";

static void write_file(const char *text) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static int make_file(void **state) {
    const int descriptor = mkstemp(path);
    (void)state;
    return descriptor < 0 ? -1 : close(descriptor);
}

static int remove_file(void **state) {
    (void)state;
    return unlink(path);
}

static void results_of_peers_are_read(void **state) {
    static const char text[] =
        "{\"cpu\": \"a processor\", \"threads\": 2}\n"
        "{\"case\": \"one\", \"system\": \"libpsg\", \"malloc\": \"default\", \"median_ms\": 2.0}\n"
        "{\"case\": \"one\", \"system\": \"JAX\", \"malloc\": \"default\", \"median_ms\": 6.0, \"mismatch\": false}\n"
        "\n"
        "{\"case\": \"one\", \"system\": \"JAX\", \"malloc\": \"pinned\", \"median_ms\": 8.0, \"mismatch\": false}\n"
        "{\"case\": \"one\", \"system\": \"hooks\", \"malloc\": \"pinned\", \"median_ms\": 1.0, \"mismatch\": true}\n"
        "{\"case\": \"two\", \"system\": \"plain+noise\", \"malloc\": \"pinned\", \"median_ms\": 3}\n"
        "{\"case\": \"two\", \"system\": \"ghost\", \"malloc\": \"pinned\", \"error\": \"refused\"}\n";
    peer_results results;
    (void)state;
    write_file(text);
    assert_int_equal(peer_results_read(path, &results), 0);
    assert_string_equal(results.cpu, "a processor");
    assert_int_equal(results.count, 2);
    assert_true(results.list[0].libpsg_ms == 2);
    assert_true(results.list[0].ms[PEER_JAX] == 6);         /* of the faster malloc mode */
    assert_true(isnan(results.list[0].ms[PEER_HOOKS]));             /* it disagreed */
    assert_true(results.list[1].ms[PEER_PLAIN] == 3);
    assert_true(isnan(results.list[1].libpsg_ms) && isnan(results.list[1].ms[PEER_GHOST]));
    peer_results_free(&results);
}

static void what_is_no_result_of_peers_is_refused(void **state) {
    static const char *const texts[] = { "", "{\"case\": \"one\"", "no json\n", "{\"threads\": 2}\n" };
    (void)state;
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
        peer_results results;
        write_file(texts[k]);
        assert_int_equal(peer_results_read(path, &results), -1);
        peer_results_free(&results);
    }
}

static void a_missing_file_is_refused(void **state) {
    peer_results results;
    (void)state;
    assert_int_equal(peer_results_read("/nonexistent/peers", &results), -1);
    peer_results_free(&results);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_of_peers_are_read),
        cmocka_unit_test(what_is_no_result_of_peers_is_refused),
        cmocka_unit_test(a_missing_file_is_refused),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
