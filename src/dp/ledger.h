/* The ledger: an append-only file of what was spent of a data set's privacy, by any number of mechanisms, of this
 * process and others.
 *
 * A line is durable before psg_ledger_append returns, and ends with a hash of itself and of the line before.  What a
 * killed process wrote of a line is cut off by the next append: nothing was released under it.  Appending and reading
 * are under a lock of the file, so that mechanisms may share it. */
#ifndef PSG_DP_LEDGER_H
#define PSG_DP_LEDGER_H

#include "dp/ledger_runs.h"

typedef struct psg_ledger psg_ledger;

/* APPEND: the file is begun where there is none. */
typedef enum psg_ledger_use { PSG_LEDGER_READ, PSG_LEDGER_APPEND } psg_ledger_use;

/* Opens the file and reads all of it.  Messages begin with function. */
psg_status psg_ledger_open(psg_context *context, const char *function, const char *path, psg_ledger_use use,
                           psg_relation relation, psg_ledger **ledger);
void psg_ledger_close(psg_ledger *ledger);   /* NULL is none */

/* Reads what others have appended, and (APPEND) makes it durable. */
psg_status psg_ledger_refresh(psg_ledger *ledger, const char *function);
/* The lock for appending, with what others have appended read: what it costs is to be counted before
 * psg_ledger_append.  psg_ledger_end gives it back, unless psg_ledger_begin has failed. */
psg_status psg_ledger_begin(psg_ledger *ledger, const char *function);
/* On an error nothing was appended, or what was is cut off again.  PSG_ERR_OVERFLOW: numbers that a ledger does not
 * hold, no step, or steps that are not the run's next. */
psg_status psg_ledger_append(psg_ledger *ledger, const char *function, const psg_ledger_line *line);
void psg_ledger_end(psg_ledger *ledger);

/* Whether writing a file at the path would replace the ledger: it is there, or under the temporary name of
 * that file. */
bool psg_ledger_is_at(const psg_ledger *ledger, const char *path);
const psg_ledger_runs *psg_ledger_all(const psg_ledger *ledger);

/* The place of the last line, as a checkpoint remembers it: how many lines, and its hash (of none: zeros). */
typedef struct psg_ledger_mark {
    uint64_t lines;
    char hash[PSG_LINE_HASH_TEXT];
} psg_ledger_mark;

psg_ledger_mark psg_ledger_last(const psg_ledger *ledger);
/* PSG_ERR_FORMAT with both hashes where that line is another one, or is not there. */
psg_status psg_ledger_check(psg_ledger *ledger, const char *function, const psg_ledger_mark *mark);

#endif
