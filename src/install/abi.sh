#!/bin/sh
# Usage: src/install/abi.sh LIBRARY LIST    (RECORD=yes: write new names into LIST; BASE: an older build of LIBRARY)
# Compares what LIBRARY exports with LIST, the names that its soname has promised to programs: none may be lost, new ones
# are to be recorded.  With BASE also the types, by abidiff where it is installed: what programs of BASE cannot bear
# fails, what they can (a structure that grew at its end) is shown.
set -eu
library=$1 list=$2 base=${BASE:-}
export LC_ALL=C
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
nm -D --defined-only "$library" | awk '{ print $3 }' | sort >"$scratch/exported"
sort "$list" >"$scratch/promised" 2>/dev/null || : >"$scratch/promised"

# tell FILE MESSAGE: the names in FILE under a message, if there are any.
tell() {
    [ -s "$1" ] || return 0
    echo "abi: $2"
    sed 's/^/    /' "$1"
}
comm -13 "$scratch/exported" "$scratch/promised" >"$scratch/lost"
comm -23 "$scratch/exported" "$scratch/promised" >"$scratch/new"
tell "$scratch/lost" "lost, though programs of this soname may call them:"
if [ "${RECORD:-}" = yes ]; then
    sort "$scratch/promised" "$scratch/new" >"$list"
    tell "$scratch/new" "recorded in $list:"
    : >"$scratch/new"
else
    tell "$scratch/new" "not yet in $list (RECORD=yes writes them down):"
fi

types=0
if [ -n "$base" ] && command -v abidiff >/dev/null 2>&1; then
    abidiff --drop-private-types --headers-dir1 include --headers-dir2 include "$base" "$library" || types=$?
elif [ -n "$base" ]; then
    echo "abi: types are not compared, abidiff (Debian: abigail-tools) is not installed"
fi
# abidiff's status is a sum of 1 or 2 (it failed), 4 (changes) and 8 (changes that programs cannot bear).
[ ! -s "$scratch/lost" ] && [ ! -s "$scratch/new" ] && [ $((types & 11)) = 0 ]
