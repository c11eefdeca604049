#include "cli/data.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "core/file.h"
#include "core/log.h"
#include "data/build.h"
#include "data/tokenizer.h"

static const char data_help[] =
    "usage: hornbook data build --tokenizer PATH --output PREFIX [option...] INPUT...\n"
    "\n"
    "  build   text to shards of tokens, with a held-out split\n"
    "\n"
    "'hornbook data build --help' says more.\n";

static const char build_help[] =
    "usage: hornbook data build --tokenizer PATH --output PREFIX [option...] INPUT...\n"
    "\n"
    "Writes PREFIX-train.bin and .idx, PREFIX-heldout.bin and .idx (Megatron indexed\n"
    "datasets) and the manifest PREFIX.json. An INPUT is a file or a folder, which is\n"
    "searched recursively. NAME.jsonl holds records {\"text\": ...}, one a line; any\n"
    "other file is one document, or several between lines of <|endoftext|>. Either may\n"
    "be compressed, NAME.gz or NAME.zst.\n"
    "\n"
    "  --tokenizer PATH   tokenizer.json, or the folder it lies in\n"
    "  --output PREFIX    where to write; its folder is created\n"
    "  --held-out SHARE   share of the documents held out of training, 0 to 0.5;\n"
    "                     chosen by a hash of the text (default 0.01)\n"
    "  --skip-invalid     leave out documents that are not UTF-8 and lines that are\n"
    "                     no records, and count them, instead of failing\n"
    "  --help             this text\n";

static hb_status encode(const void *context, const unsigned char *text, size_t size, struct hb_ids *ids)
{
    return hb_tokenizer_encode(context, text, size, false, ids);
}

static void show_progress(void *context, int64_t done, int64_t total)
{
    (void)context;
    hb_progress("encoding %.1f of %.1f MB (%.0f %%)", 1e-6 * (double)done, 1e-6 * (double)total,
                100 * (double)done / (double)total);
}

static void print_row(const char *name, const struct hb_build_counts *c)
{
    printf("%-10s %12" PRId64 " %14" PRId64 " %14" PRId64 " %12.2f\n", name, c->documents, c->bytes,
           c->tokens, c->tokens ? (double)c->bytes / (double)c->tokens : 0.0);
}

/* Whole documents are held out: of a few large ones that may be most of the text. */
static void warn_of_large_share(const struct hb_build_options *options, const struct hb_build_report *report)
{
    double train = (double)report->total[HB_SIDE_TRAIN].bytes;
    double held_out = (double)report->total[HB_SIDE_HELD_OUT].bytes, share = held_out / (held_out + train);
    if (report->method == HB_SPLIT_HASH && share > options->held_out + 0.05)
        hb_log(HB_LOG_WARNING,
               "%.0f %% of the text is held out, %g %% were asked for: there are few documents, and large "
               "ones. Cut them into more, by lines of <|endoftext|>, or hold out 0.",
               100 * share, 100 * options->held_out);
}

static void print_report(const struct hb_build_options *options, const struct hb_build_report *report)
{
    printf("%-10s %12s %14s %14s %12s\n", "split", "documents", "bytes", "tokens", "bytes/token");
    print_row("train", &report->total[HB_SIDE_TRAIN]);
    if (report->method != HB_SPLIT_NONE)
        print_row("held-out", &report->total[HB_SIDE_HELD_OUT]);
    printf("%" PRId64 " files, tokens as %s: %s.json\n", report->source.files,
           report->shards[HB_SIDE_TRAIN].dtype, options->prefix);
    if (report->method == HB_SPLIT_CUT)
        hb_log(HB_LOG_INFO,
               "There is only one document: its end is held out, from a paragraph (or line) on.");
    warn_of_large_share(options, report);
    if (report->source.empty)
        hb_log(HB_LOG_INFO, "%" PRId64 " documents without text were left out.", report->source.empty);
    if (report->source.invalid)
        hb_log(HB_LOG_WARNING, "%" PRId64 " invalid documents were left out; the first: %s",
               report->source.invalid, report->source.first_invalid);
}

/* The folder that `prefix` lies in. */
static hb_status create_folder_of(const char *prefix)
{
    const char *slash = strrchr(prefix, '/');
    if (!slash || slash == prefix)
        return HB_OK;
    char *folder = strndup(prefix, (size_t)(slash - prefix));
    if (!folder)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot create the folder of %s", prefix);
    hb_status status = hb_folder_create(folder);
    free(folder);
    return status;
}

static hb_status build(const char *tokenizer_path, const struct hb_build_options *options)
{
    struct hb_tokenizer *tokenizer;
    HB_TRY(hb_tokenizer_open(tokenizer_path, &tokenizer));
    struct hb_encoder encoder = {.context = tokenizer,
                                 .encode = encode,
                                 .vocabulary = hb_tokenizer_vocabulary(tokenizer),
                                 .end_of_text = hb_tokenizer_end_of_text(tokenizer),
                                 .path = hb_tokenizer_path(tokenizer),
                                 .hash = hb_tokenizer_hash(tokenizer)};
    hb_status status;
    if (encoder.end_of_text < 0) {
        status = HB_FAIL(HB_EFORMAT, "%s has no token %s, which must end every document", encoder.path,
                         HB_END_OF_TEXT);
        goto cleanup;
    }
    HB_TRY_CLEAN(create_folder_of(options->prefix));
    struct hb_build_report report;
    HB_TRY_CLEAN(hb_build(options, &encoder, &report));
    hb_progress_end();
    print_report(options, &report);
    hb_build_report_release(&report);
cleanup:
    hb_tokenizer_destroy(tokenizer);
    return status;
}

static int build_command(int argc, char **argv)
{
    struct hb_build_options options = {.held_out = 0.01, .progress = show_progress};
    const char *tokenizer = NULL;
    const struct hb_option known[] = {
        {"--tokenizer", HB_OPTION_TEXT, &tokenizer, 0, 0},
        {"--output", HB_OPTION_TEXT, &options.prefix, 0, 0},
        {"--held-out", HB_OPTION_NUMBER, &options.held_out, 0, 0.5},
        {"--skip-invalid", HB_OPTION_FLAG, &options.source.skip_invalid, 0, 0},
    };
    int rest, code;
    if (!hb_options_read(argc, argv, known, sizeof known / sizeof *known, build_help, &rest, &code))
        return code;
    if (!tokenizer)
        return hb_wrong_usage(argv[0], "--tokenizer is missing");
    if (!options.prefix || !options.prefix[0])
        return hb_wrong_usage(argv[0], "--output is missing");
    if (rest == 0)
        return hb_wrong_usage(argv[0], "name at least one file or folder");
    options.source.inputs = (const char *const *)argv + 1;
    options.source.input_count = (size_t)rest;
    return hb_finish(argv[0], build(tokenizer, &options));
}

int hb_cli_data(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "build") == 0) {
        static char name[] = "data build";
        argv[1] = name; /* what messages begin with */
        return build_command(argc - 1, argv + 1);
    }
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(data_help, stdout);
        return HB_CLI_DONE;
    }
    if (argc >= 2)
        return hb_wrong_usage("data", "unknown command '%s'", argv[1]);
    fputs(data_help, stderr);
    return HB_CLI_WRONG_USAGE;
}
