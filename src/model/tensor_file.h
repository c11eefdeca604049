/* Between float tensors of a backend and safetensors files, a piece at a time:
 * no whole tensor is ever held on the host. */
#ifndef HB_MODEL_TENSOR_FILE_H
#define HB_MODEL_TENSOR_FILE_H

#include "core/safetensors.h"
#include "ops/backend.h"

/* Part g of a stack of `groups` equal parts, as a flat view. */
struct hb_tensor hb_tensor_part(struct hb_tensor stack, int64_t groups, int64_t g);

/* Elements [begin, begin + count of `to`) of a tensor in a file into `to`.
 * bf16 and fp16 are widened, and rounded where `to` has 16 bits; HB_EUNSUPPORTED for
 * what fp32 cannot hold. */
HB_MUST_USE hb_status hb_tensor_from_file(struct hb_context *context,
                                          const struct hb_safetensors_tensor *from, int64_t begin,
                                          struct hb_tensor to);

/* The type in which a tensor is written: its own 16-bit type, else fp32. */
enum hb_dtype hb_tensor_file_dtype(const struct hb_tensor *t);

/* All of `from` as the data of tensor `name`, which the writer declared. */
HB_MUST_USE hb_status hb_tensor_to_file(struct hb_context *context, struct hb_tensor from,
                                        struct hb_safetensors_writer *writer, const char *name);

#endif
