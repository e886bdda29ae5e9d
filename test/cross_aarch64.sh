#!/bin/sh
# Usage: test/cross_aarch64.sh BUILD [--seconds N] [--long] [NAME...]   (from the top of the tree; honours MAKE, JOBS)
# Builds libpsg and its tests for aarch64 in BUILD with Debian's cross compiler and runs them under qemu-user: the law
# for N seconds (default 60) and the test programs, with --long those too that take many minutes there, or those named
# alone ("norm" is test_norm, "law" the law).  Ends with "aarch64: N passed, N failed" (the law counts as one); what is
# not run is said and not counted.
set -u
build=$1
shift
seconds=60 long=no
while :; do
    case ${1:-} in
    --seconds) seconds=$2 && shift 2 ;;
    --long) long=yes && shift ;;
    --*) echo "cross-aarch64: --seconds N, --long or names of tests, not $1" >&2 && exit 1 ;;
    *) break ;;
    esac
done
wanted="$*"
root=$(realpath -m "$build/root")
libraries=$root/usr/lib/aarch64-linux-gnu

# Why a test is not run: it asks for what an emulator has not, or takes many minutes there, mostly because a long double
# has 128 bits on aarch64, which are computed in software, and that is emulated.
not_run() {
    case $1 in
    address_space) echo "the emulator takes limits of the address space and keeps none" ;;
    gradient | gradient_norm | gradient_bound | cases | alone | mutations)
        [ "$long" = no ] && [ -z "$wanted" ] && echo "long under emulation (--long, or by its name)" ;;
    *) return 1 ;;
    esac
}
is_wanted() { [ -z "$wanted" ] || echo " $wanted " | grep -q " $1 "; }

# ---- build ----
emulator="qemu-aarch64-static -L $root"
sh test/aarch64_root.sh "$build" || exit 1
cross() {
    env -u PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR="$root" PKG_CONFIG_LIBDIR="$libraries/pkgconfig" \
        PSG_EMULATOR="$emulator" "${MAKE:-make}" --no-print-directory -j"${JOBS:-2}" BUILD="$build" \
        PKG_CONFIG=pkg-config CC="aarch64-linux-gnu-gcc --sysroot=$root" \
        CXX="aarch64-linux-gnu-g++ --sysroot=$root" CLANGXX=none MPICC=none AR=aarch64-linux-gnu-ar CFLAGS=-O2 "$@"
}
targets=
for name in $wanted; do
    [ "$name" = law ] || name=test_$name
    targets="$targets $build/test/$name"
done
# shellcheck disable=SC2086
cross ${targets:-all "$build/test/all" "$build/test/law"} || exit 1

# ---- run; the law first, as nothing says more in a minute ----
programs=
for program in "$build"/test/test_*; do
    name=${program##*/test_}
    { [ -x "$program" ] && [ "${name%.*}" = "$name" ] && is_wanted "$name"; } || continue
    if reason=$(not_run "$name"); then
        echo "test_$name: not run, $reason"
    else
        programs="$programs $program"
    fi
done

passed=0 failed=0
if is_wanted law; then
    # shellcheck disable=SC2086
    if $emulator "$build/test/law" --seconds "$seconds"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
fi
if [ -n "$programs" ]; then
    PSG_EMULATOR=$emulator PSG_TESTS=$programs PSG_TEST_ISAS= PSG_SKIP_INSTALL_TEST=yes sh test/run.sh "$build" |
        tee "$build/test/log"
    counts=$(sed -n '$s/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$build/test/log")
    counts=${counts:-0 1}
    passed=$((passed + ${counts% *})) failed=$((failed + ${counts#* }))
fi
echo "aarch64: $passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
