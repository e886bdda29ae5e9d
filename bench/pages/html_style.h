/* The style sheet of html.h's pages and of plot.h's drawings in them. */
#ifndef BENCH_HTML_STYLE_H
#define BENCH_HTML_STYLE_H

extern const char html_style[];

#endif
