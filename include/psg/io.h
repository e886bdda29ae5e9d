/* psg/io.h: tensors in files.
 *
 * Files are replaced as a whole: what is written goes to PATH.psg-tmp, is made durable and then takes PATH's name, so that
 * whatever happens PATH is the old file or the new one.  PATH must be a regular file or not there; a symbolic link is
 * replaced by the file.  Two writers of one PATH at a time: the second is refused.
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
 * Read: F32, F64, I32, I64; F16 and BF16, which become f32 (exactly).  Other types are refused, and so is what the
 * format forbids: a header longer than the file, a name or key twice, offsets with holes, overlaps or another length
 * than shape and type say, sizes that overflow, bytes after the last tensor.  Headers to 16 MiB, ranks to PSG_MAX_RANK.
 * What is allocated follows the file's size, never a number in it that the file's size does not bear out.  While it is
 * read, the header takes some 20 times its length in memory of jansson's, which does not come from the allocator. */

/* A key of a file's metadata, and its value. */
typedef struct psg_text_pair {
    const char *key, *value;       /* UTF-8 */
} psg_text_pair;

/* Writes f32, f64, i32 and i64 tensors of any strides, in the order of the format (I64, F64, F32, I32, then by name), and
 * metadata.  PSG_ERR_ARGUMENT, and the file stays as it was: a name or key is NULL, there twice, no UTF-8, or
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
 * Into the same set, by psg_tensors_list and psg_tensors_find.  Element types: f4 and f8; f2, which becomes f32; i4; i1, u1,
 * i2 and u2, which become i32; i8; u4, which becomes i64; b1, whose 0 and 1 become i32 (each value is exact).  Byte order
 * '<', or '|' of one byte.  Refused, by name: big-endian numbers, u8, complex numbers, objects (nothing is unpickled),
 * texts, dates, structured types.  Values in Fortran order become row-major.  Versions 1.0, 2.0 and 3.0, headers of at
 * most 65535 bytes, ranks to PSG_MAX_RANK.  MAP: what is neither widened, turned, deflated nor unaligned is a view of the
 * file's pages. */

/* Reads the one tensor of a file, under the name "" whatever the file's.  A file that ends before or after the last value
 * is refused. */
PSG_API psg_status psg_npy_read(psg_context *context, const char *path, psg_file_access access, psg_tensors **tensors);

/* Writes f32, f64, i32 or i64 of any strides, in row-major order: the bytes that numpy.save writes.  PSG_ERR_ARGUMENT: no
 * valid view. */
PSG_API psg_status psg_npy_write(psg_context *context, const char *path, const psg_tensor *tensor);

/* Reads a zip archive of npy members, each a tensor of the member's name without its ".npy", as numpy.savez and
 * numpy.savez_compressed write them: stored or deflated, with sizes of 32 bits or 64.  The directory at the end decides,
 * and members and directory must be the whole file.  Refused are a name twice, one that is not UTF-8 or ends otherwise,
 * overlaps, holes, a comment of the archive, bytes before it or after it, a local record that says other things,
 * encryption, a wrong CRC-32 (MAP too reads each member once for it).  max_bytes: of values that are copied, of all
 * tensors together, as they are in memory (0: no limit); above it PSG_ERR_FORMAT.  Sizes are settled before values are
 * inflated: none is more than 1032 times what the file has of it, and each is what the shape says. */
PSG_API psg_status psg_npz_read(psg_context *context, const char *path, psg_file_access access, int64_t max_bytes,
                                psg_tensors **tensors);

/* Writes f32, f64, i32 and i64 of any strides as stored members in the order given, values at multiples of 64 bytes, so
 * that they can be mapped.  The same tensors give the same bytes.  PSG_ERR_ARGUMENT, and the file stays as it was: a name
 * is NULL, there twice, no UTF-8 or above 65531 bytes; a tensor is no valid view. */
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

/* Copies tensors of a file into those of the same names, which have memory of the caller's, any strides.  f32 and f64 are
 * filled from f32 (and F16, BF16), f64 from f64; integers from the same type.  Everything is checked first: on an error
 * no value is written.  PSG_ERR_ARGUMENT: a name is NULL or there twice, a tensor is no valid view.  report: NULL or
 * filled, also where names disagree; all 0 where the file could not be read or an argument is wrong. */
PSG_API psg_status psg_weights_load(psg_context *context, const char *path, const psg_named *weights, size_t count,
                                    psg_load_mode mode, psg_load_report *report);
/* The same from a file that was read. */
PSG_API psg_status psg_weights_take(psg_context *context, const psg_tensors *tensors, const psg_named *weights,
                                    size_t count, psg_load_mode mode, psg_load_report *report);

#ifdef __cplusplus
}
#endif
#endif
