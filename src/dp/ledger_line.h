/* One line of a ledger: what a range of steps of one mechanism costs, in JSON. */
#ifndef PSG_DP_LEDGER_LINE_H
#define PSG_DP_LEDGER_LINE_H

#include <stdbool.h>

#include "psg/accountant.h"

#define PSG_LEDGER_VERSION 1
#define PSG_LINE_HASH_BYTES ((size_t)32)
#define PSG_LINE_HASH_TEXT (2 * PSG_LINE_HASH_BYTES + 1)
#define PSG_RUN_TEXT ((size_t)33)
#define PSG_LINE_TEXT ((size_t)2048)

typedef struct psg_ledger_line {
    char run[PSG_RUN_TEXT];        /* 32 hexadecimal digits: another for every mechanism, and for one that goes on with a
                                      new key */
    uint64_t first, count;         /* steps [first, first + count) */
    psg_event event;               /* what each costs */
    psg_relation relation;
    double max_grad_norm;          /* of the first */
    bool is_seeded;
} psg_ledger_line;

/* A new name, from the system's entropy. */
psg_status psg_name_run(psg_context *context, const char *function, char run[PSG_RUN_TEXT]);
/* Whether a text is the name of a run. */
bool psg_is_run(const char *text);

/* Where a line stands, for messages. */
typedef struct psg_line_place {
    psg_context *context;
    const char *function, *path;
    uint64_t line;                 /* from 1 */
} psg_line_place;

/* PSG_ERR_FORMAT: "FUNCTION: PATH: line N WHAT". */
psg_status psg_ledger_line_refuse(const psg_line_place *place, const char *what);

/* Whole numbers have 63 bits in a line: steps and sizes beyond would be read as others, or not at all. */
bool psg_ledger_line_fits(const psg_ledger_line *line);
/* Writes a line that fits, without its end, after one of hash `previous`, and its own hash.  How many bytes, below
 * PSG_LINE_TEXT; 0: no memory. */
size_t psg_ledger_line_write(const psg_ledger_line *line, const char *previous, char text[PSG_LINE_TEXT],
                             char hash[PSG_LINE_HASH_TEXT]);
/* Reads a line, and its hash.  PSG_ERR_FORMAT: it is none, another version's, changed, or stands after another line
 * than it says. */
psg_status psg_ledger_line_read(const psg_line_place *place, const char *text, size_t length, const char *previous,
                                psg_ledger_line *line, char hash[PSG_LINE_HASH_TEXT]);
/* Whether the text may be what a killed process wrote of a line: its beginning, or zeros, which some file systems
 * leave. */
bool psg_is_torn_line(const char *text, size_t length);
/* The hash that a line holds; false where it is none. */
bool psg_ledger_line_hash(const char *text, size_t length, char hash[PSG_LINE_HASH_TEXT]);

#endif
