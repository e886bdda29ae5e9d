#!/bin/sh
# Usage: test/install_test.sh        (from the top of the tree; honours BUILD, CC, CXX, MAKE)
# Installs into a temporary folder and uses the copy as a stranger would.  Prints one line a check, "ok NAME" or
# "FAILED NAME" with the output; exits non-zero when a check fails.
set -u
CC=${CC:-cc} CXX=${CXX:-c++} MAKE=${MAKE:-make}
temporary=$(mktemp -d) || exit 1
trap 'rm -rf "$temporary"' EXIT
log=$temporary/log
failed=0

# check NAME COMMAND...
check() {
    what=$1
    shift
    if "$@" >"$log" 2>&1; then
        echo "ok $what"
    else
        echo "FAILED $what"
        sed 's/^/    /' "$log"
        failed=$((failed + 1))
    fi
}

# empty COMMAND...: succeeds when the command prints nothing; shows what it printed.
empty() {
    output=$("$@") || true
    [ -z "$output" ] && return 0
    printf '%s\n' "$output"
    return 1
}

# says PATTERN COMMAND...: succeeds when the command prints the pattern; shows what it printed.
says() { pattern=$1 && shift && "$@" 2>&1 | tee "$log.said" && grep -q "$pattern" "$log.said"; }

# Whether there is a C++ compiler.
has_cxx() { command -v "${CXX%% *}" >/dev/null 2>&1; }

make_quietly() { "$MAKE" --no-print-directory ${BUILD:+BUILD="$BUILD"} "$@"; }

# ---- files ----
prefix=$temporary/prefix stage=$temporary/stage
check "make install PREFIX" make_quietly install PREFIX="$prefix" DESTDIR=
check "make install DESTDIR" make_quietly install PREFIX=/opt/psg DESTDIR="$stage"
cp "$log" "$log.staged"
check "psg.pc names PREFIX" grep -qx "prefix=$prefix" "$prefix/lib/pkgconfig/psg.pc"
check "psg.pc does not name DESTDIR" grep -qx "prefix=/opt/psg" "$stage/opt/psg/lib/pkgconfig/psg.pc"
same_files() { (cd "$prefix" && find . | sort) >"$log.a" && (cd "$stage/opt/psg" && find . | sort) | diff "$log.a" -; }
check "PREFIX and DESTDIR install the same files" same_files
doc=$prefix/share/doc/psg
check "the page of the ops is installed" grep -q '^| `linear` |' "$doc/ops.md"
check "the argument for privacy is installed" grep -q '^\*\*6. Noise' "$doc/dp.md"
same_headers() {
    (cd include && find . -type f | sort) >"$log.a" && (cd "$1" && find . -type f | sort) | diff "$log.a" -
}
twice() { find "$1" -type f ! -path '*/man3/*' -exec md5sum {} + | sort | uniq -w 32 -D; }
# The pages that installed pages and headers name: DIR/README.md of the tree, which is installed as DIR.md, NAME.md, or
# one of the examples.
pages() { grep -rhoE '[A-Za-z_/]+\.md\b' "$doc" "$prefix/include" | sort -u; }
installed_as() {
    case $1 in
    share/doc/psg/*) echo "$prefix/$1" ;;
    bench/examples/*) echo "$doc/${1#bench/}" ;;
    */README.md) page=${1%/README.md} && echo "$doc/${page##*/}.md" ;;
    *) find "$doc" -name "$1" | head -n 1 ;;
    esac
}
page_is_absent() {
    pages | while read -r named; do
        [ -s "$(installed_as "$named")" ] || echo "$named"
        case $named in */README.md) [ -s "$named" ] || echo "$named" ;; esac
    done
}
check "every header is installed, and no other file with them" same_headers "$stage/opt/psg/include"
check "no file is installed twice" empty twice "$stage"
check "README says where the pages of ops and privacy are" \
    test "$(grep -oE 'share/doc/psg/(ops|dp)\.md' README.md | sort -u | wc -l)" = 2
check "every page that is named is where it is said to be" empty page_is_absent
# What others have beside it: another soname's library, a page of a like name.
others="lib/libpsg.so.0.1 lib/libpsg.so.0.1.0 share/man/man3/psg_other.3"
for other in $others; do touch "$stage/opt/psg/$other"; done
check "make uninstall" make_quietly uninstall PREFIX=/opt/psg DESTDIR="$stage"
left() { (cd "$stage/opt/psg" && find . ! -type d | sed 's|^\./||' | sort); }
check "make uninstall leaves what is others'" test "$(left)" = "$(printf '%s\n' $others)"
for other in $others; do rm "$stage/opt/psg/$other"; done
check "nothing is left after make uninstall" empty find "$stage" ! -type d
# A blank would make two folders of one, and rm -rf of them.
mkdir -p "$temporary/My/kept"
for unfit in "PREFIX=$temporary/My Libs" "DESTDIR=$temporary/My Libs" "BUILD=my build" "LIBDIR=/opt/r&d" "MANDIR=/a;b"; do
    check "make refuses $unfit" says "must have no blanks" "$MAKE" --no-print-directory uninstall "$unfit"
done
check "make with a folder of two words removes nothing" test -d "$temporary/My/kept"

# ---- the loader's cache ----
# A cache of somebody else's: its ldconfig knows one folder, notes that it ran, and may not where that note is absent.
cat >"$temporary/ldconfig" <<END
#!/bin/sh
[ "\${1:-}" != -v ] || { echo "/opt/known/lib: (from /etc/ld.so.conf:1)"; exit 0; }
[ -e "$temporary/cache" ] && echo ran >>"$temporary/cache"
END
chmod +x "$temporary/ldconfig"
loader() { LDCONFIG=$temporary/ldconfig sh src/install/loader.sh "$@"; }
renews() {
    : >"$temporary/cache" && loader "$1" "$2" && [ "$(cat "$temporary/cache")" = "$3" ] && rm "$temporary/cache"
}
check "make install tells of LD_LIBRARY_PATH" says "LD_LIBRARY_PATH=$prefix/lib," make_quietly install PREFIX="$prefix"
check "make install tells of PKG_CONFIG_PATH" grep -q "PKG_CONFIG_PATH=$prefix/lib/pkgconfig" "$log.said"
check "make install DESTDIR tells of neither" sh -c "! grep -q 'to do' '$log.staged'"
check "installing runs ldconfig for a folder of the loader's" renews installed /opt/known/lib ran
check "removing runs ldconfig for a folder of the loader's" renews removed /opt/known/lib ran
check "installing elsewhere does not" renews installed /opt/psg/lib ""
check "without the right to it ldconfig is left to do" says "as root: ldconfig" loader installed /opt/known/lib
check "removing from elsewhere leaves nothing to do" empty loader removed /opt/psg/lib

# ---- pkg-config ----
PKG_CONFIG_PATH=$prefix/lib/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
export PKG_CONFIG_PATH
check "pkg-config finds psg" pkg-config --exists psg
version=$(sed -n 's/^.define PSG_VERSION_STRING "\(.*\)"/\1/p' include/psg/base.h)
check "pkg-config knows version $version" pkg-config --exact-version="$version" psg
cflags=$(pkg-config --cflags psg)
shared_libs=$(pkg-config --libs psg)
moved_to() { pkg-config --define-variable=prefix=/moved "$@" psg; }
check "pkg-config moves what is below prefix" test \
    "$(moved_to --variable=includedir) $(echo $(moved_to --libs))" = "/moved/include -L/moved/lib -lpsg"
check "pkg-config --libs names libpsg alone" test "$(echo $shared_libs)" = "-L$prefix/lib -lpsg"
# libpsg from its archive and the others shared; everything from archives.
other_libs="$(pkg-config --libs lapacke openblas libsodium jansson zlib) -lm -pthread"
static_libs="-Wl,-Bstatic $shared_libs -Wl,-Bdynamic $other_libs"
archive_libs=$(pkg-config --static --libs psg)

# ---- programs ----
warnings="-Wall -Wextra -pedantic -Werror"

# build COMPILER STANDARD SOURCE PROGRAM LIBRARIES
build() { eval "$1 -std=$2 $warnings $cflags $3 -o $4 $5"; }
run() { LD_LIBRARY_PATH=$prefix/lib "$@"; }
prints_version() { [ "$(run "$1")" = "$version" ]; }
uses_shared() { LD_LIBRARY_PATH=$prefix/lib ldd "$1" | grep "libpsg.so.*=> $prefix/lib/"; }
uses_no_shared() { [ -x "$1" ] && ! ldd "$1" | grep libpsg; }
is_static() { [ -x "$1" ] && ! readelf -lW "$1" | grep INTERP; }

program=$temporary/program
check "C11 program, shared: builds" build "$CC" c11 test/consumer/pass.c "$program.c.shared" "$shared_libs"
check "C11 program, shared: runs" prints_version "$program.c.shared"
check "C11 program, shared: uses the library" uses_shared "$program.c.shared"
check "C11 program, static: builds" build "$CC" c11 test/consumer/pass.c "$program.c.static" "$static_libs"
check "C11 program, static: runs" prints_version "$program.c.static"
check "C11 program, static: uses no shared library" uses_no_shared "$program.c.static"
if has_cxx; then
    check "C++17 program, shared: builds" build "$CXX" c++17 test/consumer/pass.cpp "$program.cpp.shared" "$shared_libs"
    check "C++17 program, shared: runs" prints_version "$program.cpp.shared"
    check "C++17 program, static: builds" build "$CXX" c++17 test/consumer/pass.cpp "$program.cpp.static" "$static_libs"
    check "C++17 program, static: runs" prints_version "$program.cpp.static"
    check "C11 program as C++17: builds" build "$CXX -x c++" c++17 test/consumer/pass.c "$program.mixed" \
        "-x none $shared_libs"
    check "C11 program as C++17: runs" prints_version "$program.mixed"
else
    echo "C++17 programs: not run, there is no C++ compiler"
fi

# The archive in a shared object: psg_ names are exported again unless the linker is told to keep them in.
plugin() { build "$CC -shared -fPIC" c11 test/consumer/pass.c "$1" "$2 $static_libs -Wl,-z,defs"; }
exported_again() { nm -D --defined-only "$1" | awk '{ print $3 }' | grep '^psg_'; }
check "archive in a shared object: builds" plugin "$program.so" -Wl,--exclude-libs,libpsg.a
check "archive in a shared object: exports its own" sh -c "nm -D --defined-only '$program.so' | grep -w main"
check "archive in a shared object: exports nothing of libpsg" empty exported_again "$program.so"
check "archive in a shared object, flag left out: builds" plugin "$program.open.so" ""
check "archive in a shared object, flag left out: is seen" exported_again "$program.open.so"

# Everything from archives, with each object of the library, so that what any of them calls is there.
every_object="-Wl,--whole-archive $prefix/lib/libpsg.a -Wl,--no-whole-archive"
fortran=$("$CC" -print-file-name=libgfortran.a)
if [ -e "$fortran" ]; then
    for objects in "" "$every_object"; do
        name="C11 program, -static${objects:+, every object}"
        check "$name: builds" build "$CC -static" c11 test/consumer/pass.c "$program.archives" "$objects $archive_libs"
        check "$name: runs" prints_version "$program.archives"
        check "$name: needs no loader" is_static "$program.archives"
    done
else
    echo "C11 program, -static: not run, OpenBLAS's archive wants libgfortran.a"
fi

# ---- CMake ----
# From another place than make install was told: what CMake reads names no folder.
moved=$temporary/moved
configure() { cmake -S "$1" -B "$2" -DCMAKE_PREFIX_PATH="$moved" -DCMAKE_C_COMPILER="$CC" -DCMAKE_CXX_COMPILER="$CXX"; }
asks() {
    printf 'include("%s")\nif(NOT PACKAGE_VERSION_COMPATIBLE)\nmessage(FATAL_ERROR "refused")\nendif()\n' \
        "$moved/lib/cmake/psg/psgConfigVersion.cmake" >"$temporary/asks.cmake"
    cmake -DPACKAGE_FIND_VERSION="$1" -P "$temporary/asks.cmake"
}
wants_unknown() {
    mkdir -p "$temporary/unknown"
    printf 'cmake_minimum_required(VERSION 3.13)\nproject(unknown C)\nfind_package(psg COMPONENTS gpu REQUIRED)\n' \
        >"$temporary/unknown/CMakeLists.txt"
    says "psg has the components" configure "$temporary/unknown" "$temporary/unknown/build"
}
# finds FOLDER ARGUMENTS...: psg is found by find_package(psg REQUIRED ARGUMENTS).
finds() {
    mkdir -p "$1/build"
    printf 'cmake_minimum_required(VERSION 3.13)\nproject(asks C)\nfind_package(psg REQUIRED %s)\n' "$2" \
        >"$1/CMakeLists.txt"
    printf '%s\n' 'get_target_property(headers psg::psg INTERFACE_INCLUDE_DIRECTORIES)' \
        'if(NOT EXISTS "${headers}/psg/psg.h")' 'message(FATAL_ERROR "no headers in ${headers}")' 'endif()' \
        >>"$1/CMakeLists.txt"
    cmake -S "$1" -B "$1/build" -DCMAKE_PREFIX_PATH="$3" -DCMAKE_C_COMPILER="$CC" $4
}
wants_optional() {
    finds "$temporary/optional" "OPTIONAL_COMPONENTS static mpi" "$moved" \
        "-DCMAKE_DISABLE_FIND_PACKAGE_PkgConfig=ON -DCMAKE_DISABLE_FIND_PACKAGE_MPI=ON"
}
# A library folder by a link (/lib to /usr/lib): the headers lie beside what it names.
links_beside() {
    mkdir -p "$temporary/system/usr" && cp -r "$prefix/lib" "$prefix/include" "$temporary/system/usr" &&
        ln -s usr/lib "$temporary/system/lib" && finds "$temporary/beside" "" "$temporary/system" ""
}
links_to() {
    mkdir -p "$temporary/linked" "$temporary/elsewhere" && cp -r "$prefix/lib" "$temporary/elsewhere/libraries" &&
        cp -r "$prefix/include" "$temporary/linked" && ln -s ../elsewhere/libraries "$temporary/linked/lib" &&
        finds "$temporary/links" "" "$temporary/linked" ""
}
asks_another() {
    grep 'find_package(psg [0-9]' README.md test/consumer/CMakeLists.txt bench/examples/*/CMakeLists.txt |
        grep -vF "psg ${version%.*} "
}
check "whoever asks CMake for a version asks for ${version%.*}" empty asks_another
if cmake --version >/dev/null 2>&1 && has_cxx; then
    cp -r "$prefix" "$moved"
    check "CMake's files name no folder" empty grep -r "$temporary" "$moved/lib/cmake"
    check "CMake finds psg" configure test/consumer "$temporary/cmake"
    check "CMake builds" cmake --build "$temporary/cmake"
    for kind in c_psg cpp_psg c_psg_static cpp_psg_static; do
        check "CMake, $kind: runs" env -u LD_LIBRARY_PATH "$temporary/cmake/$kind"
    done
    check "CMake, psg::psg is the shared library" sh -c "ldd '$temporary/cmake/c_psg' | grep '$moved/lib/libpsg.so'"
    check "CMake, psg::psg_static is the archive" uses_no_shared "$temporary/cmake/c_psg_static"
    check "CMake refuses components that are none" wants_unknown
    check "CMake does without components that are optional" wants_optional
    check "CMake finds the headers where the library's folder is a link" links_to
    check "CMake finds the headers beside what the link names" links_beside
    for asked in "${version%.*}" "$version"; do check "CMake takes version $asked" asks "$asked"; done
    for asked in 0.0 "${version%.*}.99" 0.99 1.0; do
        check "CMake refuses version $asked" says refused asks "$asked"
    done
else
    echo "CMake: not run, not installed, or there is no C++ compiler"
fi

# ---- headers ----
for header in "$prefix"/include/psg/*.h "$prefix"/include/psg/ops/*.h; do
    name=${header#"$prefix"/include/}
    [ "$name" = psg/mpi.h ] && continue
    echo "#include <$name>" >"$temporary/alone.c"
    echo "#include <$name>" >"$temporary/alone.cpp"
    check "<$name> alone in C11" "$CC" -std=c11 $warnings -Wconversion -fsyntax-only -I"$prefix/include" \
        "$temporary/alone.c"
    has_cxx || continue
    check "<$name> alone in C++17" "$CXX" -std=c++17 $warnings -Wconversion -fsyntax-only -I"$prefix/include" \
        "$temporary/alone.cpp"
done
echo "#include <psg/psg.hpp>" >"$temporary/alone.cpp"
has_cxx && check "<psg/psg.hpp> alone in C++17" "$CXX" -std=c++17 $warnings -Wconversion -Wshadow -fsyntax-only \
    -I"$prefix/include" "$temporary/alone.cpp"

# ---- symbols ----
library=$prefix/lib/libpsg.so
archive=$prefix/lib/libpsg.a
exported() { nm -D --defined-only "$library" | awk '{ print $3 }' | sed 's/@.*//' | sort; }
declared() {
    ls "$prefix"/include/psg/*.h "$prefix"/include/psg/ops/*.h | grep -v '/mpi\.h$' | xargs cat | sed '/^#/d' | tr '\n' ' ' |
        grep -o 'PSG_API [^(;]*(' | sed 's/ *($//; s/.*[ *]//' | sort
}
not_declared() { declared >"$log.declared" && exported | comm -23 - "$log.declared"; }
not_exported() { exported >"$log.exported" && declared | comm -23 - "$log.exported"; }
foreign_names() { exported | grep -v '^psg_'; }
foreign_internal_names() { nm -g --defined-only "$archive" | awk 'NF == 3 && $3 !~ /^psg_/ { print $3 }'; }
# Objects in writable sections; .data.rel.ro is read-only once relocated.
writable() {
    objdump -t "$archive" | awk '
        ($(NF-2) ~ /^\.(data|bss|tdata|tbss)/ || $(NF-2) == "*COM*") && $(NF-2) !~ /^\.data\.rel\.ro/ && / O |COM/ &&
        $NF != "bracket" { print $NF }'
}
initialisers() { objdump -h "$archive" | grep -E '\.(init_array|ctors|fini_array|dtors)'; }
banned() {
    ends='abort|exit|_exit|_Exit|quick_exit|__assert_fail|longjmp|raise|kill'
    prints='printf|__printf_chk|fprintf|__fprintf_chk|vfprintf|puts|putchar|perror|stdout|stderr'
    changes='signal|sigaction|setenv|putenv|system|rand|srand|random|drand48|setlocale|fesetround|fesetenv'
    unsafe='strcpy|strcat|sprintf|__sprintf_chk|gets|atoi|alloca'
    # fesetenv, which gives the host's thread back its environment, is called in one place.
    nm -A -u "$archive" | grep -v ':floats\.o:.* fesetenv$' | awk '{ print $NF }' | sort -u |
        grep -xE "$ends|$prints|$changes|$unsafe"
}
malloc_callers() {
    nm -A -u "$archive" | grep -E ' (malloc|calloc|realloc|free|posix_memalign|aligned_alloc|strdup)$' |
        grep -v ':context\.o:'
}
check "every exported name starts with psg_" empty foreign_names
check "every exported name is declared" empty not_declared
check "every declared name is exported" empty not_exported
check "something is exported" test "$(exported | wc -l)" -gt 50
check "every internal global name starts with psg_" empty foreign_internal_names
check "no writable global but OpenBLAS's bracket" empty writable
check "the bracket is seen by that check" sh -c "objdump -t '$archive' | grep -q ' O .*bracket'"
check "no static initialisers" empty initialisers
check "no function that ends, prints or changes the process" empty banned
check "malloc and free are called in one place" empty malloc_callers

# ---- manual pages ----
manual=$prefix/share/man/man3
types() {
    cat "$prefix"/include/psg/*.h "$prefix"/include/psg/ops/*.h |
        sed -nE 's/^(} |typedef (struct|enum|psg_[a-z_]+) .*|struct )(psg_[a-z0-9_]+)( \{|;).*/\3/p' | sort -u
}
macros() { sed -nE 's/^#define (PSG_[A-Z0-9_]*_INIT|PSG_MAX_[A-Z]*|PSG_TRY).*/\1/p' "$prefix"/include/psg/*.h; }
headers() { (cd "$prefix/include" && find psg -name '*.h' | tr / _ | sed 's/^psg_psg/psg/'); }
# A page, or the one that it leads to, has the name.
page_of() { sed -n '1s|^\.so man3/||p' "$manual/$1.3" | grep . || echo "$1.3"; }
has_page() { [ -s "$manual/$1.3" ] && sed -n '/^.SH NAME/,/^.SH SYN/p' "$manual/$(page_of "$1")" | grep -qw -e "$1"; }
without_page() { "$1" | while read -r name; do has_page "$name" || echo "$name"; done; }
for kind in declared types macros headers; do
    check "$kind: there are some" test "$("$kind" | wc -l)" -gt 9
    check "$kind: each has a manual page" empty without_page "$kind"
done
has_line() { grep -qxF -e "$2" "$1"; }
check "a page has its header" has_line "$manual/psg_clipped_sum.3" '\fB#include <psg/gradient.h>\fP'
# misplaced: names whose page is of another header than the one that declares them, and pages that have an empty name.
misplaced() {
    grep -Ho '^PSG_API [^(]*(' "$prefix"/include/psg/*.h "$prefix"/include/psg/ops/*.h |
        sed 's|.*include/\(.*\.h\):.*[ *]\(psg_[a-z0-9_]*\)($|\1 \2|' |
        while read -r header name; do
            page=$manual/$name.3
            grep -q '^\.so ' "$page" && page=$manual/$(sed 's|^\.so man3/||' "$page")
            grep -q "#include <$header>" "$page" || echo "$name: $page"
        done
    grep -l ', ,' "$manual"/*.3
}
check "every function's page is of its own header" empty misplaced
check "a page has its declaration" has_line "$manual/psg_sqnorm.3" '\fBpsg_status psg_sqnorm(psg_context *context,\fP'
check "a page has the fields of its options" has_line "$manual/psg_clipped_sum.3" '\fBdouble stability;\fP'
check "a page says what its status is" has_line "$manual/psg_clipped_sum.3" '.SH RETURN VALUE'
check "the C++ header has a manual page" \
    has_line "$manual/psg.hpp.3" '\fBclass params : public owner<psg_params, psg_params_destroy>\fP'
check "with constructors of several lines" has_line "$manual/psg.hpp.3" \
    '\fBdp(psg_context *context, psg_generator *generator, const psg_dp_options &o, span<int64_t> param_counts)\fP'
check "with its members" has_line "$manual/psg.hpp.3" '\fBvoid initialize(uint64_t seed)\fP'
check "an equation keeps its line" has_line "$manual/psg_natural_gradient.3" 'outs = (damping I + F)\(ha\-1 v'

# Text that roff would take for its own, a function without a comment, and one that is exported and in no header.
cat >"$temporary/dressed.h" <<'END'
/* psg/dressed.h: a header. */
/* Dressed.
 *
 * .hidden and 'quoted' \e x^2 - 1, a define-by-run -1.
 *
 *     .code 'c' - 1
 */
PSG_API int psg_dressed(void);
END
{ cat "$temporary/dressed.h" && printf '\nPSG_API int psg_bare(void);\n'; } >"$temporary/bare.h"
echo psg_dressed >"$temporary/exported"
echo psg_lost | cat "$temporary/exported" - >"$temporary/lost"
doc_of() { make_quietly doc BUILD="$temporary/doc" PUBLIC_HEADERS="$temporary/$1.h" SYMBOLS="$temporary/$2"; }
refuses() {
    doc_of "$1" "$2" >"$log.doc" 2>&1 && return 1
    grep "^undocumented: $3\$" "$log.doc" && [ ! -e "$temporary/doc/man/man3/psg_dressed.3" ]
}
check "make doc" doc_of dressed exported
check "prose is no request" has_line "$temporary/doc/man/man3/psg_dressed.3" \
    '\&.hidden and '"'quoted'"' \ee x\(ha2 \- 1, a define-by-run \-1.'
check "code is no request" has_line "$temporary/doc/man/man3/psg_dressed.3" '\&.code \(aqc\(aq \- 1'
check "make doc refuses a function without a comment" refuses bare exported psg_bare
check "make doc refuses a name that no header declares" refuses dressed lost psg_lost

# What reads manual pages has nothing to say of them.
full_pages() { grep -L '^\.so' "$manual"/*.3; }
warnings_of() { full_pages | LC_ALL=C.UTF-8 xargs groff -man -Tutf8 -ww -z 2>&1; }
lint() { full_pages | xargs mandoc -Tlint; }
found() { MANPATH=$prefix/share/man man -w 3 psg_clipped_sum psg_relu6 PSG_TRY psg_dp.h psg.h; }
if man --version >/dev/null 2>&1; then
    check "man finds pages" found
else
    echo "man: not run, not installed"
fi
if command -v groff >/dev/null 2>&1; then
    check "groff has nothing to say" empty warnings_of
else
    echo "groff: not run, not installed"
fi
if command -v mandoc >/dev/null 2>&1; then
    check "mandoc has nothing to say" empty lint
else
    echo "mandoc: not run, not installed"
fi

# ---- what the soname has promised ----
promised=src/install/libpsg.so.${version%.*}.symbols
abi() { sh src/install/abi.sh "$library" "$@"; }
recorded() { RECORD=yes abi "$1" && abi "$1" && cmp "$1" "$promised"; }
check "every name is in $promised, and none is lost" abi "$promised"
sed '1d' "$promised" >"$temporary/one_new"
{ cat "$promised" && echo psg_zeta; } >"$temporary/one_lost"
check "a new name is seen" says "not yet in" abi "$temporary/one_new"
check "a lost name is seen" says "^    psg_zeta" abi "$temporary/one_lost"
check "a lost name is not recorded away" says "^    psg_zeta" env RECORD=yes sh src/install/abi.sh "$library" \
    "$temporary/one_lost"
check "a new name is recorded" recorded "$temporary/one_new"

# ---- hardening ----
check "relocations are bound at start" sh -c "readelf -d '$library' | grep -q 'BIND_NOW\|FLAGS.*NOW'"
check "relocations are read-only" sh -c "readelf -lW '$library' | grep -q GNU_RELRO"
check "the stack is not executable" sh -c "readelf -lW '$library' | grep GNU_STACK | grep -q 'RW '"
check "the end of the stack is checked" sh -c "nm -D '$library' | grep -q __stack_chk_fail"
case ${CFLAGS:--O2} in
*-O0*) echo "bounds are checked: not run, -O0 has no such checks" ;;
*) check "bounds are checked" sh -c "nm -D '$library' | grep -q '_chk@GLIBC'" ;;
esac
check "no text relocations" empty sh -c "readelf -d '$library' | grep TEXTREL"
check "soname" sh -c "readelf -d '$library' | grep -q 'SONAME.*\[libpsg.so.${version%.*}\]'"

# ---- the source archive ----
name=libpsg-$version
dist_of() { (cd "$1" && make_quietly dist BUILD="$temporary/dist" DISTDIR="$temporary/$2"); }
complete() { (cd "$temporary/$name" && find . -type f | sed 's|^\./||' | LC_ALL=C sort) | cmp - "$1"; }
check "make dist" dist_of . first
check "make dist: unpacks" tar -x -C "$temporary" -f "$temporary/first/$name.tar.gz"
check "make dist: lists its files" complete "$temporary/$name/src/install/files"
check "make dist, of the unpacked archive" dist_of "$temporary/$name" second
check "make dist: the same bytes" cmp "$temporary/first/$name.tar.gz" "$temporary/second/$name.tar.gz"

# ---- make without the packages: one message, no compiler, nothing installed ----
mkdir -p "$temporary/bin" "$temporary/no_packages"
printf '#!/bin/sh\ntouch "%s"\n' "$temporary/installed" >"$temporary/bin/apt-get"
chmod +x "$temporary/bin/apt-get"
make_bare() {
    PATH="$temporary/bin:$PATH" PKG_CONFIG_PATH= PKG_CONFIG_LIBDIR="$temporary/no_packages" \
        "$MAKE" --no-print-directory BUILD="$temporary/bare" "$@"
}
check "make without packages lists them" \
    says "^Please install: libopenblas-dev .*libjansson-dev .*zlib1g-dev" make_bare -j2 all
check "make without packages compiles nothing" sh -c "! grep -E 'CC |error' '$log.said'"
check "make without a compiler lists it" says "^Please install: gcc libc6-dev\$" \
    make_quietly BUILD="$temporary/bare" CC="$temporary/no_cc" all
check "make without packages installs nothing" test ! -e "$temporary/installed"

# ---- the packages are installed without questions, whatever environment sudo passes on ----
stand_in() { printf '#!/bin/sh\n%s\n' "$2" >"$temporary/bin/$1" && chmod +x "$temporary/bin/$1"; }
stand_in id 'echo 1000'
stand_in sudo 'exec env -i PATH="$PATH" "$@"'
stand_in apt-get "echo \"\$1 \$DEBIAN_FRONTEND\" >>'$temporary/asked'"
DEPS= PATH="$temporary/bin:$PATH" .ci/need cmd:none=none >"$log" 2>&1
check "packages are installed without questions" test "$(cat "$temporary/asked")" = "install noninteractive"

# ---- make help ----
targets() { sed -n '/^\.PHONY: all/,/[^\\]$/p' Makefile | tr -d '\\' | sed 's/^\.PHONY://' | tr -s ' ' '\n' | grep .; }
not_helped() {
    make_quietly help >"$log.help"
    targets | while read -r target; do grep -q "^  .*\<$target\> " "$log.help" || echo "$target"; done
}
check "make help names every target" empty not_helped

# ---- the programs of README.md ----
awk -v folder="$temporary" '
    /^```c(pp)?$/ { inside = 1; text = ""; ending = substr($0, 4); next }
    /^```/ && inside {
        inside = 0
        if (text ~ /int main/) printf "%s", text >(folder "/readme" ++count "." ending)
        next
    }
    inside { text = text $0 "\n" }' README.md
run_in() { (cd "$1" && shift && run "$@"); }
# The program that saves and resumes: 20 steps a call, 60 in all, within its epsilon.
goes_on() {
    run_in "$1" "$2" && run_in "$1" "$2" >"$log.third" && grep -E '^step 60, epsilon (1\.|2\.000)' "$log.third" &&
        run_in "$1" "$2" >"$log.fourth" && cmp "$log.third" "$log.fourth"
}
count=0
build_any() {
    case $1 in
    *.cpp) build "$CXX" c++17 "$1" "$2" "$shared_libs" ;;
    *) build "$CC" c11 "$1" "$2" "$shared_libs" ;;
    esac
}
for source in "$temporary"/readme*.c "$temporary"/readme*.cpp; do
    [ -e "$source" ] || continue
    [ "${source%.cpp}" = "$source" ] || has_cxx || continue
    count=$((count + 1))
    check "README program $count builds" build_any "$source" "$program.readme$count"
    mkdir -p "$temporary/folder$count"
    check "README program $count runs" run_in "$temporary/folder$count" "$program.readme$count"
    grep -q psg_safetensors_write "$source" &&
        check "README program $count writes its weights" test -s "$temporary/folder$count/model.safetensors"
    grep -q psg_dp_load "$source" || continue
    check "README program $count goes on" goes_on "$temporary/folder$count" "$program.readme$count"
done
check "README has programs" test "$count" -gt 0

# ---- libpsg-mpi: its header, names, pkg-config and CMake; one rank needs no mpirun ----
mpicc=${MPICC:-mpicc}
mpi_header() { echo "#include <psg/mpi.h>" | "$mpicc" -std=c11 -fsyntax-only -I"$prefix/include" -x c -; }
mpi_names() {
    grep -o 'psg_mpi_[a-z]*(' "$prefix/include/psg/mpi.h" | tr -d '(' | sort -u >"$log.declared"
    nm -D --defined-only "$prefix/lib/libpsg-mpi.so" | awk '{ print $3 }' | sort >"$log.exported"
    comm -3 "$log.declared" "$log.exported"
}
mpi_program() {
    "$mpicc" -std=c11 -D_GNU_SOURCE test/mpi/train.c -o "$program.mpi" $(pkg-config --cflags --libs psg-mpi)
}
mpi_trains() {
    OMPI_MCA_btl_vader_single_copy_mechanism=none run "$program.mpi" | grep '^steps 20 releases 20 '
}
mpi_by_cmake() {
    mkdir -p "$temporary/ranks" && cp test/mpi/train.c "$temporary/ranks" &&
        printf '%s\n' 'cmake_minimum_required(VERSION 3.13)' 'project(ranks C)' \
            'find_package(psg REQUIRED COMPONENTS mpi)' 'add_executable(train train.c)' \
            'target_compile_definitions(train PRIVATE _GNU_SOURCE)' 'target_link_libraries(train psg::mpi)' \
            >"$temporary/ranks/CMakeLists.txt" &&
        cmake -S "$temporary/ranks" -B "$temporary/ranks/build" -DCMAKE_PREFIX_PATH="$prefix" &&
        cmake --build "$temporary/ranks/build"
}
if [ -e "$prefix/lib/libpsg-mpi.so" ]; then
    check "<psg/mpi.h> alone in C11" mpi_header
    check "libpsg-mpi exports what psg/mpi.h declares" empty mpi_names
    check "every name of libpsg-mpi is promised, and none is lost" sh src/install/abi.sh "$prefix/lib/libpsg-mpi.so" \
        "src/install/libpsg-mpi.so.${version%.*}.symbols"
    check "pkg-config psg-mpi builds a program" mpi_program
    check "which trains on one rank" mpi_trains
    command -v cmake >/dev/null && check "CMake, psg::mpi builds it" mpi_by_cmake
else
    echo "libpsg-mpi: not run, not built"
fi

# ---- the examples ----
examples=$temporary/examples
cp -r "$prefix/share/doc/psg/examples" "$examples"
in_examples() { env -u MAKEFLAGS "$MAKE" -C "$examples" CC="$CC" CFLAGS="-O2 -pedantic -Werror" "$@"; }
# shows CONDITION COMMAND...: of the last line that the command prints, awk says that the condition holds.
shows() {
    condition=$1
    shift
    run "$@" >"$log.shown" && tail -n 1 "$log.shown" | tee "$log" | awk "{ exit !($condition) }"
}
# example NAME CONDITION [ARGUMENT]
example() { check "example $1 shows that $2" shows "$2" timeout 30 "$examples/$1" ${3:+"$3"}; }
check "examples: build" run in_examples -j2 all
example logistic '$1 == "for" && $8 < -1 && $9 > 1 && $10 > 1' "$examples/people.csv"
check "example logistic states its guarantee" grep -E '^Guarantee: .*= \((1\.0000|0\.9[0-9]*), 1e-06\)' "$log.shown"
trains_on_npz() { (cd "$examples" && timeout 30 ./npz_classifier rings.npz 3); }
check "example npz_classifier trains" shows '$1 == "epsilon" && $2 > 1.9 && $2 <= 2' trains_on_npz
check "example npz_classifier learns" awk '$1 == "not" { exit !($NF < 0.4) }' "$log.shown"
check "example npz_classifier writes its weights" test -s "$examples/classifier.npz"
example lora '$1 == "loss" && $2 < 0.7'
example own_op '$3 == "squared" && $5 > 0'
check "example own_op has its op checked" grep -q '^snake: gradients, every question and each sample' "$log.shown"
example raw_arrays '$1 == "accuracy" && $2 > 0.9'
example char_lstm '$2 == "bits" && $1 < 3 && $NF <= 2'
example influence '$3 == "wrong" && $5 >= 9'
check "example influence estimates noise and rank" sh -c \
    "grep -q '^noise scale 1.8 samples' '$log.shown' && grep -q '^effective rank 3.3' '$log.shown'"
if cmake --version >/dev/null 2>&1; then
    check "example convnet: configures" configure "$examples/convnet" "$examples/convnet/build"
    check "example convnet: builds" cmake --build "$examples/convnet/build"
    example convnet/build/convnet '$1 == "accuracy" && $2 > 0.6 && $NF <= 3'
fi

[ "$failed" = 0 ]
