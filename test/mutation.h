/* Mutations of case lines: wrong sizes, roles, options and data.  The law: a line is refused with a status and a
 * message that begins with the name of an op or of a psg_ function, or it runs forward, backward and through the
 * questions. Whatever happens, nothing crashes, hangs, leaks or is written out of bounds. */
#ifndef PSG_TEST_MUTATION_H
#define PSG_TEST_MUTATION_H

#include "cases/cases.h"
#include "support.h"

enum { MUTATION_TEXT = 4096 };

/* ---- making them ---- */

/* Zero-size ones: every dimension of every operand alone, and all dimensions of one size together.  Sets *mutated to
 * the k-th (from 0); 0 past the last. */
int mutation_zero(const case_line *line, int k, case_line *mutated);
/* One to three random changes.  Options also come from the table's other lines. */
void mutation_draw(test_random *random, const case_table *table, const case_line *line, case_line *mutated);
/* "op | line", as it can be read again; 0 when it does not fit MUTATION_TEXT bytes. */
int mutation_write(const case_line *line, char *text);

/* ---- trying them ---- */

typedef struct mutation_tally {
    long long ran, refused, failed; /* failed: of either of the two */
    int verbose;                    /* prints every line before it is tried */
} mutation_tally;

typedef struct mutation_bench {
    test_allocator allocator;
    psg_context *context;
    mutation_tally *tally;
} mutation_bench;

/* A context of one thread whose large allocations fail.  Closing counts what leaked as a failure. */
void mutation_open(mutation_bench *bench, mutation_tally *tally);
void mutation_close(mutation_bench *bench, const char *what);
/* Writes the line, reads it again and runs it; prints "op | line: what" when the law does not hold.  With an attributes
 * seed the line is run as it is, and then its op once more with one or two numbers of its attributes changed, also to
 * what no front can say. */
void mutation_try(mutation_bench *bench, const case_line *line, psg_dtype real, uint64_t attributes);
/* The same from "op | line". */
void mutation_try_text(mutation_bench *bench, const char *text, psg_dtype real, uint64_t attributes);
/* A program that dies or hangs prints the line first. */
void mutation_watch(void);

#endif
