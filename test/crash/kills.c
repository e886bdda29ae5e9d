/* Kills: a run is killed again and again, at a random time or inside one of its calls, half of the times with a power
 * cut, until it ends. */
#include <stdio.h>

#include "trials.h"

enum { STEPS = 50, SAVE_EVERY = 5, MOST_A_RUN = 12, MODES = 16 };

/* SplitMix64. */
static uint64_t draw(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

static double draw_share(uint64_t *state) { return (double)(draw(state) >> 11) * 0x1p-53; }

/* A plan that counts calls and never comes to its own. */
static void plan_nothing(crash_plan *plan) { crash_arm(plan, CRASH_KILL, CRASH_ANY, CRASH_ALWAYS, 1, 0); }

static void measure(crash_watch *w, int mode, crash_reference *reference) {
    crash_watch_begin(w, mode, STEPS, SAVE_EVERY);
    snprintf(w->title, sizeof w->title, "mode %d without interruption", mode);
    w->reference = NULL;
    plan_nothing(w->plan);
    const double began = crash_now();
    crash_end end = crash_wait(crash_watch_start(w));
    reference->seconds = crash_now() - began;
    crash_watch_check(w, end);
    if (end != CRASH_COMPLETED) crash_violate(w, "did not complete: %s", w->plan->message);
    reference->calls = w->plan->calls;
    reference->releases = crash_modes[mode].ledger_ahead ? w->releases : STEPS;   /* automatic: by its times */
    reference->final = crash_hash_of_file(w->paths.final);
}

/* Starts a process and kills it; it may have ended before. */
static crash_end kill_once(crash_watch *w, const crash_reference *reference, uint64_t *state) {
    plan_nothing(w->plan);
    if (draw(state) % 2) return crash_kill_after(crash_watch_start(w), draw_share(state) * reference->seconds);
    w->plan->at = 1 + draw(state) % reference->calls;
    w->plan->moment = (crash_moment)(draw(state) % 3);
    return crash_wait(crash_watch_start(w));
}

static crash_end go_on(crash_watch *w) {
    plan_nothing(w->plan);
    return crash_wait(crash_watch_start(w));
}

/* One run to its end; how often it was killed. */
static uint64_t run_once(crash_watch *w, const crash_reference *reference, uint64_t most, uint64_t *state) {
    uint64_t kills = 0;
    crash_end end = CRASH_WAS_KILLED;
    while (end == CRASH_WAS_KILLED) {
        end = kills < most ? kill_once(w, reference, state) : go_on(w);
        if (end == CRASH_WAS_KILLED) kills++;
        if (end == CRASH_WAS_KILLED && draw(state) % 2) crash_cut_power(w);
        crash_watch_check(w, end);
        if (end == CRASH_GAVE_UP) crash_violate(w, "gave up: %s", w->plan->message);
    }
    return kills;
}

uint64_t crash_kills(crash_watch *w, uint64_t wanted, uint64_t seed) {
    crash_reference references[MODES];
    uint64_t kills = 0;
    for (int mode = 0; mode < crash_mode_count; mode++) measure(w, mode, &references[mode]);
    if (w->violations) return 0;
    for (uint64_t number = 0; kills < wanted; number++) {
        const int mode = (int)(number % (uint64_t)crash_mode_count);
        const uint64_t left = wanted - kills;
        uint64_t state = seed * 1000003 + number;
        crash_watch_begin(w, mode, STEPS, SAVE_EVERY);
        snprintf(w->title, sizeof w->title, "kills of run %llu, mode %d", (unsigned long long)number, mode);
        w->reference = &references[mode];
        kills += run_once(w, &references[mode], left < MOST_A_RUN ? left : MOST_A_RUN, &state);
    }
    return kills;
}
