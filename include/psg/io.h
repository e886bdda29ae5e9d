/* psg/io.h: tensors in files.
 *
 * Files are replaced as a whole: what is written goes to PATH.psg-tmp, is made durable and then takes PATH's name, so
 * that whatever happens PATH is the old file or the new one.  PATH must be a regular file or not there; a symbolic link
 * is replaced by the file.  Two writers of one PATH at a time: the second is refused.  The last part of PATH has at
 * most 247 bytes where the file system allows names of 255.
 *
 * PSG_ERR_FILE: the system's refusal, with its reason; PSG_ERR_FORMAT: what the file holds.  Messages are the
 * context's and name function, path, tensor, value and rule. */
#ifndef PSG_IO_H
#define PSG_IO_H

#include "psg/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- safetensors (https://github.com/huggingface/safetensors) ----
 * Read: F32, F64, I32, I64; F16 and BF16, which become f32; I8, U8, I16 and U16, which become i32; U32, which becomes
 * i64; BOOL, whose 0 and 1 become i32 (each value is exact).  Files with others are refused, and so is what the format
 * forbids: a header longer than the file, a name or key twice, offsets with holes, overlaps or another length than
 * shape and type say, sizes that overflow, bytes after the last tensor.  Headers to 16 MiB, ranks to PSG_MAX_RANK.
 * What is allocated follows the file's size, never a number in it that the file's size does not bear out.  While it is
 * read, the header takes some 35 times its length in memory of jansson's, which does not come from the allocator. */

/* A key of a file's metadata, and its value. */
typedef struct psg_text_pair {
    const char *key, *value;       /* UTF-8 */
} psg_text_pair;

/* Writes f32, f64, i32 and i64 tensors of any strides, in the order of the format (I64, F64, F32, I32, then by name),
 * and metadata.  PSG_ERR_ARGUMENT, and the file stays as it was: a name or key is NULL, there twice, no UTF-8, or
 * "__metadata__"; a tensor is no valid view; the header would be above 16 MiB. */
PSG_API psg_status psg_safetensors_write(psg_context *context, const char *path, const psg_named *tensors, size_t count,
                                         const psg_text_pair *metadata, size_t metadata_count);

/* What a file held. */
typedef struct psg_tensors psg_tensors;

/* MAP: F32, F64, I32 and I64 tensors are views of the file's pages, read when they are touched; writing to them does
 * not reach the file.  The file must keep its length meanwhile (one that is replaced by a rename does; in one that is
 * cut, touching what is gone ends the process).  Tensors that the file does not align for their type are copied. */
typedef enum psg_file_access { PSG_FILE_COPY = 0, PSG_FILE_MAP = 1 } psg_file_access;

/* The tensors and metadata of a file.  On an error *tensors is NULL. */
PSG_API psg_status psg_safetensors_read(psg_context *context, const char *path, psg_file_access access,
                                        psg_tensors **tensors);
/* With its values and names, which parameters and optimizers of this context over the values keep until they end.
 * NULL is none. */
PSG_API void psg_tensors_destroy(psg_tensors *tensors);

/* How many tensors. */
PSG_API size_t psg_tensors_count(const psg_tensors *tensors);
/* All of them, by name in ascending order of bytes; contiguous; valid until psg_tensors_destroy. */
PSG_API const psg_named *psg_tensors_list(const psg_tensors *tensors);
/* NULL where there is none of that name. */
PSG_API const psg_tensor *psg_tensors_find(const psg_tensors *tensors, const char *name);
/* The value of a metadata key; NULL where there is none. */
PSG_API const char *psg_tensors_metadata(const psg_tensors *tensors, const char *key);

/* ---- npy and npz (numpy.lib.format; APPNOTE.TXT 6.3.9 of PKWARE for the archive) ----
 * Into the same set, by psg_tensors_list and psg_tensors_find.  Element types: f4 and f8; f2, which becomes f32; i4;
 * i1, u1, i2 and u2, which become i32; i8; u4, which becomes i64; b1, whose 0 and 1 become i32 (each value is
 * exact).  Byte order '<', or '|' of one byte.  Refused, by name: big-endian numbers, u8, complex numbers, objects
 * (nothing is unpickled), texts, dates, structured types.  Values in Fortran order become row-major.  Versions 1.0,
 * 2.0 and 3.0, headers of at most 65535 bytes, ranks to PSG_MAX_RANK.  MAP: what is neither widened, turned, deflated
 * nor unaligned is a view of the file's pages. */

/* Reads the one tensor of a file, under the name "" whatever the file's.  A file that ends before or after the last
 * value is refused. */
PSG_API psg_status psg_npy_read(psg_context *context, const char *path, psg_file_access access, psg_tensors **tensors);

/* Writes f32, f64, i32 or i64 of any strides, in row-major order: the bytes that numpy.save writes.
 * PSG_ERR_ARGUMENT: no valid view. */
PSG_API psg_status psg_npy_write(psg_context *context, const char *path, const psg_tensor *tensor);

/* Reads a zip archive of npy members, each a tensor of the member's name without its ".npy", as numpy.savez and
 * numpy.savez_compressed write them: stored or deflated, with sizes of 32 bits or 64.  The directory at the end
 * decides, and members and directory must be the whole file.  Refused are a name twice, one that is not UTF-8 or ends
 * otherwise, overlaps, holes, a comment of the archive, bytes before it or after it, a local record that says other
 * things, encryption, a wrong CRC-32 (MAP too reads each member once for it).  max_bytes: of values that are copied,
 * of all tensors together, as they are in memory (0: no limit); above it PSG_ERR_FORMAT.  Sizes are settled before
 * values are inflated: none is more than 1032 times what the file has of it, and each is what the shape says. */
PSG_API psg_status psg_npz_read(psg_context *context, const char *path, psg_file_access access, int64_t max_bytes,
                                psg_tensors **tensors);

/* Writes f32, f64, i32 and i64 of any strides as stored members in the order given, values at multiples of 64 bytes,
 * so that they can be mapped.  The same tensors give the same bytes.  PSG_ERR_ARGUMENT, and the file stays as it was:
 * a name is NULL, there twice, no UTF-8 or above 65531 bytes; a tensor is no valid view. */
PSG_API psg_status psg_npz_write(psg_context *context, const char *path, const psg_named *tensors, size_t count);

/* ---- weights by name ---- */

/* Which names agree. */
typedef struct psg_load_report {
    size_t loaded;                 /* 0 on an error */
    size_t missing;                /* asked for, not in the file */
    size_t extra;                  /* in the file, not asked for */
    size_t mismatched;             /* of another shape, or of a type that the wanted one does not hold */
    char *text;                    /* NULL, or text_size bytes of the caller's for a line on each of those that were not
                                      loaded, which are cut where they do not fit; ends with 0 */
    size_t text_size;
    size_t text_needed;            /* the full length without the final 0 */
    uint64_t reserved[4];
} psg_load_report;

#define PSG_LOAD_REPORT_INIT { 0, 0, 0, 0, NULL, 0, 0, { 0, 0, 0, 0 } }

/* strict: all names agree with their shapes, else PSG_ERR_FORMAT.  partial: what agrees is loaded, and the report has
 * the rest. */
typedef enum psg_load_mode { PSG_LOAD_STRICT = 0, PSG_LOAD_PARTIAL = 1 } psg_load_mode;

/* Copies tensors of a file into those of the same names, which have memory of the caller's, any strides.  f32 and f64
 * are filled from f32 (and F16, BF16), f64 from f64; integers from the same type.  Everything is checked first: on an
 * error no value is written.  PSG_ERR_ARGUMENT: a name is NULL or there twice, a tensor is no valid view.  report: NULL
 * or filled, also where names disagree; all 0 where the file could not be read or an argument is wrong. */
PSG_API psg_status psg_weights_load(psg_context *context, const char *path, const psg_named *weights, size_t count,
                                    psg_load_mode mode, psg_load_report *report);
/* The same from a file that was read. */
PSG_API psg_status psg_weights_take(psg_context *context, const psg_tensors *tensors, const psg_named *weights,
                                    size_t count, psg_load_mode mode, psg_load_report *report);

/* ---- tables: numbers and categories of a CSV file ----
 * RFC 4180: fields between delimiters, records between line feeds (or CR LF), the last one's may lack; a field that
 * begins with a quote ends with one, may have delimiters and lines in it, and has two quotes for one.  A byte order
 * mark of UTF-8 is skipped; texts are bytes as they stand.  Every record has as many fields as the first line.
 *
 * Numbers are decimal (-1, .5, 2.50e-3), blanks around them may be, the locale does not matter; each becomes the
 * nearest real, ties to even.  What is none, NaN and infinities are refused, and so is what is too large: all numbers
 * are finite.
 *
 * PSG_ERR_FORMAT names file, line and column (from 1), value and rule: fewer or more fields than the first line, an
 * empty line, a quote that nothing ends or that stands elsewhere, a NUL byte, a carriage return that no line feed
 * follows.
 *
 * While it is read, the file stands in memory; the table takes at most 8 bytes for each of the file's, some 60 for
 * each column and some 100 for each category. */

/* A column of a file. */
typedef struct psg_csv_column {
    const char *name;              /* as the header has it; NULL: that of the index */
    size_t index;                  /* from 0 */
    const char *const *categories; /* of a label: code k stands for categories[k], and another text is refused; NULL:
                                      those that the file has, in ascending order of their bytes.  Which these are
                                      depends on the records: where these are private, give the categories. */
    size_t category_count;
} psg_csv_column;

/* Zero is the default of each. */
typedef struct psg_csv_options {
    const psg_csv_column *labels;  /* columns of categories */
    size_t label_count;
    const psg_csv_column *numbers; /* columns of numbers, in this order; number_count 0: all that are no labels */
    size_t number_count;
    psg_dtype dtype;               /* of the numbers: PSG_F32 or PSG_F64 */
    char delimiter;                /* 0: a comma; no letter, digit, sign, point or quote, and ASCII */
    int no_header;                 /* non-zero: the first line is a record, and column 7 is named "7" (from 0) */
    const char *missing;           /* what stands for a missing value beside the empty field, such as "NA", without
                                      blanks at its ends; or NULL */
    int fill_missing;              /* non-zero: `fill` takes the place of a missing number; else it is refused, as is a
                                      missing label that is none of the categories given */
    double fill;                   /* finite, in the dtype too */
    uint64_t reserved[4];
} psg_csv_options;

#define PSG_CSV_OPTIONS_INIT { NULL, 0, NULL, 0, PSG_F32, 0, 0, NULL, 0, 0, { 0, 0, 0, 0 } }

/* What a file of records held. */
typedef struct psg_table psg_table;

/* The table of a file; options NULL: all defaults.  On an error *table is NULL.  PSG_ERR_FORMAT also: a column that
 * the file has not, or has twice under its name; PSG_ERR_ARGUMENT: one column chosen twice, a category there twice. */
PSG_API psg_status psg_csv_read(psg_context *context, const char *path, const psg_csv_options *options,
                                psg_table **table);
/* With its values and texts.  NULL is none. */
PSG_API void psg_table_destroy(psg_table *table);

/* The numbers, (records, columns), contiguous. */
PSG_API const psg_tensor *psg_table_numbers(const psg_table *table);
/* The name of a column of the numbers; NULL where there is none. */
PSG_API const char *psg_table_name(const psg_table *table, size_t column);
/* The codes of a label, in the order of options: i64, (records), from 0; NULL where there is none. */
PSG_API const psg_tensor *psg_table_label(const psg_table *table, size_t label);
PSG_API const char *psg_table_label_name(const psg_table *table, size_t label);
/* How many categories a label has, and the text of a code; NULL where there is none. */
PSG_API size_t psg_table_category_count(const psg_table *table, size_t label);
PSG_API const char *psg_table_category(const psg_table *table, size_t label, size_t code);

/* ---- IDX (the format of MNIST), as it is or compressed by gzip ----
 * Into the same set as an npy: one tensor, whose name is "".  Element types: unsigned and signed bytes and integers of
 * 16 bits, which become i32; integers of 32 bits; reals of 32 and 64.  Ranks 1 to PSG_MAX_RANK.  The file must be
 * exactly what its header says, of one gzip member or more with their check sums: what ends before or goes on is
 * refused.  Memory is taken once the file may hold so many elements (gzip: 1032 bytes for one of the file's), and for
 * at most max_bytes of values as they are in memory (0: no limit). */
PSG_API psg_status psg_idx_read(psg_context *context, const char *path, int64_t max_bytes, psg_tensors **tensors);

/* ---- tensors of other libraries: DLPack 1 (https://dmlc.github.io/dlpack) ----
 * What NumPy and PyTorch exchange as capsules named "dltensor_versioned", memory being shared.  The struct is that of
 * dlpack/dlpack.h, or of psg/dlpack.h where there is none. */
struct DLManagedTensorVersioned;

/* Ends a loan; called once. */
typedef void (*psg_release)(void *user);

/* The tensor as one of theirs, of version 1.0 with its strides written out; *managed is who takes it, and its deleter
 * calls release(user) (NULL: nothing).  Until then the memory must stay: that of a psg_params, psg_tensors or
 * psg_table of this context does, whose handle may be destroyed before.  The deleter is a call of the context, which
 * another thread may make while none computes with it.  read_only: the borrower is told not to write.  On an error
 * *managed is NULL and release is not called. */
PSG_API psg_status psg_to_dlpack(psg_context *context, const psg_tensor *tensor, int read_only, psg_release release,
                                 void *user, struct DLManagedTensorVersioned **managed);

/* A view of theirs, valid until managed's deleter is called, which stays the caller's to do, once, whether this
 * succeeds or not (psg_dlpack_release, which knows that it may be NULL).  *read_only says whether the memory must not
 * be written: the view must then be an input alone; read_only NULL refuses such.  Refused too: versions but 1, devices
 * but the CPU, types but f32, f64, i32 and i64 of one lane, ranks above PSG_MAX_RANK, data not aligned to its type;
 * *tensor is then a view that every function refuses. */
PSG_API psg_status psg_from_dlpack(psg_context *context, const struct DLManagedTensorVersioned *managed, int *read_only,
                                   psg_tensor *tensor);
PSG_API void psg_dlpack_release(struct DLManagedTensorVersioned *managed);

#ifdef __cplusplus
}
#endif
#endif
