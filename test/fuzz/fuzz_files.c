/* What files may hold: safetensors, npy, npz, ledgers, checkpoints and IDX, of any bytes or good ones that were edited.
 * A file is refused and nothing has changed, or it is read, and what was read can be written and read again. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "good_arrays.h"
#include "good_files.h"

enum { LARGEST = 1 << 14, UNTOUCHED = 0x5a };

static uint8_t file[LARGEST], again[LARGEST], third[LARGEST];

static int is_same_file(const char *a, const char *b) {
    size_t length = fuzz_read(a, again, LARGEST);
    return fuzz_read(b, third, LARGEST) == length && !memcmp(again, third, length);
}

/* ---- safetensors ---- */

static size_t bytes_of(const psg_tensor *x) { return (size_t)psg_tensor_count(x) * psg_dtype_size(x->dtype); }

static void check_same(const psg_tensors *a, const psg_tensors *b) {
    FUZZ_CHECK(psg_tensors_count(a) == psg_tensors_count(b));
    for (size_t k = 0; k < psg_tensors_count(a); k++) {
        const psg_named *x = &psg_tensors_list(a)[k], *y = &psg_tensors_list(b)[k];
        FUZZ_CHECK(!strcmp(x->name, y->name) && psg_tensor_is_contiguous(&x->tensor));
        FUZZ_CHECK(x->tensor.dtype == y->tensor.dtype && bytes_of(&x->tensor) == bytes_of(&y->tensor));
        FUZZ_CHECK(!bytes_of(&x->tensor) || !memcmp(x->tensor.data, y->tensor.data, bytes_of(&x->tensor)));
        FUZZ_CHECK(psg_tensors_find(a, x->name)->data == x->tensor.data);
        FUZZ_CHECK(!k || strcmp(psg_tensors_list(a)[k - 1].name, x->name) < 0);
    }
}

/* Into arrays of the file's own shapes, the first of them perhaps under another name. */
static void check_load(psg_context *context, const char *path, const psg_tensors *tensors, fuzz_bytes *bytes) {
    enum { MOST = 8 };
    psg_named wanted[MOST];
    psg_load_report report = PSG_LOAD_REPORT_INIT;
    size_t count = psg_tensors_count(tensors);
    size_t renamed = fuzz_one_in(bytes, 2), mode = fuzz_one_in(bytes, 2);
    if (!count || count > MOST) return;
    for (size_t k = 0; k < count; k++) {
        wanted[k] = psg_tensors_list(tensors)[k];
        size_t size = bytes_of(&wanted[k].tensor);
        wanted[k].tensor.data = memset(malloc(size + 1), UNTOUCHED, size + 1);
    }
    if (renamed) wanted[0].name = "a name that no file has";
    psg_status status = FUZZ_CALL(context, psg_weights_load(context, path, wanted, count, (psg_load_mode)mode,
                                                            &report));
    FUZZ_CHECK(status || mode == PSG_LOAD_PARTIAL || !renamed);
    FUZZ_CHECK(report.loaded == (status ? 0 : count - renamed));
    for (size_t k = 0; k < count; k++) {
        const psg_tensor *from = &psg_tensors_list(tensors)[k].tensor;
        const uint8_t *to = wanted[k].tensor.data;
        size_t size = bytes_of(from);
        if (status || k < renamed) while (size && to[size - 1] == UNTOUCHED) size--;
        FUZZ_CHECK(status || k < renamed ? !size : !size || !memcmp(to, from->data, size));
        free(wanted[k].tensor.data);
    }
}

static void check_written(psg_context *context, const psg_tensors *tensors) {
    const char *second = fuzz_path("second"), *last = fuzz_path("last");
    psg_tensors *read;
    const psg_named *list = psg_tensors_list(tensors);
    size_t count = psg_tensors_count(tensors);
    if (FUZZ_CALL(context, psg_safetensors_write(context, second, list, count, NULL, 0))) return;
    if (FUZZ_CALL(context, psg_safetensors_read(context, second, PSG_FILE_COPY, &read))) return;
    check_same(tensors, read);
    list = psg_tensors_list(read);
    if (!FUZZ_CALL(context, psg_safetensors_write(context, last, list, count, NULL, 0))) {
        FUZZ_CHECK(is_same_file(second, last));
    }
    psg_tensors_destroy(read);
}

static void try_safetensors(psg_context *context, fuzz_bytes *bytes, unsigned fails) {
    const char *path = fuzz_path("tensors");
    psg_tensors *tensors = NULL, *mapped = NULL;
    fuzz_write(path, file, good_safetensors(bytes, file, LARGEST));
    psg_status status = FUZZ_CALL(context, psg_safetensors_read(context, path, PSG_FILE_COPY, &tensors));
    psg_status map = FUZZ_CALL(context, psg_safetensors_read(context, path, PSG_FILE_MAP, &mapped));
    FUZZ_CHECK(fails || status == map);
    FUZZ_CHECK(!status == !!tensors && !map == !!mapped);
    if (tensors && mapped) check_same(tensors, mapped);
    if (tensors) {
        check_written(context, tensors);
        check_load(context, path, tensors, bytes);
    }
    psg_tensors_destroy(tensors);
    psg_tensors_destroy(mapped);
}

/* ---- npy and npz ---- */

static psg_status read_arrays(psg_context *context, int is_archive, const char *path, psg_file_access access,
                              psg_tensors **tensors) {
    if (is_archive) return FUZZ_CALL(context, psg_npz_read(context, path, access, 1 << 20, tensors));
    return FUZZ_CALL(context, psg_npy_read(context, path, access, tensors));
}

static psg_status write_arrays(psg_context *context, int is_archive, const char *path, const psg_tensors *tensors) {
    const psg_named *list = psg_tensors_list(tensors);
    if (is_archive) return FUZZ_CALL(context, psg_npz_write(context, path, list, psg_tensors_count(tensors)));
    return FUZZ_CALL(context, psg_npy_write(context, path, &list->tensor));
}

static void check_arrays_written(psg_context *context, int is_archive, const psg_tensors *tensors) {
    const char *second = fuzz_path("second"), *last = fuzz_path("last");
    psg_tensors *read;
    if (write_arrays(context, is_archive, second, tensors)) return;
    if (read_arrays(context, is_archive, second, PSG_FILE_MAP, &read)) return;
    check_same(tensors, read);
    if (!write_arrays(context, is_archive, last, read)) FUZZ_CHECK(is_same_file(second, last));
    psg_tensors_destroy(read);
}

static void try_arrays(psg_context *context, fuzz_bytes *bytes, int is_archive, unsigned fails) {
    const char *path = fuzz_path("arrays");
    psg_tensors *tensors = NULL, *mapped = NULL;
    size_t length = is_archive ? good_npz(bytes, file, LARGEST) : good_npy(bytes, file, LARGEST);
    fuzz_write(path, file, length);
    psg_status status = read_arrays(context, is_archive, path, PSG_FILE_COPY, &tensors);
    psg_status map = read_arrays(context, is_archive, path, PSG_FILE_MAP, &mapped);
    FUZZ_CHECK(fails || status == map);
    FUZZ_CHECK(fails || !status || status == PSG_ERR_FORMAT);
    FUZZ_CHECK(!status == !!tensors && !map == !!mapped);
    if (tensors && mapped) check_same(tensors, mapped);
    if (tensors) check_arrays_written(context, is_archive, tensors);
    psg_tensors_destroy(tensors);
    psg_tensors_destroy(mapped);
}

/* ---- ledgers ---- */

static psg_status read_ledger(psg_context *context, const char *path, uint64_t *releases, double *epsilon) {
    psg_accountant *accountant;
    psg_status status = FUZZ_CALL(context, psg_ledger_read(context, path, PSG_ADD_OR_REMOVE_ONE, &accountant));
    FUZZ_CHECK(!status == !!accountant);
    if (status) return status;
    *releases = psg_accountant_releases(accountant);
    if (epsilon) status = FUZZ_CALL(context, psg_accountant_epsilon_upper(accountant, 1e-5, epsilon));
    psg_accountant_destroy(accountant);
    return status;
}

/* An accountant's own rounding may differ with the number of releases. */
static void check_prefix(psg_context *context, size_t length, uint64_t releases, const double *epsilon) {
    const char *prefix = fuzz_path("prefix");
    uint64_t less;
    double smaller;
    size_t lines = 0;
    for (size_t k = 0; k < length; k++) lines = file[k] == '\n' && k + 1 < length ? k + 1 : lines;
    fuzz_write(prefix, file, lines);
    if (read_ledger(context, prefix, &less, epsilon ? &smaller : NULL)) return;
    FUZZ_CHECK(less <= releases);
    FUZZ_CHECK(!epsilon || smaller <= *epsilon * 1.001);
}

static void check_append(psg_context *context, const char *path, size_t length, uint64_t releases) {
    psg_event event = PSG_EVENT_INIT;
    uint64_t more;
    event.sample_rate = 0.5;
    event.noise_multiplier = 2;
    if (!FUZZ_CALL(context, psg_ledger_record(context, path, PSG_ADD_OR_REMOVE_ONE, &event, 3))) {
        if (!read_ledger(context, path, &more, NULL)) FUZZ_CHECK(more == releases + 3);
    } else {
        FUZZ_CHECK(fuzz_read(path, again, LARGEST) == length && !memcmp(again, file, length));
    }
}

static void try_ledger(psg_context *context, fuzz_bytes *bytes, unsigned fails) {
    const char *path = fuzz_path("ledger");
    uint64_t releases = 0;
    double epsilon = 0;
    int is_costed = fuzz_one_in(bytes, 32);
    size_t length = good_ledger(bytes, file, LARGEST);
    fuzz_write(path, file, length);
    psg_status status = read_ledger(context, path, &releases, is_costed ? &epsilon : NULL);
    FUZZ_CHECK(fuzz_read(path, again, LARGEST) == length && !memcmp(again, file, length));
    if (status) return;
    check_prefix(context, length, releases, is_costed ? &epsilon : NULL);
    if (!fails) check_append(context, path, length, releases);
}

/* ---- checkpoints ---- */

static void try_checkpoint(psg_context *context, fuzz_bytes *bytes) {
    const char *path = fuzz_path("checkpoint"), *second = fuzz_path("second"), *last = fuzz_path("last");
    static good_run run, other;
    size_t length = good_checkpoint(bytes, file, LARGEST, fuzz_path("run"));
    fuzz_write(path, file, length);
    if (!good_run_make(context, fuzz_path("run"), &run)) {
        good_run_fill(&run, 0.25);
        if (FUZZ_CALL(context, psg_dp_load(run.dp, &run.checkpoint, path))) {
            FUZZ_CHECK(good_run_holds(&run, 0.25) && psg_dp_step(run.dp) == 0);
        } else if (!FUZZ_CALL(context, psg_dp_save(run.dp, &run.checkpoint, second)) &&
                   !good_run_make(context, fuzz_path("run"), &other)) {
            FUZZ_CHECK(!FUZZ_CALL(context, psg_dp_load(other.dp, &other.checkpoint, second)));
            FUZZ_CHECK(!FUZZ_CALL(context, psg_dp_save(other.dp, &other.checkpoint, last)));
            FUZZ_CHECK(is_same_file(second, last) && psg_dp_step(run.dp) == psg_dp_step(other.dp));
            good_run_free(&other);
        }
    }
    good_run_free(&run);
}

/* ---- IDX ---- */

/* What is read is the whole file, and a limit below what the values take refuses them. */
static void try_idx(psg_context *context, fuzz_bytes *bytes, unsigned fails) {
    static const size_t sizes[] = { [8] = 1, [9] = 1, [11] = 2, [12] = 4, [13] = 4, [14] = 8 };
    const char *path = fuzz_path("idx");
    psg_tensors *read = NULL, *limited = NULL;
    size_t length = good_idx(bytes, file, LARGEST);
    fuzz_write(path, file, length);
    psg_status status = FUZZ_CALL(context, psg_idx_read(context, path, 0, &read));
    FUZZ_CHECK(!status == !!read);
    if (!read) return;
    const psg_tensor *tensor = &psg_tensors_list(read)->tensor;
    const size_t values = bytes_of(tensor);
    FUZZ_CHECK(psg_tensors_count(read) == 1 && psg_tensor_is_contiguous(tensor));
    const size_t header = 4 + 4 * (size_t)tensor->rank, count = (size_t)psg_tensor_count(tensor);
    FUZZ_CHECK(file[0] == 0x1f || header + sizes[file[2]] * count == length);
    if (values > 1) FUZZ_CHECK(FUZZ_CALL(context, psg_idx_read(context, path, (int64_t)values - 1, &limited)));
    status = FUZZ_CALL(context, psg_idx_read(context, path, (int64_t)values, &limited));
    FUZZ_CHECK(fails || !status);
    if (limited) check_same(read, limited);
    psg_tensors_destroy(limited);
    psg_tensors_destroy(read);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_bytes bytes = { data, size };
    int kind = (int)fuzz_range(&bytes, 0, 9);
    unsigned fails = fuzz_one_in(&bytes, 4) ? (unsigned)fuzz_range(&bytes, 1, 16) : 0;
    psg_context *context = fuzz_context(kind == 5 ? 0 : fails, 0);
    if (kind < 3) try_safetensors(context, &bytes, fails);
    else if (kind < 5) try_ledger(context, &bytes, fails);
    else if (kind == 5) try_checkpoint(context, &bytes);
    else if (kind == 6) try_idx(context, &bytes, fails);
    else try_arrays(context, &bytes, kind > 7, fails);
    fuzz_context_return(context);
    return 0;
}
