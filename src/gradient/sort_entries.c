/* Sorting a sample's row numbers: insertion in short runs, then merges. */
#include <string.h>

#include "gradient/sparse_rows.h"

static void insert_run(psg_entry *entries, int64_t count) {
    for (int64_t i = 1; i < count; i++) {
        psg_entry moved = entries[i];
        int64_t k = i;
        for (; k > 0 && entries[k - 1].row > moved.row; k--) entries[k] = entries[k - 1];
        entries[k] = moved;
    }
}

static void merge(const psg_entry *left, int64_t left_count, const psg_entry *right, int64_t right_count,
                  psg_entry *out) {
    const psg_entry *left_end = left + left_count, *right_end = right + right_count;
    while (left < left_end && right < right_end) {
        bool take_right = right->row < left->row;
        *out++ = take_right ? *right : *left;
        right += take_right;
        left += !take_right;
    }
    memcpy(out, left, (size_t)(left_end - left) * sizeof *out);
    memcpy(out + (left_end - left), right, (size_t)(right_end - right) * sizeof *out);
}

void psg_sort_entries(psg_entry *entries, psg_entry *spare, int64_t count) {
    const int64_t run = 8;
    psg_entry *from = entries, *to = spare;
    for (int64_t i = 0; i < count; i += run) insert_run(entries + i, psg_least(run, count - i));
    for (int64_t width = run; width < count; width *= 2) {
        for (int64_t i = 0; i < count; i += 2 * width) {
            int64_t left = psg_least(width, count - i), right = psg_least(width, count - i - left);
            merge(from + i, left, from + i + left, right, to + i);
        }
        psg_entry *swap = from;
        from = to;
        to = swap;
    }
    if (from != entries) memcpy(entries, from, (size_t)count * sizeof *entries);
}

int64_t psg_run_end(const psg_entry *entries, int64_t first, int64_t count) {
    int64_t end = first + 1;
    while (end < count && entries[end].row == entries[first].row) end++;
    return end;
}
