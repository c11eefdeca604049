#include "data/stream.h"

#include <inttypes.h>
#include <stdlib.h>

#include "data/shard.h"
#include "data/shuffle.h"

struct hb_stream {
    struct hb_stream_options options;
    size_t count;
    struct part {
        struct hb_shard shard;
        int64_t begin; /* of the shard in the stream */
    } * parts;
    int64_t tokens, documents, samples;
};

static hb_status check_documents(const struct hb_shard *shard, int32_t end_of_text)
{
    for (int64_t d = 0; d < shard->documents; d++) {
        int64_t begin = hb_shard_begin(shard, d), end = hb_shard_begin(shard, d + 1);
        int32_t last = -1;
        if (end > begin)
            hb_shard_read(shard, end - 1, 1, &last);
        if (last != end_of_text)
            return HB_FAIL(HB_EFORMAT,
                           "%s: document %" PRId64 " ends with token %" PRId32
                           ", not with end-of-text (%" PRId32 "); was it built with another tokenizer, or "
                           "without --append-eod?",
                           shard->prefix, d, last, end_of_text);
    }
    return HB_OK;
}

static hb_status open_parts(struct hb_stream *s)
{
    const struct hb_stream_options *o = &s->options;
    s->parts = calloc(o->prefix_count, sizeof *s->parts);
    if (!s->parts)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot open %zu shards", o->prefix_count);
    for (size_t i = 0; i < o->prefix_count; i++) {
        struct part *part = &s->parts[i];
        HB_TRY(hb_shard_init(o->prefixes[i], &part->shard));
        s->count++;
        HB_TRY(check_documents(&part->shard, o->end_of_text));
        part->begin = s->tokens;
        s->tokens += part->shard.tokens;
        s->documents += part->shard.documents;
    }
    return HB_OK;
}

hb_status hb_stream_create(const struct hb_stream_options *options, struct hb_stream **out)
{
    *out = NULL;
    if (options->prefix_count == 0)
        return HB_FAIL(HB_EARGUMENT, "a stream needs at least one shard");
    if (options->tokens < 1 || options->tokens >= INT32_MAX)
        return HB_FAIL(HB_EARGUMENT,
                       "a sample of %" PRId64 " tokens; at least 1 and less than 2^31 are needed",
                       options->tokens);
    struct hb_stream *s = calloc(1, sizeof *s);
    if (!s)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot open the stream");
    s->options = *options;
    hb_status status;
    HB_TRY_CLEAN(open_parts(s));
    s->options.prefixes = NULL; /* not ours to keep */
    s->samples = (s->tokens - 1) / options->tokens;
    if (s->samples < 1) {
        status = HB_FAIL(HB_EARGUMENT,
                         "%s%s: %" PRId64 " tokens are too few for a sample of %" PRId64
                         " + 1; add text or shorten the samples",
                         options->prefixes[0], s->count > 1 ? ", ..." : "", s->tokens, options->tokens);
        goto cleanup;
    }
    *out = s;
    return HB_OK;
cleanup:
    hb_stream_destroy(s);
    return status;
}

void hb_stream_destroy(struct hb_stream *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->count; i++)
        hb_shard_release(&s->parts[i].shard);
    free(s->parts);
    free(s);
}

int64_t hb_stream_tokens(const struct hb_stream *s)
{
    return s->tokens;
}

int64_t hb_stream_documents(const struct hb_stream *s)
{
    return s->documents;
}

int64_t hb_stream_samples(const struct hb_stream *s)
{
    return s->samples;
}

int64_t hb_stream_order(const struct hb_stream *s, uint64_t n)
{
    uint64_t samples = (uint64_t)s->samples;
    uint64_t epoch = n / samples, position = n % samples;
    if (s->options.shuffle)
        position = hb_shuffle(s->options.seed, epoch, samples, position);
    return (int64_t)position;
}

/* The part that holds token `at` of the stream. */
static size_t part_of(const struct hb_stream *s, int64_t at)
{
    size_t low = 0, high = s->count; /* begin[low] <= at < begin[high] */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (s->parts[middle].begin <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The document of `shard` that holds its token `at`. */
static int64_t document_of(const struct hb_shard *shard, int64_t at)
{
    int64_t low = 0, high = shard->documents;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (hb_shard_begin(shard, middle) <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Copies tokens of the stream, across parts. */
static hb_status read_tokens(const struct hb_stream *s, int64_t at, int64_t count, int32_t *to)
{
    for (size_t p = part_of(s, at); count > 0; p++) {
        const struct hb_shard *shard = &s->parts[p].shard;
        int64_t from = at - s->parts[p].begin;
        int64_t here = shard->tokens - from < count ? shard->tokens - from : count;
        hb_shard_read(shard, from, here, to);
        for (int64_t i = 0; i < here; i++)
            if (to[i] < 0 || to[i] >= s->options.vocabulary)
                return HB_FAIL(HB_EFORMAT,
                               "%s: token %" PRId64 " is %" PRId32 ", outside the vocabulary of %" PRId32
                               "; was the shard built with another tokenizer?",
                               shard->prefix, from + i, to[i], s->options.vocabulary);
        at += here;
        to += here;
        count -= here;
    }
    return HB_OK;
}

/* Cuts the sample that starts at token `at` behind every end of a document. */
static void cut(const struct hb_stream *s, int64_t at, struct hb_sample *sample)
{
    int64_t tokens = s->options.tokens;
    size_t p = part_of(s, at);
    int64_t d = document_of(&s->parts[p].shard, at - s->parts[p].begin);
    for (;;) {
        const struct part *part = &s->parts[p];
        if (d == part->shard.documents) {
            p++;
            d = 0;
            continue;
        }
        int64_t end = part->begin + hb_shard_begin(&part->shard, ++d) - at;
        if (end <= tokens) {
            sample->labels[end - 1] = HB_LABEL_IGNORED;
            sample->label_count--;
        }
        sample->segments[++sample->segment_count] = (int32_t)(end < tokens ? end : tokens);
        if (end >= tokens)
            return;
    }
}

hb_status hb_stream_sample(const struct hb_stream *s, int64_t i, struct hb_sample *sample)
{
    if (i < 0 || i >= s->samples)
        return HB_FAIL(HB_EARGUMENT, "sample %" PRId64 " of %" PRId64, i, s->samples);
    int64_t tokens = s->options.tokens;
    HB_TRY(read_tokens(s, i * tokens, tokens, sample->ids));
    HB_TRY(read_tokens(s, i * tokens + tokens, 1, &sample->labels[tokens - 1]));
    for (int64_t t = 0; t + 1 < tokens; t++)
        sample->labels[t] = sample->ids[t + 1];
    sample->label_count = (int32_t)tokens;
    sample->segments[0] = 0;
    sample->segment_count = 0;
    if (s->options.cross_documents)
        sample->segments[++sample->segment_count] = (int32_t)tokens;
    else
        cut(s, i * tokens, sample);
    return HB_OK;
}
