#include "progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bench_support.h"

#define REDRAW_SECONDS 0.1
#define PLAIN_LINES 20
#define MAX_COLUMNS 200

/* COLUMNS, else what the terminal says, else 80. */
static int terminal_columns(void) {
    const char *text = getenv("COLUMNS");
    int columns = text ? atoi(text) : 0;
    struct winsize size;
    if (columns <= 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) columns = size.ws_col;
    if (columns <= 0) columns = 80;
    return columns < MAX_COLUMNS ? columns : MAX_COLUMNS;
}

/* A terminal that takes escapes. */
static int is_terminal(void) {
    const char *kind = getenv("TERM");
    return isatty(STDOUT_FILENO) && kind && *kind && strcmp(kind, "dumb");
}

progress progress_start(long steps, long first) {
    return (progress){ .terminal = is_terminal(), .first = first, .steps = steps, .started = now_seconds() };
}

int progress_is_due(const progress *bar, long step) {
    if (step == bar->steps) return 1;
    if (bar->terminal) return now_seconds() - bar->drawn >= REDRAW_SECONDS;
    return step * PLAIN_LINES / bar->steps != (step - 1) * PLAIN_LINES / bar->steps;
}

/* "[=====>     ] text" in one line of the terminal; the bar gets what the text leaves, or gives way to it. */
static void draw_bar(double share, const char *text) {
    char line[MAX_COLUMNS + 1];
    const int columns = terminal_columns();   /* at each draw: a window may be made smaller */
    int width = columns - (int)strlen(text) - 4;
    if (width < 4) {
        printf("\r%.*s\033[K", columns - 1, text);
        return;
    }
    int done = (int)(share * width);
    memset(line, ' ', (size_t)width);
    memset(line, '=', (size_t)done);
    if (done < width) line[done] = '>';
    printf("\r[%.*s] %s\033[K", width, line, text);
}

void progress_show(progress *bar, long step, const char *text) {
    char line[MAX_COLUMNS + 1];
    double now = now_seconds(), left = (now - bar->started) * (double)(bar->steps - step) / (double)(step - bar->first);
    snprintf(line, sizeof line, "step %ld/%ld  %s  %.0f s left", step, bar->steps, text, left);
    bar->drawn = now;
    if (bar->terminal) {
        draw_bar((double)step / (double)bar->steps, line);
    } else {
        puts(line);
    }
    fflush(stdout);
}

void progress_end(const progress *bar) {
    if (bar->terminal && bar->drawn > 0) putchar('\n');
}
