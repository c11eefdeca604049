#include "train/run_timeline.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/file.h"
#include "ops/clock.h"

static hb_status agree(const struct hb_mesh *mesh, hb_status status)
{
    return mesh ? hb_comm_agree(mesh->world, status) : status;
}

static bool is_chief(const struct hb_mesh *mesh)
{
    return !mesh || hb_comm_rank(mesh->world) == 0;
}

static hb_status remove_old(const char *run_folder)
{
    char *folder = hb_path_join(run_folder, "timeline");
    hb_status status = folder ? hb_folder_remove(folder)
                              : HB_FAIL(HB_EMEMORY, "out of memory for a timeline");
    free(folder);
    return status;
}

hb_status hb_run_timeline_open(const char *run_folder, const struct hb_mesh *mesh, struct hb_timeline **out)
{
    char place[96] = "";
    if (mesh)
        snprintf(place, sizeof place, "dp %" PRId64 ", ep %" PRId64 ", pp %" PRId64, mesh->dp_i, mesh->ep_i,
                 mesh->pp_i);
    HB_TRY(agree(mesh, is_chief(mesh) ? remove_old(run_folder) : HB_OK));
    HB_TRY(agree(mesh, hb_timeline_create(run_folder, mesh ? hb_comm_rank(mesh->world) : 0, place, out)));
    hb_timeline_origin(*out, hb_clock_now());
    hb_timeline_observe(*out);
    return HB_OK;
}

hb_status hb_run_timeline_close(struct hb_timeline *timeline, const char *run_folder,
                                const struct hb_mesh *mesh, struct hb_timeline_totals *totals)
{
    int64_t nanoseconds[HB_SPAN_KINDS];
    hb_timeline_observe(NULL);
    *totals = hb_timeline_totals(timeline);
    HB_TRY(agree(mesh, hb_timeline_destroy(timeline)));
    for (int k = 0; k < HB_SPAN_KINDS; k++)
        nanoseconds[k] = (int64_t)(1e9 * totals->seconds[k]);
    if (mesh)
        HB_TRY(hb_comm_sum(mesh->world, nanoseconds, HB_SPAN_KINDS));
    for (int k = 0; k < HB_SPAN_KINDS; k++)
        totals->seconds[k] = 1e-9 * (double)nanoseconds[k];
    return agree(mesh, is_chief(mesh) ? hb_timeline_merge(run_folder) : HB_OK);
}
