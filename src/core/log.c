#include "core/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static enum hb_log_level limit = HB_LOG_INFO;

/* The progress line: what it says, whether that has been shown, and when a
 * line was shown last. */
static char line[512];
static bool active, shown;
static double shown_at;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A terminal that can go back in a line. */
static bool on_terminal(void)
{
    const char *kind = getenv("TERM");
    return isatty(STDERR_FILENO) && kind && strcmp(kind, "dumb") != 0;
}

/* Bytes of `text` that fill at most `columns`, whole UTF-8 characters only. */
static size_t cut(const char *text, size_t columns)
{
    size_t bytes = 0;
    for (; text[bytes]; bytes++) {
        bool starts = ((unsigned char)text[bytes] & 0xc0) != 0x80;
        if (starts && columns-- == 0)
            break;
    }
    return bytes;
}

static void show(bool terminal)
{
    if (terminal) {
        struct winsize window = {0};
        size_t columns = 80;
        if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1)
            columns = window.ws_col;
        /* A line that wraps could not be written over. */
        fprintf(stderr, "\r%.*s\033[K", (int)cut(line, columns - 1), line);
    } else {
        fprintf(stderr, "%s\n", line);
    }
    fflush(stderr);
    shown = true;
    shown_at = now();
}

void hb_log_set_level(enum hb_log_level level)
{
    pthread_mutex_lock(&mutex);
    limit = level;
    pthread_mutex_unlock(&mutex);
}

void hb_log(enum hb_log_level level, const char *format, ...)
{
    static const char *const prefixes[] = {[HB_LOG_ERROR] = "error: ",
                                           [HB_LOG_WARNING] = "warning: ",
                                           [HB_LOG_INFO] = "",
                                           [HB_LOG_DEBUG] = "debug: "};
    pthread_mutex_lock(&mutex);
    if (level <= limit) {
        bool covered = active && on_terminal();
        if (covered)
            fputs("\r\033[K", stderr);
        fputs(prefixes[level], stderr);
        va_list args;
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fputc('\n', stderr);
        if (covered)
            show(true);
        fflush(stderr);
    }
    pthread_mutex_unlock(&mutex);
}

void hb_progress(const char *format, ...)
{
    pthread_mutex_lock(&mutex);
    if (limit >= HB_LOG_INFO) {
        va_list args;
        va_start(args, format);
        vsnprintf(line, sizeof line, format, args);
        va_end(args);
        bool terminal = on_terminal();
        double pause = terminal ? 0.1 : 5;
        if (!active || now() - shown_at >= pause)
            show(terminal);
        else
            shown = false;
        active = true;
    }
    pthread_mutex_unlock(&mutex);
}

void hb_progress_end(void)
{
    pthread_mutex_lock(&mutex);
    if (active) {
        bool terminal = on_terminal();
        if (!shown)
            show(terminal);
        if (terminal)
            fputc('\n', stderr);
        fflush(stderr);
        active = false;
    }
    pthread_mutex_unlock(&mutex);
}
