#define _GNU_SOURCE 1
#include "core/fault.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const phase_names[HB_FAULT_PHASES] = {
    [HB_FAULT_FORWARD] = "forward",     [HB_FAULT_EXCHANGE] = "exchange",
    [HB_FAULT_FOLD] = "fold",           [HB_FAULT_OPTIMIZER] = "optimizer", [HB_FAULT_WRITE] = "write",
    [HB_FAULT_SHARD] = "shard",         [HB_FAULT_RENAME] = "rename",
};

enum effect { KILLS, HANGS, FAILS };
static const char *const effect_names[] = {"", "hang:", "fail:"};

static struct {
    enum hb_fault_phase phase; /* NONE: not armed */
    int64_t step, now;
    enum effect effect;
} armed;

/* The word number `which`; its length 0: there are not so many. */
static const char *find_word(const char *text, int64_t which, size_t *length)
{
    for (text += strspn(text, " ");; which--) {
        *length = strcspn(text, " ");
        if (which == 0 || *length == 0)
            return text;
        text += *length;
        text += strspn(text, " ");
    }
}

static hb_status read_word(const char *word, int rank)
{
    enum effect effect = KILLS;
    for (int e = HANGS; e <= FAILS; e++)
        if (strncmp(word, effect_names[e], strlen(effect_names[e])) == 0)
            effect = (enum effect)e;
    const char *rest = word + strlen(effect_names[effect]);
    for (int p = HB_FAULT_FORWARD; p < HB_FAULT_PHASES; p++) {
        size_t length = strlen(phase_names[p]);
        long long step;
        int of = 0, used = 0;
        if (strncmp(rest, phase_names[p], length) != 0 || rest[length] != '@')
            continue;
        if (sscanf(rest + length, "@%lld%n/%d%n", &step, &used, &of, &used) < 1 ||
            rest[length + (size_t)used])
            break;
        if (of == rank) {
            armed.phase = (enum hb_fault_phase)p;
            armed.step = step;
            armed.effect = effect;
        }
        return HB_OK;
    }
    return HB_FAIL(HB_EARGUMENT,
                   "a fault is written as in fold@3/1 (phase, step, rank), hang:fold@3/1 or fail:fold@3/1, "
                   "with a phase of forward, exchange, fold, optimizer, write, shard, rename; not '%s'",
                   word);
}

hb_status hb_fault_arm(const char *text, int64_t attempt, int rank)
{
    char word[64];
    size_t length;
    armed.phase = HB_FAULT_NONE;
    const char *start = find_word(text ? text : "", attempt, &length);
    if (length == 0 || (length == 1 && *start == '-'))
        return HB_OK;
    snprintf(word, sizeof word, "%.*s", (int)length, start);
    return read_word(word, rank);
}

hb_status hb_fault_arm_from_environment(void)
{
    static const char *const ranks[] = {"PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"};
    const char *attempt = getenv("HB_ATTEMPT"), *rank = NULL;
    for (size_t i = 0; i < sizeof ranks / sizeof ranks[0] && !rank; i++)
        rank = getenv(ranks[i]);
    return hb_fault_arm(getenv("HB_FAULT"), attempt ? atoll(attempt) : 0, rank ? atoi(rank) : 0);
}

void hb_fault_step(int64_t step)
{
    armed.now = step;
}

hb_status hb_fault_point(enum hb_fault_phase phase)
{
    if (armed.phase != phase || armed.now != armed.step)
        return HB_OK;
    if (armed.effect == FAILS)
        return HB_FAIL(HB_EIO, "the error that HB_FAULT asks for");
    while (armed.effect == HANGS)
        pause();
    kill(getpid(), SIGKILL);
    return HB_OK;
}
