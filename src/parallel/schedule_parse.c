#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/schedule.h"

struct reader {
    const char *name, *text, *at, *line_start;
    int line;
};

static int column(const struct reader *r)
{
    return (int)(r->at - r->line_start) + 1;
}

/* Longest names first: "RECV_F" is no "R". */
static bool read_kind(struct reader *r, enum hb_action_kind *kind)
{
    static const enum hb_action_kind order[] = {HB_ACTION_SEND_F, HB_ACTION_RECV_F, HB_ACTION_SEND_B,
                                                HB_ACTION_RECV_B, HB_ACTION_GATHER, HB_ACTION_RELEASE,
                                                HB_ACTION_F,      HB_ACTION_I,      HB_ACTION_W,
                                                HB_ACTION_B};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        const char *word = hb_action_kind_name(order[i]);
        if (strncmp(r->at, word, strlen(word)) != 0)
            continue;
        r->at += strlen(word);
        *kind = order[i];
        return true;
    }
    return false;
}

static bool read_number(struct reader *r, int64_t most, int64_t *value)
{
    const char *start = r->at;
    for (*value = 0; isdigit((unsigned char)*r->at) && *value <= most; r->at++)
        *value = 10 * *value + (*r->at - '0');
    if (r->at > start && *value <= most)
        return true;
    r->at = start;
    return false;
}

static bool ends_word(char c)
{
    return !c || c == ',' || c == '#' || isspace((unsigned char)c);
}

static hb_status read_action(struct reader *r, struct hb_action *a)
{
    int64_t stage;
    if (!read_number(r, HB_STAGES_MAX - 1, &stage))
        return HB_FAIL(HB_EFORMAT, "%s:%d:%d: an action begins with its stage, from 0 to %d, as in 0F3",
                       r->name, r->line, column(r), HB_STAGES_MAX - 1);
    a->stage = (int)stage;
    if (!read_kind(r, &a->kind))
        return HB_FAIL(
            HB_EFORMAT,
            "%s:%d:%d: after the stage comes one of F, I, W, B, SEND_F, RECV_F, SEND_B, RECV_B, GATHER, "
            "RELEASE",
            r->name, r->line, column(r));
    a->microbatch = a->peer = -1;
    bool numbered = a->kind != HB_ACTION_GATHER && a->kind != HB_ACTION_RELEASE;
    if (numbered && !read_number(r, HB_ROUNDS_MAX - 1, &a->microbatch))
        return HB_FAIL(HB_EFORMAT,
                       "%s:%d:%d: here comes the number of the microbatch, from 0 to %d, as in 0%s3", r->name,
                       r->line, column(r), HB_ROUNDS_MAX - 1, hb_action_kind_name(a->kind));
    if (!ends_word(*r->at))
        return HB_FAIL(HB_EFORMAT, "%s:%d:%d: a space or a comma ends an action, not '%c'", r->name, r->line,
                       column(r), *r->at);
    return HB_OK;
}

/* Goes to the next action; false at the end of the line. */
static bool next_word(struct reader *r)
{
    while (*r->at == ' ' || *r->at == '\t' || *r->at == ',' || *r->at == '\r')
        r->at++;
    if (*r->at == '#')
        r->at += strcspn(r->at, "\n");
    return *r->at && *r->at != '\n';
}

static hb_status add_row(struct hb_schedule *s)
{
    struct hb_schedule_row *grown = realloc(s->rows, (size_t)(s->ranks + 1) * sizeof *grown);
    if (!grown)
        return HB_FAIL(HB_EMEMORY, "out of memory for a schedule");
    s->rows = grown;
    s->rows[s->ranks++] = (struct hb_schedule_row){0};
    return HB_OK;
}

static hb_status read_line(struct reader *r, struct hb_schedule *s)
{
    bool first = true;
    while (next_word(r)) {
        struct hb_action a;
        if (first)
            HB_TRY(add_row(s));
        first = false;
        HB_TRY(read_action(r, &a));
        HB_TRY(hb_schedule_append(s, s->ranks - 1, a.kind, a.stage, a.microbatch));
        if (a.stage >= s->stages)
            s->stages = a.stage + 1;
        if (a.microbatch >= s->microbatches)
            s->microbatches = a.microbatch + 1;
    }
    return HB_OK;
}

static hb_status read_all(struct reader *r, struct hb_schedule *s)
{
    for (; *r->at; r->line++) {
        r->line_start = r->at;
        HB_TRY(read_line(r, s));
        if (*r->at == '\n')
            r->at++;
    }
    if (s->ranks == 0)
        return HB_FAIL(HB_EFORMAT, "%s: holds no actions", r->name);
    int *places = realloc(s->rank_of, (size_t)s->stages * sizeof *places);
    if (!places)
        return HB_FAIL(HB_EMEMORY, "out of memory for a schedule");
    s->rank_of = places;
    return hb_schedule_place(s);
}

hb_status hb_schedule_parse(const char *name, const char *text, struct hb_schedule *out)
{
    struct reader r = {.name = name, .text = text, .at = text, .line_start = text, .line = 1};
    HB_TRY(hb_schedule_create(name, 0, 0, 0, out));
    hb_status status = read_all(&r, out);
    if (status != HB_OK)
        hb_schedule_release(out);
    return status;
}
