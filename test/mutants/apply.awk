# awk -f apply.awk MUTANT SOURCE LINES > MUTATED
# Replaces each old text of a mutant, which must be in the source exactly once, by its new text; writes the lines that
# changed, "first last" of each, to LINES.  Status 1 and a message where a text is not there, or more than once.

function fail(text) {
    print text > "/dev/stderr"
    failed = 1
    exit 1
}

function lines_of(text) { return gsub(/\n/, "\n", text) }

function read_mutant(path,   line, into) {
    while ((getline line < path) > 0) {
        if (line == "<<<<") { into = 1; old[++hunks] = new[hunks] = "" }
        else if (line == "====") into = 2
        else if (line == ">>>>") into = 0
        else if (into == 1) old[hunks] = old[hunks] line "\n"
        else if (into == 2) new[hunks] = new[hunks] line "\n"
    }
    close(path)
    if (!hunks) fail("no text between <<<< and >>>>")
}

function replace(k,   at, rest, first) {
    at = index(source, old[k])
    if (!at) fail("not in the source: " old[k])
    rest = substr(source, at + length(old[k]))
    if (index(substr(source, at + 1), old[k])) fail("more than once in the source: " old[k])
    first = lines_of(substr(source, 1, at - 1)) + 1
    source = substr(source, 1, at - 1) new[k] rest
    changed[k] = first " " first + (new[k] == "" ? 0 : lines_of(new[k]) - 1)
}

BEGIN {
    read_mutant(ARGV[1])
    while ((getline line < ARGV[2]) > 0) source = source line "\n"
    for (k = 1; k <= hunks; k++) replace(k)
    printf "%s", source
    for (k = 1; k <= hunks; k++) print changed[k] > ARGV[3]
}
END { exit failed }
