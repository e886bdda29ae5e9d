# awk -f headers.awk -f roff.awk -f man.awk -v folder=F -v version=V -v date=D -v symbols=S HEADER...
# Manual pages, section 3, of what the headers declare: a page for each comment, with links from the other names that it
# documents, and one for each header.  Where a name has no comment, or a name of the file `symbols` no page, "undocumented:
# NAME" is said of each, nothing is written, and the status is 1.

END {
    check_names()
    if (failures) exit 1
    for (p = 1; p <= page_count; p++) {
        if (declaration_count[p]) print_page(p)
    }
    for (h = 1; h <= header_count; h++) print_header_page(h)
}

function undocumented(what) {
    print "undocumented: " what >"/dev/stderr"
    failures++
}

function check_names(   p, k, line) {
    for (p = 1; p <= page_count; p++) {
        for (k = 1; k <= declaration_count[p]; k++) {
            if (comment[p] == "") undocumented(name[p, k])
        }
    }
    while ((getline line <symbols) > 0) {
        if (!(line in page_of)) undocumented(line)
    }
}

# The name of a page: that of its first function, else of its first declaration.
function title(p,   k) {
    for (k = 1; k <= declaration_count[p]; k++) {
        if (is_function(code[p, k])) return name[p, k]
    }
    return name[p, 1]
}

# psg/dp.h: psg_dp.h; psg/ops/loss.h: psg_ops_loss.h; psg/psg.h: psg.h
function header_title(path) {
    sub(/^psg\/psg\.h$/, "psg.h", path)
    gsub(/\//, "_", path)
    return path
}

# The first sentence of a comment, or what of it is short.
function summary(said,   at, end, rest) {
    sub(/\n[\n ].*/, "", said)
    gsub(/\n/, " ", said)
    for (at = 1; (end = index(substr(said, at), ".")); at += end) {
        rest = substr(said, at + end)
        if (rest ~ /^$|^  |^ [^a-z ]/ && substr(said, 1, at + end - 2) !~ /(et al|e\.g|\.|[( ][A-Z])$/) break
    }
    if (end) said = substr(said, 1, at + end - 2)
    sub(/:$/, "", said)
    return shortened(said, 90)
}

function shortened(said, most,   at) {
    if (length(said) > most && match(said, /[:;] .*/) && RSTART > 25) said = substr(said, 1, RSTART - 1)
    if (length(said) > most) said = trimmed(substr(said, 1, break_of(said, most - 4))) " ..."
    sub(/ [^ ]* \.\.\.$/, " ...", said)
    return said
}

function begin_page(called, names, said) {
    page = folder "/" called ".3"
    out(".TH " toupper(called) " 3 " date " \"libpsg " version "\" libpsg")
    out(".nh")
    out(".ad l")
    out(".SH NAME")
    print_prose(names " - " said)
}

function begin_synopsis(path) {
    out(".SH SYNOPSIS")
    out(".nf")
    out("\\fB#include <" path ">\\fP")
}

function print_page(p,   k, called, names) {
    called = title(p)
    names = called
    for (k = 1; k <= declaration_count[p]; k++) {
        if (name[p, k] == called) continue
        names = names ", " name[p, k]
        print_link(name[p, k], called)
    }
    begin_page(called, names, summary(comment[p]))
    begin_synopsis(header_path[header[p]])
    for (k = 1; k <= declaration_count[p]; k++) print_declaration(p, k)
    out(".fi")
    out(".SH DESCRIPTION")
    print_text(comment[p], 0)
    for (k = 1; k <= declaration_count[p]; k++) {
        if (note[p, k] != "") print_item(name[p, k])
        if (note[p, k] != "") print_prose(note[p, k])
    }
    print_types(p)
    print_returned(p)
    print_general(p)
    print_see_also(p)
    close(page)
}

function print_link(from, to) {
    page = folder "/" from ".3"
    out(".so man3/" to ".3")
    close(page)
}

function print_declaration(p, k) {
    out("")
    print_code(declared(code[p, k]), 72, "\\fB", "\\fP", code[p, k] ~ /^#define/ ? " \\" : "")
}

function declared(bare) {
    sub(/^PSG_API /, "", bare)
    sub(/ PSG_PRINTF\([^)]*\)/, "", bare)
    if (bare ~ /^static inline/) sub(/ *[{].*/, ";", bare)
    if (bare ~ /^#define/) gsub(/[ \t]*\\?\n[ \t]*/, " ", bare)
    if (bare !~ /[{]/) gsub(/[ \t\n]+/, " ", bare)
    gsub(/[ \t]+\n/, "\n", bare)
    gsub(/\n[\n]+/, "\n", bare)
    return bare
}

# ---- types: those of the page, and the options and reports that its functions take ----

function print_types(p,   k, n, list, types, seen, begun) {
    for (k = 1; k <= declaration_count[p]; k++) {
        if (!is_function(code[p, k])) begun = print_fields(p, k, begun)
    }
    for (k = 1; k <= declaration_count[p]; k++) {
        n = is_function(code[p, k]) ? pointed_types(code[p, k], types) : 0
        for (list = 1; list <= n; list++) {
            if (types[list] in seen || !is_option(types[list]) || page_of[types[list]] == p) continue
            seen[types[list]] = 1
            print_taken(types[list])
        }
    }
}

# Types of the parameters that are plain pointers.
function pointed_types(bare, types,   n) {
    sub(/^[^(]*/, "", bare)
    n = 0
    while (match(bare, /psg_[a-z0-9_]+ \*[a-z]/)) {
        types[++n] = substr(bare, RSTART, RLENGTH - 3)
        bare = substr(bare, RSTART + RLENGTH)
    }
    return n
}

function is_option(type,   p) {
    if (!(type in page_of)) return 0
    p = page_of[type]
    return type ~ /_(options|attributes|weights|report)$/ || (toupper(type) "_INIT") in page_of
}

function declaration_of(type,   p, k) {
    p = page_of[type]
    for (k = 1; name[p, k] != type; k++) continue
    return k
}

function print_taken(type,   p, k) {
    p = page_of[type]
    k = declaration_of(type)
    out(".SH " toupper(type))
    if (!is_function_page(p)) print_text(comment[p], 0)
    if (!is_function_page(p)) out(".PP")
    out(".nf")
    print_code(declared(code[p, k]), 72, "\\fB", "\\fP", "")
    out(".fi")
    print_fields(p, k, 1)
}

function is_function_page(p) { return is_function(code[p, declaration_of(title(p))]) }

# Fields and enumerators that have comments.  One on a line of its own is of those that follow it, or where it is indented
# further than they are, of the one before.
function print_fields(p, k, begun,   lines, count, i, at, field, said, open) {
    if (raw[p, k] !~ /[{].*\n/) return begun
    count = split(raw[p, k], lines, "\n")
    for (i = 2; i <= count; i++) {
        if (!open && lines[i] !~ /^     +\/\*/) {
            begun = end_field(field, said, begun)
            field = said = ""
        }
        at = open ? 1 : index(lines[i], "/*")
        if (!open && lines[i] !~ /^ *\/\*/) field = trimmed(substr(lines[i], 1, at ? at - 1 : 999))
        if (at) said = said (said == "" ? "" : " ") comment_line(substr(lines[i], at))
        open = at && lines[i] !~ /\*\//
    }
    return begun
}

function comment_line(s) {
    gsub(/^[ \t]*(\/\*|\*[^\/]) ?|[ \t]*\*\/[ \t]*$/, "", s)
    return trimmed(s)
}

function end_field(field, said, begun) {
    if (said == "") return begun
    if (!begun) out(".SS Fields")
    if (field != "") print_item(field)
    else if (begun) out(".PP")
    print_prose(said)
    return 1
}

# ---- the end of a page ----

function print_returned(p,   k, types) {
    for (k = 1; k <= declaration_count[p]; k++) {
        if (code[p, k] ~ /^PSG_API psg_status /) types = types "s"
        if (code[p, k] ~ /^PSG_API psg_var /) types = types "v"
    }
    if (types == "") return
    out(".SH RETURN VALUE")
    if (types ~ /s/) {
        print_prose("A psg_status is PSG_OK or says what was wrong: psg_status(3). " \
                    "psg_context_message(3) has the text of the last error.")
    }
    if (types ~ /sv|vs/) out(".PP")
    if (types ~ /v/) print_prose("A psg_var is that of the output. An error is kept by the tape: psg_tape_status(3).")
}

function print_general(p) {
    if (general[p] == "") return
    out(".SH NOTES")
    print_text(general[p], 0)
}

# Names in a text that have pages, once each, behind those in seen.
function mentioned(said, seen, list, n,   found) {
    while (match(said, /psg_[a-z0-9_]+|PSG_[A-Z0-9_]+/)) {
        found = substr(said, RSTART, RLENGTH)
        said = substr(said, RSTART + RLENGTH)
        if (!(found in page_of)) continue
        found = title(page_of[found])
        if (!(found in seen)) list[++n] = found
        seen[found] = 1
    }
    return n
}

# The header, what the page names, and the pages before and behind it in the header.
function print_see_also(p,   k, seen, list, n) {
    seen[title(p)] = 1
    list[1] = header_title(header_path[header[p]])
    n = mentioned(comment[p] " " general[p], seen, list, 1)
    for (k = 1; k <= declaration_count[p]; k++) n = mentioned(code[p, k], seen, list, n)
    for (k = p - 1; k <= p + 1; k += 2) {
        if (declaration_count[k] && header[k] == header[p]) n = mentioned(title(k), seen, list, n)
    }
    out(".SH SEE ALSO")
    for (k = 1; k <= n; k++) out(".BR " verbatim(list[k]) " (3)" (k < n ? "," : ""))
}

# ---- headers ----

function print_header_page(h,   called, said) {
    called = header_title(header_path[h])
    said = header_comment[h]
    sub(/^[^:]*: */, "", said)
    begin_page(called, called, summary(said))
    begin_synopsis(header_path[h])
    out(".fi")
    out(".SH DESCRIPTION")
    print_text(said, 0)
    if (called == "psg.h") print_headers()
    else print_contents(h)
    out(".SH SEE ALSO")
    out(".BR " (called == "psg.h" ? "psg_base.h" : "psg.h") " (3)")
    close(page)
}

function print_headers(   h, said) {
    out(".SH HEADERS")
    for (h = 1; h <= header_count; h++) {
        said = header_comment[h]
        sub(/^[^:]*: */, "", said)
        if (header_path[h] != "psg/psg.h") print_entry(header_title(header_path[h]), summary(said))
    }
}

function print_entry(called, said) {
    out(".TP")
    out(".BR " verbatim(called) " (3)")
    print_prose(said)
}

function print_section(named) { out(".SS " prose(toupper(substr(named, 1, 1)) substr(named, 2))) }

function print_contents(h,   p, last, begun) {
    for (p = 1; p <= page_count; p++) {
        if (header[p] != h || !declaration_count[p]) continue
        if (!begun) out(".SH CONTENTS")
        if (section[p] != last && section[p] != "") print_section(section[p])
        last = section[p]
        begun = 1
        print_entry(title(p), summary(comment[p]))
    }
}
