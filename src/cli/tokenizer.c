#include "cli/tokenizer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "core/json.h"
#include "data/bpe.h"
#include "data/bpe_train.h"
#include "data/json_text.h"
#include "data/source.h"
#include "data/tokenizer.h"
#include "data/utf8.h"

static const char usage[] =
    "usage: hornbook tokenizer train --vocab-size N --output DIR FILE|FOLDER...\n"
    "       hornbook tokenizer encode TOKENIZER [--jsonl] [--special]\n"
    "       hornbook tokenizer decode TOKENIZER [--jsonl]\n"
    "\n"
    "train   learns a byte-level BPE vocabulary of N tokens (the 256 bytes and <|endoftext|>\n"
    "        included) from text files, JSONL files of {\"text\": ...} (both also .gz and .zst) and\n"
    "        folders of them, and writes DIR/tokenizer.json and DIR/tokenizer_config.json.\n"
    "        Texts that are not UTF-8 are left out and counted.\n"
    "encode  reads one text from standard input and prints its token ids.\n"
    "decode  reads token ids from standard input and prints their bytes.\n"
    "\n"
    "TOKENIZER is a tokenizer.json or a folder that holds one.\n"
    "  --jsonl    a text a line: {\"text\": ...} becomes {\"ids\": [...]}, and back\n"
    "  --special  special tokens in the text become their ids (else they are plain text)\n"
    "  --help     prints this\n";

static hb_status put(const struct hb_bytes *bytes)
{
    if (bytes->count && fwrite(bytes->data, 1, bytes->count, stdout) != bytes->count)
        return HB_FAIL(HB_EIO, "cannot write standard output: %s", strerror(errno));
    return HB_OK;
}

static hb_status read_all(struct hb_bytes *out)
{
    enum { CHUNK = 1 << 16 };
    for (;;) {
        HB_TRY(hb_bytes_reserve(out, CHUNK));
        size_t got = fread(out->data + out->count, 1, CHUNK, stdin);
        out->count += got;
        if (got < CHUNK)
            return ferror(stdin) ? HB_FAIL(HB_EIO, "cannot read standard input: %s", strerror(errno)) : HB_OK;
    }
}

/* What a line or a whole input is turned with and into; kept between lines. */
struct coder {
    struct hb_tokenizer *tokenizer;
    bool special;
    struct hb_ids ids;
    struct hb_bytes text, out;
};

static hb_status put_ids(struct coder *c, const char *between)
{
    for (size_t i = 0; i < c->ids.count; i++) {
        if (i)
            HB_TRY(hb_bytes_append_text(&c->out, between));
        HB_TRY(hb_json_text_number(&c->out, c->ids.data[i]));
    }
    return HB_OK;
}

static hb_status encode_plain(struct coder *c)
{
    HB_TRY(read_all(&c->text));
    HB_TRY(hb_tokenizer_encode(c->tokenizer, c->text.data, c->text.count, c->special, &c->ids));
    HB_TRY(put_ids(c, " "));
    HB_TRY(hb_bytes_append_text(&c->out, "\n"));
    return put(&c->out);
}

static hb_status decode_plain(struct coder *c)
{
    HB_TRY(read_all(&c->text));
    HB_TRY(hb_bytes_append(&c->text, "", 1)); /* strtol stops here at the latest */
    const char *at = (const char *)c->text.data, *end = at + c->text.count - 1;
    while ((at += strspn(at, " \t\r\n")) < end) {
        char *after;
        errno = 0;
        long id = strtol(at, &after, 10);
        if (after == at || errno || id < 0 || id > INT32_MAX || (after < end && !strchr(" \t\r\n", *after)))
            return HB_FAIL(HB_EFORMAT, "byte %td of the input: not a token id",
                           at - (const char *)c->text.data);
        HB_TRY(hb_ids_push(&c->ids, (int32_t)id));
        at = after;
    }
    HB_TRY(hb_tokenizer_decode(c->tokenizer, c->ids.data, c->ids.count, &c->out));
    return put(&c->out);
}

/* {"text": ...} -> {"ids": [...]} */
static hb_status encode_line(struct coder *c, const json_t *line)
{
    const json_t *text = json_object_get(line, "text");
    if (!json_is_string(text))
        return HB_FAIL(HB_EFORMAT, "must be like {\"text\": \"...\"}");
    c->ids.count = 0;
    HB_TRY(hb_tokenizer_encode(c->tokenizer, json_string_value(text), json_string_length(text), c->special,
                               &c->ids));
    HB_TRY(hb_bytes_append_text(&c->out, "{\"ids\": ["));
    HB_TRY(put_ids(c, ", "));
    return hb_bytes_append_text(&c->out, "]}\n");
}

/* {"ids": [...]} -> {"text": ...} */
static hb_status decode_line(struct coder *c, const json_t *line)
{
    const json_t *ids = json_object_get(line, "ids");
    if (!json_is_array(ids))
        return HB_FAIL(HB_EFORMAT, "must be like {\"ids\": [1, 2]}");
    c->ids.count = 0;
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
            return HB_FAIL(HB_EFORMAT, "entry %zu of \"ids\" is not a token id", i);
        HB_TRY(hb_ids_push(&c->ids, (int32_t)json_integer_value(id)));
    }
    c->text.count = 0;
    HB_TRY(hb_tokenizer_decode(c->tokenizer, c->ids.data, c->ids.count, &c->text));
    size_t valid = c->text.count ? hb_utf8_valid_bytes(c->text.data, c->text.count) : 0;
    if (valid < c->text.count)
        return HB_FAIL(HB_EFORMAT,
                       "the ids do not make valid UTF-8 (byte %zu), which JSON cannot hold; decode "
                       "without --jsonl",
                       valid);
    HB_TRY(hb_bytes_append_text(&c->out, "{\"text\": "));
    HB_TRY(hb_json_text_string(&c->out, c->text.data, c->text.count));
    return hb_bytes_append_text(&c->out, "}\n");
}

static hb_status code_line(struct coder *c, const char *text, size_t size, int64_t number,
                           hb_status (*code)(struct coder *, const json_t *))
{
    json_t *line;
    HB_TRY(hb_json_parse("standard input", number, text, size, HB_JSON_ALLOW_NUL, &line));
    c->out.count = 0;
    hb_status status = code(c, line);
    json_decref(line);
    if (status != HB_OK)
        return hb_fail_in(status, "standard input:%" PRId64, number);
    return put(&c->out);
}

static hb_status code_lines(struct coder *c, hb_status (*code)(struct coder *, const json_t *))
{
    char *line = NULL;
    size_t room = 0;
    hb_status status = HB_OK;
    int64_t number = 0;
    ssize_t size;
    while (status == HB_OK && (size = getline(&line, &room, stdin)) >= 0) {
        number++;
        if (strspn(line, " \t\r\n") < (size_t)size) /* blank lines are nothing */
            status = code_line(c, line, (size_t)size, number, code);
    }
    if (status == HB_OK && !feof(stdin))
        status = HB_FAIL(HB_EIO, "cannot read standard input: %s", strerror(errno));
    free(line);
    return status;
}

static hb_status code(const char *path, bool encode, bool jsonl, bool special)
{
    struct coder c = {.special = special};
    HB_TRY(hb_tokenizer_open(path, &c.tokenizer));
    hb_status status;
    if (jsonl)
        status = code_lines(&c, encode ? encode_line : decode_line);
    else
        status = encode ? encode_plain(&c) : decode_plain(&c);
    hb_tokenizer_destroy(c.tokenizer);
    hb_ids_release(&c.ids);
    hb_bytes_release(&c.text);
    hb_bytes_release(&c.out);
    return status;
}

static int run_code(int argc, char **argv, bool encode)
{
    bool jsonl = false, special = false;
    const struct hb_option options[] = {
        {"--jsonl", HB_OPTION_FLAG, &jsonl, 0, 0},
        {"--special", HB_OPTION_FLAG, &special, 0, 0}, /* of encode */
    };
    int rest, wrong;
    if (!hb_options_read(argc, argv, options, encode ? 2 : 1, usage, &rest, &wrong))
        return wrong;
    if (rest != 1)
        return hb_wrong_usage(argv[0], "name one TOKENIZER");
    return hb_finish(argv[0], code(argv[1], encode, jsonl, special));
}

struct texts {
    struct hb_source *source;
    int64_t count;
};

static hb_status next_document(void *context, const unsigned char **text, size_t *n, bool *end)
{
    struct texts *texts = context;
    struct hb_document document;
    HB_TRY(hb_source_next(texts->source, &document, end));
    if (*end)
        return texts->count ? HB_OK : HB_FAIL(HB_EARGUMENT, "there is no text to learn from");
    texts->count++;
    *text = document.text;
    *n = document.size;
    return HB_OK;
}

static hb_status train(const char *const *inputs, size_t input_count, int32_t vocab_size, const char *output)
{
    struct hb_source_options options = {.inputs = inputs, .input_count = input_count, .skip_invalid = true};
    struct hb_source *source;
    HB_TRY(hb_source_create(&options, &source));
    struct texts read = {.source = source};
    struct hb_bpe_texts texts = {next_document, &read};
    static const char *const specials[] = {HB_END_OF_TEXT};
    struct hb_bpe_train_report report;
    hb_status status = hb_bpe_train(&texts, vocab_size, specials, 1, output, &report);
    const struct hb_source_counts *counts = hb_source_counts(source);
    if (counts->invalid)
        fprintf(stderr, "left out %" PRId64 " texts; the first: %s\n", counts->invalid,
                counts->first_invalid);
    if (status == HB_OK) {
        printf("%s: %d tokens from %" PRId64 " texts, %" PRId64 " bytes, %" PRId64 " words (%" PRId64
               " distinct)\n",
               output, report.vocabulary, report.texts, report.bytes, report.words, report.distinct_words);
        if (report.vocabulary < vocab_size)
            fprintf(stderr,
                    "the text has no more repeated pairs: %d tokens instead of %d; train on more text\n",
                    report.vocabulary, vocab_size);
    }
    hb_source_destroy(source);
    return status;
}

static int run_train(int argc, char **argv)
{
    const char *output = NULL;
    int64_t vocab_size = 0;
    const struct hb_option options[] = {
        {"--vocab-size", HB_OPTION_INT, &vocab_size, 257, HB_BPE_ID_LIMIT},
        {"--output", HB_OPTION_TEXT, &output, 0, 0},
    };
    int rest, wrong;
    if (!hb_options_read(argc, argv, options, 2, usage, &rest, &wrong))
        return wrong;
    if (!vocab_size || !output)
        return hb_wrong_usage(argv[0], "%s is missing", vocab_size ? "--output" : "--vocab-size");
    if (rest == 0)
        return hb_wrong_usage(argv[0], "name at least one file or folder");
    return hb_finish(argv[0],
                     train((const char *const *)argv + 1, (size_t)rest, (int32_t)vocab_size, output));
}

int hb_cli_tokenizer(int argc, char **argv)
{
    static char train_name[] = "tokenizer train", encode_name[] = "tokenizer encode",
                decode_name[] = "tokenizer decode"; /* what messages begin with */
    const char *what = argc < 2 ? "" : argv[1];
    bool trains = strcmp(what, "train") == 0, encodes = strcmp(what, "encode") == 0;
    if (trains || encodes || strcmp(what, "decode") == 0) {
        argv[1] = trains ? train_name : encodes ? encode_name : decode_name;
        return trains ? run_train(argc - 1, argv + 1) : run_code(argc - 1, argv + 1, encodes);
    }
    if (strcmp(what, "--help") == 0 || strcmp(what, "-h") == 0) {
        fputs(usage, stdout);
        return HB_CLI_DONE;
    }
    return hb_wrong_usage("tokenizer", "'%s' is none of train, encode and decode", what);
}
