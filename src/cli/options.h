/* Options of sub-commands: a table of what is known, strict about the rest. */
#ifndef HB_CLI_OPTIONS_H
#define HB_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum { HB_CLI_DONE = 0, HB_CLI_FAILED = 1, HB_CLI_WRONG_USAGE = 2 };

enum hb_option_type {
    HB_OPTION_FLAG, HB_OPTION_TEXT, HB_OPTION_INT, HB_OPTION_NUMBER, HB_OPTION_LIST, HB_OPTION_RANGE
};

struct hb_option {
    const char *name; /* "--seed" */
    enum hb_option_type type;
    void *value; /* bool, const char *, int64_t, double, struct hb_option_list, struct hb_option_range */
    double min, max; /* of INT and NUMBER */
};

/* A text option that may be given several times. */
struct hb_option_list {
    const char *items[64];
    int count;
};

/* One or two numbers: "--trace", "--trace 5", "--trace 5:9". The next word is the
 * value if it begins with a digit. */
struct hb_option_range {
    bool given;
    int64_t first, second; /* -1: not given */
};

/* Reads options anywhere among the arguments ("--name VALUE", "--name=VALUE");
 * the others are moved to argv[1..*rest]. "--help" prints `usage` and sets
 * *code to HB_CLI_DONE. On false, *code is what the command returns. */
bool hb_options_read(int argc, char **argv, const struct hb_option *options, int count, const char *usage,
                     int *rest, int *code);

/* "hornbook COMMAND: message" and the hint to --help, on standard error;
 * returns HB_CLI_WRONG_USAGE. */
int hb_wrong_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints hb_error() if `status` is not HB_OK, and returns the exit code. */
int hb_finish(const char *command, int status);

#endif
