#!/bin/sh
# Usage: test/mutants/plant.sh BUILD_DIRECTORY [NAME...]   (JOBS: mutants at a time)
# Plants known faults, one at a time, and requires the tests that each names to fail.  See test/README.md.
#
# A mutant is a text in the place of another in one source file.  The file is changed in a copy, compiled by the
# Makefile's own command, and linked in front of the library, whose object of that file is then not taken.
set -u
LC_ALL=C
export LC_ALL

here=test/mutants
most=120   # seconds of a test

seconds() { date +%s.%N; }
since() { seconds | awk -v from="$1" '{ printf "%.1f", $1 - from }'; }
file_of() { sed -n 's/^file //p' "$1"; }
kills_of() { sed -n 's/^kill //p' "$1"; }

# The named test of a program: passed, failed (by an assertion of its own), or what else became of it.
outcome_of() {   # PROGRAM TEST LOG
    PSG_TEST=$2 timeout "$most" "$1" >"$3" 2>&1
    status=$?
    if [ "$status" = 124 ]; then echo "took more than $most s"
    elif grep -q 'failed with exception' "$3" || [ "$status" -ge 128 ]; then echo crashed
    elif grep -qx "\[  FAILED  \] $2" "$3" && grep -q '\[   LINE   \]' "$3"; then echo failed
    elif grep -qx "\[       OK \] $2" "$3"; then echo passed
    else echo "was not run"
    fi
}

# The Makefile's commands that compile the source, for the copy, with more flags; $work/objects lists what they make.
compile() {   # SOURCE COPY FLAGS
    : >"$work/objects"
    grep -F -- " -c $1 -o " "$commands" >"$work/commands"
    while IFS= read -r command; do
        object=$work/$(basename "${command##* -o }")
        echo "$object" >>"$work/objects"
        eval "${command% -c *} -Wno-error $3 -iquote $(dirname "$1") -c $2 -o $object" || return 1
    done <"$work/commands"
    [ -s "$work/objects" ]
}

link_program() {   # PROGRAM FLAGS
    command=$(grep -F -- " -o $build/test/$1 " "$commands")
    eval "${command%% -o *} $2 -o $work/$1 $(tr '\n' ' ' <"$work/objects") ${command#* -o "$build/test/$1" }"
}

# Of a survivor: whether its tests come to the lines that changed.
say_reached() {   # SOURCE COPY MUTANT
    compile "$1" "$2" "--coverage -O0" >>"$work/log" 2>&1 || return
    kills_of "$3" | while read -r program test; do
        link_program "$program" --coverage >>"$work/log" 2>&1 || continue
        outcome_of "$work/$program" "$test" "$work/log" >/dev/null
    done
    gcov --stdout "$work"/*.gcda 2>/dev/null | awk -v lines="$work/lines" '
        BEGIN { while ((getline < lines) > 0) { first[++hunks] = $1; last[hunks] = $2 }; FS = ":" }
        $2 + 0 && $1 !~ /-/ {   # a line of code; where none of those that changed is one, the next
            for (k = 1; k <= hunks; k++) {
                if ($2 + 0 < first[k] || ($2 + 0 > last[k] && seen[k])) continue
                seen[k] = 1
                if ($1 !~ /#|=/) reached = 1
            }
        }
        END { print reached ? "its lines were executed" : "its lines were not executed" }'
}

one() {   # BUILD MUTANT
    build=$1 commands=$1/mutants/commands from=$(seconds)
    name=$(basename "$2" .mutant)
    work=$build/mutants/$name source=$(file_of "$2")
    copy=$work/$(basename "$source") verdict= by=
    rm -rf "$work"
    mkdir -p "$work"
    if ! awk -f "$here/apply.awk" "$2" "$source" "$work/lines" >"$copy" 2>"$work/log"; then verdict="does not apply"
    elif ! compile "$source" "$copy" "" >>"$work/log" 2>&1; then verdict="does not build"
    fi
    [ -z "$verdict" ] && for program in $(kills_of "$2" | cut -d ' ' -f 1 | sort -u); do
        link_program "$program" "" >>"$work/log" 2>&1 || verdict="does not link"
    done
    [ -n "$verdict" ] || while read -r program test; do
        outcome=$(outcome_of "$work/$program" "$test" "$work/$program.$test.log")
        by="$by $program:$test"
        [ "$outcome" = failed ] || verdict="$verdict${verdict:+, }survived: $program $test $outcome"
    done <<END
$(kills_of "$2")
END
    took=$(since "$from") why=
    case $verdict in
    survived*passed*) why=$(say_reached "$source" "$copy" "$2") ;;
    "does not"*) why=$(head -n 20 "$work/log" | sed '2,$s/^/    /') ;;
    *) rm -f "$work"/test_* "$work"/*.o ;;
    esac
    echo "${verdict:-killed}" >"$work/verdict"
    printf '%-42s %s, %s s%s\n' "$name" "${verdict:-killed by$by}" "$took" "${why:+
    $why}"
}

# Every named test on the tree as it is.
clean() {   # BUILD PROGRAM TEST
    outcome=$(outcome_of "$1/test/$2" "$3" "$1/mutants/clean.$2.$3.log")
    [ "$outcome" = passed ] || echo "$2 $3 without a mutant: $outcome" | tee -a "$1/mutants/clean"
}

case $1 in
--one) one "$2" "$3"; exit 0 ;;
--clean) clean "$2" "$3" "$4"; exit 0 ;;
esac

build=$1 jobs=${JOBS:-$(nproc)} start=$(seconds)
shift
mkdir -p "$build/mutants"
: >"$build/mutants/clean"
mutants=$build/mutants/list
for name in "${@:-}"; do
    ls $here/*"$name"*.mutant 2>/dev/null || { echo "no mutant is named $name" >&2; exit 1; }
done >"$mutants" || exit 1

tests=$build/mutants/tests
xargs sed -n 's/^kill //p' <"$mutants" | sort -u >"$tests"
programs=$(cut -d ' ' -f 1 "$tests" | sort -u | sed "s|.*|$build/test/&|")
sources=$(xargs sed -n 's/^file //p' <"$mutants" | sort -u)
make=${MAKE:-make}
if ! "$make" --no-print-directory -j"$jobs" $programs >"$build/mutants/log" 2>&1; then
    tail -n 20 "$build/mutants/log"
    exit 1
fi
# What make would run if the sources had changed, one command a line.
"$make" --no-print-directory -n $(printf -- '-W %s ' $sources) $programs |
    awk '{ sub(/^[\t ]+/, " ") } sub(/\\$/, "") { printf "%s", $0; next } { print }' >"$build/mutants/commands"
echo "built in $(since "$start") s"

start=$(seconds)
xargs -P "$jobs" -L 1 sh "$here/plant.sh" --clean "$build" <"$tests"
[ ! -s "$build/mutants/clean" ] || exit 1
echo "$(wc -l <"$tests") tests pass without a mutant, in $(since "$start") s"

start=$(seconds)
xargs -P "$jobs" -I '{}' sh "$here/plant.sh" --one "$build" '{}' <"$mutants"
killed=$(for m in $(cat "$mutants"); do cat "$build/mutants/$(basename "$m" .mutant)/verdict"; done | grep -cx killed)
survived=$(($(wc -l <"$mutants") - killed))
echo "mutants took $(since "$start") s"
echo "$killed killed, $survived survived"
[ "$survived" = 0 ] && [ "$killed" -gt 0 ]
