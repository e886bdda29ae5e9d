# awk -f table_lines.awk test/cases/OP.txt... > table_lines.c
# The lines of all case tables, so that psg-bench needs no file of the source tree.

BEGIN {
    print "#include \"case_lines.h\""
    print "const table_line table_lines[] = {"
}
{ sub(/^[ \t]+/, ""); sub(/[ \t]+$/, "") }
/^#/ || /^$/ { next }
{
    op = FILENAME
    sub(/.*\//, "", op)
    sub(/\.txt$/, "", op)
    gsub(/\\/, "\\\\")
    gsub(/"/, "\\\"")
    printf "    { \"%s\", \"%s\" },\n", op, $0
}
END {
    print "};"
    print "const size_t table_line_count = sizeof table_lines / sizeof *table_lines;"
}
