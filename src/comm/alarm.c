#include "comm/alarm.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/over.h"
#include "comm/watch.h"

enum { TEXT = 1024, SUSPECTS = 8, LISTED = 16 };

/* What a rank tells every other one: first that it is here, then that all it sent has gone. */
struct notice {
    int32_t why; /* enum hb_alarm, or QUIET */
    int32_t status;
    int32_t suspects[SUSPECTS]; /* of HB_ALARM_SILENCE: ranks of the world, -1 behind the last */
    char text[TEXT];
};
enum { QUIET = -1 };

static struct {
    struct hb_comm *world; /* NULL: one rank */
    double patience;
    bool over, whole;      /* the meeting was held; all were there */
    bool *here, *quiet, *suspected; /* [size] */
    struct hb_comm_request *sends;  /* [2 size] */
    int send_count;
    struct notice mine, heard;
    /* the notice that counts: of the most serious kind, then of the lowest rank */
    struct notice chosen;
    int chosen_rank;
    bool unanimous; /* all ranks say the same of themselves */
    char followed[TEXT]; /* what an agreement brought */
} alarms;

hb_status hb_alarm_arm(struct hb_comm *world)
{
    size_t size = (size_t)world->size;
    if (size == 1 || !world->transport->ending)
        return HB_OK;
    alarms.here = calloc(size, sizeof *alarms.here);
    alarms.quiet = calloc(size, sizeof *alarms.quiet);
    alarms.suspected = calloc(size, sizeof *alarms.suspected);
    alarms.sends = calloc(2 * size, sizeof *alarms.sends);
    alarms.world = world;
    alarms.chosen_rank = -1;
    alarms.unanimous = true;
    if (alarms.here && alarms.quiet && alarms.suspected && alarms.sends)
        return HB_OK;
    hb_alarm_disarm(world);
    return HB_FAIL(HB_EMEMORY, "out of memory for the notices of %zu ranks", size);
}

void hb_alarm_disarm(const struct hb_comm *world)
{
    if (world != alarms.world)
        return;
    double patience = alarms.patience;
    free(alarms.here);
    free(alarms.quiet);
    free(alarms.suspected);
    free(alarms.sends);
    memset(&alarms, 0, sizeof alarms);
    alarms.patience = patience;
}

void hb_alarm_patience(double seconds)
{
    alarms.patience = seconds;
}

hb_status hb_alarm_over(void)
{
    if (!alarms.over)
        return HB_OK;
    hb_status status = alarms.chosen.status;
    return HB_FAIL(status ? status : HB_EIO, "%s", alarms.chosen.text);
}

void hb_alarm_follow(void)
{
    snprintf(alarms.followed, sizeof alarms.followed, "%s", hb_error());
}

/* --- notices --- */

static void take(int from, const struct notice *n)
{
    if (n->why == QUIET) {
        alarms.quiet[from] = true;
        return;
    }
    alarms.here[from] = true;
    for (int i = 0; i < SUSPECTS && n->suspects[i] >= 0; i++)
        alarms.suspected[n->suspects[i]] = true;
    alarms.unanimous &= n->why == HB_ALARM_FAILED && strcmp(n->text, alarms.mine.text) == 0;
    if (alarms.chosen_rank < 0 || n->why < alarms.chosen.why ||
        (n->why == alarms.chosen.why && from < alarms.chosen_rank)) {
        alarms.chosen = *n;
        alarms.chosen_rank = from;
    }
}

/* One notice that has come, if there is one: `from` >= 0. */
static hb_status hear(int *from)
{
    return alarms.world->transport->ending->hear(alarms.world, HB_LANE_NOTICES, &alarms.heard,
                                                 sizeof alarms.heard, from);
}

static hb_status tell_all(const struct notice *n)
{
    struct hb_comm *world = alarms.world;
    for (int r = 0; r < world->size; r++) {
        struct hb_comm_request *request = &alarms.sends[alarms.send_count];
        if (r == world->rank)
            continue;
        *request = (struct hb_comm_request){.peer = r};
        HB_TRY(world->transport->send(world, r, HB_LANE_NOTICES, n, sizeof *n, request));
        alarms.send_count++;
    }
    return HB_OK;
}

/* --- the meeting --- */

static bool all_of(const bool *flags)
{
    for (int r = 0; r < alarms.world->size; r++)
        if (!flags[r])
            return false;
    return true;
}

/* Until all are here and quiet, or `limit` seconds are over (0: never). */
static hb_status gather_all(double limit)
{
    struct hb_comm *world = alarms.world;
    const struct hb_transport_ending *ending = world->transport->ending;
    static const struct notice quiet = {.why = QUIET};
    double start = hb_watch_now();
    bool told = false;
    HB_TRY(tell_all(&alarms.mine));
    while (limit <= 0 || hb_watch_now() - start < limit) {
        int from, open;
        HB_TRY(hear(&from));
        if (from >= 0)
            take(from, &alarms.heard);
        HB_TRY(ending->discard());
        HB_TRY(ending->open_sends(&open));
        if (!told && open == 0) {
            told = alarms.quiet[world->rank] = true;
            HB_TRY(tell_all(&quiet));
        } else if (told && open == 0 && all_of(alarms.here) && all_of(alarms.quiet)) {
            alarms.whole = true;
            return ending->give_up_receives();
        }
        if (from < 0)
            sched_yield();
    }
    return HB_OK;
}

/* "2, 5"; those that were waited for in vain, or, if they have come, whoever has not. */
static int absent_ranks(char *text, size_t size)
{
    int count = 0, guilty = 0;
    size_t length = 0;
    for (int r = 0; r < alarms.world->size; r++)
        guilty += !alarms.here[r] && alarms.suspected[r];
    text[0] = '\0';
    for (int r = 0; r < alarms.world->size; r++) {
        if (alarms.here[r] || (guilty && !alarms.suspected[r]))
            continue;
        if (++count <= LISTED)
            length += (size_t)snprintf(text + length, size - length, "%s%d", count > 1 ? ", " : "", r);
    }
    if (count > LISTED)
        snprintf(text + length, size - length, ", ...");
    return count;
}

/* What the ranks have to say, once and the same on all of them. */
static void make_message(void)
{
    char absent[16 * LISTED], text[TEXT];
    int count = absent_ranks(absent, sizeof absent);
    memcpy(text, alarms.chosen.text, sizeof text);
    text[TEXT - 1] = '\0';
    if (alarms.chosen.why == HB_ALARM_SILENCE)
        snprintf(alarms.chosen.text, TEXT,
                 "%s%s%s (%.300s in vain). Restart from the last checkpoint (--resume), or give it longer "
                 "(parallel.timeout)",
                 count ? "no answer from rank " : "the ranks wait for each other", absent,
                 count ? ": it hangs or is gone" : "", text);
    else if (alarms.chosen.why == HB_ALARM_FAILED && !alarms.unanimous)
        snprintf(alarms.chosen.text, TEXT, "rank %d: %.*s", alarms.chosen_rank, TEXT - 32, text);
}

/* For those who wait in vain the others are either here soon or not at all. */
static double limit_of(enum hb_alarm why)
{
    double half = alarms.patience / 2;
    return why == HB_ALARM_SILENCE ? (half < 60 ? half : 60) : alarms.patience;
}

hb_status hb_alarm_listen(void)
{
    int from = -1;
    if (alarms.world)
        HB_TRY(hear(&from));
    if (from < 0)
        return HB_OK;
    take(from, &alarms.heard);
    return hb_alarm_raise(HB_ALARM_FOLLOWS, HB_EIO, NULL, 0);
}

hb_status hb_alarm_raise(enum hb_alarm why, hb_status status, const int *suspects, int count)
{
    if (!alarms.world)
        return status;
    if (alarms.over)
        return hb_alarm_over();
    struct notice *mine = &alarms.mine;
    *mine = (struct notice){.why = why, .status = status};
    snprintf(mine->text, sizeof mine->text, "%s", hb_error());
    if (why == HB_ALARM_FAILED && alarms.followed[0] && strstr(mine->text, alarms.followed))
        mine->why = HB_ALARM_FOLLOWS;
    for (int i = 0; i < SUSPECTS; i++)
        mine->suspects[i] = i < count ? suspects[i] : -1;
    take(alarms.world->rank, mine);
    alarms.over = true;
    alarms.whole = gather_all(limit_of((enum hb_alarm)alarms.chosen.why)) == HB_OK && alarms.whole;
    hb_over_give_up();
    make_message();
    return hb_alarm_over();
}

bool hb_alarm_whole(void)
{
    return !alarms.over || alarms.whole;
}

bool hb_alarm_speaks(void)
{
    int r = 0;
    while (alarms.over && !alarms.here[r])
        r++;
    return !alarms.world || r == alarms.world->rank;
}
