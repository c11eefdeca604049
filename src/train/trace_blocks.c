#include "train/trace_blocks.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"

enum pass { FORWARD, BACKWARD };
static const char *const pass_names[] = {"forward", "input gradient"};

/* What a block hands on. */
struct result {
    int64_t step, microbatch;
    enum pass pass;
    char block[32];
    char digest[48];
};

struct results {
    struct result *list;
    size_t count, capacity;
};

/* --- order: as one rank makes them --- */

static int64_t block_place(const char *block)
{
    int number;
    if (sscanf(block, "decoder %d", &number) == 1)
        return number + 1;
    return strcmp(block, "head") == 0 ? INT32_MAX : 0;
}

static int compare_numbers(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b;
}

static int by_place(const void *a, const void *b)
{
    const struct result *x = a, *y = b;
    int order = compare_numbers(x->step, y->step);
    if (order == 0)
        order = compare_numbers(x->microbatch, y->microbatch);
    if (order == 0)
        order = compare_numbers(x->pass, y->pass);
    if (order == 0)
        order = compare_numbers(block_place(x->block), block_place(y->block)) * (x->pass == FORWARD ? 1 : -1);
    return order ? order : strcmp(x->block, y->block);
}

/* --- reading --- */

/* A later line of the same block takes the place of an earlier one: they follow each other closely. */
static hb_status put(struct results *r, const struct result *result)
{
    enum { NEAR = 64 };
    for (size_t i = r->count; i > 0 && i + NEAR > r->count; i--)
        if (by_place(&r->list[i - 1], result) == 0) {
            r->list[i - 1] = *result;
            return HB_OK;
        }
    if (r->count == r->capacity) {
        size_t capacity = r->capacity ? 2 * r->capacity : 256;
        struct result *grown = realloc(r->list, capacity * sizeof *grown);
        if (!grown)
            return HB_FAIL(HB_EMEMORY, "out of memory to compare traces");
        r->list = grown;
        r->capacity = capacity;
    }
    r->list[r->count++] = *result;
    return HB_OK;
}

/* Of the call's first output. */
static hb_status take_line(struct results *r, const char *path, int64_t number, const char *line)
{
    json_t *call;
    HB_TRY(hb_json_parse(path, number, line, strlen(line), 0, &call));
    const json_t *step = json_object_get(call, "step"), *m = json_object_get(call, "microbatch");
    const char *block = json_string_value(json_object_get(call, "block"));
    const char *pass = json_string_value(json_object_get(call, "pass")), *name;
    const char *op = json_string_value(json_object_get(call, "op"));
    bool grouped = json_object_get(json_object_get(call, "in"), "offsets") != NULL;
    struct result result = {.step = json_integer_value(step), .microbatch = json_integer_value(m)};
    json_t *output;
    hb_status status = json_is_integer(step) && block && pass
                           ? HB_OK
                           : HB_FAIL(HB_EFORMAT, "%s:%lld: is no line of a trace", path, (long long)number);
    /* No results of a block: what finite counts of a whole step, and the rows that a rank's experts work on
     * for the microbatches of others. */
    bool wanted = status == HB_OK && m && !grouped && !(op && strcmp(op, "finite") == 0);
    for (int p = FORWARD; wanted && p <= BACKWARD; p++) {
        /* The head makes gradients as it goes forward: its last output is a leaf of the fold. */
        if (strcmp(pass, pass_names[p]) != 0 || (p == FORWARD && strcmp(block, "head") == 0))
            continue;
        result.pass = (enum pass)p;
        snprintf(result.block, sizeof result.block, "%s", block);
        json_object_foreach(json_object_get(call, "out"), name, output) {
            const char *digest = json_string_value(json_array_get(output, 1));
            snprintf(result.digest, sizeof result.digest, "%s", digest ? digest : "");
            status = put(r, &result);
            break;
        }
    }
    json_decref(call);
    return status;
}

static hb_status read_file(struct results *r, const char *path)
{
    char *line = NULL;
    size_t capacity = 0;
    FILE *file = fopen(path, "r");
    hb_status status = file ? HB_OK : hb_file_fail("open", path);
    int64_t number = 0;
    ssize_t length;
    while (status == HB_OK && (length = getline(&line, &capacity, file)) > 0 && line[length - 1] == '\n')
        status = take_line(r, path, ++number, line);
    if (status == HB_OK && ferror(file))
        status = hb_file_fail("read", path);
    if (file)
        fclose(file);
    free(line);
    return status;
}

/* Is it the name of a rank's trace? */
static bool is_rank(const char *name)
{
    int rank, used = 0;
    return sscanf(name, "rank-%5d.jsonl%n", &rank, &used) == 1 && name[used] == '\0' && used > 0;
}

static char *traces_of_ranks(const char *run)
{
    return hb_path_join(run, "trace");
}

bool hb_trace_is_of_one(const char *run)
{
    char *path = hb_path_join(run, "trace.jsonl");
    bool there = path && hb_file_exists(path);
    free(path);
    return there;
}

bool hb_trace_is_of_several(const char *run)
{
    char *path = traces_of_ranks(run);
    bool there = path && hb_file_is_folder(path);
    free(path);
    return there;
}

static hb_status add_path(const char *folder, const char *name, char ***paths, size_t *count)
{
    char *path = hb_path_join(folder, name), **grown = realloc(*paths, (*count + 1) * sizeof *grown);
    if (grown)
        *paths = grown;
    if (!path || !grown) {
        free(path);
        return HB_FAIL(HB_EMEMORY, "out of memory for the names of traces");
    }
    grown[(*count)++] = path;
    return HB_OK;
}

static hb_status list_ranks(const char *folder, char ***paths, size_t *count)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return errno == ENOENT ? HB_OK : hb_file_fail("open the folder", folder);
    hb_status status = HB_OK;
    for (struct dirent *e = readdir(dir); status == HB_OK && e; e = readdir(dir))
        if (is_rank(e->d_name))
            status = add_path(folder, e->d_name, paths, count);
    closedir(dir);
    return status;
}

static void free_paths(char **paths, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(paths[i]);
    free(paths);
}

hb_status hb_trace_files(const char *run, char ***paths, size_t *count)
{
    char *folder = traces_of_ranks(run);
    *paths = NULL;
    *count = 0;
    hb_status status = folder ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for the names of traces");
    if (status == HB_OK && hb_trace_is_of_one(run))
        status = add_path(run, "trace.jsonl", paths, count);
    if (status == HB_OK)
        status = list_ranks(folder, paths, count);
    free(folder);
    if (status != HB_OK)
        free_paths(*paths, *count);
    return status;
}

static hb_status read_run(struct results *r, const char *run)
{
    char **paths;
    size_t count;
    HB_TRY(hb_trace_files(run, &paths, &count));
    hb_status status = HB_OK;
    for (size_t i = 0; status == HB_OK && i < count; i++)
        status = read_file(r, paths[i]);
    free_paths(paths, count);
    if (status == HB_OK && r->count)
        qsort(r->list, r->count, sizeof *r->list, by_place);
    return status;
}

/* --- comparing --- */

static void compare(const struct results *a, const struct results *b, struct hb_trace_blocks *out)
{
    for (size_t i = 0, j = 0; i < a->count && j < b->count;) {
        const struct result *x = &a->list[i], *y = &b->list[j];
        int order = by_place(x, y);
        i += order <= 0;
        j += order >= 0;
        if (order != 0)
            continue;
        if (out->first_step < 0)
            out->first_step = x->step;
        out->last_step = x->step;
        if (strcmp(x->digest, y->digest) == 0) {
            out->equal++;
            continue;
        }
        out->step = x->step;
        out->microbatch = x->microbatch;
        snprintf(out->block, sizeof out->block, "%s", x->block);
        snprintf(out->pass, sizeof out->pass, "%s", pass_names[x->pass]);
        snprintf(out->a, sizeof out->a, "%s", x->digest);
        snprintf(out->b, sizeof out->b, "%s", y->digest);
        return;
    }
}

hb_status hb_trace_blocks_compare(const char *run_a, const char *run_b, struct hb_trace_blocks *out)
{
    struct results a = {0}, b = {0};
    *out = (struct hb_trace_blocks){.first_step = -1, .last_step = -1, .step = -1, .microbatch = -1};
    hb_status status = read_run(&a, run_a);
    if (status == HB_OK)
        status = read_run(&b, run_b);
    if (status == HB_OK)
        compare(&a, &b, out);
    free(a.list);
    free(b.list);
    return status;
}
