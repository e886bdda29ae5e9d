#!/bin/sh
# Usage: src/install/dist.sh VERSION SCRATCH TARGET    (from the top of the tree)
# Packs libpsg-VERSION.tar.gz into the folder TARGET: the committed tree where git knows it, else, in an unpacked archive,
# the files that its list src/install/files names.  Names, owners, modes and times are fixed, so both have the same bytes.
set -eu
name=libpsg-$1 scratch=$2/dist target=$3
list=src/install/files
rm -rf "$scratch"
mkdir -p "$scratch/$name" "$target"
if [ -e .git ] && command -v git >/dev/null 2>&1; then
    git archive HEAD | tar -x -C "$scratch/$name"
    { echo $list && git ls-tree -r --name-only HEAD; } | LC_ALL=C sort >"$scratch/$name/$list"
    time=$(git log -1 --format=%ct)
elif [ -e $list ]; then
    tar -c -T $list | tar -x -C "$scratch/$name"
    time=$(stat -c %Y $list)
else
    echo "dist: needs git and its repository, or $list, which a source archive has" >&2
    exit 1
fi
sed "s|^|$name/|" "$scratch/$name/$list" |
    tar -c -C "$scratch" --format=ustar --no-recursion --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
        --mtime="@$time" -T - | gzip -n >"$target/$name.tar.gz"
rm -rf "$scratch"
