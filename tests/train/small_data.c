#include "train/small_data.h"

#include "core/scratch.h"
#include "data/bpe_train.h"
#include "data/shard.h"

static hb_status no_text(void *context, const unsigned char **text, size_t *n, bool *end)
{
    (void)context;
    *text = (const unsigned char *)"";
    *n = 0;
    *end = true;
    return HB_OK;
}

void small_tokenizer(const char *path, const char *end_of_text)
{
    struct hb_bpe_texts texts = {.next = no_text};
    struct hb_bpe_train_report report;
    OK(hb_bpe_train(&texts, SMALL_VOCABULARY, &end_of_text, 1, path, &report));
    assert_int_equal(report.vocabulary, SMALL_VOCABULARY);
}

void small_shard(const char *path, uint32_t seed, int documents)
{
    struct hb_shard_writer *writer;
    OK(hb_shard_writer_create(path, SMALL_VOCABULARY, &writer));
    for (int d = 0; d < documents; d++) {
        int32_t ids[40];
        int n = 5 + d * 11 % 34;
        for (int i = 0; i < n; i++) {
            seed = seed * 1664525 + 1013904223;
            ids[i] = (int32_t)((seed >> 20) % 64 + 32);
        }
        ids[n] = SMALL_VOCABULARY - 1;
        OK(hb_shard_writer_add(writer, ids, n + 1));
    }
    OK(hb_shard_writer_finish(writer));
    OK(hb_shard_writer_commit(writer));
    hb_shard_writer_destroy(writer);
}
