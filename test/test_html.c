/* Pages and what they are made of: characters that mean something in HTML, files written whole or not at all,
 * images. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "../bench/pages/html.h"
#include "../bench/pages/png.h"
#include "../bench/pages/text_file.h"

static char folder[] = "/tmp/psg-html-XXXXXX";

static const char *path_of(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    return rmdir(folder);
}

/* What a file holds, and removes it. */
static char *take_file(const char *name) {
    static char text[1 << 16];
    FILE *file = fopen(path_of(name), "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    unlink(path_of(name));
    return text;
}

/* ---- pages ---- */

static void text_means_itself(void **state) {
    html_page page;
    (void)state;
    assert_int_equal(html_begin(&page, "a < b", "x & 'y'", "NOT \"PRIVATE\""), 0);
    html_section(&page, "one", "<script>");
    html_paragraph(&page, "%s %d %%", "<b>&amp;", 7);
    html_table_begin(&page, "name|>number");
    html_row(&page, "%s|>%.1f", "<td>", 2.5);
    html_table_end(&page);
    assert_int_equal(html_end(&page, path_of("page.html")), 0);
    const char *text = take_file("page.html");
    assert_null(strstr(text, "<script>"));
    assert_null(strstr(text, "<b>"));
    assert_non_null(strstr(text, "<title>NOT &quot;PRIVATE&quot;: a &lt; b</title>"));
    assert_non_null(strstr(text, "<p class=\"warning\">NOT &quot;PRIVATE&quot;</p>"));
    assert_non_null(strstr(text, "x &amp; &#39;y&#39;"));
    assert_non_null(strstr(text, "<h2>&lt;script&gt;</h2>"));
    assert_non_null(strstr(text, "<p>&lt;b&gt;&amp;amp; 7 %</p>"));
    assert_non_null(strstr(text, "<tr><td>&lt;td&gt;</td><td class=\"number\">2.5</td></tr>"));
}

static void sections_and_the_page_are_closed(void **state) {
    html_page page;
    (void)state;
    assert_int_equal(html_begin(&page, "title", "lead", NULL), 0);
    html_section(&page, "one", "one");
    html_section(&page, "two", "two");
    assert_int_equal(html_end(&page, path_of("page.html")), 0);
    const char *text = take_file("page.html");
    int open = 0, closed = 0;
    for (const char *at = text; (at = strstr(at, "<section")); at++) open++;
    for (const char *at = text; (at = strstr(at, "</section>")); at++) closed++;
    assert_int_equal(open, 3);
    assert_int_equal(closed, 3);
    assert_null(strstr(text, "warning\">"));
    assert_string_equal(text + strlen(text) - strlen("</html>\n"), "</html>\n");
}

/* ---- files ---- */

static void a_file_is_replaced_whole(void **state) {
    (void)state;
    assert_int_equal(text_file_write(path_of("text"), "first", 5), 0);
    assert_int_equal(text_file_write(path_of("text"), "2nd", 3), 0);
    assert_int_not_equal(access(path_of("text.new"), F_OK), 0);
    assert_string_equal(take_file("text"), "2nd");
    assert_int_equal(text_file_write(path_of("missing/text"), "x", 1), -1);
}

/* Where it cannot be made whole the old one stays, and nothing is beside it. */
static void a_file_that_cannot_be_replaced_stays(void **state) {
    (void)state;
    assert_int_equal(mkdir(path_of("text"), 0777), 0);
    assert_int_equal(text_file_write(path_of("text"), "x", 1), -1);
    assert_int_not_equal(access(path_of("text.new"), F_OK), 0);
    assert_int_equal(rmdir(path_of("text")), 0);
}

/* ---- images ---- */

static int value_of(char c) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    return c == '=' ? 0 : (int)(strchr(letters, c) - letters);
}

static size_t decode(const char *text, uint8_t *bytes) {
    size_t count = 0;
    for (; *text; text += 4) {
        int group = 0;
        for (int k = 0; k < 4; k++) group = group << 6 | value_of(text[k]);
        for (int k = 0; k < 3; k++) bytes[count++] = (uint8_t)(group >> (16 - 8 * k));
        count -= (text[2] == '=') + (text[3] == '=');
    }
    return count;
}

/* Signature, IHDR of 25 bytes, IDAT: its rows come back, each after a filter of none. */
static void an_image_comes_back(void **state) {
    static const uint8_t pixels[] = { 0, 128, 255, 7, 8, 9 };
    char *text = NULL;
    size_t size = 0;
    uint8_t bytes[256], rows[8];
    uLongf length = sizeof rows;
    (void)state;
    FILE *out = open_memstream(&text, &size);
    png_put_grey(out, pixels, 3, 2);
    fclose(out);
    assert_memory_equal(text, "data:image/png;base64,", 22);
    const size_t count = decode(text + 22, bytes);
    assert_memory_equal(bytes, "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\3\0\0\0\2\x08\0\0\0\0", 29);
    const size_t packed = (size_t)bytes[35] << 8 | bytes[36];
    assert_memory_equal(bytes + 37, "IDAT", 4);
    assert_int_equal(uncompress(rows, &length, bytes + 41, packed), Z_OK);
    assert_memory_equal(rows, "\0\0\x80\xff\0\7\x08\x09", 8);
    const uint8_t *crc = bytes + 41 + packed;
    const uint32_t written = (uint32_t)crc[0] << 24 | (uint32_t)crc[1] << 16 | (uint32_t)crc[2] << 8 | crc[3];
    assert_int_equal(written, crc32(0, bytes + 37, (uInt)(4 + packed)));
    assert_memory_equal(bytes + count - 12, "\0\0\0\0IEND\xae\x42\x60\x82", 12);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_means_itself),
        cmocka_unit_test(sections_and_the_page_are_closed),
        cmocka_unit_test(a_file_is_replaced_whole),
        cmocka_unit_test(a_file_that_cannot_be_replaced_stays),
        cmocka_unit_test(an_image_comes_back),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
