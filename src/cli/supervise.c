#include "cli/supervise.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/options.h"
#include "core/file.h"
#include "core/log.h"
#include "train/run_config.h"

static const char usage[] =
    "usage: hornbook supervise [option...] -- COMMAND...\n"
    "\n"
    "Runs COMMAND, a training run under any launcher, and starts it again from the last\n"
    "whole checkpoint when it dies: for example\n"
    "\n"
    "  hornbook supervise -- mpiexec -n 4 hornbook train run.yaml --parallel dp=4\n"
    "\n"
    "The command gets --resume at its end. A run that fails by itself before its first step is not\n"
    "started again, nor one that does not get further: its message is what is wanted.\n"
    "Ctrl-C and SIGTERM are passed on and end the supervision.\n"
    "\n"
    "  --restarts N        give up after N attempts in a row that got no further than\n"
    "                      one before (default 3)\n"
    "  --silence SECONDS   kill and restart a run that writes no metrics for so long;\n"
    "                      longer than a step with evaluation and checkpoint (default 0:\n"
    "                      wait for ever)\n"
    "  --help              this text\n";

struct supervision {
    char **command; /* NULL at the end */
    char metrics[4096];
    int64_t restarts;
    double silence;
};

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    stop = number;
}

/* --- what is run --- */

/* "train RUN.yaml --set ..." somewhere in the command says where the metrics lie. */
static hb_status find_metrics(int count, char **words, struct supervision *s)
{
    const char *overrides[64], *config_path = NULL;
    struct hb_run_config config;
    int overridden = 0, w = 0;
    while (w < count && strcmp(words[w], "train") != 0)
        w++;
    for (w++; w < count; w++) {
        if (strcmp(words[w], "--set") == 0 && w + 1 < count && overridden < 64)
            overrides[overridden++] = words[++w];
        else if (strncmp(words[w], "--set=", 6) == 0 && overridden < 64)
            overrides[overridden++] = words[w] + 6;
        else if (!config_path && words[w][0] != '-')
            config_path = words[w];
    }
    if (!config_path)
        return HB_FAIL(HB_EARGUMENT, "the command is no training run: it must hold the words train RUN.yaml");
    HB_TRY(hb_run_config_load(config_path, overrides, overridden, &config));
    snprintf(s->metrics, sizeof s->metrics, "%s/metrics.jsonl", config.run_folder);
    hb_run_config_release(&config);
    return HB_OK;
}

static hb_status take_command(int count, char **words, struct supervision *s)
{
    bool resumes = false;
    s->command = calloc((size_t)count + 2, sizeof *s->command);
    if (!s->command)
        return HB_FAIL(HB_EMEMORY, "out of memory for the command");
    for (int w = 0; w < count; w++) {
        s->command[w] = words[w];
        resumes |= strcmp(words[w], "--resume") == 0;
    }
    static char resume[] = "--resume";
    if (!resumes)
        s->command[count] = resume;
    return find_metrics(count, words, s);
}

/* --- progress --- */

/* The last step in the metrics; 0: none. */
static int64_t last_step(const char *path)
{
    char *text;
    size_t size;
    long long step = 0;
    if (!hb_file_exists(path) || hb_file_read(path, &text, &size) != HB_OK)
        return 0;
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL)
        sscanf(line, "{\"step\":%lld", &step);
    free(text);
    return step;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int64_t size_of(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 ? (int64_t)info.st_size : 0;
}

/* --- one attempt --- */

static pid_t start(const struct supervision *s, int64_t attempt)
{
    char text[32];
    fflush(NULL);
    pid_t child = fork();
    if (child != 0)
        return child;
    /* A group of its own: what is left of it can be killed as one. */
    setpgid(0, 0);
    snprintf(text, sizeof text, "%" PRId64, attempt);
    setenv("HB_ATTEMPT", text, 1);
    execvp(s->command[0], s->command);
    fprintf(stderr, "hornbook supervise: cannot start %s: %s\n", s->command[0], strerror(errno));
    _exit(127);
}

/* Waits for the run to end, passes a signal on, kills it when it is silent. Its exit status as of waitpid. */
static int wait_for(const struct supervision *s, pid_t child)
{
    const struct timespec pause = {.tv_nsec = 50000000};
    double heard = now();
    int64_t size = size_of(s->metrics);
    int passed_on = 0, status;
    for (;;) {
        pid_t ended = waitpid(child, &status, WNOHANG);
        if (ended == child || (ended < 0 && errno != EINTR))
            break;
        if (stop != passed_on) {
            passed_on = stop;
            kill(-child, passed_on);
        }
        if (size_of(s->metrics) != size) {
            size = size_of(s->metrics);
            heard = now();
        }
        if (s->silence > 0 && now() - heard > s->silence) {
            hb_log(HB_LOG_WARNING, "the run has written no metrics for %.0f s; it is killed", s->silence);
            kill(-child, SIGKILL);
            heard = now();
        }
        nanosleep(&pause, NULL);
    }
    kill(-child, SIGKILL); /* whoever of the group is left */
    return status;
}

static int code_of(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void say_how_it_ended(int status, int64_t step)
{
    if (WIFSIGNALED(status))
        hb_log(HB_LOG_WARNING, "the run was ended by signal %d (%s) behind step %" PRId64, WTERMSIG(status),
               strsignal(WTERMSIG(status)), step);
    else
        hb_log(HB_LOG_WARNING, "the run ended with status %d behind step %" PRId64, WEXITSTATUS(status),
               step);
}

static int supervise(const struct supervision *s)
{
    int64_t furthest = last_step(s->metrics), idle = 0;
    for (int64_t attempt = 0;; attempt++) {
        pid_t child = start(s, attempt);
        if (child < 0)
            return hb_finish("supervise", HB_FAIL(HB_EIO, "cannot start a process: %s", strerror(errno)));
        int status = wait_for(s, child), code = code_of(status);
        int64_t step = last_step(s->metrics);
        if (code == 0 || stop)
            return code;
        say_how_it_ended(status, step);
        idle = step > furthest ? 0 : idle + 1;
        if (step > furthest)
            furthest = step;
        /* A refusal is for people to read. A signal may come any time; launchers make another code of it. */
        bool refused = code == HB_CLI_FAILED && furthest == 0;
        if (refused || code == 127 || code == HB_CLI_WRONG_USAGE || idle > s->restarts) {
            hb_log(HB_LOG_ERROR, "hornbook supervise: not started again: %s",
                   idle > s->restarts ? "it gets no further" : "it never made a step");
            return code;
        }
        hb_log(HB_LOG_INFO, "starting it again from the last whole checkpoint");
    }
}

int hb_cli_supervise(int argc, char **argv)
{
    struct supervision s = {.restarts = 3};
    const struct hb_option options[] = {
        {"--restarts", HB_OPTION_INT, &s.restarts, 0, 1e9},
        {"--silence", HB_OPTION_NUMBER, &s.silence, 0, 1e9},
    };
    int rest, code, own = 1;
    while (own < argc && strcmp(argv[own], "--") != 0)
        own++;
    if (!hb_options_read(own, argv, options, 2, usage, &rest, &code))
        return code;
    if (rest != 0 || own + 1 >= argc)
        return hb_wrong_usage("supervise", "the command to run comes behind --");
    hb_status status = take_command(argc - own - 1, argv + own + 1, &s);
    if (status == HB_OK) {
        signal(SIGINT, on_signal);
        signal(SIGTERM, on_signal);
        code = supervise(&s);
    } else {
        code = hb_finish("supervise", status);
    }
    free(s.command);
    return code;
}
