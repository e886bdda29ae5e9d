#include "run_results.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "diagnostics_page.h"
#include "text_file.h"

static psg_status state(const trainer *t, double delta, psg_statement_format format, const char *path) {
    char *text;
    TRY(trainer_statement(t, delta, format, &text));
    if (format == PSG_STATEMENT_WORDS) printf("\n%s\n", text);
    const int failed = text_file_write(path, text, strlen(text));
    free(text);
    return failed ? PSG_ERR_FILE : PSG_OK;
}

psg_status run_results_state(const run_folder *folder, const trainer *t, double delta) {
    TRY(state(t, delta, PSG_STATEMENT_WORDS, folder->statement));
    return state(t, delta, PSG_STATEMENT_JSON, folder->statement_json);
}

psg_status run_results_write(const run_folder *folder, const report_facts *facts, const diagnostics *d,
                             const dataset *test) {
    const double bound = facts->options->recipe.max_grad_norm;
    TRY(report_page_write(facts, folder->report));
    if (d && diagnostics_page_write(d, bound, facts->test, test, folder->diagnostics)) return PSG_ERR_FILE;
    return PSG_OK;
}
