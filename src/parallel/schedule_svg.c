#include "parallel/schedule_svg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEFT = 70, TOP = 58, ROW = 30, GAP = 6, WIDTH = 1240, RIGHT = 20, BOTTOM = 46 };

struct picture {
    FILE *out;
    const struct hb_schedule *schedule;
    const struct hb_simulation *simulation;
    double scale; /* pixels a unit of time */
    const char *unit;
};

/* Colours that a print in grey and most colour-blind readers keep apart; later chunks of a rank are paler. */
static const struct {
    const char *colour, *name;
} kinds[] = {
    [HB_ACTION_F] = {"#4477aa", "F forward"},
    [HB_ACTION_I] = {"#228833", "I gradient of inputs"},
    [HB_ACTION_W] = {"#ccbb44", "W gradient of weights"},
    [HB_ACTION_B] = {"#66aa77", "B both gradients"},
};

/* Number of a stage among those of its rank. */
static int chunk_of(const struct hb_schedule *s, int stage)
{
    int chunk = 0;
    for (int i = 0; i < stage; i++)
        chunk += s->rank_of[i] == s->rank_of[stage];
    return chunk;
}

static int chunks_of(const struct hb_schedule *s, int rank)
{
    int chunks = 0;
    for (int i = 0; i < s->stages; i++)
        chunks += s->rank_of[i] == rank;
    return chunks;
}

static void draw_action(const struct picture *p, int rank, int64_t i)
{
    const struct hb_action *a = &p->schedule->rows[rank].actions[i];
    const struct hb_simulated_action *t = &p->simulation->rank[rank].actions[i];
    if (a->kind > HB_ACTION_B)
        return;
    double x = LEFT + p->scale * t->begin, width = p->scale * (t->end - t->begin),
           y = TOP + rank * (ROW + GAP);
    int chunks = chunks_of(p->schedule, rank);
    double opacity = chunks > 1 ? 1 - 0.55 * chunk_of(p->schedule, a->stage) / (chunks - 1) : 1;
    char text[HB_ACTION_TEXT];
    fprintf(p->out,
            "<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%d\" fill=\"%s\" fill-opacity=\"%.2f\">"
            "<title>%s, %.4g to %.4g%s%s</title></rect>\n",
            x, y, width, ROW, kinds[a->kind].colour, opacity, hb_action_text(a, text), t->begin, t->end,
            *p->unit ? " " : "", p->unit);
    if (width >= 10 + 7 * (a->microbatch >= 10) + 7 * (a->microbatch >= 100))
        fprintf(p->out, "<text x=\"%.2f\" y=\"%.1f\" text-anchor=\"middle\" fill=\"%s\">%lld</text>\n",
                x + width / 2, y + ROW / 2.0 + 4,
                opacity > 0.7 && a->kind != HB_ACTION_W ? "#ffffff" : "#000000", (long long)a->microbatch);
}

static void draw_rank(const struct picture *p, int rank)
{
    double y = TOP + rank * (ROW + GAP);
    fprintf(p->out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">rank %d</text>\n", LEFT - 8,
            y + ROW / 2.0 + 4, rank);
    fprintf(p->out, "<rect x=\"%d\" y=\"%.1f\" width=\"%.2f\" height=\"%d\" fill=\"#eeeeee\"/>\n", LEFT, y,
            p->scale * p->simulation->makespan, ROW);
    for (int64_t i = 0; i < p->schedule->rows[rank].count; i++)
        draw_action(p, rank, i);
}

/* A tick every 1, 2 or 5 times a power of ten, about ten of them. */
static void draw_axis(const struct picture *p)
{
    double span = p->simulation->makespan, step = 1, bottom = TOP + p->simulation->ranks * (ROW + GAP);
    for (; step > span / 5; step /= 10)
        ;
    for (; step * 10 <= span / 5; step *= 10)
        ;
    if (span / step > 25)
        step *= 5;
    else if (span / step > 12)
        step *= 2;
    for (int i = 0; i * step <= span * 1.0001; i++) {
        double x = LEFT + p->scale * i * step;
        fprintf(p->out, "<line x1=\"%.2f\" y1=\"%.1f\" x2=\"%.2f\" y2=\"%.1f\" stroke=\"#888888\"/>\n", x,
                bottom, x, bottom + 5);
        fprintf(p->out, "<text x=\"%.2f\" y=\"%.1f\" text-anchor=\"middle\">%.4g%s%s</text>\n", x,
                bottom + 19, i * step, *p->unit ? " " : "", p->unit);
    }
}

static void draw_legend(const struct picture *p)
{
    int x = LEFT;
    for (int k = HB_ACTION_F; k <= HB_ACTION_B; k++) {
        if (!hb_schedule_has(p->schedule, (enum hb_action_kind)k))
            continue;
        fprintf(p->out, "<rect x=\"%d\" y=\"34\" width=\"12\" height=\"12\" fill=\"%s\"/>\n", x,
                kinds[k].colour);
        fprintf(p->out, "<text x=\"%d\" y=\"44\">%s</text>\n", x + 17, kinds[k].name);
        x += 40 + 7 * (int)strlen(kinds[k].name);
    }
    if (p->schedule->stages > p->schedule->ranks)
        fprintf(p->out, "<text x=\"%d\" y=\"44\">paler: later stages of the model</text>\n", x);
}

/* A path is the user's: its markup must not become ours. */
static void put_escaped(FILE *out, const char *text)
{
    for (; *text; text++)
        if (*text == '<' || *text == '>' || *text == '&' || *text == '"')
            fprintf(out, "&#%d;", *text);
        else
            fputc(*text, out);
}

static void draw(const struct picture *p)
{
    int height = TOP + p->schedule->ranks * (ROW + GAP) + BOTTOM;
    fprintf(p->out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
            "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" "
            "fill=\"#ffffff\"/>\n",
            LEFT + WIDTH + RIGHT, height, LEFT + WIDTH + RIGHT, height);
    fprintf(p->out, "<text x=\"%d\" y=\"22\" font-size=\"15\">", LEFT);
    put_escaped(p->out, p->schedule->name);
    fprintf(p->out, ": %d ranks, %lld microbatches, %.1f %% busy</text>\n", p->schedule->ranks,
            (long long)p->schedule->microbatches, 100 * p->simulation->utilisation);
    draw_legend(p);
    for (int r = 0; r < p->schedule->ranks; r++)
        draw_rank(p, r);
    draw_axis(p);
    fputs("</svg>\n", p->out);
}

hb_status hb_schedule_svg(const struct hb_schedule *schedule, const struct hb_simulation *simulation,
                          const char *unit, char **text)
{
    size_t size;
    *text = NULL;
    if (simulation->makespan <= 0)
        return HB_FAIL(HB_EARGUMENT, "%s takes no time; there is nothing to draw", schedule->name);
    struct picture p = {.schedule = schedule, .simulation = simulation, .unit = unit};
    p.scale = WIDTH / simulation->makespan;
    p.out = open_memstream(text, &size);
    if (!p.out)
        return HB_FAIL(HB_EMEMORY, "out of memory for a picture");
    draw(&p);
    if (fclose(p.out) == 0)
        return HB_OK;
    free(*text);
    *text = NULL;
    return HB_FAIL(HB_EMEMORY, "out of memory for a picture");
}
