#!/bin/sh
# Usage: test/pages_test.sh BUILD_DIRECTORY
# The pages of a private run and of psg-bench: which files there are, that what may be published holds nothing of what
# may not, and, where there is a Chromium, that nothing overflows at 1,280 and 400 pixels, light and dark.  Prints one
# line a check, "ok NAME" or "FAILED NAME" with the output; exits non-zero when a check fails.
set -u
build=$1
temporary=$(mktemp -d) || exit 1
trap 'rm -rf "$temporary"' EXIT
log=$temporary/log data=$temporary/data run=$temporary/run
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

# ---- a small data set: bytes without meaning, labels in turn ----
# images NAME COUNT_IN_OCTAL COUNT
images() {
    { printf '\0\0\010\003\0\0'"$2"'\0\0\0\034\0\0\0\034'
      yes "$1 of images without meaning" | tr 'a-z' '\000-\377' | head -c $(($3 * 784)); } \
        >"$data/$1-images-idx3-ubyte.gz"
    { printf '\0\0\010\001\0\0'"$2"; yes 0123456789 | tr -d '\n' | head -c "$3" | tr 0-9 '\000-\011'; } \
        >"$data/$1-labels-idx1-ubyte.gz"
}
mkdir "$data"
images train '\001\054' 300
images t10k '\000\144' 100

# train OPTION...
train() {
    "$build/bench/fashion_mnist" --data "$data" --folder "$run" --model mlp --batch 60 --epochs 4 --threads 1 "$@"
}

# ---- files ----
has_files() {
    for file in weights.safetensors checkpoint.safetensors ledger.jsonl statement.txt statement.json report.html; do
        [ -s "${1:-$run}/$file" ] || { echo "$file is missing"; return 1; }
    done
    [ -z "$(find "$run" -name '*.new' -o -name '*.psg-tmp')" ]
}
check "a seeded run with diagnostics" train --seed 7 --diagnostics
check "its files" has_files
check "its second page" test -s "$run/diagnostics.html"
cp "$run/diagnostics.html" "$run/report.html" "$temporary"
rm -r "$run"
check "the same run without diagnostics" train --seed 7
check "its files again" has_files
check "no second page" test ! -e "$run/diagnostics.html"

# ---- what may be published ----
# What differs from run to run: times and memory.
untimed() { sed -e '/<section id="times">/,/<\/section>/d' -e '/private step, median/d' -e '/memory resident/d' "$1"; }
same_report() {
    untimed "$temporary/report.html" >"$temporary/with"
    untimed "$run/report.html" | diff "$temporary/with" -
}
check "diagnostics change nothing in the report" same_report

# The losses, shares and norms of the table of steps; whole percentages are everywhere.
private_numbers() {
    sed -n '/id="steps"/,/<\/section>/p' "$temporary/diagnostics.html" | grep '<td' |
        grep -o '>[0-9.e+-]*[0-9]\.[0-9][0-9e+-]*' | tr -d '>' | grep '\.[0-9][0-9][0-9]'
}
no_private_number() {
    [ "$(private_numbers | wc -l)" -ge 10 ] || { echo "too few numbers to look for"; return 1; }
    private_numbers | grep -v '^$' >"$temporary/numbers"
    ! grep -F -w -f "$temporary/numbers" "$1"
}
no_private_word() { ! sed '/<pre>/,/<\/pre>/d' "$1" | grep -i 'loss\|clipped sample\|confusion\|data:image'; }
check "the report has no number of the other page" no_private_number "$temporary/report.html"
check "the report has no word of the other page" no_private_word "$temporary/report.html"
check "a seeded run is marked so" grep -q '<p class="warning">NOT PRIVATE' "$run/report.html"

# Every drawing of the other page carries the mark, in it and above it, and so does the page's head.
all_marked() {
    page=$1
    figures=$(grep -c '<figure' "$page") drawings=$(grep -c '<svg' "$page")
    grep -q '<title>NOT PRIVATE' "$page" && [ "$drawings" -ge 4 ] &&
        [ "$(grep -c 'class="mark">NOT PRIVATE</span>' "$page")" -ge "$figures" ] &&
        [ "$(grep -c 'class="mark">NOT PRIVATE</text>' "$page")" = "$drawings" ]
}
check "every figure of the second page is marked" all_marked "$temporary/diagnostics.html"

# ---- psg-bench ----
cat >"$temporary/peers" <<END
{"cpu": "another", "threads": 2}
{"case": "linear_B2", "system": "libpsg", "malloc": "pinned", "median_ms": 2.5}
{"case": "linear_B2", "system": "JAX", "malloc": "pinned", "median_ms": 5.0, "mismatch": false}
END
bench() { "$build/bench/psg-bench" --op linear --problem 2,3,4,5 --html "$temporary/bench.html" "$@"; }
check "a page of psg-bench" bench --peers "$temporary/peers"
has_parts() { for id in machine rows peers; do grep -q "<section id=\"$id\">" "$1" || return 1; done; }
check "its parts" has_parts "$temporary/bench.html"

# ---- the pages as a reader sees them ----
rm -r "$run"
check "a run that is private" train --diagnostics
cp "$run/report.html" "$run/diagnostics.html" "$temporary"
check "the page of a first run knows of no other" sh -c "! grep 'Other runs' '$run/report.html'"

# ---- a run beside earlier ones: none is lost, and all of them count ----
result() { sed -n 's/^result: .*epsilon=\([^ ]*\) .*/\1/p' "$1"; }
together() { sed -n 's/^other runs kept beside .* have epsilon \([0-9.]*\),.*/\1/p' "$1"; }
check "a run in the folder of another" train
cp "$log" "$temporary/second"
check "the run before has all its files, in a folder of its own" has_files "$run/1"
check "and its second page" test -s "$run/1/diagnostics.html"
check "the new one has none" test ! -e "$run/diagnostics.html"
check "all together cost more than one" awk -v one="$(result "$temporary/second")" -v all="$(together "$temporary/second")" \
    'BEGIN { exit !(one > 2.5 && one <= 3 && all > one + 0.5) }'
check "the page says so" grep -q 'Other runs that are kept beside this one: 1\.' "$run/report.html"

mv "$run/1" "$run/7"
check "a third run, where the first has another number" train
cp "$log" "$temporary/third"
check "counts both" grep "^other runs kept beside $run: 2;" "$temporary/third"
check "and has the second's place" has_files "$run/1"
resume_whole() { "$build/bench/fashion_mnist" --folder "$run" --resume; }
resume_kept() { "$build/bench/fashion_mnist" --folder "$run/7" --resume; }
check "a run that is kept goes on where it is" resume_kept
cp "$log" "$temporary/kept"
check "beside the others" grep "^other runs kept beside $run/7: 2;" "$temporary/kept"
echo garbage >"$run/7/ledger.jsonl"
check "no run is begun beside a ledger that cannot be read" \
    sh -c "! '$build/bench/fashion_mnist' --data '$data' --folder '$run' --model mlp --batch 60 --epochs 4 --threads 1"
check "and nothing is spent" test ! -s "$run/ledger.jsonl"
rm -r "$run"
# A process that was killed while it moved a run: what it had moved comes back.
train >"$temporary/again" 2>&1
mkdir "$run/moving"
mv "$run/arguments" "$run/checkpoint.safetensors" "$run/moving"
check "a run that was half moved goes on" resume_whole
check "with all its files" has_files

# ---- runs that go on ----
says() {
    pattern=$1 && shift
    "$@" >"$temporary/said" 2>&1 || true
    grep -e "$pattern" "$temporary/said" || { cat "$temporary/said"; return 1; }
}
resume() { "$build/bench/fashion_mnist" --folder "$run" --data "$1" --resume; }
check "a finished run goes on to its end" resume "$data"
cp -r "$data" "$temporary/other"
printf '\001' | dd of="$temporary/other/train-images-idx3-ubyte.gz" bs=1 seek=5000 conv=notrunc 2>/dev/null
check "no run goes on with other records" says "not the records that the run" resume "$temporary/other"
check "no run goes on where there is none" says "there is no run to go on with" \
    "$build/bench/fashion_mnist" --folder "$temporary/none/there" --resume
check "nor is a folder made for it" test ! -e "$temporary/none"
rm -r "$run"
"$build/bench/fashion_mnist" --data "$data" --folder "$run" --model mlp --batch 60 --epochs 20000 --threads 1 \
    >"$temporary/long" 2>&1 &
long=$!
while [ ! -s "$run/checkpoint.safetensors" ] && kill -0 $long; do sleep 0.1; done
check "two processes do not train in one folder" says "another process trains there" train
kill -TERM $long
wait $long
check "SIGTERM ends a run as such" test $? = 143
ledger_lines() { wc -l <"$run/ledger.jsonl"; }
before=$(ledger_lines)
"$build/bench/fashion_mnist" --folder "$run" --resume >"$temporary/long" 2>&1 &
long=$!
while [ "$(ledger_lines)" = "$before" ] && kill -0 $long; do sleep 0.1; done
kill -INT $long
wait $long
check "SIGINT ends a run as such" test $? = 130
check "a run that was ended goes on" grep "going on after step" "$temporary/long"
no_script() { ! grep -i '<script\|<link\|https*://\|url(\| src="[^d]' "$temporary"/*.html; }
check "pages need no script and no other file" no_script

# One page of frames, in which a script asks each page for its width and colour, and whether a text leaves its drawing.
write_frames() {
    for page in report diagnostics bench; do
        for width in 1280 400; do
            echo "<iframe src=\"$page.html\" width=\"$width\" height=\"900\" style=\"border:0\"></iframe>"
        done
    done
    cat <<'END'
<pre id="answer"></pre>
<script>
onload = () => {
    for (const frame of document.querySelectorAll("iframe")) {
        const page = frame.contentDocument, root = page.documentElement;
        let outside = 0;
        for (const text of page.querySelectorAll("svg text")) {
            const at = text.getBoundingClientRect(), drawing = text.closest("svg").getBoundingClientRect();
            outside += at.left < drawing.left - 1 || at.right > drawing.right + 1 || at.bottom > drawing.bottom + 1;
        }
        document.getElementById("answer").append(
            ["page", frame.getAttribute("src"), frame.width, root.scrollWidth, outside,
             page.defaultView.getComputedStyle(page.body).backgroundColor.replaceAll(" ", "")].join(" ") + "\n");
    }
};
</script>
END
}

# look SCHEME (0: dark, 1: light): lines "page FILE WIDTH SCROLL_WIDTH TEXTS_OUTSIDE COLOUR"
look() {
    timeout 120 chromium --headless=new --disable-gpu $([ "$(id -u)" != 0 ] || echo --no-sandbox) \
        --user-data-dir="$temporary/profile" --allow-file-access-from-files --window-size=1400,900 \
        --blink-settings=preferredColorScheme="$1" --dump-dom "file://$temporary/frames.html" 2>/dev/null |
        sed 's/.*>page/page/' | grep '^page'
}
fits() {
    look "$1" >"$temporary/seen"
    cat "$temporary/seen"
    awk -v colour="$2" '{ bad += $4 > $3 || $5 > 0 || $6 != colour } END { exit bad || NR != 6 }' "$temporary/seen"
}
if command -v chromium >/dev/null 2>&1; then
    write_frames >"$temporary/frames.html"
    check "nothing overflows, light" fits 1 "rgb(255,255,255)"
    check "nothing overflows, dark" fits 0 "rgb(20,23,27)"
else
    echo "overflow in a browser: not run, there is no chromium"
fi
[ "$failed" = 0 ]
