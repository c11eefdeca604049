/* Which samples a step sees: sequence j of microbatch m of step s is sample
 * (s M + m) S + j of the stream's order. */
#include "train/batches.h"

#include "core/scratch.h"
#include "data/shard.h"

enum { VOCABULARY = 60, END = 0, M = 3, S = 2, T = 5 };

static struct hb_stream *open_stream(bool shuffle)
{
    struct hb_shard_writer *writer;
    struct hb_stream *stream;
    static char prefix[256];
    snprintf(prefix, sizeof prefix, "%s", scratch("shard"));
    OK(hb_shard_writer_create(prefix, VOCABULARY, &writer));
    for (int d = 0, token = 1; d < 40; d++) { /* documents of 1 to 9 tokens and their end */
        int32_t ids[10];
        int n = 1 + d * 7 % 9;
        for (int i = 0; i < n; i++)
            ids[i] = 1 + token++ % (VOCABULARY - 1);
        ids[n] = END;
        OK(hb_shard_writer_add(writer, ids, n + 1));
    }
    OK(hb_shard_writer_finish(writer));
    OK(hb_shard_writer_commit(writer));
    hb_shard_writer_destroy(writer);
    const char *prefixes[] = {prefix};
    OK(hb_stream_create(&(struct hb_stream_options){.prefixes = prefixes,
                                                    .prefix_count = 1,
                                                    .vocabulary = VOCABULARY,
                                                    .end_of_text = END,
                                                    .tokens = T,
                                                    .shuffle = shuffle,
                                                    .seed = 3},
                        &stream));
    return stream;
}

/* Sequence j of a batch is this sample: ids, labels, and its segments in their place. */
static void check_sequence(const struct hb_batch *batch, int64_t j, const struct hb_stream *stream,
                           int64_t number, int64_t *segment)
{
    int32_t ids[T], labels[T], segments[T + 1];
    struct hb_sample sample = {.ids = ids, .labels = labels, .segments = segments};
    OK(hb_stream_sample(stream, number, &sample));
    assert_memory_equal(batch->ids + j * T, ids, sizeof ids);
    assert_memory_equal(batch->labels + j * T, labels, sizeof labels);
    assert_true(sample.segment_count > 0);
    for (int32_t s = 0; s < sample.segment_count; s++, (*segment)++) {
        assert_int_equal(batch->segments[*segment], j * T + segments[s]);
        assert_int_equal(batch->segments[*segment + 1], j * T + segments[s + 1]);
    }
}

static void check_step(const struct hb_batches *batches, const struct hb_stream *stream, int64_t step)
{
    for (int64_t m = 0; m < M; m++) {
        const struct hb_batch *batch = &batches->batch[m];
        int64_t segment = 0;
        assert_int_equal(batch->tokens, S * T);
        for (int64_t j = 0; j < S; j++) {
            uint64_t n = (uint64_t)((step * M + m) * S + j);
            check_sequence(batch, j, stream, hb_stream_order(stream, n), &segment);
        }
        assert_int_equal(batch->segment_count, segment);
    }
}

static void test_steps(void **state)
{
    (void)state;
    for (int shuffle = 0; shuffle < 2; shuffle++) {
        struct hb_stream *stream = open_stream(shuffle);
        struct hb_batches batches;
        OK(hb_batches_init(&batches, M, S, T));
        assert_true(hb_stream_samples(stream) % (M * S) != 0); /* steps that cross an epoch occur */
        for (int64_t step = 0; step < 20; step++) {
            OK(hb_batches_fill(&batches, stream, step, NULL));
            check_step(&batches, stream, step);
        }
        OK(hb_batches_fill(&batches, stream, 4, NULL)); /* and back: no state */
        check_step(&batches, stream, 4);
        assert_int_equal(hb_stream_order(stream, 7) == 7, !shuffle);
        hb_batches_release(&batches);
        hb_stream_destroy(stream);
    }
}

static void test_plain(void **state)
{
    (void)state;
    struct hb_stream *stream = open_stream(true);
    struct hb_batches batches;
    OK(hb_batches_init(&batches, M, S, T));
    OK(hb_batches_fill(&batches, stream, 0, NULL));
    for (int64_t count = 1; count <= S; count++) { /* in file order, however the stream is shuffled */
        int64_t segment = 0;
        OK(hb_batches_fill_plain(&batches, stream, 0, 3, count));
        assert_int_equal(batches.batch[0].tokens, count * T);
        for (int64_t j = 0; j < count; j++)
            check_sequence(&batches.batch[0], j, stream, 3 + j, &segment);
        assert_int_equal(batches.batch[0].segment_count, segment);
    }
    OK(hb_batches_fill(&batches, stream, 2, NULL)); /* training goes on as if nothing had been */
    check_step(&batches, stream, 2);
    hb_batches_release(&batches);
    hb_stream_destroy(stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps), cmocka_unit_test(test_plain)};
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
