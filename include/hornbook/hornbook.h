/* Hornbook's public interface: tensors, ops and backends.
 *
 * Compile with `pkg-config --cflags --libs hornbook`. Every header that this one
 * includes may also be included by itself, as "ops/product.h". */
#ifndef HORNBOOK_HORNBOOK_H
#define HORNBOOK_HORNBOOK_H

#include "backends/registry.h"
#include "core/dtype.h"
#include "core/memory.h"
#include "core/status.h"
#include "core/tensor.h"
#include "ops/backend.h"
#include "ops/table.h"

#endif
