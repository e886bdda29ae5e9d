#!/bin/sh
# Usage: test/run.sh BUILD_DIRECTORY   (PSG_TESTS: these programs alone)
# Runs every test program, those over kernels once for each instruction set this processor has, and the installation
# test; ends with a line "N passed, N failed".
set -u
build=$1
log=$build/test/log
passed=0 failed=0

# run NAME COMMAND...: counts the cmocka tests of one program; a program that dies counts as one failure.
run() {
    name=$1
    shift
    "$@" >"$log" 2>&1
    status=$?
    ok=$(sed -n 's/.*\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$log" | head -n 1)
    bad=$(sed -n 's/.*\[  FAILED  \] \([0-9]*\) test.*/\1/p' "$log" | head -n 1)
    [ "$status" = 0 ] || [ "${bad:-0}" -gt 0 ] || bad=1
    [ -n "$ok" ] || [ "${bad:-0}" -gt 0 ] || bad=1
    passed=$((passed + ${ok:-0})) failed=$((failed + ${bad:-0}))
    printf '%-34s %4s passed %4s failed\n' "$name" "${ok:-0}" "${bad:-0}"
    [ "${bad:-0}" = 0 ] || cat "$log"
}

for program in ${PSG_TESTS:-"$build"/test/test_*}; do
    [ -x "$program" ] && [ "${program%.[od]}" = "$program" ] && run "${program##*/}" "$program"
done

# Kernels on the other instruction sets: a path the processor lacks is said to be not run, and is not counted.
default=$("$build/test/isa" 2>/dev/null || echo unknown)
for isa in ${PSG_TEST_ISAS-baseline avx2 avx512}; do
    [ "$isa" = "$default" ] && continue
    if ! PSG_ISA=$isa "$build/test/isa" >/dev/null 2>&1; then
        echo "PSG_ISA=$isa: not run, this processor lacks it"
        continue
    fi
    for test in gradient gradient_norm gradient_clip gradient_laws gradient_sums gradient_bound gradient_range \
                gradient_layout gradient_rows gradient_layers gradient_padding norm ops golden cases optim random engine alone; do
        [ -x "$build/test/test_$test" ] && run "test_$test, PSG_ISA=$isa" env PSG_ISA=$isa "$build/test/test_$test"
    done
done

if [ "${PSG_SKIP_INSTALL_TEST:-}" != yes ]; then
    sh test/install_test.sh >"$log" 2>&1
    status=$?
    ok=$(grep -c '^ok' "$log") bad=$(grep -c '^FAILED' "$log")
    [ "$status" = 0 ] || [ "$bad" -gt 0 ] || bad=1
    passed=$((passed + ok)) failed=$((failed + bad))
    printf '%-34s %4s passed %4s failed\n' "installation" "$ok" "$bad"
    [ "$bad" = 0 ] || cat "$log"
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
