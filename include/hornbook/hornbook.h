/* Hornbook's public interface: ops and backends.
 *
 * Compile with `pkg-config --cflags --libs hornbook`. */
#ifndef HORNBOOK_HORNBOOK_H
#define HORNBOOK_HORNBOOK_H

#include "core/dtype.h"
#include "core/memory.h"
#include "core/status.h"
#include "core/tensor.h"
#include "ops/backend.h"
#include "ops/table.h"

#endif
