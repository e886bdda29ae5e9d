#include "diagnostics_page.h"

#include <math.h>
#include <stdlib.h>

#include "html.h"
#include "plot.h"
#include "plot_heat.h"
#include "png.h"

enum { SIDE = 28, SHOWN_IMAGES = 18, SHOWN_STEPS = 12 };

static const char mark[] = "NOT PRIVATE";

static const char *const class_name[IMAGE_CLASSES] = {
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
};

/* ---- steps ---- */

static const plot_axis steps = { .label = "step" };

static void put_loss(html_page *page, const diagnostics *d) {
    const plot_caption caption = { "Loss", "Mean cross-entropy of each batch, before its step.", mark };
    const plot_axis y = { .label = "loss (nats)", .has_zero = 1 };
    const plot_series series = { .name = "loss", .x = d->step, .y = d->loss, .count = d->count };
    plot_write(page->out, &caption, &steps, &y, &series, 1);
}

static void put_clipped(html_page *page, const diagnostics *d) {
    const plot_caption caption = { "Clipped samples", "Share of each batch whose gradient was longer than C.", mark };
    const plot_axis y = { .label = "share of the batch", .has_zero = 1 };
    const plot_series series = { .name = "clipped", .colour = 1, .x = d->step, .y = d->clipped, .count = d->count };
    plot_write(page->out, &caption, &steps, &y, &series, 1);
}

static void put_norms(html_page *page, const diagnostics *d, double max_grad_norm) {
    static const char *const names[] = { "10 % of the samples are below", "median", "90 % are below" };
    static const int colours[] = { 2, 0, 3 };
    const plot_caption caption = { "Gradient norms", "Quantiles over the samples of a batch, and the bound C.", mark };
    const plot_axis y = { .label = "norm of a sample's gradient", .is_log = 1 };
    const double ends[] = { d->count ? d->step[0] : 0, d->count ? d->step[d->count - 1] : 1 };
    const double bound[] = { max_grad_norm, max_grad_norm };
    plot_series series[NORM_QUANTILES + 1];
    for (int q = 0; q < NORM_QUANTILES; q++) {
        series[q] = (plot_series){ .name = names[q], .colour = colours[q], .x = d->step, .y = d->norm[q],
                                   .count = d->count };
    }
    series[NORM_QUANTILES] = (plot_series){ .name = "C, the bound on what a sample adds", .mark = PLOT_DASHES,
                                            .colour = 5, .x = ends, .y = bound, .count = 2 };
    plot_write(page->out, &caption, &steps, &y, series, NORM_QUANTILES + 1);
}

static void put_step_table(html_page *page, const diagnostics *d) {
    html_table_begin(page, ">step|>loss|>clipped|>norm, 10 %|>median|>90 %");
    const size_t stride = d->count > SHOWN_STEPS ? (d->count + SHOWN_STEPS - 1) / SHOWN_STEPS : 1;
    for (size_t k = d->count ? (d->count - 1) % stride : 0; k < d->count; k += stride) {
        if (isnan(d->loss[k])) html_row(page, ">%.0f|an empty batch|||||", d->step[k]);
        else html_row(page, ">%.0f|>%.4f|>%.1f %%|>%.3g|>%.3g|>%.3g", d->step[k], d->loss[k], 100 * d->clipped[k],
                      d->norm[0][k], d->norm[1][k], d->norm[2][k]);
    }
    html_table_end(page);
}

static void put_steps(html_page *page, const diagnostics *d, double max_grad_norm) {
    html_section(page, "steps", "The steps");
    if (!d->count) {
        html_paragraph(page, "None was made by this process, and those before kept none of this.");
        return;
    }
    if (d->step[0] > 1) {
        html_paragraph(page, "From step %.0f on: those before were made by another process, which kept none of this.",
                       d->step[0]);
    }
    html_figures_begin(page);
    put_loss(page, d);
    put_clipped(page, d);
    put_norms(page, d, max_grad_norm);
    put_step_table(page, d);
    html_figures_end(page);
}

/* ---- classes ---- */

static void put_recall(html_page *page, const double *count) {
    html_table_begin(page, "class|>images|>recall|>predicted|>precision");
    for (int c = 0; c < IMAGE_CLASSES; c++) {
        double is = 0, given = 0, right = count[c * IMAGE_CLASSES + c];
        for (int k = 0; k < IMAGE_CLASSES; k++) {
            is += count[c * IMAGE_CLASSES + k];
            given += count[k * IMAGE_CLASSES + c];
        }
        html_row(page, "%s|>%.0f|>%.1f %%|>%.0f|>%.1f %%", class_name[c], is, 100 * right / fmax(is, 1), given,
                 100 * right / fmax(given, 1));
    }
    html_table_end(page);
}

static void put_classes(html_page *page, const evaluation *e, const dataset *test) {
    double count[IMAGE_CLASSES * IMAGE_CLASSES] = { 0 };
    const plot_caption caption = { "Confusion matrix", "Test images by what they are (rows) and what the model says "
                                   "(columns); the shade is the share of the row.", mark };
    const plot_heat heat = { "what they are", "what the model says", class_name, IMAGE_CLASSES, count };
    for (int64_t n = 0; n < e->count; n++) count[test->labels[n] * IMAGE_CLASSES + evaluation_class(e, n)]++;
    html_section(page, "classes", "The classes");
    html_figures_begin(page);
    plot_heat_write(page->out, &caption, &heat);
    put_recall(page, count);
    html_figures_end(page);
}

/* ---- images ---- */

typedef struct mistake { int64_t image; double margin; } mistake;

static int furthest_first(const void *a, const void *b) {
    const mistake *x = a, *y = b;
    if (x->margin != y->margin) return x->margin < y->margin ? 1 : -1;
    return (x->image > y->image) - (x->image < y->image);
}

static void put_image(html_page *page, const evaluation *e, const dataset *test, const mistake *m) {
    fputs("<figure><img alt=\"\" src=\"", page->out);
    png_put_grey(page->out, test->pixels + m->image * IMAGE_PIXELS, SIDE, SIDE);
    fprintf(page->out, "\"><figcaption><span class=\"mark\">%s</span> image %lld<br>is ", mark, (long long)m->image);
    html_text(page->out, class_name[test->labels[m->image]]);
    fputs("<br>said to be ", page->out);
    html_text(page->out, class_name[evaluation_class(e, m->image)]);
    fprintf(page->out, ", by %.1f</figcaption></figure>\n", m->margin);
}

static void put_images(html_page *page, const evaluation *e, const dataset *test) {
    mistake *mistakes = malloc((size_t)e->count * sizeof *mistakes + 1);
    size_t count = 0;
    for (int64_t n = 0; mistakes && n < e->count; n++) {
        if (evaluation_class(e, n) == test->labels[n]) continue;
        mistakes[count++] = (mistake){ n, evaluation_margin(e, n, test->labels[n]) };
    }
    if (count) qsort(mistakes, count, sizeof *mistakes, furthest_first);
    const size_t shown = count < SHOWN_IMAGES ? count : SHOWN_IMAGES;
    html_section(page, "images", "Wrongly classified images");
    html_paragraph(page, "Of %lld test images %zu are classified wrongly. These are the %zu furthest off: the score "
                   "of what they were said to be is the most above that of what they are, by so much. They are "
                   "numbered from 0 as in the file.", (long long)e->count, count, shown);
    fputs("<div class=\"images\">\n", page->out);
    for (size_t k = 0; k < shown; k++) put_image(page, e, test, &mistakes[k]);
    fputs("</div>\n", page->out);
    free(mistakes);
}

int diagnostics_page_write(const diagnostics *d, double max_grad_norm, const evaluation *e, const dataset *test,
                           const char *path) {
    html_page page;
    if (html_begin(&page, "Diagnostics of a private run",
                   "Computed from the records themselves, before noise. Nothing on this page is covered by the privacy "
                   "statement: it is for who may see the records. What may be published is in report.html.",
                   "NOT PRIVATE: do not publish this page")) return -1;
    put_steps(&page, d, max_grad_norm);
    put_classes(&page, e, test);
    put_images(&page, e, test);
    return html_end(&page, path);
}
