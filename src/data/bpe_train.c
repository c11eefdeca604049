#include "data/bpe_train.h"

#include <string.h>

#include "data/bpe_learn.h"
#include "data/tokenizer_write.h"
#include "data/utf8.h"

static hb_status check_arguments(int32_t vocab_size, const char *const *specials, size_t special_count)
{
    if (special_count > 1000 || vocab_size < 256 + (int32_t)special_count || vocab_size > HB_BPE_ID_LIMIT)
        return HB_FAIL(HB_EARGUMENT,
                       "a vocabulary of %d: must be %zu (256 bytes and %zu special tokens) to %d", vocab_size,
                       256 + special_count, special_count, HB_BPE_ID_LIMIT);
    for (size_t i = 0; i < special_count; i++) {
        size_t n = strlen(specials[i]);
        if (n < 2 || hb_utf8_valid_bytes(specials[i], n) < n)
            return HB_FAIL(HB_EARGUMENT, "special token %zu must be valid UTF-8 of at least 2 bytes", i);
        for (size_t j = 0; j < i; j++)
            if (strcmp(specials[i], specials[j]) == 0)
                return HB_FAIL(HB_EARGUMENT, "special token '%s' is given twice", specials[i]);
    }
    return HB_OK;
}

/* A string with two ids would be ambiguous. */
static hb_status check_learned(const struct hb_bpe_vocabulary *v, const char *const *specials,
                               size_t special_count)
{
    for (size_t i = 0; i < special_count; i++)
        if (hb_byte_map_find(&v->tokens, specials[i], strlen(specials[i])) >= 0)
            return HB_FAIL(HB_EARGUMENT,
                           "special token '%s' is an ordinary token, too; choose a string that is "
                           "not a word of the text",
                           specials[i]);
    return HB_OK;
}

static hb_status count_texts(const struct hb_bpe_texts *texts, struct hb_word_counts *words,
                             struct hb_bpe_train_report *report)
{
    struct hb_pretokenizer *pretokenizer;
    HB_TRY(hb_pretokenizer_create(hb_pattern_qwen, &pretokenizer));
    hb_status status;
    for (;;) {
        const unsigned char *text;
        size_t n;
        bool end = false;
        HB_TRY_CLEAN(texts->next(texts->context, &text, &n, &end));
        if (end)
            break;
        HB_TRY_CLEAN(hb_word_counts_add(words, pretokenizer, text, n));
        report->texts++;
        report->bytes += (int64_t)n;
    }
    for (size_t i = 0; i < words->words.count; i++)
        report->words += words->counts[i];
    report->distinct_words = (int64_t)words->words.count;
cleanup:
    hb_pretokenizer_destroy(pretokenizer);
    return status;
}

hb_status hb_bpe_train(const struct hb_bpe_texts *texts, int32_t vocab_size, const char *const *specials,
                       size_t special_count, const char *folder, struct hb_bpe_train_report *report)
{
    *report = (struct hb_bpe_train_report){0};
    HB_TRY(check_arguments(vocab_size, specials, special_count));
    struct hb_word_counts words = {0};
    struct hb_bpe_vocabulary vocabulary = {0};
    hb_status status;
    HB_TRY_CLEAN(count_texts(texts, &words, report));
    HB_TRY_CLEAN(hb_bpe_learn(&words, vocab_size - (int32_t)special_count, &vocabulary));
    HB_TRY_CLEAN(check_learned(&vocabulary, specials, special_count));
    HB_TRY_CLEAN(hb_tokenizer_write(&vocabulary, specials, special_count, folder));
    report->vocabulary = (int32_t)(vocabulary.tokens.count + special_count);
cleanup:
    hb_bpe_vocabulary_release(&vocabulary);
    hb_word_counts_release(&words);
    return status;
}
