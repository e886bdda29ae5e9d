#include "published.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* FNV-1a with a final mix. */
uint64_t crash_hash(const void *bytes, size_t count) {
    const unsigned char *next = bytes;
    uint64_t hash = 0xCBF29CE484222325;
    for (size_t k = 0; k < count; k++) hash = (hash ^ next[k]) * 0x100000001B3;
    hash = (hash ^ hash >> 33) * 0xFF51AFD7ED558CCD;
    return hash ^ hash >> 33;
}

/* Files of a run are small. */
uint64_t crash_hash_of_file(const char *path) {
    static char bytes[1 << 16];
    FILE *file = fopen(path, "rb");
    if (!file) return 0;
    size_t count = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    return crash_hash(bytes, count);
}

int crash_publish(const char *path, const crash_record *record) {
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (file < 0) return -1;
    ssize_t written = write(file, record, sizeof *record);
    close(file);
    return written == (ssize_t)sizeof *record ? 0 : -1;
}

/* A record that was killed halfway is continued by the next one, so what a kill left is the end of the file alone:
 * crash_publish of the next process would shift all others.  The driver cuts it off. */
crash_record *crash_read_published(const char *path, size_t *count) {
    struct stat found;
    *count = 0;
    int file = open(path, O_RDWR);
    if (file < 0) return NULL;
    if (fstat(file, &found)) found.st_size = 0;
    size_t whole = (size_t)found.st_size / sizeof(crash_record), bytes = whole * sizeof(crash_record);
    crash_record *records = malloc(bytes + 1);
    if (ftruncate(file, (off_t)bytes) == 0 && records && pread(file, records, bytes, 0) == (ssize_t)bytes) {
        *count = whole;
    }
    close(file);
    return records;
}
