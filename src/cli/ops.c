#include "cli/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/registry.h"
#include "cli/options.h"
#include "cli/verify.h"
#include "core/file.h"
#include "cpu/select.h"
#include "ops/table.h"
#include "verify/case.h"
#include "verify/folder.h"

static const char usage[] =
    "usage: hornbook ops [--golden FOLDER]\n"
    "\n"
    "Prints every op with the backends that have it and the storage types they\n"
    "take, its golden cases by storage type (f32, bf16, f16) with their first and last\n"
    "file, its page, and how each backend was built.\n"
    "\n"
    "  --golden FOLDER   cases to count (default: those that came with hornbook)\n"
    "  --help            this text\n";

/* The golden cases of an op. */
struct golden {
    int cases[HB_DTYPE_COUNT];
    char first[48], last[48]; /* "rmsnorm-003" */
};

/* "f32 bf16 f16" */
static void storage_text(const struct hb_backend *backend, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (int d = 0; d < HB_DTYPE_COUNT; d++)
        if (backend->storage & HB_STORAGE(d) && used < size)
            used += (size_t)snprintf(text + used, size - used, used ? ",%s" : "%s",
                                     hb_dtype_name((enum hb_dtype)d));
}

static hb_status count_file(const char *path, struct golden *golden)
{
    struct hb_case c;
    char name[48];
    HB_TRY(hb_case_open(path, &c));
    struct golden *g = &golden[c.op - hb_op_table];
    g->cases[c.dtype]++;
    hb_case_name(path, name, sizeof name);
    if (!g->first[0])
        snprintf(g->first, sizeof g->first, "%s", name);
    snprintf(g->last, sizeof g->last, "%s", name);
    hb_case_close(&c);
    return HB_OK;
}

static hb_status count_golden(const char *folder, struct golden *golden)
{
    struct hb_case_list list;
    HB_TRY(hb_case_list_init(&list, folder));
    hb_status status = HB_OK;
    for (int i = 0; i < list.count && status == HB_OK; i++)
        status = count_file(list.paths[i], golden);
    hb_case_list_release(&list);
    return status;
}

/* "6 2 2  add-001 .. add-010" */
static const char *golden_text(const struct golden *g, char *text, size_t size)
{
    if (!g->first[0])
        return "-";
    snprintf(text, size, "%2d %2d %2d %s .. %s", g->cases[HB_F32], g->cases[HB_BF16], g->cases[HB_F16],
             g->first, strrchr(g->last, '-') ? strrchr(g->last, '-') + 1 : g->last);
    return text;
}

/* What stands between a backend that was built and its use here. */
static const char *device_note(const char *name)
{
    static char note[512];
    note[0] = '\0';
    if (strcmp(name, "cuda") != 0)
        return note;
    if (hb_backend_available(name) != HB_OK)
        snprintf(note, sizeof note, "; here: %s", hb_error());
    size_t used = strlen(note);
    const char *carrier;
    if (hb_backend_messages(name, &carrier) == HB_OK)
        snprintf(note + used, sizeof note - used, "; messages by %s", carrier);
    else
        snprintf(note + used, sizeof note - used, "; messages through the host: %s", hb_error());
    return note;
}

static void print_backends(const struct hb_backend_listing *all, int count)
{
    for (int b = 0; b < count; b++) {
        if (all[b].backend)
            printf("%-13s %s%s\n", all[b].name, all[b].backend->about, device_note(all[b].name));
        else
            printf("%-13s %s\n", all[b].name, all[b].why_not);
    }
    const struct hb_cpu_level *levels;
    int level_count = hb_cpu_levels(&levels);
    printf("\nlevels of cpu:");
    for (int l = 0; l < level_count; l++)
        printf(" %s%s", levels[l].name, levels[l].usable ? "" : " (not on this processor)");
    printf("\n");
}

static void print_table(const struct hb_backend_listing *all, int count, const struct golden *golden)
{
    printf("%-24s", "op");
    for (int b = 0; b < count; b++)
        printf(" %-13s", all[b].name);
    printf(" %-32s %s\n", "golden cases", "page");
    for (int i = 0; i < hb_op_count; i++) {
        char cases[112];
        printf("%-24s", hb_op_table[i].name);
        for (int b = 0; b < count; b++) {
            char text[48] = "-";
            if (all[b].backend && hb_backend_has(all[b].backend, &hb_op_table[i]))
                storage_text(all[b].backend, text, sizeof text);
            printf(" %-13s", text);
        }
        printf(" %-32s docs/ops/%s.md\n", golden_text(&golden[i], cases, sizeof cases),
               hb_op_table[i].header);
    }
}

int hb_cli_ops(int argc, char **argv)
{
    const char *folder = NULL;
    const struct hb_option options[] = {{"--golden", HB_OPTION_TEXT, &folder, 0, 0}};
    int rest, code;
    if (!hb_options_read(argc, argv, options, 1, usage, &rest, &code))
        return code;
    if (rest > 0)
        return hb_wrong_usage("ops", "unexpected argument '%s'", argv[1]);
    struct hb_backend_listing all[8];
    int count = hb_backend_list(all);
    struct golden *golden = calloc((size_t)hb_op_count, sizeof *golden);
    hb_status status = golden ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for the table of ops");
    if (status == HB_OK && (folder || hb_file_is_folder(hb_cli_golden_folder())))
        status = count_golden(folder ? folder : hb_cli_golden_folder(), golden);
    if (status == HB_OK) {
        print_table(all, count, golden);
        printf("\n");
        print_backends(all, count);
    }
    free(golden);
    return hb_finish("ops", status);
}
