#include "train/batches.h"

#include <stdlib.h>

hb_status hb_batches_init(struct hb_batches *b, int64_t microbatches, int64_t sequences, int64_t tokens)
{
    *b = (struct hb_batches){.microbatches = microbatches, .sequences = sequences, .tokens = tokens};
    size_t rows = (size_t)(sequences * tokens), all = (size_t)microbatches * rows;
    b->batch = calloc((size_t)microbatches, sizeof *b->batch);
    b->ids = malloc(all * sizeof *b->ids);
    b->labels = malloc(all * sizeof *b->labels);
    b->segments = malloc((all + (size_t)microbatches) * sizeof *b->segments);
    b->piece = malloc(((size_t)tokens + 1) * sizeof *b->piece);
    if (b->batch && b->ids && b->labels && b->segments && b->piece)
        return HB_OK;
    hb_batches_release(b);
    return HB_FAIL(HB_EMEMORY, "out of memory for batches of %lld x %lld x %lld tokens",
                   (long long)microbatches, (long long)sequences, (long long)tokens);
}

void hb_batches_release(struct hb_batches *b)
{
    free(b->batch);
    free(b->ids);
    free(b->labels);
    free(b->segments);
    free(b->piece);
    *b = (struct hb_batches){0};
}

/* Appends one sample to microbatch m. */
static hb_status append(struct hb_batches *b, const struct hb_stream *stream, int64_t m,
                        int64_t sample_number)
{
    struct hb_batch *batch = &b->batch[m];
    int64_t T = b->tokens, base = m * b->sequences * T;
    int32_t *segments = b->segments + m * (b->sequences * T + 1);
    struct hb_sample sample = {
        .ids = b->ids + base + batch->tokens, .labels = b->labels + base + batch->tokens,
        .segments = b->piece};
    HB_TRY(hb_stream_sample(stream, sample_number, &sample));
    segments[0] = 0;
    for (int32_t s = 0; s < sample.segment_count; s++)
        segments[++batch->segment_count] = (int32_t)batch->tokens + sample.segments[s + 1];
    batch->tokens += T;
    return HB_OK;
}

static void start(struct hb_batches *b, int64_t m)
{
    int64_t rows = b->sequences * b->tokens;
    b->batch[m] = (struct hb_batch){.ids = b->ids + m * rows,
                                    .labels = b->labels + m * rows,
                                    .segments = b->segments + m * (rows + 1)};
}

hb_status hb_batches_fill(struct hb_batches *b, const struct hb_stream *stream, int64_t step,
                          const bool *wanted)
{
    for (int64_t m = 0; m < b->microbatches; m++) {
        start(b, m);
        for (int64_t j = 0; j < b->sequences && (!wanted || wanted[m]); j++) {
            uint64_t number = (uint64_t)((step * b->microbatches + m) * b->sequences + j);
            HB_TRY(append(b, stream, m, hb_stream_order(stream, number)));
        }
    }
    return HB_OK;
}

hb_status hb_batches_fill_plain(struct hb_batches *b, const struct hb_stream *stream, int64_t m,
                                int64_t first, int64_t count)
{
    start(b, m);
    for (int64_t j = 0; j < count; j++)
        HB_TRY(append(b, stream, m, first + j));
    return HB_OK;
}
