#!/bin/sh
# Usage: test/cross_aarch64.sh BUILD [--seconds N] [NAME...]       (from the top of the tree; honours MAKE, JOBS)
# Builds libpsg and its tests for aarch64 in BUILD with Debian's cross compiler and runs them under qemu-user: every
# test program and the law for N seconds (default 60), or those named alone ("norm" is test_norm, "law" the law).
# Ends with a line "N passed, N failed" (the law counts as one); what is not run is said and not counted.
set -u
build=$1
shift
seconds=60
if [ "${1:-}" = --seconds ]; then
    seconds=$2
    shift 2
fi
wanted="$*"
root=$(realpath -m "$build/root")
libraries=$root/usr/lib/aarch64-linux-gnu

# What an emulator without the machine around it cannot do, and what it does too slowly.
not_run() {
    case $1 in
    address_space) echo "limits the address space, of which the emulator needs its own part" ;;
    *) return 1 ;;
    esac
}
is_wanted() { [ -z "$wanted" ] || echo " $wanted " | grep -q " $1 "; }

# ---- build ----
sh test/aarch64_root.sh "$build" || exit 1
cross() {
    env -u PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR="$root" PKG_CONFIG_LIBDIR="$libraries/pkgconfig" \
        "${MAKE:-make}" --no-print-directory -j"${JOBS:-2}" BUILD="$build" PKG_CONFIG=pkg-config \
        CC="aarch64-linux-gnu-gcc --sysroot=$root" AR=aarch64-linux-gnu-ar "$@"
}
cross all "$build/test/all" "$build/test/law" || exit 1

# ---- run ----
emulator="qemu-aarch64-static -L $root"
programs=
for program in "$build"/test/test_*; do
    name=${program##*/test_}
    [ -x "$program" ] && [ "${name%.*}" = "$name" ] && is_wanted "$name" || continue
    if reason=$(not_run "$name"); then
        echo "test_$name: not run, $reason"
    else
        programs="$programs $program"
    fi
done

passed=0 failed=0
add() {                                                     # a file whose last line is "N passed, N failed"
    last=$(tail -n 1 "$1")
    case $last in
    *' passed, '*' failed') passed=$((passed + ${last%% *})) last=${last%" failed"} failed=$((failed + ${last##* })) ;;
    *) failed=$((failed + 1)) ;;
    esac
}
if [ -n "$programs" ]; then
    PSG_EMULATOR=$emulator PSG_TESTS=$programs PSG_TEST_ISAS= PSG_SKIP_INSTALL_TEST=yes sh test/run.sh "$build" |
        tee "$build/test/log"
    add "$build/test/log"
fi
if is_wanted law; then
    if $emulator "$build/test/law" --seconds "$seconds"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
