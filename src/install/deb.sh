#!/bin/sh
# Usage: src/install/deb.sh VERSION SOVERSION BUILD    (from the top of the tree; honours MAKE, DEB_BUILD_OPTIONS)
# Builds Debian packages in BUILD/deb: the source archive of make dist, unpacked, with a debian/ filled in from
# src/install/debian.  The tests do not run meanwhile unless DEB_BUILD_OPTIONS is given, and leaves out nocheck.
set -eu
version=$1 soversion=$2 target=$3/deb
templates=src/install/debian
rm -rf "$target"
mkdir -p "$target"
"${MAKE:-make}" --no-print-directory dist BUILD="$3" DISTDIR="$target"
mv "$target/libpsg-$version.tar.gz" "$target/libpsg_$version.orig.tar.gz"
tar -x -C "$target" -f "$target/libpsg_$version.orig.tar.gz"

tree=$target/libpsg-$version
debian=$tree/debian
cp -r "$tree/$templates" "$debian"
mkdir "$debian/source"
echo "3.0 (quilt)" >"$debian/source/format"
for template in "$debian"/*.in; do
    sed -e "s|@VERSION@|$version|" -e "s|@SOVERSION@|$soversion|" \
        -e "s|@DATE@|$(date -R -u -r "$target/libpsg_$version.orig.tar.gz")|" "$template" >"${template%.in}"
    rm "$template"
done
mv "$debian/libpsg.install" "$debian/libpsg$soversion.install"
for package in "libpsg$soversion" libpsg-dev psg-doc; do
    sed "s|@PACKAGE@|$package|" "$debian/lintian-overrides" >"$debian/$package.lintian-overrides"
done
rm "$debian/lintian-overrides"
# The licence's text, from after the line of the copyright on.
sed -e '1,/^Copyright/d' "$tree/LICENSE" | sed -e '1{/^$/d}' -e 's/^$/./' -e 's/^/ /' >>"$debian/copyright"
# What the soname has promised: each name is taken to need the version that is packaged.
{
    echo "libpsg.so.$soversion libpsg$soversion #MINVER#"
    echo "* Build-Depends-Package: libpsg-dev"
    sed "s|.*| &@Base $version|" "$tree/src/install/libpsg.so.$soversion.symbols"
} >"$debian/libpsg$soversion.symbols"

cd "$tree"
DEB_BUILD_OPTIONS=${DEB_BUILD_OPTIONS-nocheck} DEB_BUILD_PROFILES=${DEB_BUILD_PROFILES-nocheck} MAKEFLAGS='' \
    dpkg-buildpackage -us -uc >../build.log 2>&1 || { tail -n 30 ../build.log; exit 1; }
cd ..
command -v lintian >/dev/null 2>&1 && lintian --allow-root --fail-on error,warning ./*.changes
ls ./*.deb ./*.dsc
