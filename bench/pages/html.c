#include "html.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "html_style.h"
#include "text_file.h"

enum { MOST_TEXT = 8192 };

/* ---- text ---- */

void html_text(FILE *out, const char *text) {
    for (; *text; text++) {
        switch (*text) {
            case '&': fputs("&amp;", out); break;
            case '<': fputs("&lt;", out); break;
            case '>': fputs("&gt;", out); break;
            case '"': fputs("&quot;", out); break;
            case '\'': fputs("&#39;", out); break;
            default: putc(*text, out);
        }
    }
}

static void put_arguments(FILE *out, const char *format, va_list arguments) {
    char text[MOST_TEXT];
    vsnprintf(text, sizeof text, format, arguments);
    html_text(out, text);
}

void html_printf(FILE *out, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    put_arguments(out, format, arguments);
    va_end(arguments);
}

/* ---- the page ---- */

int html_begin(html_page *page, const char *title, const char *lead, const char *warning) {
    *page = (html_page){ 0 };
    page->out = open_memstream(&page->text, &page->size);
    if (!page->out) return -1;
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
          "<meta name=\"color-scheme\" content=\"light dark\">\n<title>", page->out);
    if (warning) html_printf(page->out, "%s: ", warning);
    html_text(page->out, title);
    fprintf(page->out, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<main>\n<header>\n", html_style);
    if (warning) {
        fputs("<p class=\"warning\">", page->out);
        html_text(page->out, warning);
        fputs("</p>\n", page->out);
    }
    fputs("<h1>", page->out);
    html_text(page->out, title);
    fputs("</h1>\n<p class=\"lead\">", page->out);
    html_text(page->out, lead);
    fputs("</p>\n</header>\n<section>\n", page->out);
    return 0;
}

int html_end(html_page *page, const char *path) {
    fputs("</section>\n</main>\n</body>\n</html>\n", page->out);
    int failed = ferror(page->out);
    failed |= fclose(page->out) != 0;
    if (failed) fprintf(stderr, "%s: no memory for the page\n", path);
    else failed = text_file_write(path, page->text, page->size);
    free(page->text);
    return failed ? -1 : 0;
}

void html_abandon(html_page *page) {
    fclose(page->out);
    free(page->text);
}

void html_section(html_page *page, const char *anchor, const char *heading) {
    fprintf(page->out, "</section>\n<section id=\"%s\">\n<h2>", anchor);
    html_text(page->out, heading);
    fputs("</h2>\n", page->out);
}

void html_paragraph(html_page *page, const char *format, ...) {
    va_list arguments;
    fputs("<p>", page->out);
    va_start(arguments, format);
    put_arguments(page->out, format, arguments);
    va_end(arguments);
    fputs("</p>\n", page->out);
}

/* ---- tables ---- */

/* Cells of a line; one that begins with > holds a number. */
/* begin: "<td" or "<th" with its attributes; end_tag: what ends a cell. */
static void put_cells(FILE *out, const char *begin, const char *end_tag, char *line) {
    fputs("<tr>", out);
    for (char *cell = line; cell; ) {
        char *end = strchr(cell, '|');
        if (end) *end = 0;
        const int is_number = *cell == '>';
        fprintf(out, "%s%s>", begin, is_number ? " class=\"number\"" : "");
        html_text(out, cell + is_number);
        fputs(end_tag, out);
        cell = end ? end + 1 : NULL;
    }
    fputs("</tr>\n", out);
}

void html_table_begin(html_page *page, const char *columns) {
    char line[MOST_TEXT];
    snprintf(line, sizeof line, "%s", columns);
    fputs("<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"table\"><table>\n<thead>", page->out);
    put_cells(page->out, "<th scope=\"col\"", "</th>", line);
    fputs("</thead>\n<tbody>\n", page->out);
}

void html_row(html_page *page, const char *format, ...) {
    char line[MOST_TEXT];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    put_cells(page->out, "<td", "</td>", line);
}

void html_table_end(html_page *page) { fputs("</tbody>\n</table></div>\n", page->out); }

/* ---- tiles and figures ---- */

void html_tiles_begin(html_page *page) { fputs("<div class=\"tiles\">\n", page->out); }

void html_tile(html_page *page, const char *value, const char *name) {
    fputs("<p><b>", page->out);
    html_text(page->out, value);
    fputs("</b> ", page->out);
    html_text(page->out, name);
    fputs("</p>\n", page->out);
}

void html_tiles_end(html_page *page) { fputs("</div>\n", page->out); }

void html_figures_begin(html_page *page) { fputs("<div class=\"figures\">\n", page->out); }
void html_figures_end(html_page *page) { fputs("</div>\n", page->out); }
