#include "io_fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[256];

int io_setup(void **state) {
    (void)state;
    const char *parent = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/psg-test-XXXXXX", parent ? parent : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

int io_teardown(void **state) {
    (void)state;
    DIR *names = opendir(folder);
    for (struct dirent *entry; names && (entry = readdir(names));) remove(io_path(entry->d_name));
    if (names) closedir(names);
    return rmdir(folder);
}

enum { PATH_BYTES = 1024 };

/* A path is kept while eight more are asked for; those of golden files, which no test writes, have places of
 * their own. */
typedef struct paths {
    char text[8][PATH_BYTES];
    int next;
} paths;

static char *next_path(paths *of) { return of->text[of->next = (of->next + 1) % 8]; }

static char *golden_path(void) {
    static paths golden;
    return next_path(&golden);
}

const char *io_path(const char *name) {
    static paths written;
    char *path = next_path(&written);
    snprintf(path, PATH_BYTES, "%s/%s", folder, name);
    return path;
}

const char *io_golden(const char *name) {
    char *path = golden_path();
    snprintf(path, PATH_BYTES, "%s/safetensors/%s.safetensors", PSG_GOLDEN_DIR, name);
    return path;
}

const char *io_golden_array(const char *name) {
    char *path = golden_path();
    snprintf(path, PATH_BYTES, "%s/npy/%s", PSG_GOLDEN_DIR, name);
    return path;
}

bool io_exists(const char *path) {
    struct stat found;
    return lstat(path, &found) == 0;
}

void io_write(const char *path, const void *bytes, size_t count) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, count, file) != count || fclose(file)) fail_msg("%s: cannot be written", path);
}

unsigned char *io_read(const char *path, size_t *count) {
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s: cannot be read", path);
    fseek(file, 0, SEEK_END);
    long bytes = ftell(file);
    rewind(file);
    unsigned char *text = calloc((size_t)bytes + 1, 1);
    *count = fread(text, 1, (size_t)bytes, file);
    fclose(file);
    return text;
}

bool io_holds(const char *path, const char *text) {
    size_t count;
    unsigned char *held = io_read(path, &count);
    bool same = count == strlen(text) && !memcmp(held, text, count);
    free(held);
    return same;
}

size_t io_descriptors(void) {
    size_t count = 0;
    DIR *names = opendir("/proc/self/fd");
    while (names && readdir(names)) count++;
    if (names) closedir(names);
    return count;
}

/* ---- memory: the largest block asked for ---- */

static void *measure(void *user, size_t bytes) {
    size_t *largest = user;
    if (bytes > *largest) *largest = bytes;
    return malloc(bytes);
}

static void release(void *user, void *memory, size_t bytes) {
    (void)user;
    (void)bytes;
    free(memory);
}

psg_context *io_context_that_measures(size_t *largest) {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = 1;
    options.allocator = (psg_allocator){ measure, release, largest };
    psg_context *context = NULL;
    assert_int_equal(psg_context_create(&options, &context), PSG_OK);
    *largest = 0;
    return context;
}
