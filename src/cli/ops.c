#include "cli/ops.h"

#include <stdio.h>
#include <string.h>

#include "backends/registry.h"
#include "cli/options.h"
#include "cpu/select.h"
#include "ops/table.h"

static const char usage[] =
    "usage: hornbook ops\n"
    "\n"
    "Prints every op with the backends that have it and the storage types they\n"
    "take, and how each backend was built.\n";

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

static void print_backends(const struct hb_backend_listing *all, int count)
{
    for (int b = 0; b < count; b++) {
        if (all[b].backend)
            printf("%-6s %s\n", all[b].name, all[b].backend->about);
        else
            printf("%-6s %s\n", all[b].name, all[b].why_not);
    }
    const struct hb_cpu_level *levels;
    int level_count = hb_cpu_levels(&levels);
    printf("\nlevels of cpu:");
    for (int l = 0; l < level_count; l++)
        printf(" %s%s", levels[l].name, levels[l].usable ? "" : " (not on this processor)");
    printf("\n");
}

int hb_cli_ops(int argc, char **argv)
{
    int rest, code;
    if (!hb_options_read(argc, argv, NULL, 0, usage, &rest, &code))
        return code;
    if (rest > 0)
        return hb_wrong_usage("ops", "unexpected argument '%s'", argv[1]);
    struct hb_backend_listing all[8];
    int count = hb_backend_list(all);
    printf("%-24s", "op");
    for (int b = 0; b < count; b++)
        printf(" %-13s", all[b].name);
    printf(" page\n");
    for (int i = 0; i < hb_op_count; i++) {
        printf("%-24s", hb_op_table[i].name);
        for (int b = 0; b < count; b++) {
            char text[48] = "-";
            if (all[b].backend && hb_backend_has(all[b].backend, &hb_op_table[i]))
                storage_text(all[b].backend, text, sizeof text);
            printf(" %-13s", text);
        }
        printf(" docs/ops/%s.md\n", hb_op_table[i].header);
    }
    printf("\n");
    print_backends(all, count);
    return hb_finish("ops", 0);
}
