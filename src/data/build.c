#include "data/build.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/manifest.h"
#include "data/path.h"

enum { BATCH_BYTES = 4 << 20, BATCH_DOCUMENTS = 256 };

/* Documents waiting to be encoded. They are encoded at once and written in
 * order, so that the number of threads cannot be seen in the result. */
struct item {
    size_t offset, size; /* of the text in `text` */
    size_t input;
    enum hb_side side;
    struct hb_ids ids;
    hb_status status;
    char message[512]; /* of a failed thread: messages belong to threads */
};

struct build {
    const struct hb_build_options *options;
    const struct hb_encoder *encoder;
    struct hb_build_report *report;
    struct hb_split split;
    int64_t bytes; /* of all text */
    int64_t done;
    struct hb_shard_writer *writers[HB_SIDE_COUNT];
    struct hb_bytes text;
    size_t count;
    struct item items[BATCH_DOCUMENTS];
};

static hb_status encode_batch(struct build *b)
{
    const struct hb_encoder *encoder = b->encoder;
#pragma omp parallel for schedule(dynamic)
    for (size_t i = 0; i < b->count; i++) {
        struct item *item = &b->items[i];
        item->ids.count = 0;
        item->status = encoder->encode(encoder->context, b->text.data + item->offset, item->size, &item->ids);
        if (item->status == HB_OK)
            item->status = hb_ids_push(&item->ids, encoder->end_of_text);
        if (item->status != HB_OK)
            snprintf(item->message, sizeof item->message, "%s", hb_error());
    }
    for (size_t i = 0; i < b->count; i++) {
        struct item *item = &b->items[i];
        if (item->status != HB_OK)
            return HB_FAIL(item->status, "%s", item->message);
        int64_t tokens = (int64_t)item->ids.count;
        HB_TRY(hb_shard_writer_add(b->writers[item->side], item->ids.data, tokens));
        struct hb_build_counts *counts[] = {&b->report->total[item->side],
                                            &b->report->inputs[item->input][item->side]};
        for (int c = 0; c < 2; c++) {
            counts[c]->documents++;
            counts[c]->bytes += (int64_t)item->size;
            counts[c]->tokens += tokens;
        }
        b->done += (int64_t)item->size;
        if (item->ids.capacity > BATCH_BYTES)
            hb_ids_release(&item->ids); /* one huge document must not stay in every slot */
    }
    b->count = 0;
    b->text.count = 0;
    if (b->options->progress)
        b->options->progress(b->options->progress_context, b->done, b->bytes);
    return HB_OK;
}

static hb_status add_document(struct build *b, const unsigned char *text, size_t size, size_t input,
                              enum hb_side side)
{
    struct item *item = &b->items[b->count];
    item->offset = b->text.count;
    item->size = size;
    item->input = input;
    item->side = side;
    HB_TRY(hb_bytes_append(&b->text, text, size));
    b->count++;
    return b->count == BATCH_DOCUMENTS || b->text.count >= BATCH_BYTES ? encode_batch(b) : HB_OK;
}

/* First reading: everything is checked before the first token is made. */
static hb_status take_census(struct build *b, struct hb_split_census *census)
{
    struct hb_source *source;
    HB_TRY(hb_source_create(&b->options->source, &source));
    hb_status status;
    for (;;) {
        struct hb_document document;
        bool end;
        HB_TRY_CLEAN(hb_source_next(source, &document, &end));
        if (end)
            break;
        hb_split_count(census, hb_split_hash(document.text, document.size));
        b->bytes += (int64_t)document.size;
    }
    b->report->source = *hb_source_counts(source);
    if (census->documents == 0)
        status = HB_FAIL(HB_EARGUMENT,
                         "the inputs hold no document (%" PRId64 " files, %" PRId64 " documents without "
                         "text, %" PRId64 " skipped as invalid)",
                         b->report->source.files, b->report->source.empty, b->report->source.invalid);
cleanup:
    hb_source_destroy(source);
    return status;
}

static hb_status encode_all(struct build *b, const struct hb_split_census *census)
{
    struct hb_source *source;
    HB_TRY(hb_source_create(&b->options->source, &source));
    hb_status status;
    struct hb_split_census again = {0};
    for (;;) {
        struct hb_document document;
        bool end;
        HB_TRY_CLEAN(hb_source_next(source, &document, &end));
        if (end)
            break;
        const unsigned char *text = document.text;
        uint64_t hash = hb_split_hash(text, document.size);
        hb_split_count(&again, hash);
        size_t place = document.size;
        if (b->split.method == HB_SPLIT_CUT)
            HB_TRY_CLEAN(hb_split_place(&b->split, text, document.size, &place));
        bool held_out = b->split.method == HB_SPLIT_HASH && hb_split_holds_out(&b->split, hash);
        HB_TRY_CLEAN(
            add_document(b, text, place, document.input, held_out ? HB_SIDE_HELD_OUT : HB_SIDE_TRAIN));
        if (place < document.size)
            HB_TRY_CLEAN(
                add_document(b, text + place, document.size - place, document.input, HB_SIDE_HELD_OUT));
    }
    HB_TRY_CLEAN(encode_batch(b));
    if (again.documents != census->documents || again.lowest != census->lowest ||
        again.highest != census->highest)
        status = HB_FAIL(HB_EIO, "the inputs changed while they were read; run again");
cleanup:
    hb_source_destroy(source);
    return status;
}

static const char *const side_suffixes[HB_SIDE_COUNT] = {"-train", "-heldout"};

static hb_status open_writers(struct build *b)
{
    int sides = b->split.method == HB_SPLIT_NONE ? 1 : 2;
    for (int side = 0; side < sides; side++) {
        char *prefix = hb_path_append(b->options->prefix, side_suffixes[side]);
        if (!prefix)
            return HB_FAIL(HB_EMEMORY, "out of memory: cannot write %s", b->options->prefix);
        hb_status status = hb_shard_writer_create(prefix, b->encoder->vocabulary, &b->writers[side]);
        free(prefix);
        HB_TRY(status);
    }
    return HB_OK;
}

/* Removes whatever stands under the final names. */
static void remove_published(const char *prefix)
{
    static const char *const suffixes[] = {".json", "-train.idx", "-train.bin", "-heldout.idx",
                                           "-heldout.bin"};
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        char *path = hb_path_append(prefix, suffixes[i]);
        if (path)
            unlink(path); /* most often there is none */
        free(path);
    }
}

/* All new files are complete under temporary names. An earlier build goes
 * first, so that at no moment old and new files stand side by side. */
static hb_status publish(struct build *b)
{
    remove_published(b->options->prefix);
    hb_status status = HB_OK;
    for (int side = 0; side < HB_SIDE_COUNT && status == HB_OK; side++)
        if (b->writers[side])
            status = hb_shard_writer_commit(b->writers[side]);
    if (status == HB_OK)
        status = hb_manifest_write(b->options, b->encoder, b->report);
    if (status != HB_OK)
        remove_published(b->options->prefix);
    return status;
}

static hb_status build(struct build *b)
{
    struct hb_split_census census = {0};
    HB_TRY(take_census(b, &census));
    HB_TRY(hb_split_init(&census, b->options->held_out, &b->split));
    b->report->method = b->split.method;
    HB_TRY(open_writers(b));
    HB_TRY(encode_all(b, &census));
    for (int side = 0; side < HB_SIDE_COUNT; side++) {
        if (!b->writers[side])
            continue;
        HB_TRY(hb_shard_writer_finish(b->writers[side]));
        hb_shard_writer_summary(b->writers[side], &b->report->shards[side]);
    }
    return publish(b);
}

hb_status hb_build(const struct hb_build_options *options, const struct hb_encoder *encoder,
                   struct hb_build_report *report)
{
    *report = (struct hb_build_report){0};
    if (encoder->end_of_text < 0 || encoder->end_of_text >= encoder->vocabulary)
        return HB_FAIL(HB_EARGUMENT, "the end-of-text id %" PRId32 " is outside the vocabulary of %" PRId32,
                       encoder->end_of_text, encoder->vocabulary);
    struct build *b = calloc(1, sizeof *b);
    report->inputs = calloc(options->source.input_count + 1, sizeof *report->inputs);
    if (!b || !report->inputs) {
        free(b);
        hb_build_report_release(report);
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot build %s", options->prefix);
    }
    b->options = options;
    b->encoder = encoder;
    b->report = report;
    hb_status status = build(b);
    for (int side = 0; side < HB_SIDE_COUNT; side++)
        hb_shard_writer_destroy(b->writers[side]);
    for (size_t i = 0; i < BATCH_DOCUMENTS; i++)
        hb_ids_release(&b->items[i].ids);
    hb_bytes_release(&b->text);
    free(b);
    if (status != HB_OK)
        hb_build_report_release(report);
    return status;
}

void hb_build_report_release(struct hb_build_report *report)
{
    free(report->inputs);
    *report = (struct hb_build_report){0};
}
