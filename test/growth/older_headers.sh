#!/bin/sh
# Usage: older_headers.sh OUT: the public headers into OUT, each struct that grows without its last field (PSG_EMULATOR:
# a command that runs programs of CC).
set -eu
out=$1
rm -rf "$out"
mkdir -p "$out/psg/ops"
headers=$(echo include/psg/*.h include/psg/ops/*.h | sed 's| include/psg/mpi.h||')
awk -f test/growth/older_headers.awk $headers >"$out/words.c"
${CC:-cc} -Iinclude -o "$out/words" "$out/words.c"
${PSG_EMULATOR:-} "$out/words" >"$out/words.txt"
awk -v words="$out/words.txt" -v folder="$out" -f test/growth/older_headers.awk $headers
