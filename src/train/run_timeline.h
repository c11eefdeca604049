/* The timeline of a run (parallel/timeline.h): RUN/timeline.json of what all its ranks did. No bit of the run
 * depends on it. */
#ifndef HB_TRAIN_RUN_TIMELINE_H
#define HB_TRAIN_RUN_TIMELINE_H

#include "parallel/mesh.h"
#include "parallel/timeline.h"

/* Begins RUN/timeline/ anew. `mesh` NULL: one rank. Collective: world of the mesh. */
HB_MUST_USE hb_status hb_run_timeline_open(const char *run_folder, const struct hb_mesh *mesh,
                                           struct hb_timeline **out);
/* Merges the files of all ranks; `totals` are the sums over them. Collective: world of the mesh. */
HB_MUST_USE hb_status hb_run_timeline_close(struct hb_timeline *timeline, const char *run_folder,
                                            const struct hb_mesh *mesh, struct hb_timeline_totals *totals);

#endif
