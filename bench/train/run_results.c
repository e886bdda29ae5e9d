#include "run_results.h"

#include <string.h>

#include "diagnostics_page.h"
#include "text_file.h"

enum { MOST_STATEMENT = 8192 };

static psg_status write_statement(const report_facts *f, psg_statement_format format, const char *path) {
    char text[MOST_STATEMENT];
    size_t needed;
    TRY(psg_dp_statement(f->t->dp, f->options->delta, format, text, sizeof text - 1, &needed));
    if (format == PSG_STATEMENT_JSON) strcat(text, "\n");
    return text_file_write(path, text, strlen(text)) ? PSG_ERR_FILE : PSG_OK;
}

psg_status run_results_write(const run_folder *folder, const report_facts *facts, const diagnostics *d,
                             const dataset *test) {
    const double bound = facts->options->recipe.max_grad_norm;
    TRY(write_statement(facts, PSG_STATEMENT_WORDS, folder->statement));
    TRY(write_statement(facts, PSG_STATEMENT_JSON, folder->statement_json));
    TRY(report_page_write(facts, folder->report));
    if (d && diagnostics_page_write(d, bound, facts->test, test, folder->diagnostics)) return PSG_ERR_FILE;
    return PSG_OK;
}
