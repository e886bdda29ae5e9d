#!/bin/sh
# Usage: test/variants.sh BUILD [NAME...]        (from the top of the tree; honours MAKE, JOBS; all variants by default)
# Builds the library with other flags, compilers and C libraries, each in BUILD/variants/NAME, and runs a few test
# programs there.  Prints one line a variant; exits non-zero when one fails.
set -u
build=$1
shift
wanted="$*"
tests="base tape gradient_norm product sums_meet dp_mechanism linalg safetensors file"
failed=0

# variant NAME TARGET VARIABLE=VALUE...: TARGET of the Makefile with these variables.
variant() {
    name=$1 target=$2 folder=$build/variants/$1
    shift 2
    [ -z "$wanted" ] || echo " $wanted " | grep -q " $name " || return 0
    mkdir -p "$folder"
    if PSG_SKIP_INSTALL_TEST=yes PSG_TEST_ISAS= "${MAKE:-make}" --no-print-directory -j"${JOBS:-2}" "$target" \
        BUILD="$folder" TESTS_RUN="$tests" "$@" >"$folder/log" 2>&1; then
        echo "ok $name: $(grep -c 'warning: ' "$folder/log") warnings; $(tail -n 1 "$folder/log")"
    else
        echo "FAILED $name: the end of $folder/log is"
        tail -n 30 "$folder/log"
        failed=1
    fi
}
is_here() { command -v "$2" >/dev/null 2>&1 || { echo "$1: not run, $2 is not installed" && false; }; }

variant O0 sanitized CFLAGS="-O0 -g"
variant O3 sanitized CFLAGS="-O3 -g"
variant lto sanitized CFLAGS="-O2 -g -flto=auto"
variant unhardened sanitized HARDENING=
# The baseline kernels fuse nothing, though the flags would let them.
grep -qw fma /proc/cpuinfo && variant fma sanitized CFLAGS="-O2 -g -mfma"
# Where char has no sign, as on aarch64, bytes above 127 are above 0: what reads files and texts, and what writes them.
readers="base csv csv_bad npy npz npy_bad npz_bad idx dlpack safetensors safetensors_bad ledger checkpoint weights file"
tests="$tests $readers" variant unsigned-char sanitized CFLAGS="-O2 -g -funsigned-char"
is_here clang clang && variant clang sanitized CC=clang

# Debian's libraries are linked with glibc, so musl only compiles; of the C library's folder it sees their headers alone.
if is_here musl musl-gcc; then
    headers=$build/variants/musl/include
    mkdir -p "$headers"
    for name in sodium.h sodium jansson.h jansson_config.h zlib.h zconf.h linux asm-generic asm \
                lapack.h lapacke.h lapacke_config.h lapacke_mangling.h; do
        for folder in /usr/include "/usr/include/$(cc -dumpmachine)"; do
            [ ! -e "$folder/$name" ] || ln -sfn "$folder/$name" "$headers/$name"
        done
    done
    blas=$(pkg-config --variable=includedir openblas)
    variant musl objects CC=musl-gcc PACKAGE_CFLAGS="-isystem $headers -isystem $blas"
fi
[ "$failed" = 0 ]
