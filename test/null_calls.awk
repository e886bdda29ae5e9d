# awk -f null_calls.awk HEADER... > null_calls.c
# A function that calls every public function three times: with NULL for every pointer and 0 for everything else; with a
# context and a tape where it takes them, and then what fails must say so in these words of its own (null_answer); and
# with 3 for every number as well.

# The argument for a parameter; *context and *tape are given in the second and third round, numbers in the third.
function argument(parameter, round,   type) {
    if (parameter == "...") return ""
    if (parameter ~ /char \*format$/) return "\"NULL\""
    if (parameter ~ /[*[]/) {
        if (round && parameter ~ /^(const )?psg_context \*[a-z]+$/) return "context"
        if (round && parameter ~ /^(const )?psg_tape \*[a-z]+$/) return "tape"
        return "NULL"
    }
    type = parameter
    sub(/ *[a-z_0-9]+$/, "", type)
    return "(" type "){ " (round == 2 && type ~ /^(int|size_t|u?int64_t|double)$/ ? 3 : 0) " }"
}

function call(name, result, parameters, round,   list, n, k, text, given) {
    n = split(parameters, list, / *, */)
    for (k = 1; k <= n; k++) {
        given = argument(list[k], round)
        if (given != "") text = text (k > 1 ? ", " : "") given
    }
    if (round == 1 && text !~ /context|tape/) return
    if (round == 2 && text !~ /3/) return
    if (round && name ~ /_destroy$/) return   # the caller's
    if (text ~ /tape/) print "    psg_tape_begin(tape, NULL);"   # the last call may have failed it
    if (round && text ~ /context|tape/ && result ~ /^psg_status/) {
        print "    null_answer(context, \"" name "\", NULL, PSG_OK);"
        print "    null_answer(context, \"" name "\", \"" name "\", " name "(" text "));"
    } else {
        print "    (void)" name "(" text ");"
    }
    calls++
}

{ sub(/^#.*/, ""); text = text $0 " " }

END {
    print "#include \"psg/psg.h\"\n\nint null_calls(psg_context *context, psg_tape *tape);"
    print "void null_answer(psg_context *context, const char *about, const char *name, psg_status status);\n"
    print "int null_calls(psg_context *context, psg_tape *tape) {"
    while ((at = index(text, "/*"))) text = substr(text, 1, at - 1) substr(text, at + index(substr(text, at), "*/") + 1)
    gsub(/[ \t]+/, " ", text)
    count = split(text, statements, ";")
    for (s = 1; s <= count; s++) {
        mark = statements[s] ~ /PSG_API / ? "PSG_API " : "static inline "
        at = index(statements[s], mark)
        if (!at) continue
        declaration = substr(statements[s], at + length(mark))
        sub(/ [{].*/, "", declaration)
        sub(/ PSG_PRINTF\(.*/, "", declaration)
        open = index(declaration, "(")
        head = substr(declaration, 1, open - 1)
        parameters = substr(declaration, open + 1, length(declaration) - open - 1)
        name = result = head
        sub(/.*[ *]/, "", name)
        sub(/[a-z_0-9]*$/, "", result)
        if (parameters == "void") parameters = ""
        for (round = 0; round < 3; round++) call(name, result, parameters, round)
    }
    print "    return " calls + 0 ";\n}"
}
