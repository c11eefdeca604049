/* hornbook: one program, one file per sub-command. */
#include <stdio.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/data.h"
#include "cli/diff.h"
#include "cli/generate.h"
#include "cli/ops.h"
#include "cli/plan.h"
#include "cli/probe.h"
#include "cli/scaler.h"
#include "cli/supervise.h"
#include "cli/tokenizer.h"
#include "cli/train.h"
#include "cli/verify.h"
#include "core/fault.h"
#include "core/status.h"
#include "ops/backend.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *about;
} commands[] = {
    {"tokenizer", hb_cli_tokenizer, "train a byte-level BPE; encode, decode"},
    {"data", hb_cli_data, "text files to token shards"},
    {"train", hb_cli_train, "train a model from a run configuration"},
    {"generate", hb_cli_generate, "let a trained model write"},
    {"verify", hb_cli_verify, "check a backend against golden outputs and ref"},
    {"probe", hb_cli_probe, "logits, losses and gradients of one microbatch"},
    {"scaler", hb_cli_scaler, "replay a trace of overflows through a loss scaler"},
    {"diff", hb_cli_diff, "where do two runs part?"},
    {"ops", hb_cli_ops, "the table of ops and backends"},
    {"plan", hb_cli_plan, "bytes, messages and time of a run before it is started"},
    {"supervise", hb_cli_supervise, "start a training run again when it dies"},
    {"bench", hb_cli_bench, "time a training step, op by op"},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *out)
{
    fputs("usage: hornbook COMMAND ...\n\n", out);
    for (int i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].about);
    fputs("\n'hornbook COMMAND --help' says more. 'hornbook --version' names the version.\n", out);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("hornbook %s, numerics version %d\n", PACKAGE_VERSION, HB_NUMERICS_VERSION);
        return 0;
    }
    if (hb_fault_arm_from_environment() != HB_OK) {
        fprintf(stderr, "hornbook: HB_FAULT: %s\n", hb_error());
        return 2;
    }
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "hornbook: unknown command '%s'\n\n", argv[1]);
    print_usage(stderr);
    return 2;
}
