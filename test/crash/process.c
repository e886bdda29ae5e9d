#include "process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char victim_program[CRASH_PATH], calls_library[CRASH_PATH];
static int plan_descriptor = -1;

/* ---- the argument of a victim: its fields, one after another ---- */

static void write_victim(const crash_victim *v, char *text, size_t size) {
    snprintf(text, size, "%s|%s|%d|%llu|%llu|%llu|%llu|", v->folder, v->ledger, v->mode,
             (unsigned long long)v->incarnation, (unsigned long long)v->steps, (unsigned long long)v->save_every,
             (unsigned long long)v->pause);
}

static const char *take_text(const char *text, char *to) {
    const char *end = text ? strchr(text, '|') : NULL;
    if (!end || end - text >= CRASH_PATH) return NULL;
    memcpy(to, text, (size_t)(end - text));
    to[end - text] = 0;
    return end + 1;
}

static const char *take_number(const char *text, uint64_t *to) {
    char digits[CRASH_PATH];
    text = take_text(text, digits);
    *to = text ? strtoull(digits, NULL, 10) : 0;
    return text;
}

int crash_victim_read(const char *text, crash_victim *victim) {
    uint64_t mode;
    text = take_text(text, victim->folder);
    text = take_text(text, victim->ledger);
    text = take_number(text, &mode);
    text = take_number(text, &victim->incarnation);
    text = take_number(text, &victim->steps);
    text = take_number(text, &victim->save_every);
    text = take_number(text, &victim->pause);
    victim->mode = (int)mode;
    return text && mode < (uint64_t)crash_mode_count && victim->save_every ? 0 : -1;
}

/* ---- processes ---- */

crash_plan *crash_make_plan(void) {
    plan_descriptor = memfd_create("crash plan", 0);
    if (plan_descriptor < 0 || ftruncate(plan_descriptor, sizeof(crash_plan))) return NULL;
    void *memory = mmap(NULL, sizeof(crash_plan), PROT_READ | PROT_WRITE, MAP_SHARED, plan_descriptor, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void crash_set_programs(const char *folder) {
    snprintf(victim_program, CRASH_PATH, "%s/victim", folder);
    snprintf(calls_library, CRASH_PATH, "%s/libcrash.so", folder);
}

static void become(const crash_victim *victim, int is_planned) {
    char text[4 * CRASH_PATH], number[16];
    write_victim(victim, text, sizeof text);
    snprintf(number, sizeof number, "%d", plan_descriptor);
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    if (is_planned) {
        setenv(CRASH_PLAN_VARIABLE, number, 1);
        setenv("LD_PRELOAD", calls_library, 1);
    }
    execl(victim_program, victim_program, text, (char *)NULL);
    _exit(CRASH_ELSE);
}

pid_t crash_start(const crash_victim *victim, int is_planned) {
    pid_t process = fork();
    if (process == 0) become(victim, is_planned);
    return process;
}

static crash_end end_of(int status) {
    if (WIFSIGNALED(status)) return WTERMSIG(status) == SIGKILL ? CRASH_WAS_KILLED : CRASH_ELSE;
    int code = WEXITSTATUS(status);
    return code == CRASH_COMPLETED || code == CRASH_GAVE_UP ? (crash_end)code : CRASH_ELSE;
}

crash_end crash_wait(pid_t process) {
    int status;
    if (process < 0 || waitpid(process, &status, 0) != process) return CRASH_ELSE;
    return end_of(status);
}

int crash_wait_stopped(pid_t process) {
    int status;
    return waitpid(process, &status, WUNTRACED) == process && WIFSTOPPED(status) ? 0 : -1;
}

double crash_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

crash_end crash_kill_after(pid_t process, double seconds) {
    const struct timespec wait = { (time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds)) };
    nanosleep(&wait, NULL);
    kill(process, SIGKILL);
    return crash_wait(process);
}
