#!/bin/sh
# Usage: test/coverage.sh BUILD PLACE...   (PLACE: a folder of sources, or one source; THRESHOLD: percent, 97)
# After the tests of an instrumented build (make coverage): which branches of the places were never taken, how many were
# by file and by folder.  Fails where a folder is below the threshold, branches of test/unreachable.txt left out, and
# where a line of that list is wrong.
set -u
build=$1
shift

for place in "$@"; do
    case $place in
    *.c) find "$build" -path "$build/${place%.c}.gcda" ;;
    *) find "$build/$place" -name '*.gcda' ;;
    esac
done | sort >"$build/covered"
[ -s "$build/covered" ] || { echo "test/coverage.sh: no test ran instrumented code of: $*"; exit 1; }

xargs gcov --branch-probabilities --branch-counts --stdout <"$build/covered" >"$build/covered.gcov" \
    2>"$build/covered.errors" || { cat "$build/covered.errors"; exit 1; }
awk -v places="$*" -v threshold="${THRESHOLD:-97}" -f test/coverage.awk test/unreachable.txt "$build/covered.gcov"
