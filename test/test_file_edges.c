/* A file on its way whose temporary name others keep changing. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "faults.h"
#include "support.h"

typedef struct fixture {
    psg_context *context;
    char folder[32], path[64], temporary[80], other[80];
} fixture;

static int set_up(void **state) {
    static fixture f;
    f.context = test_context(1, NULL);
    strcpy(f.folder, "/tmp/psg-file-XXXXXX");
    if (!mkdtemp(f.folder)) return 1;
    snprintf(f.path, sizeof f.path, "%s/x", f.folder);
    snprintf(f.temporary, sizeof f.temporary, "%s.psg-tmp", f.path);
    snprintf(f.other, sizeof f.other, "%s.other", f.path);
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    unlink(f->path), unlink(f->temporary), unlink(f->other);
    test_context_free(f->context);
    return rmdir(f->folder);
}

static void check_refused(const fixture *f, const char *words) {
    psg_file file;
    assert_int_equal(psg_file_begin(f->context, "test", f->path, &file), PSG_ERR_FILE);
    if (!strstr(psg_context_message(f->context), words)) fail_msg("%s", psg_context_message(f->context));
    assert_int_equal(access(f->path, F_OK), -1);
}

/* A pipe that somebody reads can be opened for writing. */
static void a_pipe_is_no_temporary_file(void **state) {
    fixture *f = *state;
    assert_int_equal(mkfifo(f->temporary, 0600), 0);
    int reader = open(f->temporary, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    check_refused(f, "is no regular file");
    close(reader);
    assert_int_equal(unlink(f->temporary), 0);
}

static void take_away(void *user) { (void)unlink(((const fixture *)user)->temporary); }

static void put_another(void *user) {
    const fixture *f = user;
    int descriptor = open(f->other, O_WRONLY | O_CREAT, 0600);
    assert_true(descriptor >= 0);
    close(descriptor);
    assert_int_equal(rename(f->other, f->temporary), 0);
}

/* A lock on a file without the name keeps nobody away, and there is an end to trying. */
static void a_name_that_never_stays_is_given_up(void **state) {
    fixture *f = *state;
    void (*const changes[])(void *) = { take_away, put_another };
    for (int k = 0; k < 2; k++) {
        const fault_plan plan = { .call = FAULT_LSTAT, .at = 1, .forever = true, .before = changes[k], .user = f };
        fault_arm(&plan);
        check_refused(f, "other writers come and go");
        assert_true(fault_disarm() >= 16);
        unlink(f->temporary);
    }
}

static void what_was_not_begun_needs_no_end(void **state) {
    (void)state;
    psg_file none = { 0 };
    psg_file_abandon(&none);
    assert_true(!none.context && !none.path && none.descriptor == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pipe_is_no_temporary_file),
        cmocka_unit_test(a_name_that_never_stays_is_given_up),
        cmocka_unit_test(what_was_not_begun_needs_no_end),
    };
    return cmocka_run_group_tests_name("file edges", tests, set_up, tear_down);
}
