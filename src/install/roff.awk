# What comments say, as man(7) macros, printed into the file `page`.

function out(line) { print line >page }

function trimmed(s) {
    gsub(/^[ \t\n]+|[ \t\n]+$/, "", s)
    return s
}

function count_of(pattern, s) { return gsub(pattern, "", s) }

function escaped(s) {
    gsub(/\\/, "\\e", s)
    gsub(/\^/, "\\(ha", s)
    gsub(/~/, "\\(ti", s)
    gsub(/`/, "\\(ga", s)
    return s
}

function guarded(s) { return s ~ /^[.']/ ? "\\&" s : s }

# Text of a program: every hyphen is a minus.
function verbatim(s) {
    s = escaped(s)
    gsub(/-/, "\\-", s)
    gsub(/'/, "\\(aq", s)
    return guarded(s)
}

# Prose: a hyphen between letters stays one.
function prose(s,   done, at, joins) {
    s = escaped(s)
    while ((at = index(s, "-"))) {
        joins = substr(s, at - 1, 1) ~ /[A-Za-z]/ && substr(s, at + 1, 1) ~ /[A-Za-z]/ && at > 1
        done = done substr(s, 1, at - 1) (joins ? "-" : "\\-")
        s = substr(s, at + 1)
    }
    return guarded(done s)
}

# The last space (or end) at which s may be broken to at most width characters; 0 where it fits or has none.
function break_of(s, width,   at, start) {
    if (length(s) <= width) return 0
    match(s, /^ */)
    start = RLENGTH
    for (at = width + 1; at > start + 1; at--) {
        if (substr(s, at, 1) == " ") return at
    }
    at = index(substr(s, width + 1), " ")
    return at ? width + at : 0
}

# Characters that a line of 72 has room for when its escapes are longer than what they stand for.
function room(s) { return 72 - 3 * count_of("[\\^~`]", substr(s, 1, 72)) }

function print_prose(s,   at) {
    gsub(/\n/, " ", s)
    while ((at = break_of(s, room(s)))) {
        out(prose(trimmed(substr(s, 1, at))))
        s = trimmed(substr(s, at))
    }
    out(prose(s))
}

# The same, behind the last comma where there is one.
function code_break(s, width,   at, last) {
    at = break_of(s, width)
    if (!at) return 0
    for (last = at; last > width / 2; last--) {
        if (substr(s, last - 1, 2) == ", ") return last
    }
    return at
}

# Lines of a program, broken where they are too wide; what precedes a break ends with mark.
function print_code(s, width, before, after, mark,   lines, count, k, at) {
    count = split(s, lines, "\n")
    for (k = 1; k <= count; k++) {
        while ((at = code_break(lines[k], width))) {
            out(before verbatim(substr(lines[k], 1, at - 1) mark) after)
            lines[k] = "        " trimmed(substr(lines[k], at))
        }
        out(lines[k] == "" ? "" : before verbatim(lines[k]) after)
    }
}

# The column of the text of "term   text", 0 of another line.
function text_column(line,   term) {
    if (!match(line, /[A-Za-z0-9_]  +[^ ]/)) return 0
    term = substr(line, 1, RSTART)
    if (length(term) > 26 || term !~ /^ *[A-Za-z0-9_][A-Za-z0-9_, -]*$/) return 0
    return RSTART + RLENGTH - 1
}

function blank_before(line, column) { return substr(line, 1, column - 1) ~ /^ *$/ }

function in_list(line, column) {
    return length(line) >= column && substr(line, column - 1, 2) ~ /^ [^ ]/ &&
           (blank_before(line, column) || substr(line, 1, column - 1) !~ /[.:;=]/)
}

# Paragraphs, lists of "term   text" and indented lines, which stay as they are.  begun: something stands before them.
function print_text(said, begun,   lines, count, k, column) {
    count = split(said, lines, "\n")
    for (k = 1; k <= count;) {
        column = text_column(lines[k])
        if (lines[k] ~ /^ *$/) k++
        else if (column) k = print_list(lines, count, k, column)
        else if (lines[k] ~ /^ /) k = print_indented(lines, count, k)
        else k = print_paragraph(lines, count, k, begun)
        begun = 1
    }
}

function print_paragraph(lines, count, k, begun,   joined) {
    if (begun) out(".PP")
    joined = lines[k++]
    while (k <= count && lines[k] ~ /^[^ ]/ && !text_column(lines[k])) joined = joined " " lines[k++]
    print_prose(joined)
    return k
}

function print_list(lines, count, k, column,   joined) {
    while (k <= count && in_list(lines[k], column)) {
        print_item(substr(lines[k], 1, column - 1))
        joined = substr(lines[k++], column)
        while (k <= count && in_list(lines[k], column) && blank_before(lines[k], column)) {
            joined = joined " " trimmed(lines[k++])
        }
        print_prose(joined)
    }
    return k
}

function print_item(term) {
    out(".TP")
    out("\\fB" verbatim(trimmed(term)) "\\fP")
}

function print_indented(lines, count, k,   least, first, last) {
    least = 99
    for (first = last = k; last <= count && lines[last] ~ /^ +[^ ]/; last++) {
        match(lines[last], /^ +/)
        if (RLENGTH < least) least = RLENGTH
    }
    out(".PP")
    out(".RS 4")
    out(".nf")
    for (k = first; k < last; k++) print_code(substr(lines[k], least + 1), 68, "", "", "")
    out(".fi")
    out(".RE")
    return last
}
