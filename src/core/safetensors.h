/* Tensors in files, in the safetensors format:
 *
 *     u64 little-endian: n, the header's bytes
 *     n bytes of JSON: {"NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...,
 *                       "__metadata__": {"KEY": "TEXT", ...}}, padded with spaces
 *     data; offsets count from its start and cover it without gap or overlap
 *
 * The reader maps the file and trusts nothing in it: whatever opens is wholly
 * consistent. (The one thing no check can cover: somebody who cuts the file
 * short while it is mapped.) The writer streams, so that a file may be larger
 * than memory. */
#ifndef HB_CORE_SAFETENSORS_H
#define HB_CORE_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/dtype.h"
#include "core/file_receipt.h"
#include "core/status.h"
#include "core/tensor.h"

/* Reading. */

struct hb_safetensors;

/* A tensor of an opened file. The pointers live until the file is closed. */
struct hb_safetensors_tensor {
    const char *name;
    enum hb_dtype dtype;
    int rank;
    int64_t shape[HB_RANK_MAX]; /* unused entries are 1 */
    int64_t count;
    const void *data; /* may be misaligned for its dtype: use the copies below */
    size_t bytes;
};

/* Opens one file. HB_EFORMAT names the first thing wrong in it. */
HB_MUST_USE hb_status hb_safetensors_open(const char *path, struct hb_safetensors **out);

/* Opens a model folder as one namespace: model.safetensors, or else the shards
 * that the weight_map of model.safetensors.index.json names; tensors of a shard
 * that the map does not assign to it are left out. A shard, or a tensor in it,
 * that is missing is HB_EFORMAT. */
HB_MUST_USE hb_status hb_safetensors_open_model(const char *folder, struct hb_safetensors **out);

/* NULL is allowed. */
void hb_safetensors_close(struct hb_safetensors *file);

/* Tensors 0 .. count - 1, in the order of their data. */
size_t hb_safetensors_count(const struct hb_safetensors *file);
const char *hb_safetensors_name(const struct hb_safetensors *file, size_t index);

/* HB_EUNSUPPORTED for a dtype that enum hb_dtype lacks or a rank above
 * HB_RANK_MAX: such a tensor hurts only who asks for it. */
HB_MUST_USE hb_status hb_safetensors_at(const struct hb_safetensors *file, size_t index,
                                        struct hb_safetensors_tensor *out);

bool hb_safetensors_has(const struct hb_safetensors *file, const char *name);

/* By name; HB_EFORMAT when it is not there. */
HB_MUST_USE hb_status hb_safetensors_find(const struct hb_safetensors *file, const char *name,
                                          struct hb_safetensors_tensor *out);

/* Copies the `count` elements as they are. */
void hb_safetensors_copy(const struct hb_safetensors_tensor *tensor, void *to);

/* Copies F32, BF16, F16 into floats, exactly. Other dtypes would round or are
 * no weights: HB_EUNSUPPORTED. */
HB_MUST_USE hb_status hb_safetensors_copy_f32(const struct hb_safetensors_tensor *tensor, float *to);

/* The text under a key of __metadata__, of the first shard that has it; NULL
 * when none has. */
const char *hb_safetensors_metadata(const struct hb_safetensors *file, const char *key);

/* Writing: create, declare everything, write the data of the tensors in the
 * order of declaration, finish, destroy. Until finish has succeeded nothing
 * stands under `path` but what stood there before. */

struct hb_safetensors_writer;

HB_MUST_USE hb_status hb_safetensors_writer_create(const char *path, struct hb_safetensors_writer **out);

/* Hugging Face wants "format" = "pt". */
HB_MUST_USE hb_status hb_safetensors_writer_metadata(struct hb_safetensors_writer *writer, const char *key,
                                                     const char *text);

/* Refuses a name declared before, a rank above HB_RANK_MAX, and a place that
 * is misaligned for the dtype (readers that map the file could not use it):
 * declare wider dtypes first. */
HB_MUST_USE hb_status hb_safetensors_writer_declare(struct hb_safetensors_writer *writer, const char *name,
                                                    enum hb_dtype dtype, int rank, const int64_t *shape);

/* The next bytes of tensor `name`. The first call ends the declarations. */
HB_MUST_USE hb_status hb_safetensors_writer_write(struct hb_safetensors_writer *writer, const char *name,
                                                  const void *data, size_t bytes);

/* Makes the file durable under its name. `receipt`, for a manifest, may be NULL. */
HB_MUST_USE hb_status hb_safetensors_writer_finish(struct hb_safetensors_writer *writer,
                                                   struct hb_file_receipt *receipt);

/* NULL is allowed. Without finish, no file remains. */
void hb_safetensors_writer_destroy(struct hb_safetensors_writer *writer);

#endif
