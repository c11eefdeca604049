#include "parallel/reduce.h"

#include <stdlib.h>
#include <string.h>

#include "core/tree.h"
#include "parallel/absence.h"

hb_status hb_reducer_init(struct hb_reducer *reducer, struct hb_sharding *sharding,
                          struct hb_gradients *gradients, int tied_peer)
{
    *reducer = (struct hb_reducer){
        .sharding = sharding, .gradients = gradients, .wire = &sharding->mesh->wire, .tied_peer = tied_peer};
    int64_t parts = 0;
    for (int64_t p = 0; p < sharding->model->param_count; p++)
        if (sharding->model->params[p]->present_parts > parts)
            parts = sharding->model->params[p]->present_parts;
    reducer->folds = calloc((size_t)(sharding->model->param_count * HB_PARAM_USES_MAX + 1),
                            sizeof *reducer->folds);
    reducer->present = malloc((size_t)parts * sizeof *reducer->present + 1);
    if (!reducer->folds || !reducer->present)
        return HB_FAIL(HB_EMEMORY, "out of memory for the folds of gradients");
    for (int64_t i = 0; i < parts; i++)
        reducer->present[i] = 1; /* in a rehearsal nothing is copied, and nothing must be marked */
    return HB_OK;
}

bool hb_reducer_scattered(const struct hb_reducer *reducer)
{
    return reducer->sharding->level >= 2;
}

static struct hb_shard_fold *fold_of(struct hb_reducer *r, int64_t p, int use)
{
    return &r->folds[p * HB_PARAM_USES_MAX + use];
}

static void drop_node(struct hb_reducer *r, struct hb_shard_fold *fold, int i)
{
    hb_pool_drop(&r->gradients->pool, fold->nodes[i].buffer);
    hb_pool_drop(&r->gradients->pool, fold->nodes[i].present);
    fold->nodes[i] = fold->nodes[--fold->count];
}

void hb_reduce_begin(struct hb_reducer *r, int64_t M)
{
    const struct hb_model *model = r->sharding->model;
    r->microbatches = M;
    hb_gradients_begin(r->gradients, M, model->params, model->param_count);
    for (int64_t f = 0; f < model->param_count * HB_PARAM_USES_MAX; f++)
        while (r->folds[f].count) /* leftovers of a step that failed */
            drop_node(r, &r->folds[f], 0);
}

void hb_reducer_release(struct hb_reducer *r)
{
    if (r->folds)
        hb_reduce_begin(r, 0);
    free(r->folds);
    free(r->present);
    *r = (struct hb_reducer){0};
}

/* Does this rank make leaves of the use? A tied matrix may have its two uses on
 * two stages. */
static bool is_here(const struct hb_reducer *r, const struct hb_param *param, int use)
{
    const struct hb_model *model = r->sharding->model;
    return hb_model_has_block(model, use ? model->block_count - 1 : param->block);
}

/* --- parts: experts of a stack, rows of an embedding, each absent or present --- */

/* Of a parameter that has parts. */
static int64_t part_size(const struct hb_param *param)
{
    return hb_param_count(param) / param->present_parts;
}

static bool has_flags(const struct hb_param *param, int use)
{
    return use == 0 && param->present_parts > 0;
}

/* The parts that a run of elements touches. */
static struct hb_range touched(const struct hb_param *param, struct hb_range range)
{
    if (range.begin == range.end)
        return (struct hb_range){0, 0};
    return (struct hb_range){range.begin / part_size(param), (range.end - 1) / part_size(param) + 1};
}

static struct hb_tensor flags(struct hb_tensor t, int64_t begin, int64_t end)
{
    return t.data ? hb_tensor_rows(t, begin, end - begin) : t;
}

/* --- nodes of a shard --- */

struct view {
    struct hb_tensor value, present; /* flat; of the parts touched */
};

static struct view view_of(struct hb_reducer *r, int64_t p, int use, const struct hb_shard_node *node)
{
    const struct hb_param *param = r->sharding->model->params[p];
    const struct hb_param_use *u = &param->use[use];
    struct view v = {.value = hb_param_elements(param, u->root, param->shard)};
    v.value = hb_tensor_1d(v.value.home, v.value.data, v.value.dtype, param->shard.end - param->shard.begin);
    if (has_flags(param, use)) {
        struct hb_range parts = touched(param, param->shard);
        v.present = flags(u->present, parts.begin, parts.end);
    }
    if (node->begin > 0) {
        v.value.data = node->buffer->data;
        if (v.present.data)
            v.present.data = node->present->data;
    }
    return v;
}

/* Runs of elements that hold whole parts, or a piece of one, as [parts, elements]. */
struct cut {
    int64_t at, part, parts, each;
};

static int cuts_of(const struct hb_param *param, bool with_flags, struct cut cuts[3])
{
    struct hb_range s = param->shard;
    int n = 0;
    if (!with_flags) {
        cuts[n++] = (struct cut){0, 0, 1, s.end - s.begin};
        return n;
    }
    int64_t size = part_size(param), first = s.begin / size, at = s.begin;
    if (at % size) {
        int64_t end = (first + 1) * size < s.end ? (first + 1) * size : s.end;
        cuts[n++] = (struct cut){0, 0, 1, end - at};
        at = end;
    }
    int64_t whole = (s.end - at) / size;
    if (whole)
        cuts[n++] = (struct cut){at - s.begin, at / size - first, whole, size};
    at += whole * size;
    if (at < s.end)
        cuts[n++] = (struct cut){at - s.begin, at / size - first, 1, s.end - at};
    return n;
}

static struct hb_tensor cut_value(struct hb_tensor t, const struct cut *c)
{
    return hb_tensor_as_2d(hb_tensor_rows(t, c->at, c->parts * c->each), c->parts, c->each);
}

static hb_status merge(struct hb_reducer *r, int64_t p, int use, int left, int right)
{
    const struct hb_param *param = r->sharding->model->params[p];
    struct hb_shard_fold *fold = fold_of(r, p, use);
    struct view a = view_of(r, p, use, &fold->nodes[left]), b = view_of(r, p, use, &fold->nodes[right]);
    struct cut cuts[3];
    int count = cuts_of(param, has_flags(param, use), cuts);
    for (int i = 0; i < count; i++) {
        const struct cut *c = &cuts[i];
        HB_TRY(hb_fold_merge(r->gradients->context,
                             &(struct hb_fold_merge_args){
                                 .left = cut_value(a.value, c),
                                 .right = cut_value(b.value, c),
                                 .left_present = flags(a.present, c->part, c->part + c->parts),
                                 .right_present = flags(b.present, c->part, c->part + c->parts),
                             }));
    }
    fold->nodes[left].end = fold->nodes[right].end;
    drop_node(r, fold, right);
    return HB_OK;
}

static int find(const struct hb_shard_fold *fold, struct hb_node node)
{
    for (int i = 0; i < fold->count; i++)
        if (fold->nodes[i].begin == node.begin && fold->nodes[i].end == node.end)
            return i;
    return -1;
}

/* Merges upwards from the node that has just come. */
static hb_status settle(struct hb_reducer *r, int64_t p, int use, struct hb_node node)
{
    struct hb_shard_fold *fold = fold_of(r, p, use);
    while (node.begin > 0 || node.end < r->microbatches) {
        struct hb_node other = hb_tree_sibling(node, r->microbatches);
        int mine = find(fold, node), sibling = find(fold, other);
        if (sibling < 0)
            return HB_OK;
        bool right = hb_tree_is_right(node, r->microbatches);
        node = hb_tree_parent(node, r->microbatches);
        HB_TRY(merge(r, p, use, right ? sibling : mine, right ? mine : sibling));
    }
    return HB_OK;
}

/* Room for a node; its memory into *v. */
static hb_status add_node(struct hb_reducer *r, int64_t p, int use, struct hb_node node, struct view *v)
{
    const struct hb_param *param = r->sharding->model->params[p];
    struct hb_shard_fold *fold = fold_of(r, p, use);
    struct hb_shard_node new = {.begin = node.begin, .end = node.end};
    if (fold->count == HB_SHARD_NODES_MAX)
        return HB_FAIL(HB_EINTERNAL, "%s: more than %d pending nodes in the fold of a shard", param->name,
                       HB_SHARD_NODES_MAX);
    struct view root = view_of(r, p, use, &(struct hb_shard_node){.begin = 0});
    if (node.begin > 0)
        HB_TRY(hb_pool_take(&r->gradients->pool, hb_tensor_bytes(&root.value), &new.buffer));
    fold->nodes[fold->count++] = new;
    if (node.begin > 0 && has_flags(param, use))
        HB_TRY(hb_pool_take(&r->gradients->pool, hb_tensor_bytes(&root.present),
                            &fold->nodes[fold->count - 1].present));
    *v = view_of(r, p, use, &fold->nodes[fold->count - 1]);
    return HB_OK;
}

/* --- what travels --- */

/* The nodes that leaves [begin, end) merge into, ascending. */
static int nodes_of(struct hb_range range, int64_t total, struct hb_node nodes[HB_SHARD_NODES_MAX])
{
    int count = 0;
    while (range.begin < range.end) {
        struct hb_node node = {range.begin, range.begin + 1};
        while (node.end - node.begin < total && hb_tree_parent(node, total).begin == range.begin &&
               hb_tree_parent(node, total).end <= range.end)
            node = hb_tree_parent(node, total);
        nodes[count++] = node;
        range.begin = node.end;
    }
    return count;
}

/* One piece: of one use's node, the elements that one rank keeps. */
struct piece {
    int64_t p;
    int use;
    struct hb_node node;
    struct hb_range range, parts;
};

/* Calls `visit` for every piece of the nodes `held` that goes to rank `to`, in an
 * order that sender and receiver agree on. */
static hb_status walk(struct hb_reducer *r, const struct hb_unit *unit, unsigned uses, struct hb_range held,
                      int to,
                      hb_status (*visit)(struct hb_reducer *r, const struct piece *piece, void *state),
                      void *state)
{
    struct hb_node nodes[HB_SHARD_NODES_MAX];
    int count = nodes_of(held, r->microbatches, nodes), ranks = hb_comm_size(unit->group);
    for (int64_t p = unit->first; p < unit->first + unit->count; p++) {
        const struct hb_param *param = r->sharding->model->params[p];
        struct hb_range range = hb_shard_of(param, ranks, to);
        for (int use = 0; use < param->use_count; use++)
            for (int i = 0; i < count; i++) {
                struct piece piece = {p, use, nodes[i], range, {0, 0}};
                if (!param->trained || range.begin == range.end || !(uses & 1u << use))
                    continue;
                if (has_flags(param, use))
                    piece.parts = touched(param, range);
                HB_TRY(visit(r, &piece, state));
            }
    }
    return HB_OK;
}

static hb_status measure(struct hb_reducer *r, const struct piece *piece, void *state)
{
    const struct hb_param *param = r->sharding->model->params[piece->p];
    struct hb_tensor t = hb_tensor_1d(NULL, NULL, param->use[piece->use].root.dtype,
                                      piece->range.end - piece->range.begin);
    *(size_t *)state += hb_tensor_bytes(&t);
    return HB_OK;
}

/* The piece of this rank's own node. */
static hb_status own_piece(struct hb_reducer *r, const struct piece *piece, struct view *v)
{
    const struct hb_param *param = r->sharding->model->params[piece->p];
    HB_TRY(hb_gradients_node(r->gradients, param, piece->use, piece->node.begin, piece->node.end, &v->value,
                             &v->present));
    v->value = hb_tensor_rows(hb_tensor_1d(v->value.home, v->value.data, v->value.dtype,
                                           hb_param_count(param)),
                              piece->range.begin, piece->range.end - piece->range.begin);
    v->present = flags(v->present, piece->parts.begin, piece->parts.end);
    return HB_OK;
}

/* Says in values on the wire which parts are absent (parallel/absence.h), and hears it. */
static hb_status mark(struct hb_reducer *r, void *values, const struct view *v, const struct piece *piece)
{
    struct hb_context *context = r->gradients->context;
    enum hb_dtype dtype = v->value.dtype;
    struct hb_range range = piece->range;
    int64_t size = part_size(r->sharding->model->params[piece->p]);
    if (r->wire->on_device)
        return context->backend->mark_absent(
            context, &(struct hb_parted){values, dtype, range.begin, range.end, size, v->present.data});
    HB_TRY(hb_copy_out(context, r->present, v->present));
    hb_absence_mark(values, dtype, range, size, r->present);
    return HB_OK;
}

static hb_status read_marks(struct hb_reducer *r, void *values, const struct view *v,
                            const struct piece *piece)
{
    struct hb_context *context = r->gradients->context;
    enum hb_dtype dtype = v->value.dtype;
    struct hb_range range = piece->range;
    int64_t size = part_size(r->sharding->model->params[piece->p]);
    if (r->wire->on_device)
        return context->backend->read_absent(
            context, &(struct hb_parted){values, dtype, range.begin, range.end, size, v->present.data});
    hb_absence_read(values, dtype, range, size, r->present);
    return hb_copy_in(context, v->present, r->present);
}

static hb_status pack(struct hb_reducer *r, const struct piece *piece, void *state)
{
    char **at = state;
    struct view v;
    HB_TRY(own_piece(r, piece, &v));
    HB_TRY(hb_wire_put(r->wire, *at, v.value));
    if (v.present.data)
        HB_TRY(mark(r, *at, &v, piece));
    *at += hb_tensor_bytes(&v.value);
    return HB_OK;
}

static hb_status unpack(struct hb_reducer *r, const struct piece *piece, void *state)
{
    char **at = state;
    struct view v;
    HB_TRY(add_node(r, piece->p, piece->use, piece->node, &v));
    HB_TRY(hb_wire_get(r->wire, v.value, *at));
    if (v.present.data)
        HB_TRY(read_marks(r, *at, &v, piece));
    *at += hb_tensor_bytes(&v.value);
    return settle(r, piece->p, piece->use, piece->node);
}

/* What this rank keeps of its own nodes: it stays where it is if that is the root. */
static hb_status keep(struct hb_reducer *r, const struct piece *piece, void *state)
{
    struct view from, to;
    (void)state;
    HB_TRY(own_piece(r, piece, &from));
    HB_TRY(add_node(r, piece->p, piece->use, piece->node, &to));
    if (to.value.data != from.value.data)
        HB_TRY(hb_copy(r->gradients->context, to.value, from.value));
    if (to.present.data && to.present.data != from.present.data)
        HB_TRY(hb_copy(r->gradients->context, to.present, from.present));
    return settle(r, piece->p, piece->use, piece->node);
}

/* Sends the nodes that the ranks hold of some uses of a unit's parameters to the
 * keepers of the shards: of all microbatches, or of one round. */
static hb_status reduce_unit(struct hb_reducer *r, const struct hb_unit *unit, unsigned uses, int64_t round)
{
    const struct hb_mesh *mesh = r->sharding->mesh;
    int ranks = hb_comm_size(unit->group), self = hb_comm_rank(unit->group);
    if (ranks == 1)
        return HB_OK; /* the leaves' own fold is all */
    int64_t each = unit->experts ? mesh->shape.ep : 1;
    struct hb_range *held = calloc((size_t)ranks, sizeof *held);
    size_t *out = calloc((size_t)ranks, sizeof *out), *in = calloc((size_t)ranks, sizeof *in), sent = 0,
           received = 0;
    hb_status status;
    HB_TRY_CLEAN(held && out && in ? HB_OK
                                   : HB_FAIL(HB_EMEMORY, "out of memory for a reduction of %d ranks", ranks));
    for (int i = 0; i < ranks; i++) {
        held[i] = hb_mesh_held(mesh, r->microbatches, hb_reducer_scattered(r), round, i * each, each);
    }
    for (int i = 0; i < ranks; i++) {
        if (i == self)
            continue;
        HB_TRY_CLEAN(walk(r, unit, uses, held[self], i, measure, &out[i]));
        HB_TRY_CLEAN(walk(r, unit, uses, held[i], self, measure, &in[i]));
        sent += out[i];
        received += in[i];
    }
    HB_TRY_CLEAN(hb_sharding_stage(r->sharding, sent, received));
    char *at = r->sharding->send;
    for (int i = 0; i < ranks; i++)
        if (i != self)
            HB_TRY_CLEAN(walk(r, unit, uses, held[self], i, pack, &at));
    HB_TRY_CLEAN(hb_comm_exchange(unit->group, r->sharding->send, out, r->sharding->recv, in));
    at = r->sharding->recv;
    HB_TRY_CLEAN(walk(r, unit, uses, held[self], self, keep, NULL));
    for (int i = 0; i < ranks; i++)
        if (i != self)
            HB_TRY_CLEAN(walk(r, unit, uses, held[i], self, unpack, &at));
    for (int64_t p = unit->first; p < unit->first + unit->count; p++)
        for (int use = 0; use < r->sharding->model->params[p]->use_count; use++)
            if (uses & 1u << use)
                hb_gradients_drop(r->gradients, r->sharding->model->params[p], use, held[self].begin,
                                  held[self].end);
cleanup:
    free(held);
    free(out);
    free(in);
    return status;
}

hb_status hb_reduce_block(struct hb_reducer *r, int64_t block, int64_t round)
{
    const struct hb_model *model = r->sharding->model;
    bool tied_head = model->config.tie_word_embeddings && block == model->block_count - 1;
    for (int64_t u = 0; hb_reducer_scattered(r) && u < r->sharding->unit_count; u++) {
        const struct hb_unit *unit = &r->sharding->units[u];
        if (unit->block == block)
            HB_TRY(reduce_unit(r, unit, 1u, round));
        else if (tied_head && unit->block == 0)
            HB_TRY(reduce_unit(r, unit, 2u, round));
    }
    return HB_OK;
}

/* --- the end of the step --- */

/* The uses of a unit's parameters of which this rank makes leaves. */
static unsigned uses_here(const struct hb_reducer *r, const struct hb_unit *unit)
{
    const struct hb_param *param = r->sharding->model->params[unit->first];
    unsigned uses = 0;
    for (int use = 0; use < param->use_count; use++)
        uses |= is_here(r, param, use) ? 1u << use : 0;
    return uses;
}

static hb_status close_shard(struct hb_reducer *r, int64_t p, int use)
{
    const struct hb_param *param = r->sharding->model->params[p];
    struct hb_shard_fold *fold = fold_of(r, p, use);
    if (param->shard.begin == param->shard.end)
        return HB_OK;
    if (fold->count != 1 || fold->nodes[0].begin != 0 || fold->nodes[0].end != r->microbatches)
        return HB_FAIL(HB_EINTERNAL, "%s: the fold of its gradient is incomplete", param->name);
    struct view root = view_of(r, p, use, &fold->nodes[0]);
    struct cut cuts[3];
    int count = has_flags(param, use) ? cuts_of(param, true, cuts) : 0;
    for (int i = 0; i < count; i++)
        HB_TRY(hb_fold_close(r->gradients->context,
                             &(struct hb_fold_close_args){cut_value(root.value, &cuts[i]),
                                                          flags(root.present, cuts[i].part,
                                                                cuts[i].part + cuts[i].parts)}));
    drop_node(r, fold, 0);
    return HB_OK;
}

/* Two stages have one use each: both get the other's root, and so the same sum. */
static hb_status swap_uses(struct hb_reducer *r, struct hb_param *param)
{
    int here = is_here(r, param, 0) ? 0 : 1;
    struct hb_tensor mine = hb_param_elements(param, param->use[here].root, param->shard);
    struct hb_tensor other = hb_param_elements(param, param->use[!here].root, param->shard);
    size_t bytes = hb_tensor_bytes(&mine);
    struct hb_comm_request requests[2];
    if (!bytes)
        return HB_OK;
    HB_TRY(hb_sharding_stage(r->sharding, bytes, bytes));
    HB_TRY(hb_wire_put(r->wire, r->sharding->send, mine));
    HB_TRY(hb_comm_receive(r->wire->pipe, r->tied_peer, r->sharding->recv, bytes, &requests[0]));
    HB_TRY(hb_comm_send(r->wire->pipe, r->tied_peer, r->sharding->send, bytes, &requests[1]));
    HB_TRY(hb_comm_wait(r->wire->pipe, requests, 2));
    return hb_wire_get(r->wire, other, r->sharding->recv);
}

/* Roots of tied uses are added in block order. */
static hb_status add_uses(struct hb_reducer *r, struct hb_param *param)
{
    if (param->use_count == 1)
        return HB_OK;
    if (r->tied_peer >= 0)
        HB_TRY(swap_uses(r, param));
    struct hb_tensor first = hb_param_elements(param, param->use[0].root, param->shard);
    struct hb_tensor second = hb_param_elements(param, param->use[1].root, param->shard);
    if (!hb_tensor_count(&first))
        return HB_OK;
    return hb_add(r->gradients->context, &(struct hb_add_args){.a = first, .b = second, .out = first});
}

hb_status hb_reduce_close(struct hb_reducer *r)
{
    struct hb_sharding *s = r->sharding;
    for (int64_t u = 0; u < s->unit_count; u++) {
        const struct hb_unit *unit = &s->units[u];
        bool alone = hb_comm_size(unit->group) == 1;
        if (!hb_reducer_scattered(r))
            HB_TRY(reduce_unit(r, unit, uses_here(r, unit), 0));
        for (int64_t p = unit->first; p < unit->first + unit->count; p++) {
            struct hb_param *param = s->model->params[p];
            for (int use = 0; param->trained && use < param->use_count; use++)
                if (is_here(r, param, use))
                    HB_TRY(alone ? hb_gradients_close_use(r->gradients, param, use) : close_shard(r, p, use));
            if (param->trained)
                HB_TRY(add_uses(r, param));
        }
        if (!alone && s->level == 0)
            HB_TRY(hb_gather_unit(s, unit, HB_GATHER_ROOTS));
    }
    return HB_OK;
}
