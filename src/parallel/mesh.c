#include "parallel/mesh.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/mirror.h"

/* --- text --- */

hb_status hb_mesh_parse(const char *text, struct hb_mesh_shape *shape)
{
    *shape = (struct hb_mesh_shape){0}; /* not given */
    const char *at = text;
    while (*at) {
        int64_t *value = strncmp(at, "dp=", 3) == 0   ? &shape->dp
                         : strncmp(at, "ep=", 3) == 0 ? &shape->ep
                         : strncmp(at, "pp=", 3) == 0 ? &shape->pp
                                                      : NULL;
        char *end = (char *)(uintptr_t)at;
        if (value && *value == 0)
            *value = strtoll(at + 3, &end, 10);
        if (end <= at + 3 || (*end && *end != ',') || *value < 1 || *value > 1 << 20)
            return HB_FAIL(HB_EARGUMENT, "'%s' is no layout; write for example dp=2,ep=2,pp=2", text);
        at = *end ? end + 1 : end;
    }
    shape->dp += shape->dp == 0;
    shape->ep += shape->ep == 0;
    shape->pp += shape->pp == 0;
    return HB_OK;
}

const char *hb_mesh_text(struct hb_mesh_shape shape, char *text, size_t size)
{
    snprintf(text, size, "dp=%lld, ep=%lld, pp=%lld", (long long)shape.dp, (long long)shape.ep,
             (long long)shape.pp);
    return text;
}

/* --- what fits --- */

static bool fits(struct hb_mesh_shape s, int64_t ranks, int64_t experts, int64_t blocks)
{
    return s.dp * s.ep * s.pp == ranks && s.ep <= (experts ? experts : 1) && s.pp <= blocks;
}

/* How far a shape is from the one wanted: each degree as a ratio. */
static double distance(struct hb_mesh_shape a, struct hb_mesh_shape b)
{
    double d = 0;
    int64_t x[] = {a.dp, a.ep, a.pp}, y[] = {b.dp, b.ep, b.pp};
    for (int i = 0; i < 3; i++)
        d += x[i] > y[i] ? (double)x[i] / (double)y[i] : (double)y[i] / (double)x[i];
    return d;
}

static struct hb_mesh_shape nearest(struct hb_mesh_shape wanted, int64_t ranks, int64_t experts,
                                    int64_t blocks, double beyond, double *found)
{
    struct hb_mesh_shape best = {ranks, 1, 1};
    *found = -1;
    for (int64_t pp = 1; pp <= ranks && pp <= blocks; pp++)
        for (int64_t ep = 1; ranks % pp == 0 && ep <= ranks / pp; ep++) {
            struct hb_mesh_shape s = {ranks / pp / ep, ep, pp};
            double d = distance(s, wanted);
            if (fits(s, ranks, experts, blocks) && d > beyond && (*found < 0 || d < *found)) {
                best = s;
                *found = d;
            }
        }
    return best;
}

hb_status hb_mesh_check(struct hb_mesh_shape shape, int64_t ranks, int64_t experts, int64_t blocks)
{
    if (fits(shape, ranks, experts, blocks))
        return HB_OK;
    char wanted[80], why[160], near[300] = "";
    size_t length = 0;
    hb_mesh_text(shape, wanted, sizeof wanted);
    if (shape.dp * shape.ep * shape.pp != ranks)
        snprintf(why, sizeof why, "is a layout of %lld ranks, but %lld were started",
                 (long long)(shape.dp * shape.ep * shape.pp), (long long)ranks);
    else if (shape.pp > blocks)
        snprintf(why, sizeof why, "has more stages than the model has blocks (%lld)", (long long)blocks);
    else if (experts)
        snprintf(why, sizeof why, "divides %lld experts among more ranks", (long long)experts);
    else
        snprintf(why, sizeof why, "divides experts, but the model has none");
    double beyond = 0;
    for (int i = 0; i < 3; i++) {
        double found;
        char text[80];
        struct hb_mesh_shape s = nearest(shape, ranks, experts, blocks, beyond, &found);
        if (found < 0)
            break;
        beyond = found;
        length += (size_t)snprintf(near + length, sizeof near - length, "%s%s", i ? "; " : "",
                                   hb_mesh_text(s, text, sizeof text));
    }
    return HB_FAIL(HB_EARGUMENT, "%s %s; the nearest layouts that fit %lld ranks: %s", wanted, why,
                   (long long)ranks, near);
}

/* --- ranks --- */

static struct hb_mesh place_in(struct hb_comm *world, struct hb_mesh_shape shape)
{
    int64_t rank = hb_comm_rank(world), D = shape.dp * shape.ep, d = rank % D;
    return (struct hb_mesh){
        .shape = shape,
        .dp_i = d / shape.ep,
        .ep_i = d % shape.ep,
        .pp_i = rank / D,
        .data_ranks = D,
        .data_rank = d,
        .world = world,
    };
}

hb_status hb_mesh_mirror(struct hb_comm *world, struct hb_mesh_shape shape, struct hb_mesh *mesh)
{
    *mesh = place_in(world, shape);
    hb_status status;
    HB_TRY_CLEAN(hb_comm_mirror((int)mesh->data_rank, (int)mesh->data_ranks, "data", true, &mesh->data));
    HB_TRY_CLEAN(hb_comm_mirror((int)mesh->ep_i, (int)shape.ep, "experts", true, &mesh->experts));
    HB_TRY_CLEAN(hb_comm_mirror((int)mesh->dp_i, (int)shape.dp, "replicas", true, &mesh->replicas));
    HB_TRY_CLEAN(hb_comm_mirror((int)mesh->pp_i, (int)shape.pp, "pipe", true, &mesh->pipe));
    hb_wire_init(&mesh->wire, mesh);
    return HB_OK;
cleanup:
    hb_mesh_release(mesh);
    return status;
}

hb_status hb_mesh_create(struct hb_comm *world, struct hb_mesh_shape shape, struct hb_mesh *mesh)
{
    *mesh = place_in(world, shape);
    int64_t s = mesh->pp_i, d = mesh->data_rank;
    hb_status status;
    HB_TRY_CLEAN(hb_comm_split(world, s, d, "data", &mesh->data));
    HB_TRY_CLEAN(hb_comm_split(world, s * shape.dp + mesh->dp_i, mesh->ep_i, "experts", &mesh->experts));
    HB_TRY_CLEAN(hb_comm_split(world, s * shape.ep + mesh->ep_i, mesh->dp_i, "replicas", &mesh->replicas));
    HB_TRY_CLEAN(hb_comm_split(world, d, s, "pipe", &mesh->pipe));
    hb_wire_init(&mesh->wire, mesh);
    return HB_OK;
cleanup:
    hb_mesh_release(mesh);
    return status;
}

void hb_mesh_release(struct hb_mesh *mesh)
{
    if (mesh->wire.context)
        hb_wire_close(&mesh->wire, mesh);
    hb_comm_destroy(mesh->data);
    hb_comm_destroy(mesh->experts);
    hb_comm_destroy(mesh->replicas);
    hb_comm_destroy(mesh->pipe);
    *mesh = (struct hb_mesh){0};
}

struct hb_range hb_share(int64_t count, int64_t parts, int64_t i)
{
    return (struct hb_range){count * i / parts, count * (i + 1) / parts};
}

/* --- microbatches --- */

int64_t hb_mesh_rounds(const struct hb_mesh *mesh, int64_t M)
{
    return (M + mesh->data_ranks - 1) / mesh->data_ranks;
}

int64_t hb_mesh_microbatch(const struct hb_mesh *mesh, int64_t M, bool scattered, int64_t round, int64_t d)
{
    if (scattered) {
        int64_t m = round * mesh->data_ranks + d;
        return m < M ? m : -1;
    }
    struct hb_range own = hb_share(M, mesh->data_ranks, d);
    return own.begin + round < own.end ? own.begin + round : -1;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

struct hb_range hb_mesh_held(const struct hb_mesh *mesh, int64_t M, bool scattered, int64_t round,
                             int64_t first, int64_t count)
{
    int64_t D = mesh->data_ranks;
    if (scattered)
        return (struct hb_range){smaller(M, round * D + first), smaller(M, round * D + first + count)};
    return (struct hb_range){M * first / D, M * (first + count) / D};
}
