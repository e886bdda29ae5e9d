#include "base/processors.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __linux__
#include <sched.h>
#endif

enum { LINE = PATH_MAX + 256 };   /* of /proc/self/cgroup: a number, the controllers, a path */

/* ---- one cgroup ---- */

static bool read_line(const char *folder, const char *name, char *line) {
    char path[2 * LINE];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "re");
    if (!file) return false;
    bool read = fgets(line, LINE, file) != NULL;
    fclose(file);
    return read;
}

/* A number above zero with nothing but space after it; else 0.  "max" and the -1 of no quota are 0 too. */
static long long positive(const char *text, char **end) {
    long long value = strtoll(text, end, 10);
    bool whole = *end != text && (**end == ' ' || **end == '\n' || !**end);
    return whole && value > 0 ? value : 0;
}

/* Both in microseconds; 0: none. */
static void read_quota(const char *folder, bool unified, long long *quota, long long *period) {
    char line[LINE], *end = line;
    *quota = *period = 0;
    if (!read_line(folder, unified ? "cpu.max" : "cpu.cfs_quota_us", line)) return;
    *quota = positive(line, &end);
    if (unified) *period = positive(end, &end);
    else if (read_line(folder, "cpu.cfs_period_us", line)) *period = positive(line, &end);
}

static unsigned limit_by(const char *folder, bool unified, unsigned processors) {
    long long quota, period;
    read_quota(folder, unified, &quota, &period);
    if (!quota || !period) return processors;
    long long allowed = quota / period + (quota % period != 0);
    return allowed < processors ? (unsigned)allowed : processors;
}

/* ---- the process's cgroup and its ancestors ---- */

/* From the cgroup up to the mount.  A container may be shown its host's path but mounted its own cgroup: then the
 * folders of the path are not there, and the mount itself is the cgroup. */
static unsigned limit_upwards(const char *root, const char *mount, const char *path, bool unified,
                              unsigned processors) {
    char folder[2 * LINE];
    size_t top = (size_t)snprintf(folder, sizeof folder, "%s%s", root, mount);
    const size_t length = strlen(path);
    if (top + length >= sizeof folder) return processors;
    memcpy(folder + top, path, length + 1);
    for (;;) {
        processors = limit_by(folder, unified, processors);
        char *slash = strrchr(folder, '/');
        if (!slash || slash < folder + top) return processors;
        *slash = 0;
    }
}

static bool lists_cpu(const char *controllers) {
    for (const char *at = controllers; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (!strncmp(at, "cpu", 3) && (!at[3] || at[3] == ',')) return true;
    }
    return false;
}

/* A line of /proc/self/cgroup, "number:controllers:path"; version 2 has no controllers there. */
static unsigned limit_by_line(const char *root, char *line, unsigned processors) {
    static const char *const mounts[2][2] = { { "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct" },
                                              { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" } };
    char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path) return processors;
    *controllers++ = *path++ = 0;
    path[strcspn(path, "\n")] = 0;
    bool unified = !*controllers;
    if (!unified && !lists_cpu(controllers)) return processors;
    for (int k = 0; k < 2; k++) processors = limit_upwards(root, mounts[unified][k], path, unified, processors);
    return processors;
}

unsigned psg_processors_by_quota(const char *root, unsigned processors) {
    char line[LINE];
    snprintf(line, sizeof line, "%s/proc/self/cgroup", root);
    FILE *file = fopen(line, "re");
    if (!file) return processors;
    while (fgets(line, sizeof line, file)) processors = limit_by_line(root, line, processors);
    fclose(file);
    return processors;
}

/* ---- the machine ---- */

static unsigned online(void) {
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : (unsigned)count;
}

#ifdef __linux__

/* The kernel refuses a mask shorter than its own: this one has room for 16384 processors. */
static unsigned by_affinity(void) {
    cpu_set_t sets[16];
    if (sched_getaffinity(0, sizeof sets, sets)) return online();
    int count = CPU_COUNT_S(sizeof sets, sets);
    return count < 1 ? 1 : (unsigned)count;
}

unsigned psg_processors(void) { return psg_processors_by_quota("", by_affinity()); }

#else

unsigned psg_processors(void) { return online(); }

#endif
