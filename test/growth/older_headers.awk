# The public headers as they would have been before the last field of each struct that grows was added.
#     awk -f older_headers.awk HEADER...                       a C program that prints "struct words" for each of them
#     awk -v words=FILE -v folder=OUT -f older_headers.awk HEADER...   writes OUT/HEADER without these fields: `reserved`
#                                                                      has the words that FILE names, so sizes are the same
# A field is a declaration, or the last of several names in one.
BEGIN {
    while (words != "" && (getline pair_line < words) > 0) {
        split(pair_line, pair, " ")
        reserved_words[pair[1]] = pair[2]
    }
}

FNR == 1 { flush_header(); header = FILENAME; lines = 0; in_comment = 0 }
{ line[++lines] = $0; code_of[lines] = without_comments($0) }
END { flush_header(); if (words == "") print_program() }

function flush_header(   k) {
    if (!lines) return
    for (k = 1; k <= lines; k++) {
        if (line[k] ~ /^(typedef )?struct psg_[a-z0-9_]+ \{/) first = k
        if (line[k] ~ /^ *uint64_t reserved\[4\];/) older_struct(first, k)
        if (line[k] ~ /^#define PSG_[A-Z0-9_]+_INIT /) older_macro(k)
    }
    if (words != "") write_header()
}

# What stands before a comment; nothing where one goes on.  None is followed by code.
function without_comments(text,   was_in) {
    was_in = in_comment
    if (text ~ /\/\*/) in_comment = 1
    if (text ~ /\*\//) in_comment = 0
    sub(/\/\*.*/, "", text)
    return was_in ? "" : text
}

function older_struct(first, reserved,   k, name, field, code) {
    name = line[first]
    sub(/^(typedef )?struct /, "", name)
    sub(/ .*/, "", name)
    for (k = reserved - 1; k > first && code_of[k] !~ /;/; k--) { }
    code = code_of[k]
    field = code
    sub(/;.*/, "", field)
    sub(/.*[ *,]/, "", field)
    sub(/\[.*/, "", field)
    names[++count] = name
    fields[count] = field
    grows[name] = 1
    if (words == "") return
    if (code ~ /,[^()]*;/) sub(/, *\**[a-z0-9_]+(\[[^]]*\])?;/, ";", line[k])
    else line[k] = substr(line[k], length(code) + 1)
    sub(/reserved\[4\]/, "reserved[" reserved_words[name] "]", line[reserved])
}

# { a, b, { 0, 0, 0, 0 } } without b.
function older_macro(first,   last, text, k, c, depth, start, previous, name, end) {
    name = line[first]
    sub(/^#define /, "", name)
    sub(/_INIT .*/, "", name)
    if (!(tolower(name) in grows) || words == "") return
    for (last = first; line[last] ~ /\\$/; last++) { }
    for (k = first; k <= last; k++) { c = line[k]; sub(/ *\\$/, "", c); text = text " " c; line[k] = "" }
    sub(/\/\*.*/, "", text)
    for (k = 1; k <= length(text); k++) {
        c = substr(text, k, 1)
        if (c == "{") depth++
        if (c == "}") depth--
        if (c == "," && depth == 1) { previous = start; start = k }
    }
    end = previous ? substr(text, 1, previous - 1) : substr(text, 1, index(text, "{"))
    line[first] = end (previous ? substr(text, start) : substr(text, start + 1))
}

function write_header(   k, path) {
    path = header
    sub(/^include/, folder, path)
    for (k = 1; k <= lines; k++) print line[k] >path
    close(path)
}

function print_program(   k) {
    print "#include <psg/psg.h>\n#include <stdio.h>\nint main(void) {"
    for (k = 1; k <= count; k++) {
        printf "    printf(\"%s %%zu\\n\", (sizeof(struct %s) - (offsetof(struct %s, %s) + 7) / 8 * 8) / 8);\n",
               names[k], names[k], names[k], fields[k]
    }
    print "    return 0;\n}"
}
