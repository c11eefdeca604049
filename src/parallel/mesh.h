/* How the ranks of a job divide the work: dp * ep * pp of them.
 *
 * The blocks of the model are cut into pp ranks' shares (stages). Every stage has
 * D = dp ep *data ranks*, each with microbatches of its own; data rank d =
 * dp_i ep + ep_i. The ep data ranks with one dp_i divide the experts of every
 * layer among them and exchange token rows; the dp ranks with one ep_i have the
 * same experts. So dense parameters are the same on all D data ranks of a stage,
 * experts on dp of them; world rank = pp_i D + d. docs/parallel.md has a picture.
 *
 * A layout changes no bit of a run. */
#ifndef HB_PARALLEL_MESH_H
#define HB_PARALLEL_MESH_H

#include "comm/comm.h"
#include "parallel/wire.h"
#include "tape/param.h"

struct hb_mesh_shape {
    int64_t dp, ep, pp; /* each >= 1 */
};

struct hb_mesh {
    struct hb_mesh_shape shape;
    int64_t dp_i, ep_i, pp_i;
    int64_t data_ranks, data_rank; /* D, d */
    struct hb_comm *world;         /* the caller's */
    struct hb_comm *data;          /* the D data ranks of this stage, by d */
    struct hb_comm *experts;       /* the ep ranks with this dp_i, by ep_i */
    struct hb_comm *replicas;      /* the dp ranks with this ep_i, by dp_i */
    struct hb_comm *pipe;          /* the pp ranks with this d, by pp_i */
    struct hb_wire wire; /* by which tensors travel; the communicators above are for what the host knows */
};

/* "dp=2,ep=2,pp=2"; what is left out is 1. HB_EARGUMENT. */
HB_MUST_USE hb_status hb_mesh_parse(const char *text, struct hb_mesh_shape *shape);
/* "dp=2, ep=2, pp=2" */
const char *hb_mesh_text(struct hb_mesh_shape shape, char *text, size_t size);

/* Does the shape fit the number of ranks, the experts (0: a dense model) and the
 * blocks? HB_EARGUMENT says why not and names the nearest shapes that do. */
HB_MUST_USE hb_status hb_mesh_check(struct hb_mesh_shape shape, int64_t ranks, int64_t experts,
                                    int64_t blocks);

/* Collective: world. The shape has been checked. */
HB_MUST_USE hb_status hb_mesh_create(struct hb_comm *world, struct hb_mesh_shape shape, struct hb_mesh *mesh);
/* The same for a world that is a mirror (comm/mirror.h): nobody is asked. */
HB_MUST_USE hb_status hb_mesh_mirror(struct hb_comm *world, struct hb_mesh_shape shape, struct hb_mesh *mesh);
void hb_mesh_release(struct hb_mesh *mesh);

/* The share of part i of `parts` in `count` things: as even as they divide. */
struct hb_range hb_share(int64_t count, int64_t parts, int64_t i);

/* --- which microbatch is whose (numerics.md rule 19) --- */

/* Of a step of M microbatches, the rounds it has: each data rank has at most one
 * microbatch a round. */
int64_t hb_mesh_rounds(const struct hb_mesh *mesh, int64_t M);
/* The microbatch of data rank d in a round, or -1: none. `scattered` (ZeRO levels
 * 2 and 3): microbatch i is data rank i mod D's; otherwise each has a contiguous range. */
int64_t hb_mesh_microbatch(const struct hb_mesh *mesh, int64_t M, bool scattered, int64_t round, int64_t d);
/* The microbatches that data ranks [first, first + count) have, together: of one
 * round if `scattered`, else of all. Maybe empty. */
struct hb_range hb_mesh_held(const struct hb_mesh *mesh, int64_t M, bool scattered, int64_t round,
                             int64_t first, int64_t count);

#endif
