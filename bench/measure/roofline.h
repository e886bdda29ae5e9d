/* Rooflines (Williams, Waterman and Patterson 2009): what was computed a second over the flops a byte that the passes
 * take, under the machine's peak and its memory's rate. */
#ifndef BENCH_ROOFLINE_H
#define BENCH_ROOFLINE_H

#include "html.h"
#include "measured.h"

/* All rows that compute and move, by the kind of op. */
void roofline_of_rows(html_page *page, const measured *m);
/* The products of one real type, by engine. */
void roofline_of_products(html_page *page, const measured *m, psg_dtype dtype);

#endif
