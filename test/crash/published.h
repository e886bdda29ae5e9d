/* What a victim shows to the world: records appended to a file, one write each. */
#ifndef CRASH_PUBLISHED_H
#define CRASH_PUBLISHED_H

#include <stddef.h>
#include <stdint.h>

typedef struct crash_record {
    uint64_t incarnation;          /* of the process */
    uint64_t step;
    uint64_t is_release;           /* 0: the sums before their noise, as the reduce hook sees them */
    uint64_t batch;                /* hash of its ids */
    uint64_t noise;                /* hash of the integers z; of sums: 0 */
    uint64_t values;               /* hash of what was released; of sums: theirs */
    double epsilon;                /* as the mechanism tells it; negative: not asked */
} crash_record;

uint64_t crash_hash(const void *bytes, size_t count);
uint64_t crash_hash_of_file(const char *path);   /* 0 where there is none */
/* 0, or -1 where it cannot be written. */
int crash_publish(const char *path, const crash_record *record);
/* All whole records, to be freed by the caller; none: NULL and count 0. */
crash_record *crash_read_published(const char *path, size_t *count);

#endif
