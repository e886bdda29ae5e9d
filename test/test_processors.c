/* The CPU quotas of cgroups, read from a made-up /proc/self/cgroup and /sys/fs/cgroup; what contexts take. */
#include "support.h"

#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/processors.h"

enum { MANY = 48 };   /* processors of the made-up machine */

/* ---- the tree ---- */

static char root[] = "/tmp/psg-processors-XXXXXX";

static int make_root(void **state) {
    (void)state;
    strcpy(root + sizeof root - 7, "XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *walk) {
    (void)about;
    (void)kind;
    (void)walk;
    return remove(path);
}

static int remove_root(void **state) {
    (void)state;
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* Writes root/name and the folders that it needs. */
static void put(const char *name, const char *text) {
    char path[512];
    assert_true(snprintf(path, sizeof path, "%s/%s", root, name) < (int)sizeof path);
    for (char *slash = path + strlen(root); (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void expect(unsigned processors) { assert_int_equal(psg_processors_by_quota(root, MANY), processors); }

/* ---- version 2 ---- */

static void nothing_there_is_no_limit(void **state) {
    (void)state;
    expect(MANY);
    put("proc/self/cgroup", "0::/a\n");
    expect(MANY);
    put("proc/self/cgroup", "");
    put("sys/fs/cgroup/cpu.max", "100000 100000\n");
    expect(MANY);
}

static void quota_is_rounded_up(void **state) {
    (void)state;
    static const struct { const char *text; unsigned processors; } lines[] = {
        { "max 100000\n", MANY },           { "150000 100000\n", 2 },       { "200000 100000\n", 2 },
        { "50000 100000\n", 1 },            { "1000 1000000\n", 1 },        { "200001 100000", 3 },
        { "4700000 100000\n", MANY - 1 },   { "4800000 100000\n", MANY },   { "9900000 100000\n", MANY },
        { "430000000000000 1000\n", MANY },
    };
    put("proc/self/cgroup", "0::/a\n");
    for (size_t k = 0; k < sizeof lines / sizeof lines[0]; k++) {
        put("sys/fs/cgroup/a/cpu.max", lines[k].text);
        expect(lines[k].processors);
    }
    assert_int_equal(psg_processors_by_quota(root, 1), 1);
}

static void malformed_quota_is_no_limit(void **state) {
    (void)state;
    static const char *const lines[] = {
        "", "\n", "two 100000\n", "100000\n", "100000 \n", "100000 0\n", "0 100000\n", "-100000 100000\n",
        "100000 -100000\n", "100000x 100000\n", "1e5 100000\n", "100000 100000x\n", "100000 max\n",
    };
    put("proc/self/cgroup", "0::/a\n");
    for (size_t k = 0; k < sizeof lines / sizeof lines[0]; k++) {
        put("sys/fs/cgroup/a/cpu.max", lines[k]);
        expect(MANY);
    }
}

static void tightest_ancestor_counts(void **state) {
    (void)state;
    put("proc/self/cgroup", "0::/outer/inner/own\n");
    put("sys/fs/cgroup/outer/inner/own/cpu.max", "800000 100000\n");
    put("sys/fs/cgroup/outer/inner/cpu.max", "max 100000\n");
    put("sys/fs/cgroup/outer/cpu.max", "250000 100000\n");
    put("sys/fs/cgroup/other/cpu.max", "100000 100000\n");
    expect(3);
    put("sys/fs/cgroup/cpu.max", "100000 50000\n");
    expect(2);
    put("sys/fs/cgroup/outer/inner/own/cpu.max", "10000 100000\n");
    expect(1);
}

/* The host's path in a container that has its own cgroup mounted as the top. */
static void path_that_is_not_mounted_means_the_top(void **state) {
    (void)state;
    put("sys/fs/cgroup/cpu.max", "350000 100000\n");
    static const char *const lines[] = { "0::/docker/0123\n", "0::/\n", "0::/../sibling\n", "0::/no newline" };
    for (size_t k = 0; k < sizeof lines / sizeof lines[0]; k++) {
        put("proc/self/cgroup", lines[k]);
        expect(4);
    }
}

static void malformed_list_is_no_limit(void **state) {
    (void)state;
    static const char *const lines[] = { "\n", "0\n", "0:\n", "nonsense\n", "/a\n", "0:cpus:/a\n", "0:xcpu,acpu:/a\n" };
    put("sys/fs/cgroup/cpu.max", "100000 100000\n");
    put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n");
    put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    for (size_t k = 0; k < sizeof lines / sizeof lines[0]; k++) {
        put("proc/self/cgroup", lines[k]);
        expect(MANY);
    }
}

/* ---- version 1 ---- */

static void put_v1(const char *folder, const char *quota, const char *period) {
    char name[256];
    snprintf(name, sizeof name, "sys/fs/cgroup/%s/cpu.cfs_quota_us", folder);
    put(name, quota);
    snprintf(name, sizeof name, "sys/fs/cgroup/%s/cpu.cfs_period_us", folder);
    put(name, period);
}

static void version_1_is_read(void **state) {
    (void)state;
    put("proc/self/cgroup", "7:memory:/m\n4:cpuacct,cpu:/a/b\n0::/\n");
    put_v1("cpu/a/b", "-1\n", "100000\n");
    expect(MANY);
    put_v1("cpu/a/b", "250000\n", "100000\n");
    expect(3);
    put_v1("cpu/a", "120000\n", "100000\n");
    expect(2);
    put_v1("cpu", "40000\n", "50000\n");
    expect(1);
}

static void version_1_under_its_other_name(void **state) {
    (void)state;
    put("proc/self/cgroup", "4:cpu,cpuacct:/a\n");
    put_v1("cpu,cpuacct", "500000\n", "100000\n");
    expect(5);
}

static void malformed_version_1_is_no_limit(void **state) {
    (void)state;
    put("proc/self/cgroup", "4:cpu:/a\n");
    put("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "100000\n");
    expect(MANY);
    put_v1("cpu/a", "100000\n", "0\n");
    expect(MANY);
    put_v1("cpu/a", "x\n", "100000\n");
    expect(MANY);
    put_v1("cpu/a", "", "");
    expect(MANY);
}

/* Version 1 beside 2: both are looked at. */
static void hybrid_takes_the_smaller(void **state) {
    (void)state;
    put("proc/self/cgroup", "1:cpu:/a\n0::/b\n");
    put_v1("cpu/a", "600000\n", "100000\n");
    put("sys/fs/cgroup/unified/b/cpu.max", "700000 100000\n");
    expect(6);
    put("sys/fs/cgroup/unified/b/cpu.max", "500000 100000\n");
    expect(5);
}

/* ---- this machine ---- */

static void contexts_keep_to_the_affinity_mask(void **state) {
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_true(psg_processors() >= 1 && psg_processors() <= (unsigned)CPU_COUNT(&before));
    int first = 0;
    while (!CPU_ISSET(first, &before)) first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    unsetenv("PSG_NUM_THREADS");
    psg_context *context = test_context(0, NULL), *more = test_context(5, NULL);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_int_equal(psg_context_threads(context), 1);
    assert_int_equal(psg_context_threads(more), 5);
    psg_context_destroy(more);
    psg_context_destroy(context);
}

#define TREE_TEST(name) cmocka_unit_test_setup_teardown(name, make_root, remove_root)

int main(void) {
    const struct CMUnitTest tests[] = {
        TREE_TEST(nothing_there_is_no_limit),
        TREE_TEST(quota_is_rounded_up),
        TREE_TEST(malformed_quota_is_no_limit),
        TREE_TEST(tightest_ancestor_counts),
        TREE_TEST(path_that_is_not_mounted_means_the_top),
        TREE_TEST(malformed_list_is_no_limit),
        TREE_TEST(version_1_is_read),
        TREE_TEST(version_1_under_its_other_name),
        TREE_TEST(malformed_version_1_is_no_limit),
        TREE_TEST(hybrid_takes_the_smaller),
        cmocka_unit_test(contexts_keep_to_the_affinity_mask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
