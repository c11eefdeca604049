#include "parallel/timeline.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/comm.h"
#include "core/file.h"
#include "core/json.h"
#include "ops/clock.h"

struct hb_timeline {
    FILE *file;
    char path[4096];
    int rank;
    int64_t step;
    double origin;
    bool broken; /* an event was not written */
    struct hb_timeline_totals totals;
    /* spans that are open: where they began, and seconds of those inside */
    int depth;
    double begin[HB_SPANS_DEEP], inside[HB_SPANS_DEEP];
};

/* Chrome's names of colours, by kind. */
static const char *const kind_colours[HB_SPAN_KINDS] = {
    [HB_SPAN_COMPUTE] = "good", [HB_SPAN_EXPERTS] = "yellow", [HB_SPAN_GATHER] = "thread_state_iowait",
    [HB_SPAN_REDUCE] = "olive", [HB_SPAN_AGREE] = "bad",      [HB_SPAN_WAIT] = "grey",
    [HB_SPAN_MESSAGE] = "olive", [HB_SPAN_OTHER] = "white",
};

const char *hb_span_kind_name(enum hb_span_kind kind)
{
    static const char *const names[HB_SPAN_KINDS] = {"compute", "experts", "gather", "reduce",
                                                     "agree",   "wait",    "message", "other"};
    return names[kind];
}

/* --- writing --- */

static void put(struct hb_timeline *t, json_t *event)
{
    if (!event || json_dumpf(event, t->file, JSON_COMPACT) != 0 || fputc('\n', t->file) == EOF)
        t->broken = true;
    json_decref(event);
}

static void put_name(struct hb_timeline *t, const char *what, int track, const char *name)
{
    put(t, json_pack("{s:s, s:s, s:i, s:i, s:{s:s}}", "name", what, "ph", "M", "pid", t->rank, "tid", track,
                     "args", "name", name));
}

hb_status hb_timeline_create(const char *run_folder, int rank, const char *place, struct hb_timeline **out)
{
    char folder[4096], name[256];
    struct hb_timeline *t = calloc(1, sizeof *t);
    if (!t)
        return HB_FAIL(HB_EMEMORY, "out of memory for a timeline");
    t->rank = rank;
    t->origin = hb_clock_now();
    int length = snprintf(folder, sizeof folder, "%s/timeline", run_folder);
    int whole = snprintf(t->path, sizeof t->path, "%s/timeline/rank-%05d.jsonl", run_folder, rank);
    hb_status status = length < 0 || whole < 0 || (size_t)whole >= sizeof t->path
                           ? HB_FAIL(HB_EARGUMENT, "the path of the run folder is too long for a timeline")
                           : hb_folder_create(folder);
    if (status == HB_OK) {
        t->file = fopen(t->path, "w");
        if (!t->file)
            status = hb_file_fail("create", t->path);
    }
    if (status != HB_OK) {
        free(t);
        return status;
    }
    snprintf(name, sizeof name, "rank %d%s%s", rank, *place ? ": " : "", place);
    put_name(t, "process_name", 0, name);
    put_name(t, "thread_name", 0, "work");
    put_name(t, "thread_name", 1, "messages");
    *out = t;
    return HB_OK;
}

hb_status hb_timeline_destroy(struct hb_timeline *t)
{
    if (!t)
        return HB_OK;
    bool failed = t->broken || fflush(t->file) != 0;
    failed |= fclose(t->file) != 0;
    hb_status status = failed ? hb_file_fail("write", t->path) : HB_OK;
    free(t);
    return status;
}

void hb_timeline_origin(struct hb_timeline *t, double seconds)
{
    if (t)
        t->origin = seconds;
}

void hb_timeline_step(struct hb_timeline *t, int64_t step)
{
    if (t)
        t->step = step;
}

static void write_span(struct hb_timeline *t, enum hb_span_kind kind, const char *name, double begin,
                       double end, int64_t messages, int64_t bytes, double waited)
{
    json_t *args = json_pack("{s:I}", "step", (json_int_t)t->step);
    if (messages)
        json_object_set_new(args, "messages", json_integer((json_int_t)messages));
    if (bytes)
        json_object_set_new(args, "bytes", json_integer((json_int_t)bytes));
    if (waited > 0)
        json_object_set_new(args, "waited", json_real(1e6 * waited));
    put(t, json_pack("{s:s, s:s, s:s, s:s, s:f, s:f, s:i, s:i, s:o}", "name", name, "cat",
                     hb_span_kind_name(kind), "cname", kind_colours[kind], "ph", "X", "ts",
                     1e6 * (begin - t->origin), "dur", 1e6 * (end - begin), "pid", t->rank, "tid",
                     kind == HB_SPAN_MESSAGE ? 1 : 0, "args", args));
}

void hb_timeline_span(struct hb_timeline *t, enum hb_span_kind kind, const char *name, double begin,
                      double end, int64_t messages, int64_t bytes, double waited)
{
    if (!t)
        return;
    t->totals.seconds[kind] += end - begin;
    t->totals.bytes += bytes;
    t->totals.spans++;
    if (t->depth && kind != HB_SPAN_MESSAGE)
        t->inside[t->depth - 1] += end - begin;
    write_span(t, kind, name, begin, end, messages, bytes, waited);
}

void hb_timeline_routing(struct hb_timeline *t, int64_t microbatch, int64_t layer, const int64_t *counts,
                         int64_t experts)
{
    if (!t)
        return;
    json_t *list = json_array();
    for (int64_t e = 0; e < experts; e++)
        json_array_append_new(list, json_integer((json_int_t)counts[e]));
    put(t, json_pack("{s:s, s:s, s:s, s:s, s:f, s:i, s:i, s:{s:I, s:I, s:I, s:o}}", "name", "routing", "cat",
                     "routing", "ph", "i", "s", "t", "ts", 1e6 * (hb_clock_now() - t->origin), "pid", t->rank,
                     "tid", 0, "args", "step", (json_int_t)t->step, "microbatch", (json_int_t)microbatch,
                     "layer", (json_int_t)layer, "counts", list));
}

void hb_timeline_memory(struct hb_timeline *t, const int64_t bytes[HB_FOOTPRINTS])
{
    if (!t)
        return;
    json_t *values = json_object();
    for (int i = 0; i < HB_FOOTPRINTS; i++)
        json_object_set_new(values, hb_footprint_name((enum hb_footprint)i),
                            json_integer((json_int_t)bytes[i]));
    put(t, json_pack("{s:s, s:s, s:s, s:f, s:i, s:I, s:o}", "name", "memory", "cat", "memory", "ph", "C",
                     "ts", 1e6 * (hb_clock_now() - t->origin), "pid", t->rank, "step", (json_int_t)t->step,
                     "args", values));
}

void hb_timeline_begin(struct hb_timeline *t)
{
    if (!t)
        return;
    t->begin[t->depth] = hb_clock_now();
    t->inside[t->depth++] = 0;
}

void hb_timeline_end(struct hb_timeline *t, enum hb_span_kind kind, const char *name)
{
    if (!t)
        return;
    double begin = t->begin[--t->depth], end = hb_clock_now(), inside = t->inside[t->depth];
    hb_timeline_span(t, kind, name, begin, end, 0, 0, 0);
    t->totals.seconds[kind] -= inside;
}

/* --- what comm tells --- */

static enum hb_span_kind kind_of(const struct hb_comm_event *event)
{
    if (event->what == HB_COMM_SENT)
        return HB_SPAN_MESSAGE;
    if (event->what == HB_COMM_WAITED)
        return HB_SPAN_WAIT;
    if (event->kind == HB_COMM_EXCHANGE)
        return strcmp(event->group, "experts") == 0 ? HB_SPAN_EXPERTS : HB_SPAN_REDUCE;
    bool shared = strcmp(event->group, "data") == 0 || strcmp(event->group, "replicas") == 0;
    return event->kind == HB_COMM_GATHER && shared ? HB_SPAN_GATHER : HB_SPAN_AGREE;
}

static void observe(void *context, const struct hb_comm_event *event)
{
    char name[64];
    if (event->what == HB_COMM_COLLECTIVE)
        snprintf(name, sizeof name, "%s %s", hb_comm_kind_name(event->kind), event->group);
    else
        snprintf(name, sizeof name, "%s rank %d", event->what == HB_COMM_SENT ? "to" : "wait for",
                 event->peer);
    hb_timeline_span(context, kind_of(event), name, event->begin, event->end, event->messages, event->bytes,
                     event->waited);
}

void hb_timeline_observe(struct hb_timeline *t)
{
    hb_comm_observe(t ? observe : NULL, t);
}

struct hb_timeline_totals hb_timeline_totals(const struct hb_timeline *t)
{
    return t ? t->totals : (struct hb_timeline_totals){0};
}

/* --- merging --- */

/* A crash may have cut the last line short: whole ones begin and end with a brace. */
static bool is_whole(const char *line, size_t length)
{
    json_t *event = json_loadb(line, length, 0, NULL);
    bool whole = json_is_object(event);
    json_decref(event);
    return whole;
}

static hb_status add_file(FILE *out, const char *path, bool *first)
{
    char *text;
    size_t size;
    HB_TRY(hb_file_read(path, &text, &size));
    for (char *line = text; *line;) {
        size_t length = strcspn(line, "\n");
        if (is_whole(line, length)) {
            fprintf(out, "%s\n%.*s", *first ? "" : ",", (int)length, line);
            *first = false;
        }
        line += length + (line[length] == '\n');
    }
    free(text);
    return HB_OK;
}

static int is_rank_file(const struct dirent *entry)
{
    int rank, used = 0;
    return sscanf(entry->d_name, "rank-%d.jsonl%n", &rank, &used) == 1 && used > 0 && !entry->d_name[used];
}

static hb_status add_all(FILE *out, const char *folder)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, is_rank_file, alphasort);
    if (count < 0)
        return hb_file_fail("read the folder", folder);
    hb_status status = HB_OK;
    bool first = true;
    fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[", out);
    for (int i = 0; i < count; i++) {
        char *path = hb_path_join(folder, entries[i]->d_name);
        if (status == HB_OK)
            status = path ? add_file(out, path, &first) : HB_FAIL(HB_EMEMORY, "out of memory for a path");
        free(path);
        free(entries[i]);
    }
    free(entries);
    fputs("\n]}\n", out);
    return status;
}

hb_status hb_timeline_merge(const char *run_folder)
{
    char *folder = hb_path_join(run_folder, "timeline"), *path = hb_path_join(run_folder, "timeline.json");
    char *text = NULL;
    size_t size = 0;
    hb_status status = folder && path ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for a timeline");
    FILE *out = status == HB_OK ? open_memstream(&text, &size) : NULL;
    if (status == HB_OK && !out)
        status = HB_FAIL(HB_EMEMORY, "out of memory for a timeline");
    if (status == HB_OK)
        status = add_all(out, folder);
    if (out && fclose(out) != 0 && status == HB_OK)
        status = HB_FAIL(HB_EMEMORY, "out of memory for a timeline");
    if (status == HB_OK)
        status = hb_file_write(path, text, size);
    free(text);
    free(folder);
    free(path);
    return status;
}
