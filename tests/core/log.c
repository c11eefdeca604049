#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* pseudo-terminals */
#endif
#include "core/log.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "scratch.h"

static int kept = -1;

/* Standard error goes to `handle` until uncapture. */
static void capture(int handle)
{
    fflush(stderr);
    kept = dup(STDERR_FILENO);
    assert_true(kept >= 0 && dup2(handle, STDERR_FILENO) >= 0);
}

static void uncapture(void)
{
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
}

static void messages_by_level(void **state)
{
    (void)state;
    const char *path = scratch_write("messages", "", 0);
    int handle = open(path, O_WRONLY | O_TRUNC);
    capture(handle);
    hb_log(HB_LOG_ERROR, "e %d", 1);
    hb_log(HB_LOG_WARNING, "w");
    hb_log(HB_LOG_INFO, "i");
    hb_log(HB_LOG_DEBUG, "dropped");
    hb_log_set_level(HB_LOG_DEBUG);
    hb_log(HB_LOG_DEBUG, "d");
    hb_log_set_level(HB_LOG_WARNING);
    hb_log(HB_LOG_INFO, "dropped");
    hb_progress("dropped");
    hb_progress_end();
    hb_log_set_level(HB_LOG_INFO);
    uncapture();
    close(handle);
    char *text;
    size_t size;
    OK(hb_file_read(path, &text, &size));
    assert_string_equal(text, "error: e 1\nwarning: w\ni\ndebug: d\n");
    free(text);
}

/* In a file: the first at once, then one in five seconds, the last at the end. */
static void progress_as_plain_lines(void **state)
{
    (void)state;
    const char *path = scratch_write("progress", "", 0);
    int handle = open(path, O_WRONLY | O_TRUNC);
    capture(handle);
    for (int step = 1; step <= 1000; step++)
        hb_progress("step %d", step);
    hb_log(HB_LOG_INFO, "message");
    hb_progress_end();
    hb_progress_end();
    hb_progress("next");
    hb_progress_end();
    uncapture();
    close(handle);
    char *text;
    size_t size;
    OK(hb_file_read(path, &text, &size));
    assert_string_equal(text, "step 1\nmessage\nstep 1000\nnext\n");
    free(text);
}

static void progress_on_a_terminal(void **state)
{
    (void)state;
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) {
        print_message("skipped: this system gives no pseudo-terminal\n");
        skip();
    }
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    assert_true(slave >= 0);
    struct termios raw;
    assert_int_equal(tcgetattr(slave, &raw), 0);
    cfmakeraw(&raw);
    assert_int_equal(tcsetattr(slave, TCSANOW, &raw), 0);
    struct winsize window = {.ws_row = 24, .ws_col = 11};
    assert_int_equal(ioctl(slave, TIOCSWINSZ, &window), 0);
    setenv("TERM", "xterm", 1);
    capture(slave);
    hb_progress("\xe4\xb8\xad step 1 of many"); /* cut to 10 columns, no character in half */
    hb_progress("held back");
    hb_log(HB_LOG_WARNING, "w");
    hb_progress("last");
    hb_progress_end();
    uncapture();
    char text[512];
    size_t used = 0;
    text[0] = '\0';
    while (!strstr(text, "last\033[K\n")) {
        ssize_t got = read(master, text + used, sizeof text - 1 - used);
        assert_true(got > 0);
        used += (size_t)got;
        text[used] = '\0';
    }
    /* On a slow machine the pause may be over: then the second line comes at once. */
    static const char first[] = "\r\xe4\xb8\xad step 1 o\033[K", early[] = "\rheld back\033[K";
    assert_int_equal(strncmp(text, first, strlen(first)), 0);
    const char *rest = text + strlen(first);
    if (strncmp(rest, early, strlen(early)) == 0)
        rest += strlen(early);
    assert_string_equal(rest, "\r\033[Kwarning: w\n\rheld back\033[K\rlast\033[K\n");
    close(slave);
    close(master);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_by_level),
        cmocka_unit_test(progress_as_plain_lines),
        cmocka_unit_test(progress_on_a_terminal),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
