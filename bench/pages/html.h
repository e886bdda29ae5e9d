/* Pages of HTML that need no other file and no script: text, tables, figures, in the reader's light or dark colours. */
#ifndef BENCH_HTML_H
#define BENCH_HTML_H

#include <stdio.h>

typedef struct html_page {
    FILE *out;                  /* in memory until html_end */
    char *text;
    size_t size;
} html_page;

/* title is the page's name and first heading; lead the paragraph under it; warning (or NULL) stands above both, and in
 * the head of the page.  -1 where there is no memory. */
int html_begin(html_page *page, const char *title, const char *lead, const char *warning);
/* Writes the page to path, whole or not at all, and frees it; -1 after a message. */
int html_end(html_page *page, const char *path);
/* Frees it unwritten. */
void html_abandon(html_page *page);

/* Text with & < > and quotes written so that they mean themselves, in elements and in attributes. */
void html_text(FILE *out, const char *text);
/* The same of a formatted text of at most some thousand characters. */
void html_printf(FILE *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A section with a heading; the next one, or html_end, closes it.  anchor: its id. */
void html_section(html_page *page, const char *anchor, const char *heading);
void html_paragraph(html_page *page, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A table: columns separated by |, those after a leading > numbers ("model|>elements"); then its rows the same way. */
void html_table_begin(html_page *page, const char *columns);
void html_row(html_page *page, const char *format, ...) __attribute__((format(printf, 2, 3)));
void html_table_end(html_page *page);

/* Numbers that a reader should see first. */
void html_tiles_begin(html_page *page);
void html_tile(html_page *page, const char *value, const char *name);
void html_tiles_end(html_page *page);

/* Figures between these stand beside each other where the page is wide. */
void html_figures_begin(html_page *page);
void html_figures_end(html_page *page);

#endif
