/* Marks of absent parts (parallel/absence.h) in values that go from device to device. By bytes: what is sent
 * lies packed. */
#include "gpu/gpu.h"
#include "gpu/memory.h"

/* The first byte of the i-th part that the elements touch. */
static __device__ inline unsigned char *first_of(unsigned char *values, int bytes, int64_t begin,
                                                 int64_t size, int64_t i)
{
    int64_t at = (begin / size + i) * size - begin;
    return values + (at > 0 ? at : 0) * bytes;
}

static __device__ inline bool is_marked(const unsigned char *first, int bytes)
{
    bool marked = true;
    for (int b = 0; b < bytes; b++)
        marked = marked && first[b] == 0xff;
    return marked;
}

static __global__ void mark_parts(unsigned char *values, int bytes, int64_t begin, int64_t size,
                                  int64_t parts, const int32_t *present)
{
    for (int64_t i = first_element(); i < parts; i += element_stride()) {
        unsigned char *first = first_of(values, bytes, begin, size, i);
        for (int b = 0; b < bytes && !present[i]; b++)
            first[b] = 0xff;
        if (present[i] && is_marked(first, bytes))
            first[0] = 0xfe;
    }
}

static __global__ void read_parts(unsigned char *values, int bytes, int64_t begin, int64_t size,
                                  int64_t parts, int32_t *present)
{
    for (int64_t i = first_element(); i < parts; i += element_stride())
        present[i] = !is_marked(first_of(values, bytes, begin, size, i), bytes);
}

static int64_t parts_of(const struct hb_parted *p)
{
    return p->begin < p->end ? (p->end - 1) / p->size - p->begin / p->size + 1 : 0;
}

extern "C" hb_status HB_GPU(mark_absent)(struct hb_context *context, const struct hb_parted *p)
{
    return launch("mark_absent", mark_parts, blocks_for(parts_of(p), 256), 256, 0, gpu_stream_of(context),
                  static_cast<unsigned char *>(p->values), (int)hb_dtype_size(p->dtype), p->begin, p->size,
                  parts_of(p), static_cast<const int32_t *>(p->present));
}

extern "C" hb_status HB_GPU(read_absent)(struct hb_context *context, const struct hb_parted *p)
{
    return launch("read_absent", read_parts, blocks_for(parts_of(p), 256), 256, 0, gpu_stream_of(context),
                  static_cast<unsigned char *>(p->values), (int)hb_dtype_size(p->dtype), p->begin, p->size,
                  parts_of(p), p->present);
}
