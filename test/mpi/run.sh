#!/bin/sh
# Usage: test/mpi/run.sh PROGRAM: runs it (train.c) on 1 to 4 ranks of this machine; ends with "mpi: N passed, N failed".
set -u
program=$1
folder=$(mktemp -d)
end_link() { :; }
trap 'end_link; rm -rf "$folder"' EXIT
log=$folder/log
passed=0 failed=0

# More ranks than processors, in containers and for root too.  MPICH has none of these and needs none.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
       OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl_vader_single_copy_mechanism=none PSG_NUM_THREADS=1
ranks() {
    n=$1
    shift
    timeout 60 "${MPIRUN:-mpirun}" -n "$n" "$program" "$@" 2>"$log.err" >"$log"
}
check() {
    what=$1
    shift
    if "$@"; then
        passed=$((passed + 1)) && echo "ok     $what"
    else
        failed=$((failed + 1)) && echo "FAILED $what" && sed 's/^/    /' "$log" "$log.err"
    fi
}
says() { ranks "$@" && tail -n 1 "$log"; }
gives() { expected=$1 && shift && [ "$(says "$@")" = "$expected" ]; }
# Every rank has an error, in these words on some of them, and nobody waited for the time to run out.
refuses() {
    words=$1 && shift
    ranks "$@" && return 1
    [ $? != 124 ] && grep -q "$words" "$log.err"
}

one=$(says 1)
check "one rank trains" test -n "$one"
for n in 2 3 4; do
    check "$n ranks: batches, weights and epsilon of one" gives "$one" "$n"
done

# Without a seed: one key all the same, and what it costs does not depend on the number of ranks.
epsilon_of() { says "$1" --private | grep -v OTHERS | sed 's/.*\(epsilon [0-9.]*\) .*/\1/'; }
costs_the_same() { [ "$(epsilon_of 3)" = "$(epsilon_of 1)" ] && grep -q 'epsilon [0-9]' "$log"; }
check "a private run: one key, and epsilon of one rank" costs_the_same

check "weights that differ are refused" refuses "a hash of the parameters before step 0 is" 3 --alter 2
check "a rank without its mechanism ends all" refuses "dp is NULL on rank 1, must be there" 3 --lack 1
for rank in 0 1 2; do
    check "no memory on rank $rank ends all" refuses "rank $rank of 3 failed: PSG_ERR_MEMORY" 3 --fail "$rank"
done

# A rank is killed in its eighth step: seven are in the checkpoint and in the ledger, and with a seed the rest has the bits of
# a run that was never killed.
without_batches() { echo "$1" | sed 's/batches [0-9a-f]*//'; }
straight=$(without_batches "$one")
ends_at_once() { began=$(date +%s) && ! ranks "$@" && [ $(($(date +%s) - began)) -lt 30 ]; }
for rank in 0 1; do
    run="--ledger $folder/ledger$rank --save $folder/run$rank"
    # shellcheck disable=SC2086
    check "the job ends when rank $rank is killed" ends_at_once 3 $run --kill "$rank"
    check "nothing half-written is left" test ! -e "$folder/run$rank.psg-tmp"
    # shellcheck disable=SC2086
    goes_on() { [ "$(without_batches "$(says 2 $run --load "$folder/run$rank")")" = "$straight" ]; }
    check "it goes on, on 2 ranks, to the bits of a run without the kill" goes_on
done

# shellcheck source=test/mpi/links.sh
. test/mpi/links.sh

echo "mpi: $passed passed, $failed failed"
[ "$failed" = 0 ]
