#!/bin/sh
# Usage: test/aarch64_root.sh FOLDER
# Makes FOLDER/root, what a cross compiler and an emulator for aarch64 see as "/": Debian's arm64 packages of the
# libraries that libpsg and its tests link, unpacked.  apt-get fetches them by the system's own sources into FOLDER/apt,
# under a configuration that knows arm64 alone, so the system's architectures, lists and packages stay as they are; what
# is there already is not fetched again.
set -eu
folder=$1
packages="libc6-dev libopenblas-pthread-dev liblapacke-dev libsodium-dev libjansson-dev libcmocka-dev zlib1g-dev"
[ "$(cat "$folder/root.packages" 2>/dev/null)" != "$packages" ] || exit 0
command -v apt-get >/dev/null 2>&1 || { echo "needs apt-get, for Debian's arm64 packages: $packages" >&2; exit 1; }

apt=$(realpath -m "$folder/apt")
mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
: >"$apt/status"                                            # no package is installed
cat >"$apt/apt.conf" <<END
#clear APT::Architectures;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Debug::NoLocking "true";
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
END
echo "fetching arm64 packages into $folder/apt: $packages"
export APT_CONFIG="$apt/apt.conf"
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -qq -y --download-only $packages >/dev/null

rm -rf "$folder/root"
mkdir -p "$folder/root"
for package in "$apt"/cache/archives/*.deb; do
    dpkg-deb -x "$package" "$folder/root"
done
# Links to absolute paths mean those in the root.
find "$folder/root" -type l -lname '/*' -printf '%p %l\n' | while read -r link target; do
    ln -sfn "$(realpath -m --relative-to="${link%/*}" "$folder/root$target")" "$link"
done
# What an installation links by update-alternatives.
libraries=$folder/root/usr/lib/aarch64-linux-gnu
for file in libopenblas.so.0 libblas.so.3 liblapack.so.3; do
    ln -s "openblas-pthread/$file" "$libraries/$file"
done
for name in openblas blas-openblas lapack-openblas; do
    ln -s "../openblas-pthread/pkgconfig/$name.pc" "$libraries/pkgconfig/${name%-openblas}.pc"
done
echo "$packages" >"$folder/root.packages"
