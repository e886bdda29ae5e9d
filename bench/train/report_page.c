#include "report_page.h"

#include <math.h>
#include <stdlib.h>

#include "html.h"
#include "machine.h"
#include "plot.h"
#include "plot_rows.h"
#include "privacy_curve.h"

enum { SHOWN_POINTS = 9 };

/* ---- what stands first ---- */

static void put_tile(html_page *page, const char *name, const char *format, double value) {
    char text[32];
    snprintf(text, sizeof text, format, value);
    html_tile(page, text, name);
}

static psg_status put_tiles(html_page *page, const report_facts *f) {
    psg_privacy privacy;
    char delta[64];
    TRY(psg_dp_privacy(f->t->dp, f->options->delta, &privacy));
    snprintf(delta, sizeof delta, "epsilon at most, at delta %g", f->options->delta);
    html_tiles_begin(page);
    put_tile(page, "of the public test images classified correctly", "%.2f %%", 100 * f->test->accuracy);
    put_tile(page, delta, isfinite(privacy.epsilon) ? "%.3f" : "no bound", ceil(privacy.epsilon * 1e3) / 1e3);
    put_tile(page, "steps, a release of noisy gradients each", "%.0f", (double)psg_dp_step(f->t->dp));
    put_tile(page, "a private step, median", "%.1f ms", f->times.ms_private);
    html_tiles_end(page);
    return PSG_OK;
}

/* ---- the guarantee ---- */

static void put_epsilon(html_page *page, const report_facts *f, const privacy_curve *c) {
    const plot_caption caption = {
        "What the run has cost", "Epsilon after so many releases, from both sides: the truth lies between.", NULL };
    const plot_axis x = { .label = "releases" }, y = { .label = "epsilon", .has_zero = 1 };
    char budget_name[80];
    const double ends[] = { c->count ? c->at[0] : 0, c->count ? c->at[c->count - 1] : 1 };
    const double budget[] = { f->options->epsilon, f->options->epsilon };
    snprintf(budget_name, sizeof budget_name, "the budget, %g", f->options->epsilon);
    const plot_series series[] = {
        { .name = "upper bound", .colour = 0, .x = c->at, .y = c->upper, .count = c->count },
        { .name = "lower bound", .mark = PLOT_POINTS, .colour = 1, .x = c->at, .y = c->lower, .count = c->count },
        { .name = budget_name, .mark = PLOT_DASHES, .colour = 5, .x = ends, .y = budget, .count = 2 },
    };
    plot_write(page->out, &caption, &x, &y, series, 3);
}

static void put_delta(html_page *page, const report_facts *f, const privacy_curve *c) {
    const plot_caption caption = {
        "The same run at every epsilon", "Smaller epsilons hold at larger deltas. A delta of 1 / N would allow one "
        "record of the N to be published whole.", NULL };
    const plot_axis x = { .label = "epsilon" }, y = { .label = "delta", .is_log = 1 };
    const double ends[] = { 0, c->at[c->count - 1] }, share = 1 / (double)f->plan->records;
    const double delta[] = { f->options->delta, f->options->delta }, one[] = { share, share };
    const plot_series series[] = {
        { .name = "delta, upper bound", .colour = 0, .x = c->at, .y = c->upper, .count = c->count },
        { .name = "lower bound", .mark = PLOT_POINTS, .colour = 1, .x = c->at, .y = c->lower, .count = c->count },
        { .name = "1 / N", .mark = PLOT_DOTS, .colour = 3, .x = ends, .y = one, .count = 2 },
        { .name = "the delta of the statement", .mark = PLOT_DASHES, .colour = 5, .x = ends, .y = delta, .count = 2 },
    };
    plot_write(page->out, &caption, &x, &y, series, 4);
}

static void put_epsilon_table(html_page *page, const privacy_curve *c) {
    html_table_begin(page, ">releases|>epsilon, at least|>at most");
    const size_t stride = c->count > SHOWN_POINTS ? (c->count + SHOWN_POINTS - 2) / (SHOWN_POINTS - 1) : 1;
    for (size_t k = c->count ? (c->count - 1) % stride : 0; k < c->count; k += stride) {
        char upper[32] = "no bound";
        if (isfinite(c->upper[k])) snprintf(upper, sizeof upper, "%.4f", ceil(c->upper[k] * 1e4) / 1e4);
        html_row(page, ">%.0f|>%.4f|>%s", c->at[k], floor(c->lower[k] * 1e4) / 1e4, upper);
    }
    html_table_end(page);
}

/* What the run has cost, or its budget where that is less or nothing is known. */
static double shown_epsilon(const report_facts *f, const privacy_curve *over_releases) {
    const double spent = over_releases->count ? over_releases->upper[over_releases->count - 1] : INFINITY;
    return spent > 0 && spent < f->options->epsilon ? spent : f->options->epsilon;
}

static void put_delta_table(html_page *page, const report_facts *f) {
    const double one = 1 / (double)f->plan->records;
    html_table_begin(page, "delta of the statement|>1 / N|>delta N");
    html_row(page, "%g|>%.4g|>%.3g", f->options->delta, one, f->options->delta / one);
    html_table_end(page);
}

static void put_other_runs(html_page *page, const report_facts *f) {
    char together[64] = "no epsilon, as one was not private";
    if (!f->total.others) return;
    if (isfinite(f->total.epsilon)) {
        snprintf(together, sizeof together, "epsilon at most %.3f at delta %g", ceil(f->total.epsilon * 1e3) / 1e3,
                 f->options->delta);
    }
    html_paragraph(page, "Other runs that are kept beside this one: %d. Where they were of the same records, all runs "
                   "together have %s; that holds for whoever chose this one among them.", f->total.others, together);
}

static psg_status put_statement(html_page *page, const report_facts *f) {
    char *text;
    TRY(trainer_statement(f->t, f->options->delta, PSG_STATEMENT_WORDS, &text));
    fputs("<pre>", page->out);
    html_text(page->out, text);
    fputs("</pre>\n", page->out);
    free(text);
    return PSG_OK;
}

static psg_status put_guarantee(html_page *page, const report_facts *f) {
    privacy_curve over_releases, over_epsilon;
    const psg_accountant *account = psg_dp_accountant(f->t->dp);
    TRY(privacy_over_releases(f->t->context, account, f->options->delta, &over_releases));
    TRY(privacy_over_epsilon(account, 1.5 * shown_epsilon(f, &over_releases), &over_epsilon));
    html_section(page, "guarantee", "The mechanism and its guarantee");
    TRY(put_statement(page, f));
    put_other_runs(page, f);
    html_figures_begin(page);
    put_epsilon(page, f, &over_releases);
    put_delta(page, f, &over_epsilon);
    put_epsilon_table(page, &over_releases);
    put_delta_table(page, f);
    html_figures_end(page);
    return PSG_OK;
}

/* ---- model and recipe ---- */

static void put_model(html_page *page, const report_facts *f) {
    html_paragraph(page, "%s: %s; %lld parameters, first values from a public seed. The test set was classified by the "
                   "moving average of the released weights.", f->options->model->name, f->options->model->summary,
                   (long long)f->t->model.size);
}

static void put_parameters(html_page *page, const report_facts *f) {
    html_table_begin(page, "parameter|shape|>elements");
    for (int k = 0; k < f->t->model.count; k++) {
        const psg_tensor *value = &f->t->model.value[k];
        char shape[120] = "";
        for (int d = 0, at = 0; d < value->rank; d++) {
            at += snprintf(shape + at, sizeof shape - (size_t)at, "%s%lld", d ? " \u00d7 " : "",
                           (long long)value->shape[d]);
        }
        html_row(page, "%s|%s|>%lld", f->options->model->param[k].name, shape, (long long)psg_tensor_count(value));
    }
    html_table_end(page);
}

static void put_recipe(html_page *page, const report_facts *f) {
    const training_recipe *r = &f->options->recipe;
    html_table_begin(page, "what|>value");
    html_row(page, "records, N, taken as public|>%lld", (long long)f->plan->records);
    html_row(page, "epochs|>%g", r->epochs);
    html_row(page, "steps|>%ld", f->plan->steps);
    html_row(page, "expected batch size (Poisson sampling)|>%g", r->batch);
    html_row(page, "sampling rate|>%.6g", f->plan->sample_rate);
    html_row(page, "C, bound on a sample's gradient norm|>%g", r->max_grad_norm);
    html_row(page, "noise multiplier, found from the budget|>%.6g", psg_dp_noise_multiplier(f->t->dp));
    html_row(page, "learning rate of SGD|>%g", r->lr);
    html_row(page, "momentum|>%g", r->momentum);
    html_row(page, "decay of the average of the weights|>%g", r->average_decay);
    html_row(page, "budget: epsilon|>%g", f->options->epsilon);
    html_row(page, "budget: delta|>%g", f->options->delta);
    html_table_end(page);
}

/* What came from the records and no release accounts for. */
static void put_unaccounted(html_page *page, const report_facts *f) {
    html_paragraph(page, "Not accounted: the recipes that come with the program were chosen on training images of this "
                   "data set%s.", f->options->input == INPUT_PIXELS ? ", and the mean 0.286 and deviation 0.353 that "
                   "standardise the pixels are those of its training images, as they are commonly published" : "");
}

/* ---- what came of it ---- */

static void put_accuracy(html_page *page, const report_facts *f) {
    double low, high;
    evaluation_interval(f->test, &low, &high);
    html_section(page, "accuracy", "Test accuracy");
    html_table_begin(page, "images|>number|>classified correctly|>95 % interval (Wilson)");
    html_row(page, "public test set|>%lld|>%.2f %%|>%.2f to %.2f %%", (long long)f->test->count,
             100 * f->test->accuracy, 100 * low, 100 * high);
    html_table_end(page);
    html_paragraph(page, "The test images of this data set are public and no part of the training: their accuracy "
                   "costs no privacy. The interval is for other images drawn like these, and this model. That of "
                   "images held back from private records would not be covered by the statement, nor are constants "
                   "that were chosen by looking at the records.");
}

static void put_times(html_page *page, const report_facts *f) {
    static const char *const names[] = { "private", "plain", "loop" };
    const double ms[] = { f->times.ms_private, f->times.ms_plain, f->times.ms_loop };
    const plot_caption caption = { "Time of a step", "Medians.", NULL };
    const plot_row_series series = { .name = "ms", .is_bar = 1, .value = ms };
    const plot_rows rows = { "milliseconds", 0, names, 3, &series, 1 };
    html_section(page, "times", "Step times");
    html_figures_begin(page);
    plot_rows_write(page->out, &caption, &rows);
    html_table_begin(page, "step|>ms|>times a private one");
    html_row(page, "private: libpsg's gradients, clipped, with noise|>%.2f|>1", ms[0]);
    html_row(page, "plain: the same step, neither clipping nor noise|>%.2f|>%.3g", ms[1], ms[1] / ms[0]);
    html_row(page, "loop: private, one pass a sample|>%.1f|>%.3g", ms[2], ms[2] / ms[0]);
    html_table_end(page);
    html_figures_end(page);
    html_paragraph(page, "Times tell of the records that they are taken on, and no statement covers them. These are of "
                   "steps of their own, after the run, on batches of the public test images, %g expected in a batch%s.",
                   f->times.batch, f->times.batch < f->options->recipe.batch ? ", fewer than in the run's" : "");
}

static void put_machine(html_page *page, const report_facts *f) {
    char processor[256];
    machine_processor(processor, sizeof processor);
    html_section(page, "machine", "The machine");
    html_table_begin(page, "what|it was");
    html_row(page, "processor|%s", processor);
    html_row(page, "instruction set of the kernels|%s", psg_context_isa(f->t->context));
    html_row(page, "OpenBLAS core|%s", machine_openblas_core());
    html_row(page, "threads|%u", psg_context_threads(f->t->context));
    html_row(page, "most memory resident, data included (not covered by the statement)|%.0f MiB", f->peak_mib);
    html_row(page, "library|libpsg %s", psg_version());
    html_table_end(page);
}

static psg_status put_page(html_page *page, const report_facts *f) {
    TRY(put_tiles(page, f));
    TRY(put_guarantee(page, f));
    put_accuracy(page, f);
    html_section(page, "model", "The model and its recipe");
    put_model(page, f);
    html_figures_begin(page);
    put_recipe(page, f);
    put_parameters(page, f);
    html_figures_end(page);
    put_unaccounted(page, f);
    put_times(page, f);
    put_machine(page, f);
    return PSG_OK;
}

psg_status report_page_write(const report_facts *f, const char *path) {
    html_page page;
    if (html_begin(&page, "A private training run on Fashion-MNIST",
                   "What may be published of the run: its options, the account of what it cost, and what its released "
                   "weights do on the public test set.",
                   f->options->seeded ? "NOT PRIVATE: with a given seed anybody can compute the noise" : NULL)) {
        return PSG_ERR_MEMORY;
    }
    psg_status status = put_page(&page, f);
    if (status != PSG_OK) {
        html_abandon(&page);
        return status;
    }
    return html_end(&page, path) ? PSG_ERR_FILE : PSG_OK;
}
