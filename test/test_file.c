/* The atomic writer: whatever call fails, PATH is the old file or the new one, the failure is said, nothing is left. */
#include "io_fixture.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "faults.h"

static const char old_text[] = "what was there before";
static const char new_text[] = "what is there afterwards, longer than that";

static psg_status replace(psg_context *context, const char *path) {
    psg_file file;
    psg_status status = psg_file_begin(context, "test", path, &file);
    if (status) return status;
    size_t half = sizeof new_text / 2;
    psg_file_write(&file, new_text, half);
    psg_file_write(&file, new_text + half, sizeof new_text - 1 - half);
    return psg_file_commit(&file);
}

static void put_old(const char *path) { io_write(path, old_text, sizeof old_text - 1); }

static void refused(psg_context *context, const char *path, const char *words) {
    char expected[1200];
    snprintf(expected, sizeof expected, "test: %s%s", path, words);
    assert_int_equal(replace(context, path), PSG_ERR_FILE);
    assert_string_equal(psg_context_message(context), expected);
}

/* ---- what is replaced ---- */

static void files_are_made_and_replaced(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    size_t live = psg_context_live_bytes(context), open = io_descriptors();
    const char *path = io_path("plain"), *temporary = io_path("plain.psg-tmp");
    for (int round = 0; round < 2; round++) {
        TEST_OK(context, replace(context, path));
        assert_true(io_holds(path, new_text));
        assert_false(io_exists(temporary));
        put_old(path);
    }
    psg_file file;
    TEST_OK(context, psg_file_begin(context, "test", path, &file));
    assert_true(io_exists(temporary));
    TEST_OK(context, psg_file_write(&file, "half", 4));
    psg_file_abandon(&file);
    assert_false(io_exists(temporary));
    assert_true(io_holds(path, old_text));
    assert_int_equal(psg_context_live_bytes(context), live);
    assert_int_equal(io_descriptors(), open);
    test_context_free(context);
}

static mode_t mode_of(const char *path) {
    struct stat found;
    assert_int_equal(lstat(path, &found), 0);
    return found.st_mode;
}

static void check_closed_to_others(void *user) { assert_int_equal(mode_of(user) & 077, 0); }

static void modes_are_kept(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const char *path = io_path("mode");
    char temporary[1024];
    snprintf(temporary, sizeof temporary, "%s", io_path("mode.psg-tmp"));
    mode_t before = umask(027);
    TEST_OK(context, replace(context, path));
    assert_int_equal(mode_of(path) & 07777, 0640);
    assert_int_equal(chmod(path, 0604), 0);
    TEST_OK(context, replace(context, path));
    assert_int_equal(mode_of(path) & 07777, 0604);
    umask(before);
    /* Nobody opens the new file before it has the old one's mode. */
    fault_arm(&(fault_plan){ .call = FAULT_FCHMOD, .at = 1, .before = check_closed_to_others, .user = temporary });
    TEST_OK(context, replace(context, path));
    assert_int_equal(fault_disarm(), 1);
    test_context_free(context);
}

static void links_are_replaced(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const char *path = io_path("link");
    put_old(io_path("target"));
    assert_int_equal(symlink("target", path), 0);
    TEST_OK(context, replace(context, path));
    assert_true(S_ISREG(mode_of(path)));
    assert_true(io_holds(path, new_text));
    assert_true(io_holds(io_path("target"), old_text));
    assert_int_equal(symlink("nowhere", io_path("dangling")), 0);
    TEST_OK(context, replace(context, io_path("dangling")));
    assert_true(S_ISREG(mode_of(io_path("dangling"))));
    assert_int_equal(symlink("/dev/null", io_path("null")), 0);
    refused(context, io_path("null"), ": is no regular file");
    test_context_free(context);
}

static void other_things_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    assert_int_equal(mkdir(io_path("folder"), 0777), 0);
    assert_int_equal(mkfifo(io_path("pipe"), 0666), 0);
    refused(context, io_path("folder"), ": is no regular file");
    refused(context, io_path("pipe"), ": is no regular file");
    refused(context, io_path("absent/name"), ".psg-tmp: open: No such file or directory");
    refused(context, "", ": is no name");
    assert_false(io_exists(".psg-tmp"));
    test_context_free(context);
}

/* What stands where the temporary file must go, and is not one: refused, and left as it was. */
static void other_temporaries_are_left(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    assert_int_equal(mkfifo(io_path("a.psg-tmp"), 0666), 0);
    assert_int_equal(symlink("victim", io_path("b.psg-tmp")), 0);
    put_old(io_path("victim"));
    put_old(io_path("twin"));
    assert_int_equal(link(io_path("twin"), io_path("c.psg-tmp")), 0);
    assert_int_equal(mkdir(io_path("d.psg-tmp"), 0777), 0);
    refused(context, io_path("a"), ".psg-tmp: open: No such device or address");
    refused(context, io_path("b"), ".psg-tmp: open: Too many levels of symbolic links");
    refused(context, io_path("c"), ".psg-tmp: is another file's name too");
    refused(context, io_path("d"), ".psg-tmp: open: Is a directory");
    for (const char *name = "abcd"; *name; name++) {
        char path[16];
        snprintf(path, sizeof path, "%c.psg-tmp", *name);
        assert_true(io_exists(io_path(path)));
    }
    assert_true(io_holds(io_path("victim"), old_text));
    assert_true(io_holds(io_path("twin"), old_text));
    test_context_free(context);
}

static void long_paths_leave_room_for_the_reason(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    char name[400], path[5000];
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = 0;
    assert_int_equal(replace(context, io_path(name)), PSG_ERR_FILE);
    const char *message = psg_context_message(context);
    assert_non_null(strstr(message, "test: ...xxx"));
    assert_non_null(strstr(message, "xxx: open: File name too long"));
    memset(path, '/', sizeof path);
    memcpy(path + sizeof path - 2, "a", 2);
    assert_int_equal(replace(context, path), PSG_ERR_FILE);
    errno = 0;
    assert_false(psg_sync_folder(path));
    assert_int_equal(errno, ENAMETOOLONG);
    assert_false(psg_sync_folder(io_path("absent/name")));
    assert_int_equal(errno, ENOENT);
    assert_true(psg_sync_folder("name"));
    assert_true(psg_sync_folder("/name"));
    assert_true(psg_sync_folder(io_path("name")));
    test_context_free(context);
}

/* ---- two writers ---- */

static void a_second_writer_is_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const char *path = io_path("busy");
    put_old(path);
    psg_file first;
    TEST_OK(context, psg_file_begin(context, "test", path, &first));
    refused(context, path, ".psg-tmp: another writer has it");
    TEST_OK(context, psg_file_write(&first, new_text, sizeof new_text - 1));
    TEST_OK(context, psg_file_commit(&first));
    assert_true(io_holds(path, new_text));
    TEST_OK(context, replace(context, path));
    test_context_free(context);
}

static void commit_another(void *user) { test_status(NULL, psg_file_commit(user), PSG_OK, "the first writer"); }

/* The first commits between the second's open and its lock: the second holds a lock on what is PATH by then. */
static void a_lock_on_a_renamed_file_is_not_enough(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const char *path = io_path("renamed");
    psg_file first, second;
    TEST_OK(context, psg_file_begin(context, "test", path, &first));
    TEST_OK(context, psg_file_write(&first, old_text, sizeof old_text - 1));
    fault_arm(&(fault_plan){ .call = FAULT_FLOCK, .at = 1, .before = commit_another, .user = &first });
    TEST_OK(context, psg_file_begin(context, "test", path, &second));
    assert_int_equal(fault_disarm(), 1);
    assert_true(io_holds(path, old_text));
    TEST_OK(context, psg_file_write(&second, new_text, sizeof new_text - 1));
    assert_true(io_holds(path, old_text));
    TEST_OK(context, psg_file_commit(&second));
    assert_true(io_holds(path, new_text));
    test_context_free(context);
}

static void a_temporary_that_was_taken_away(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const char *path = io_path("taken"), *temporary = io_path("taken.psg-tmp");
    psg_file file;
    put_old(path);
    TEST_OK(context, psg_file_begin(context, "test", path, &file));
    unlink(temporary);
    assert_int_equal(psg_file_commit(&file), PSG_ERR_FILE);
    TEST_OK(context, psg_file_begin(context, "test", path, &file));
    unlink(temporary);
    io_write(temporary, "another's", 9);
    assert_int_equal(psg_file_commit(&file), PSG_ERR_FILE);
    assert_true(io_holds(temporary, "another's"));
    assert_true(io_holds(path, old_text));
    TEST_OK(context, replace(context, path));
    test_context_free(context);
}

/* Killed half-way through a longer file than the next. */
static void a_killed_writer_leaves_the_old_file(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const char *path = io_path("killed");
    put_old(path);
    pid_t child = fork();
    if (child == 0) {
        psg_file file;
        if (psg_file_begin(context, "test", path, &file)) _exit(1);
        for (int k = 0; k < 100; k++) psg_file_write(&file, new_text, sizeof new_text);
        kill(getpid(), SIGKILL);
    }
    int ended = 0;
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_true(WIFSIGNALED(ended));
    assert_true(io_holds(path, old_text));
    assert_true(io_exists(io_path("killed.psg-tmp")));
    TEST_OK(context, replace(context, path));
    assert_true(io_holds(path, new_text));
    assert_false(io_exists(io_path("killed.psg-tmp")));
    test_context_free(context);
}

/* Each child writes files of one letter only. */
static void write_letters(const char *path, char letter) {
    psg_context *context = test_context(1, NULL);
    char text[5000];
    memset(text, letter, sizeof text);
    for (int done = 0, tried = 0; done < 30 && tried < 100000; tried++) {
        psg_file file;
        if (psg_file_begin(context, "test", path, &file)) continue;
        psg_file_write(&file, text, sizeof text / 2);
        psg_file_write(&file, text, sizeof text / 2);
        if (psg_file_commit(&file)) _exit(1);
        done++;
    }
    _exit(0);
}

static void writers_at_once_leave_whole_files(void **state) {
    (void)state;
    const char *path = io_path("shared");
    io_write(path, "a", 1);
    pid_t children[3];
    for (int k = 0; k < 3; k++) {
        children[k] = fork();
        if (children[k] == 0) write_letters(path, (char)('a' + k));
    }
    for (int k = 0; k < 3; k++) {
        int ended = 1;
        while (waitpid(children[k], &ended, WNOHANG) == 0) {
            size_t count;
            unsigned char *text = io_read(path, &count);
            if (count != 1 && count != 5000) fail_msg("%zu bytes", count);
            for (size_t i = 1; i < count; i++) assert_int_equal(text[i], text[0]);
            free(text);
        }
        assert_int_equal(ended, 0);
    }
    assert_false(io_exists(io_path("shared.psg-tmp")));
}

/* ---- calls that fail ---- */

/* After a call of the name has failed while PATH was replaced. */
static void check_outcome(psg_context *context, const fault_plan *plan, psg_status status, int renames) {
    char where[100];
    const char *path = io_path("faulty"), *message = psg_context_message(context);
    snprintf(where, sizeof where, "%s %d%s: %s", fault_name(plan->call), plan->at, plan->forever ? " and later" : "",
             strerror(plan->error));
    if (status != PSG_ERR_FILE) fail_msg("%s: %s", where, psg_status_name(status));
    if (strncmp(message, "test: ", 6) || !strstr(message, path) || !strstr(message, strerror(plan->error))) {
        fail_msg("%s: the message is \"%s\"", where, message);
    }
    if (!io_holds(path, renames ? new_text : old_text)) fail_msg("%s: another content", where);
    bool sure = plan->call != FAULT_FSTAT && plan->call != FAULT_LSTAT && plan->call != FAULT_FLOCK;
    if (!sure) return;   /* not locked, or not looked at: it may be another writer's */
    if (io_exists(io_path("faulty.psg-tmp"))) fail_msg("%s: a temporary is left", where);
}

/* Fails the at-th call of a kind; false where there are not so many. */
static bool try_fault(psg_context *context, const fault_plan *plan) {
    const char *path = io_path("faulty");
    size_t live = psg_context_live_bytes(context), open = io_descriptors();
    put_old(path);
    fault_arm(plan);
    psg_status status = replace(context, path);
    int renames = fault_renames();
    if (!fault_disarm()) {
        TEST_OK(context, status);
        return false;
    }
    check_outcome(context, plan, status, renames);
    assert_int_equal(psg_context_live_bytes(context), live);
    assert_int_equal(io_descriptors(), open);
    TEST_OK(context, replace(context, path));
    assert_true(io_holds(path, new_text));
    return true;
}

static void every_call_may_fail(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    static const int errors[] = { EIO, ENOSPC };
    int struck = 0;
    for (fault_call call = FAULT_OPEN; call < FAULT_CALLS; call++) {
        for (int k = 0; k < 4; k++) {
            fault_plan plan = { .call = call, .at = 1, .forever = k & 1, .error = errors[k / 2] };
            while (try_fault(context, &plan)) {
                plan.at++;
                struck++;
            }
        }
    }
    /* open, fsync and close: the file and its folder; write: two; fstat: at opening and twice for the name; lstat:
     * twice for it; stat, flock, fchmod, ftruncate, rename: once. */
    assert_int_equal(struck, 4 * (2 + 2 + 2 + 2 + 3 + 2 + 5));
    test_context_free(context);
}

static void interrupted_calls_go_on(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const char *path = io_path("interrupted");
    static const fault_call calls[] = { FAULT_OPEN, FAULT_WRITE, FAULT_FSYNC, FAULT_CLOSE };
    for (size_t k = 0; k < sizeof calls / sizeof calls[0]; k++) {
        for (int at = 1; at <= 2; at++) {
            size_t open = io_descriptors();
            put_old(path);
            fault_arm(&(fault_plan){ .call = calls[k], .at = at, .error = EINTR });
            TEST_OK(context, replace(context, path));
            assert_int_equal(fault_disarm(), 1);
            assert_true(io_holds(path, new_text));
            assert_int_equal(io_descriptors(), open);
        }
    }
    test_context_free(context);
}

static void short_writes_go_on(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const char *path = io_path("short");
    fault_arm(&(fault_plan){ .piece = 1 });
    TEST_OK(context, replace(context, path));
    assert_int_equal(fault_count(FAULT_WRITE), sizeof new_text - 1);
    fault_disarm();
    assert_true(io_holds(path, new_text));
    /* The disk is full in the middle of a write. */
    put_old(path);
    fault_arm(&(fault_plan){ .piece = 3, .call = FAULT_WRITE, .at = 4, .error = ENOSPC });
    assert_int_equal(replace(context, path), PSG_ERR_FILE);
    assert_int_equal(fault_disarm(), 1);
    assert_non_null(strstr(psg_context_message(context), "write: No space left on device"));
    assert_true(io_holds(path, old_text));
    test_context_free(context);
}

/* The data is on disk before the name changes, and the name before the commit returns. */
static void check_order(void *user) { *(int *)user = fault_count(FAULT_FSYNC); }

static void data_is_durable_before_its_name(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    int before_rename = 0;
    fault_arm(&(fault_plan){ .call = FAULT_RENAME, .at = 1, .before = check_order, .user = &before_rename });
    TEST_OK(context, replace(context, io_path("order")));
    assert_int_equal(fault_count(FAULT_FSYNC), 2);
    fault_disarm();
    assert_int_equal(before_rename, 1);
    test_context_free(context);
}

static void memory_may_fail(void **state) {
    (void)state;
    test_allocator allocator = { 0 };
    psg_context *context = test_context_with(&allocator, 1, NULL, 0);
    test_allocator_arm(&allocator, 1, false);
    assert_int_equal(replace(context, io_path("memory")), PSG_ERR_MEMORY);
    assert_false(io_exists(io_path("memory")));
    assert_false(io_exists(io_path("memory.psg-tmp")));
    test_context_free(context);
}

/* ---- reading ---- */

static void regular_files_are_opened(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const char *path = io_path("read");
    size_t open = io_descriptors();
    int descriptor;
    int64_t bytes;
    put_old(path);
    TEST_OK(context, psg_open_regular(context, "test", path, &descriptor, &bytes));
    assert_int_equal(bytes, sizeof old_text - 1);
    char text[sizeof old_text] = { 0 };
    fault_arm(&(fault_plan){ .piece = 2, .call = FAULT_PREAD, .at = 2, .error = EINTR });
    assert_true(psg_read_at(descriptor, text, sizeof old_text - 1 - 5, 5));
    assert_int_equal(fault_disarm(), 1);
    assert_string_equal(text, old_text + 5);
    errno = 0;
    assert_false(psg_read_at(descriptor, text, sizeof old_text - 5, 5));
    assert_int_equal(errno, ENODATA);
    assert_true(psg_close(descriptor));
    assert_int_equal(mkfifo(io_path("read.pipe"), 0666), 0);
    static const char *const others[] = { "read.pipe", ".", "absent" };
    for (size_t k = 0; k < 3; k++) {
        assert_int_equal(psg_open_regular(context, "test", io_path(others[k]), &descriptor, &bytes), PSG_ERR_FILE);
        assert_int_equal(descriptor, -1);
    }
    assert_int_equal(io_descriptors(), open);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_made_and_replaced),
        cmocka_unit_test(modes_are_kept),
        cmocka_unit_test(links_are_replaced),
        cmocka_unit_test(other_things_are_refused),
        cmocka_unit_test(other_temporaries_are_left),
        cmocka_unit_test(long_paths_leave_room_for_the_reason),
        cmocka_unit_test(a_second_writer_is_refused),
        cmocka_unit_test(a_lock_on_a_renamed_file_is_not_enough),
        cmocka_unit_test(a_temporary_that_was_taken_away),
        cmocka_unit_test(a_killed_writer_leaves_the_old_file),
        cmocka_unit_test(writers_at_once_leave_whole_files),
        cmocka_unit_test(every_call_may_fail),
        cmocka_unit_test(interrupted_calls_go_on),
        cmocka_unit_test(short_writes_go_on),
        cmocka_unit_test(data_is_durable_before_its_name),
        cmocka_unit_test(memory_may_fail),
        cmocka_unit_test(regular_files_are_opened),
    };
    return cmocka_run_group_tests(tests, io_setup, io_teardown);
}
