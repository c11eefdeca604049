#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/status.h"

int hb_wrong_usage(const char *command, const char *format, ...)
{
    va_list args;
    fprintf(stderr, "hornbook %s: ", command);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\ntry 'hornbook %s --help'\n", command);
    return HB_CLI_WRONG_USAGE;
}

int hb_finish(const char *command, int status)
{
    if (status == HB_OK && (fflush(stdout) != 0 || ferror(stdout)))
        status = HB_FAIL(HB_EIO, "standard output cannot be written: %s", strerror(errno));
    if (status == HB_OK)
        return HB_CLI_DONE;
    hb_progress_end();
    hb_log(HB_LOG_ERROR, "hornbook %s: %s", command, hb_error());
    return HB_CLI_FAILED;
}

static const struct hb_option *find(const struct hb_option *options, int count, const char *name,
                                    size_t length)
{
    for (int i = 0; i < count; i++)
        if (strlen(options[i].name) == length && strncmp(options[i].name, name, length) == 0)
            return &options[i];
    return NULL;
}

/* "5" or "5:9"; NULL: neither. */
static bool set_range(struct hb_option_range *range, const char *text)
{
    *range = (struct hb_option_range){.given = true, .first = -1, .second = -1};
    if (!text)
        return true;
    char *end;
    errno = 0;
    range->first = strtoll(text, &end, 10);
    if (end == text || errno || range->first < 0)
        return false;
    if (*end == ':') {
        const char *rest = end + 1;
        range->second = strtoll(rest, &end, 10);
        if (end == rest || errno || range->second < 0)
            return false;
    }
    return !*end;
}

/* Stores a value; false: it does not fit the type. */
static bool set(const struct hb_option *option, const char *text)
{
    char *end;
    errno = 0;
    switch (option->type) {
    case HB_OPTION_TEXT:
        *(const char **)option->value = text;
        return true;
    case HB_OPTION_LIST: {
        struct hb_option_list *list = option->value;
        if (list->count == (int)(sizeof list->items / sizeof list->items[0]))
            return false;
        list->items[list->count++] = text;
        return true;
    }
    case HB_OPTION_INT: {
        long long value = strtoll(text, &end, 10);
        *(int64_t *)option->value = value;
        return *text && !*end && !errno && (double)value >= option->min && (double)value <= option->max;
    }
    case HB_OPTION_NUMBER: {
        double value = strtod(text, &end);
        *(double *)option->value = value;
        return *text && !*end && value >= option->min && value <= option->max;
    }
    default:
        return false;
    }
}

bool hb_options_read(int argc, char **argv, const struct hb_option *options, int count, const char *usage,
                     int *rest, int *code)
{
    bool only_words = false;
    *rest = 0;
    for (int i = 1; i < argc; i++) {
        char *word = argv[i];
        if (only_words || word[0] != '-' || !word[1]) {
            argv[++*rest] = word;
            continue;
        }
        if (strcmp(word, "--") == 0) {
            only_words = true;
            continue;
        }
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            fputs(usage, stdout);
            *code = HB_CLI_DONE;
            return false;
        }
        const char *equals = strchr(word, '=');
        size_t length = equals ? (size_t)(equals - word) : strlen(word);
        const struct hb_option *option = find(options, count, word, length);
        if (!option) {
            *code = hb_wrong_usage(argv[0], "unknown option %.*s", (int)length, word);
            return false;
        }
        if (option->type == HB_OPTION_FLAG) {
            if (equals) {
                *code = hb_wrong_usage(argv[0], "%s takes no value", option->name);
                return false;
            }
            *(bool *)option->value = true;
            continue;
        }
        if (option->type == HB_OPTION_RANGE) {
            bool follows = i + 1 < argc && isdigit((unsigned char)argv[i + 1][0]);
            const char *text = equals ? equals + 1 : follows ? argv[++i] : NULL;
            if (!set_range(option->value, text)) {
                *code = hb_wrong_usage(argv[0], "%s must be as in 5 or 5:9, got '%s'", option->name, text);
                return false;
            }
            continue;
        }
        const char *value = equals ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (!value) {
            *code = hb_wrong_usage(argv[0], "%s needs a value", option->name);
            return false;
        }
        if (!set(option, value)) {
            if (option->type == HB_OPTION_LIST)
                *code = hb_wrong_usage(argv[0], "%s is given too often", option->name);
            else if (option->type == HB_OPTION_INT)
                *code = hb_wrong_usage(argv[0], "%s must be an integer from %.0f to %.0f, got '%s'",
                                       option->name, option->min, option->max, value);
            else
                *code = hb_wrong_usage(argv[0], "%s must be a number from %g to %g, got '%s'", option->name,
                                       option->min, option->max, value);
            return false;
        }
    }
    return true;
}
