#!/bin/sh
# Usage: src/install/loader.sh installed|removed LIBDIR    (honours LDCONFIG, PKG_CONFIG)
# After libpsg has come to LIBDIR or left it: renews the loader's cache where LIBDIR is among its folders and the caller
# may; says what remains to be done.
set -u
event=$1 libdir=$2
ldconfig=${LDCONFIG:-$(PATH=$PATH:/usr/sbin:/sbin command -v ldconfig)}

# The folders that the loader's cache is made of (/lib may be /usr/lib), and those that pkg-config reads unasked.
searched() {
    "${ldconfig:-false}" -v -N -X 2>/dev/null | cut -d: -f1 | grep '^/' | xargs -r -d '\n' realpath -m |
        grep -qxF "$(realpath -m "$libdir")"
}
pkg_config_reads() {
    path=$(${PKG_CONFIG:-pkg-config} --variable pc_path pkg-config 2>/dev/null)
    case :$path: in *:"$libdir/pkgconfig":*) return 0 ;; *) return 1 ;; esac
}

if searched; then
    "$ldconfig" 2>/dev/null || echo "to do, as root: ldconfig (the loader's cache is of before libpsg was $event)"
elif [ "$event" = installed ]; then
    echo "to do: programs find libpsg with LD_LIBRARY_PATH=$libdir, or once $libdir stands in /etc/ld.so.conf" \
         "and ldconfig has run"
fi
if [ "$event" = installed ] && ! pkg_config_reads; then
    echo "to do: pkg-config finds psg with PKG_CONFIG_PATH=$libdir/pkgconfig"
fi
