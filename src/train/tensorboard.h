/* A TensorBoard event file: scalars by name and step.
 *
 * Format: records of u64 length, masked CRC-32C of the length, data, masked
 * CRC-32C of the data (little-endian; TFRecord); data is a protocol buffer
 * `Event` {1: double wall_time, 2: int64 step, 3: string file_version,
 * 5: Summary {1: Value {1: string tag, 2: float simple_value}}}. */
#ifndef HB_TRAIN_TENSORBOARD_H
#define HB_TRAIN_TENSORBOARD_H

#include <stdint.h>
#include <stdio.h>

#include "core/status.h"

struct hb_scalar {
    const char *name;
    double value;
};

/* Starts a file in `folder`, named for the time and process. */
HB_MUST_USE hb_status hb_tensorboard_open(const char *folder, FILE **out);
/* One event with `count` <= 16 scalars; flushed. */
HB_MUST_USE hb_status hb_tensorboard_write(FILE *file, int64_t step, const struct hb_scalar *scalars,
                                           int count);

#endif
