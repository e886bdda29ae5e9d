# awk -f roff.awk -f hpp.awk -v page=FILE -v version=V -v date=D psg.hpp
# The manual page of the C++ header: its comment, and the classes and functions of each section in their own lines, up to
# the bodies.

FNR == 1 { begin() }
/^\/\/ ---- .* ----$/ {
    out(".SS " prose(toupper(substr($0, 9, 1)) substr($0, 10, length($0) - 14)))
    sections++
    comment = ""
    next
}
/^(    )?\/\// {
    comment = comment substr($0, index($0, "//") + 3) "\n"
    next
}
!sections && comment != "" {
    print_text(without_name(comment), 0)
    out(".SH CONTENTS")
}
sections && /^(class|struct|template|inline|using|namespace) / && !in_class { print_declared($0) }
in_class && is_public && /^    [^ }]/ && !/^    using / { print_member($0) }
/^public:/ { is_public = 1 }
/^private:|^protected:/ { is_public = 0 }
/^\};?/ { in_class = 0 }
{ comment = "" }

END {
    out(".SH SEE ALSO")
    out(".BR psg.h (3)")
}

function begin() {
    out(".TH PSG.HPP 3 " date " \"libpsg " version "\" libpsg")
    out(".nh")
    out(".ad l")
    out(".SH NAME")
    out("psg.hpp \\- libpsg from C++17")
    out(".SH SYNOPSIS")
    out(".nf")
    out("\\fB#include <psg/psg.hpp>\\fP")
    out(".fi")
    out(".SH DESCRIPTION")
}

function without_name(said) {
    sub(/^[^:]*: */, "", said)
    return said
}

# The whole of what a line begins, without its body, its initialisers and a comment behind it.
function up_to_body(line,   more) {
    while (line !~ /[{;]/ && (getline more) > 0) line = line " " trimmed(more)
    sub(/ *\/\/.*/, "", line)
    sub(/ [{]([^}].*)?$/, "", line)
    if (match(line, /\)( noexcept)? : /)) line = substr(line, 1, RSTART + RLENGTH - 4)
    return trimmed(line)
}

function print_declared(line) {
    in_class = line ~ /(class|struct) [a-z_]+( :.*)? \{$/
    is_public = line ~ /^(template.*)?struct/
    out(".PP")
    out("\\fB" verbatim(up_to_body(line)) "\\fP")
    if (comment != "") out(".br")
    if (comment != "") print_text(comment, 0)
}

function print_member(line) {
    out(".RS 4")
    out("\\fB" verbatim(up_to_body(line)) "\\fP")
    if (comment != "") out(".br")
    if (comment != "") print_text(comment, 0)
    out(".RE")
}
