#!/bin/sh
# Usage: test/run.sh BUILD_DIRECTORY   (PSG_TESTS: these programs alone; JOBS: programs at a time; PSG_EMULATOR: a command
# that runs programs of another processor)
# Runs every test program, those over kernels once for each instruction set this processor has, and the tests of the
# installation and of pages; ends with a line "N passed, N failed".
set -u

# Runs one program, "NAME|ISA|PROGRAM", counts its cmocka tests in a file beside its log, and prints both where one
# failed.  A program that dies counts as one failure.
if [ "$1" = --one ]; then
    logs=$2/test/logs
    name=${3%%|*} rest=${3#*|}
    isa=${rest%%|*} program=${rest#*|}
    [ "$isa" != script ] || exec sh test/run.sh --script "$name" "$program" "$2"
    log=$logs/$name.${isa:-default}
    [ -z "$isa" ] || export PSG_ISA="$isa" PSG_TEST_KERNELS=yes
    ${PSG_EMULATOR:-} "$program" >"$log" 2>&1
    status=$?
    ok=$(sed -n 's/.*\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$log" | head -n 1)
    bad=$(sed -n 's/.*\[  FAILED  \] \([0-9]*\) test.*/\1/p' "$log" | head -n 1)
    [ "$status" = 0 ] || [ "${bad:-0}" -gt 0 ] || bad=1
    [ -n "$ok" ] || [ "${bad:-0}" -gt 0 ] || bad=1
    echo "${ok:-0} ${bad:-0}" >"$log.count"
    printf '%-38s %4s passed %4s failed\n' "$name${isa:+, PSG_ISA=$isa}" "${ok:-0}" "${bad:-0}"
    [ "${bad:-0}" = 0 ] || cat "$log"
    exit 0
fi

# A test that is a script, "NAME|script|FILE", and whose lines are its tests.
if [ "$1" = --script ]; then
    name=$2 log=$4/test/logs/$2
    sh "$3" "$4" >"$log" 2>&1
    status=$?
    ok=$(grep -c '^ok' "$log") bad=$(grep -c '^FAILED' "$log")
    [ "$status" = 0 ] || [ "$bad" -gt 0 ] || bad=1
    echo "$ok $bad" >"$log.count"
    printf '%-38s %4s passed %4s failed\n' "$name" "$ok" "$bad"
    grep ': not run' "$log"
    [ "$bad" = 0 ] || cat "$log"
    exit 0
fi

build=$1
logs=$build/test/logs
rm -rf "$logs"
mkdir -p "$logs"

for program in ${PSG_TESTS:-"$build"/test/test_*}; do
    [ -x "$program" ] && [ "${program%.[od]}" = "$program" ] && echo "${program##*/}||$program"
done >"$logs/jobs"

# Kernels on the other instruction sets: a path the processor lacks is said to be not run, and is not counted.
default=$(${PSG_EMULATOR:-} "$build/test/isa" 2>/dev/null || echo unknown)
for isa in ${PSG_TEST_ISAS-baseline avx2 avx512}; do
    [ "$isa" = "$default" ] && continue
    if ! PSG_ISA=$isa ${PSG_EMULATOR:-} "$build/test/isa" >/dev/null 2>&1; then
        echo "PSG_ISA=$isa: not run, this processor lacks it"
        continue
    fi
    for test in gradient gradient_norm gradient_clip gradient_laws gradient_sums gradient_bound gradient_range \
                gradient_layout gradient_rows gradient_layers gradient_padding gradient_plan norm golden cases optim random \
                engine alone; do
        [ -x "$build/test/test_$test" ] && echo "test_$test|$isa|$build/test/test_$test" >>"$logs/jobs"
    done
done

# The longest first, so that no processor waits for them at the end.
longest='^test_\(cases\|alone\)|'
[ "${PSG_SKIP_INSTALL_TEST:-}" = yes ] || echo "installation|script|test/install_test.sh" >>"$logs/jobs"
[ -n "${PSG_TESTS:-}" ] || echo "pages|script|test/pages_test.sh" >>"$logs/jobs"
{ grep "$longest\|script|" "$logs/jobs"; grep -v "$longest\|script|" "$logs/jobs"; } |
    xargs -d '\n' -P "${JOBS:-$(nproc)}" -I '{}' sh test/run.sh --one "$build" '{}'

passed=$(cat "$logs"/*.count | awk '{ n += $1 } END { print n + 0 }')
failed=$(cat "$logs"/*.count | awk '{ n += $2 } END { print n + 0 }')
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
