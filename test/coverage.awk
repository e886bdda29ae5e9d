# The report of test/coverage.sh: reads test/unreachable.txt (first file), then what gcov --stdout printed.

function trim(text) {
    gsub(/^[ \t]+|[ \t]+$/, "", text)
    return text
}

function folder_of(path) {
    sub(/\/[^\/]*$/, "", path)
    return path
}

# A header's lines come with every source that includes it: a file counts by where it stands.
function is_covered(path,   list, n, i) {
    n = split(places, list, " ")
    for (i = 1; i <= n; i++) if (path == list[i] || index(path, list[i] "/") == 1) return 1
    return 0
}

function complain(text) {
    printf "test/unreachable.txt: %s\n", text
    wrong++
}

# ---- test/unreachable.txt: file | text that one line of it holds | branches of that line | why ----

FNR == NR {
    if ($0 ~ /^#/ || trim($0) == "") next
    if (split($0, part, / \| /) != 4) {
        complain("not four parts: " $0)
        next
    }
    entries++
    entry_file[entries] = trim(part[1]); entry_text[entries] = trim(part[2]); entry_count[entries] = part[3] + 0
    next
}

# ---- gcov: "-: 0:Source:path", "count: line:text", and after a line its "branch k taken n" ----

match($0, /^ *-: *0:Source:/) {
    path = substr($0, RLENGTH + 1)
    covered = is_covered(path)
    next
}

!covered { next }

match($0, /^ *[-#=0-9*]+: *[0-9]+:/) {
    text = substr($0, RLENGTH + 1)
    split($0, part, ":")
    line = part[2] + 0
    key = path ":" line
    source[key] = text
    next
}

/^branch/ {
    branch = key ":" $2
    if (!(branch in taken)) {
        order[++branches] = branch
        where[branch] = key
        file[branch] = path
        taken[branch] = 0
        in_line[key]++
    }
    if ($3 == "taken" && $4 + 0 > 0) taken[branch] = 1
}

# ---- the report ----

function apply_entry(e,   key, found, at) {
    for (key in source) {
        if (index(key, entry_file[e] ":") != 1 || !index(source[key], entry_text[e])) continue
        found++
        at = key
    }
    if (found != 1) complain(entry_file[e] ": \"" entry_text[e] "\" is in " found + 0 " lines, must be in one")
    else if (entry_count[e] != missing[at])
        complain(at ": " missing[at] + 0 " branches were not taken, not " entry_count[e])
    else excused[at] = 1
}

function share(name, part, whole) {
    printf "%-36s %5d of %5d branches %7.2f %%\n", name, part, whole, whole ? 100 * part / whole : 100
}

# Insertion: awk has no sort of its own.
function sorted(set, list,   n, i, name) {
    for (name in set) {
        for (i = ++n; i > 1 && list[i - 1] > name; i--) list[i] = list[i - 1]
        list[i] = name
    }
    return n
}

END {
    for (b = 1; b <= branches; b++) {
        branch = order[b]
        if (taken[branch]) continue
        number = branch
        sub(/.*:/, " ", number)
        numbers[where[branch]] = numbers[where[branch]] number
        missing[where[branch]]++
    }
    for (e = 1; e <= entries; e++) if (is_covered(entry_file[e])) apply_entry(e)
    for (b = 1; b <= branches; b++) {
        branch = order[b]
        name = file[branch]
        if (excused[where[branch]] && !taken[branch]) {
            left_out[folder_of(name)]++
            continue
        }
        all[name]++; folder_all[folder_of(name)]++
        if (taken[branch]) {
            got[name]++; folder_got[folder_of(name)]++
        } else if (!listed[where[branch]]++)
            printf "%s: not taken%s, of %d: %s\n", where[branch], numbers[where[branch]], in_line[where[branch]],
                   trim(source[where[branch]])
    }
    print ""
    n = sorted(all, names)
    for (i = 1; i <= n; i++) share(names[i], got[names[i]], all[names[i]])
    print ""
    n = sorted(folder_all, names)
    for (i = 1; i <= n; i++) {
        name = names[i]
        share(name, folder_got[name], folder_all[name])
        if (left_out[name]) printf "    and %d that cannot be taken\n", left_out[name]
        if (100 * folder_got[name] < threshold * folder_all[name]) {
            printf "    below %s %%\n", threshold
            wrong++
        }
    }
    exit wrong > 0
}
