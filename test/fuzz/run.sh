#!/bin/sh
# Usage: test/fuzz/run.sh FOLDER ENGINE [--seconds N] [--seed S] [--runs N] [--only NAME]
# Runs FOLDER/fuzz_*, each for its share of the seconds (60), with the options of ENGINE: libfuzzer or driver.  An input
# that shows a fault stays in FOLDER; FOLDER/fuzz_NAME FILE tries it again.
set -eu
folder=$1 engine=$2
shift 2
seconds=60 seed= runs= only=.*
while [ $# -gt 1 ]; do
    case $1 in
    --seconds) seconds=$2 ;;
    --seed) seed=$2 ;;
    --runs) runs=$2 ;;
    --only) only=$2 ;;
    *) break ;;
    esac
    shift 2
done
[ $# = 0 ] || { echo "usage: make fuzz ARGS=\"[--seconds N] [--seed S] [--runs N] [--only NAME]\"" >&2; exit 2; }
set -- $(ls "$folder" | grep '^fuzz_[a-z]*$' | grep "^fuzz_$only\$")
[ $# -gt 0 ] || { echo "no fuzzer $only" >&2; exit 2; }
share=$(((seconds + $# - 1) / $#)) failed=0
for name; do
    program=$folder/$name
    if [ "$engine" = libfuzzer ]; then
        mkdir -p "$folder/corpus/$name"
        set -- -max_total_time="$share" -max_len=2048 -timeout=60 -rss_limit_mb=4096 -print_funcs=0 \
            -artifact_prefix="$program-" ${seed:+-seed="$seed"} ${runs:+-runs="$runs"} "$folder/corpus/$name"
    else
        set -- --seconds "$share" ${seed:+--seed "$seed"} ${runs:+--runs "$runs"}
    fi
    log=$folder/$name.log
    if "$program" "$@" >"$log" 2>&1; then
        echo "$name: $(sed -n 's/^Done \([0-9]*\) runs.*/\1 inputs/p; s/ inputs passed/ inputs/p' "$log") passed"
    else
        echo "$name: FAILED, the end of $log is"
        tail -n 60 "$log"
        failed=1
    fi
done
exit $failed
