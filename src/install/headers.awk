# Reads public headers for man.awk: what each declares, and the comment that documents it.
#
# A comment documents the declarations that follow it without a blank line; one that no declaration follows holds for the
# rest of its paragraph, where another comment follows it, or of its section, which "---- title ----" begins.  A comment
# behind a declaration is its own.  What a compiler condition encloses is not read.
#
# Left behind, for pages p = 1 .. page_count and their declarations k = 1 .. declaration_count[p]:
#   header[p], section[p], comment[p], general[p]; name[p, k], code[p, k], raw[p, k], note[p, k]
# and page_of[name]; for headers h = 1 .. header_count: header_path[h], header_comment[h].

FNR == 1 { begin_header(FILENAME) }
{ read_line($0) }

function begin_header(path) {
    sub(/.*include\//, "", path)
    header_path[++header_count] = path
    section_title = general_text = pending = reading = ""
    depth = 0
    end_paragraph()
}

function read_line(line) {
    if (reading == "comment") add_comment(line)
    else if (reading != "") add_declaration(line)
    else if (line ~ /^#/) read_directive(line)
    else if (depth > 1) return
    else if (line ~ /^\/\*/) begin("comment", line)
    else if (line ~ /^[ \t]*$/) end_paragraph()
    else begin("declaration", line)
}

function begin(what, line) {
    reading = what
    text = ""
    if (what == "comment") add_comment(line)
    else add_declaration(line)
}

function read_directive(line) {
    if (line ~ /^#define/ && depth == 1 && line !~ /_H$/) begin("macro", line)
    else if (line ~ /^#/) end_paragraph()
    if (line ~ /^#if/) depth++
    if (line ~ /^#endif/) depth--
}

function end_paragraph() {
    if (pending != "") general_text = pending
    pending = paragraph_text = ""
    current = 0
}

function add_comment(line) {
    text = text (text == "" ? "" : "\n") line
    if (line !~ /\*\//) return
    reading = ""
    end_comment(comment_text(text))
}

# What a comment says, without its marks; indentation beyond them stays.
function comment_text(marked) {
    gsub(/\n[ \t]*\*\/|[ \t]*\*\//, "", marked)
    sub(/^[ \t]*\/\* ?/, "", marked)
    gsub(/\n[ \t]*\* ?/, "\n", marked)
    return marked
}

function end_comment(said) {
    if (!(header_count in header_comment)) {
        header_comment[header_count] = said
        return
    }
    if (said ~ /^----/) said = begin_section(said)
    if (said == "") return
    if (pending != "") paragraph_text = pending
    pending = said
}

# A title of one line; of a longer one what stands before its colon, and all of it is text.
function begin_section(said,   end) {
    sub(/^---- */, "", said)
    end = index(said, "----")
    section_title = substr(said, 1, end - 1)
    sub(/ *$/, "", section_title)
    general_text = ""
    if (section_title !~ /\n/) return trimmed(substr(said, end + 4))
    said = section_title
    sub(/:.*/, "", section_title)
    return said
}

function without_comments(s,   at, end) {
    while ((at = index(s, "/*"))) {
        end = index(substr(s, at), "*/")
        s = substr(s, 1, at - 1) substr(s, at + end + 1)
    }
    return s
}

function add_declaration(line,   bare) {
    text = text (text == "" ? "" : "\n") line
    if (count_of("/\\*", text) != count_of("\\*/", text)) return
    bare = trimmed(without_comments(text))
    if (reading == "macro" && bare ~ /\\$/) return
    if (reading == "declaration" && !is_whole(bare)) return
    reading = ""
    end_declaration(text, bare)
}

function is_whole(bare) {
    if (count_of("[{]", bare) != count_of("[}]", bare)) return 0
    return bare ~ /;$/ || (bare ~ /^static inline/ && bare ~ /[}]$/)
}

# The comment behind a function, a macro or a type of one line, or behind the first line of a longer one.
function note_of(whole,   line, at) {
    line = whole
    if (whole ~ /[{].*\n/) {
        sub(/\n.*/, "", line)
        if (line !~ /\*\//) return ""
    }
    at = index(line, "/*")
    return at ? comment_text(substr(line, at)) : ""
}

function name_of(bare,   s) {
    s = bare
    if (s ~ /^#define/) {
        sub(/^#define /, "", s)
        sub(/[^A-Za-z0-9_].*/, "", s)
        return s
    }
    if (match(s, /\(\*psg_[a-z0-9_]+\)/)) return substr(s, RSTART + 2, RLENGTH - 3)
    if (s ~ /^struct /) {
        sub(/^struct /, "", s)
        sub(/[^a-z0-9_].*/, "", s)
        return s
    }
    if (s ~ /^typedef/) sub(/;$/, "", s)
    else sub(/ *\(.*/, "", s)
    sub(/.*[^A-Za-z0-9_]/, "", s)
    return s
}

function is_function(bare) { return bare ~ /^(PSG_API|static inline) / }

# The type that an initialiser fills, PSG_CLIP_INIT: psg_clip.
function filled_type(macro) {
    if (macro !~ /_INIT$/) return ""
    sub(/_INIT$/, "", macro)
    return tolower(macro)
}

# A type of another library that is named alone has no page, and its comment is of what follows.
function end_declaration(whole, bare,   called, filled, own) {
    if (bare ~ /^struct [A-Z][A-Za-z]*;$/) return
    called = name_of(bare)
    filled = filled_type(called)
    own = note_of(whole)
    if (pending != "") current = new_page(pending)
    else if (filled != "" && filled in page_of) {
        add_to_page(page_of[filled], called, whole, bare, "")
        return
    }
    pending = ""
    if (current) add_to_page(current, called, whole, bare, own)
    else add_to_page(new_page(own), called, whole, bare, "")
}

function new_page(said) {
    pending = ""
    header[++page_count] = header_count
    section[page_count] = section_title
    comment[page_count] = said
    general[page_count] = general_text (general_text != "" && paragraph_text != "" ? "\n\n" : "") paragraph_text
    return page_count
}

# A type that is declared before it is defined has the page of its definition.
function add_to_page(p, called, whole, bare, own,   k) {
    if (called in page_of && comment[page_of[called]] == "") declaration_count[page_of[called]] = 0
    k = ++declaration_count[p]
    name[p, k] = called
    code[p, k] = bare
    raw[p, k] = whole
    note[p, k] = own
    page_of[called] = p
}
