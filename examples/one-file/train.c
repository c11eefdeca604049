/* A whole training step of a mixture-of-experts language model in one file.
 *
 * No tape, no blocks, no configuration: fixed shapes, every call in the order
 * in which it happens, over the reference backend. Read it from main() upwards,
 * or from the top as the forward pass, the backward pass, and the update. It
 * prints the same digests as the product does for the same model and text
 * (tests/train/one_file.c holds them against each other), so nothing in here is
 * a simplification.
 *
 *   usage: train [STEPS]
 *
 * The model reads bytes: a token is a byte of the poem below. A step has M
 * microbatches of S sequences of T tokens. Letters: n = S T rows, C width,
 * H query heads, G key/value heads, D head width, E experts, K experts per
 * token, F width of an expert, V vocabulary, L layers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/math64.h"
#include "core/philox.h"
#include "core/tree.h"
#include "ref/backend.h"

enum { L = 2, C = 32, H = 4, G = 2, D = 16, E = 4, K = 2, F = 24, V = 256 };
enum { M = 2, S = 2, T = 24, N = S * T };
enum { SEED = 7 };
static const float EPS = 1e-6f, THETA = 10000, AUX = 0.01f, CLIP = 1;

static const char poem[] =
    "Tyger Tyger, burning bright,\nIn the forests of the night;\nWhat immortal hand or eye,\n"
    "Could frame thy fearful symmetry?\n\nIn what distant deeps or skies,\nBurnt the fire of thine eyes?\n"
    "On what wings dare he aspire?\nWhat the hand, dare seize the fire?\n\nAnd what shoulder, & what art,\n"
    "Could twist the sinews of thy heart?\nAnd when thy heart began to beat,\n"
    "What dread hand? & what dread feet?\n";

static struct hb_context context; /* the reference backend, opened */

/* Everything below may fail only for want of memory or by a mistake in here. */
static void ok(hb_status status)
{
    if (status == HB_OK)
        return;
    fprintf(stderr, "train: %s\n", hb_error());
    exit(1);
}

/* --- tensors: views of plain arrays ------------------------------------------ */

static struct hb_tensor mat(float *data, int64_t rows, int64_t columns)
{
    return hb_tensor_2d(&context, data, HB_F32, rows, columns);
}

static struct hb_tensor vec(float *data, int64_t n)
{
    return hb_tensor_1d(&context, data, HB_F32, n);
}

static struct hb_tensor ints(int32_t *data, int64_t n)
{
    return hb_tensor_1d(&context, data, HB_I32, n);
}

static struct hb_tensor heads(float *data, int64_t count)
{
    return hb_tensor_3d(&context, data, HB_F32, N, count, D);
}

static struct hb_tensor experts(float *data, int64_t rows, int64_t columns)
{
    return hb_tensor_3d(&context, data, HB_F32, E, rows, columns);
}

/* --- parameters ------------------------------------------------------------------ */

/* Weights are [out, in] and carry the names that they have in a Hugging Face
 * checkpoint. The experts of a layer lie one after the other. */
struct layer {
    float input_norm[C], q[H * D * C], k[G * D * C], v[G * D * C], o[C * H * D], q_norm[D], k_norm[D];
    float post_norm[C], router[E * C], gate[E * F * C], up[E * F * C], down[E * C * F];
};

struct weights {
    float embedding[V * C];
    struct layer layer[L];
    float norm[C], head[V * C];
};

static struct weights w, adam_m, adam_v; /* parameters and moments */
static struct weights leaf[M];           /* a gradient for every microbatch */

/* One line per tensor: name, where it is in struct weights, and what it is. */
struct param {
    char name[80];
    size_t offset;
    int64_t parts, count; /* experts of a stack (else 1); elements of a part */
    bool matrix;
};
static struct param params[2 + 12 * L + 1];
static int param_count;

static void add(const char *name, const float *place, int64_t parts, int64_t count, bool matrix)
{
    struct param *p = &params[param_count++];
    snprintf(p->name, sizeof p->name, "%s", name);
    p->offset = (size_t)((const char *)place - (const char *)&w);
    p->parts = parts;
    p->count = count;
    p->matrix = matrix;
}

static void list_params(void)
{
    add("model.embed_tokens.weight", w.embedding, 1, V * C, true);
    for (int l = 0; l < L; l++) {
        struct layer *y = &w.layer[l];
        const struct {
            const char *name;
            float *place;
            int64_t parts, count;
            bool matrix;
        } lines[] = {
            {"input_layernorm.weight", y->input_norm, 1, C, false},
            {"self_attn.q_proj.weight", y->q, 1, H * D * C, true},
            {"self_attn.k_proj.weight", y->k, 1, G * D * C, true},
            {"self_attn.v_proj.weight", y->v, 1, G * D * C, true},
            {"self_attn.o_proj.weight", y->o, 1, C * H * D, true},
            {"self_attn.q_norm.weight", y->q_norm, 1, D, false},
            {"self_attn.k_norm.weight", y->k_norm, 1, D, false},
            {"post_attention_layernorm.weight", y->post_norm, 1, C, false},
            {"mlp.gate.weight", y->router, 1, E * C, true},
            {"mlp.experts.%d.gate_proj.weight", y->gate, E, F * C, true},
            {"mlp.experts.%d.up_proj.weight", y->up, E, F * C, true},
            {"mlp.experts.%d.down_proj.weight", y->down, E, C * F, true},
        };
        for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
            char name[80];
            snprintf(name, sizeof name, "model.layers.%d.%s", l, lines[i].name);
            add(name, lines[i].place, lines[i].parts, lines[i].count, lines[i].matrix);
        }
    }
    add("model.norm.weight", w.norm, 1, C, false);
    add("lm_head.weight", w.head, 1, V * C, true);
}

static float *at(struct weights *set, const struct param *p, int64_t part)
{
    return (float *)((char *)set + p->offset) + part * p->count;
}

/* "...experts.%d.up_proj.weight" with the expert's number. */
static void part_name(const struct param *p, int64_t part, char text[96])
{
    const char *mark = strstr(p->name, "%d");
    if (!mark)
        snprintf(text, 96, "%s", p->name);
    else
        snprintf(text, 96, "%.*s%lld%s", (int)(mark - p->name), p->name, (long long)part, mark + 2);
}

/* Matrices N(0, 0.02), norms 1. A number depends on seed, name and index only. */
static void initialise(void)
{
    for (int i = 0; i < param_count; i++)
        for (int64_t g = 0; g < params[i].parts; g++) {
            char name[96];
            part_name(&params[i], g, name);
            struct hb_random stream = hb_random_stream(SEED, HB_PURPOSE_INIT, 0, hb_hash64_name(name));
            float *x = at(&w, &params[i], g);
            for (int64_t e = 0; e < params[i].count; e++)
                x[e] = params[i].matrix ? (float)hb_random_normal_f64(&stream, (uint64_t)e) * 0.02f : 1.0f;
        }
}

/* --- one microbatch: what the forward pass keeps --------------------------------- */

struct activations {
    float x[N * C];                                  /* residual stream into the layer */
    float a[N * C], a_rstd[N];                       /* normed */
    float q_raw[N * H * D], k_raw[N * G * D], v[N * G * D];
    float q[N * H * D], q_rstd[N * H], k[N * G * D], k_rstd[N * G]; /* normed, rotated */
    float mixed[N * H * D], lse[N * H];              /* attention's output */
    float h[N * C], b[N * C], b_rstd[N];             /* residual, normed */
    float probs[N * E], router_lse[N], weight[N * K];
    int32_t index[N * K], offsets[E + 1], row_of[N * K], pair_of[N * K];
    float rows[N * K * C], gate[N * K * F], up[N * K * F], hidden[N * K * F], out[N * K * C];
};
static struct activations act[L];
static float x_last[N * C], x_normed[N * C], x_rstd[N], logits[N * V], loss_row[N];
static int64_t counts[L * E]; /* tokens per layer and expert of the microbatch */
static float prob_sum[E], fraction[E], aux_loss[1];

static int32_t ids[N], labels[N], place[N], begin[S + 1];
static float cosine[T * D / 2], sine[T * D / 2];

static void make_rope(void)
{
    for (int i = 0; i < D / 2; i++) {
        float frequency = (float)(1 / hb_pow64((double)THETA, (double)(2 * i) / D));
        for (int p = 0; p < T; p++) {
            float angle = (float)p * frequency;
            cosine[p * D / 2 + i] = (float)hb_cos64((double)angle);
            sine[p * D / 2 + i] = (float)hb_sin64((double)angle);
        }
    }
}

/* Sequence j of microbatch m of step s is piece (s M + m) S + j of the poem,
 * which begins anew where it ends. Its labels are its tokens, one later. */
static void load(int64_t step, int64_t m)
{
    int64_t samples = ((int64_t)sizeof poem - 2) / T;
    for (int64_t j = 0; j < S; j++) {
        int64_t sample = ((step * M + m) * S + j) % samples;
        begin[j] = (int32_t)(j * T);
        for (int64_t t = 0; t < T; t++) {
            ids[j * T + t] = (unsigned char)poem[sample * T + t];
            labels[j * T + t] = (unsigned char)poem[sample * T + t + 1];
            place[j * T + t] = (int32_t)t;
        }
    }
    begin[S] = N;
}

/* --- the three products of a linear layer ------------------------------------------ */

static void product(enum hb_product_form form, enum hb_product_epilogue epilogue, struct hb_tensor a,
                    struct hb_tensor b, struct hb_tensor out)
{
    ok(hb_product(&context, &(struct hb_product_args){.form = form, .epilogue = epilogue, .a = a, .b = b,
        .out = out}));
}

/* y = x W^T. */
static void linear(float *x, int64_t in, float *weight, int64_t out, float *y)
{
    product(HB_PRODUCT_NT, HB_STORE, mat(x, N, in), mat(weight, out, in), mat(y, N, out));
}

/* dx = dy W (or its continuation), dW = dy^T x. */
static void linear_backward(float *x, int64_t in, float *weight, int64_t out, float *dy, float *dx,
                            enum hb_product_epilogue epilogue, float *dweight)
{
    product(HB_PRODUCT_NN, epilogue, mat(dy, N, out), mat(weight, out, in), mat(dx, N, in));
    product(HB_PRODUCT_TN, HB_STORE, mat(dy, N, out), mat(x, N, in), mat(dweight, out, in));
}

/* The same for all experts, each on its rows. */
static void expert_linear(struct activations *t, float *x, int64_t in, float *weight, int64_t out, float *y)
{
    ok(hb_product(&context, &(struct hb_product_args){.form = HB_PRODUCT_NT, .a = mat(x, N * K, in),
        .b = experts(weight, out, in), .out = mat(y, N * K, out), .offsets = ints(t->offsets, E + 1)}));
}

static void expert_input_gradient(struct activations *t, float *dy, int64_t out, float *weight, int64_t in,
                                  float *dx, enum hb_product_epilogue epilogue)
{
    ok(hb_product(&context, &(struct hb_product_args){.form = HB_PRODUCT_NN, .epilogue = epilogue,
        .a = mat(dy, N * K, out), .b = experts(weight, out, in), .out = mat(dx, N * K, in),
        .offsets = ints(t->offsets, E + 1)}));
}

/* An expert without rows makes no leaf: `present` says who has one. */
static void expert_weight_gradient(struct activations *t, float *dy, int64_t out, float *x, int64_t in,
                                   float *dweight, int32_t *present)
{
    memset(present, 0, E * sizeof *present);
    ok(hb_product(&context, &(struct hb_product_args){.form = HB_PRODUCT_TN, .epilogue = HB_ADD,
        .a = mat(dy, N * K, out), .b = mat(x, N * K, in), .out = experts(dweight, out, in),
        .offsets = ints(t->offsets, E + 1), .present = ints(present, E)}));
}

static void norm(float *x, int64_t rows, int64_t width, float *weight, float *y, float *rstd)
{
    ok(hb_rmsnorm_forward(&context, &(struct hb_rmsnorm_forward_args){.x = mat(x, rows, width),
        .weight = vec(weight, width), .y = mat(y, rows, width), .rstd = vec(rstd, rows), .eps = EPS}));
}

static void norm_backward(float *x, int64_t rows, int64_t width, float *weight, float *rstd, float *dy,
                          float *dx, float *dweight)
{
    ok(hb_rmsnorm_backward_input(&context, &(struct hb_rmsnorm_backward_input_args){.x = mat(x, rows, width),
        .weight = vec(weight, width), .rstd = vec(rstd, rows), .dy = mat(dy, rows, width),
        .dx = mat(dx, rows, width)}));
    ok(hb_rmsnorm_backward_weight(&context,
        &(struct hb_rmsnorm_backward_weight_args){.x = mat(x, rows, width),
        .rstd = vec(rstd, rows), .dy = mat(dy, rows, width), .dweight = vec(dweight, width)}));
}

static void rope(float *x, int64_t count, bool backward)
{
    ok(hb_rope(&context, &(struct hb_rope_args){.x = heads(x, count), .positions = ints(place, N),
        .cosine = mat(cosine, T, D / 2), .sine = mat(sine, T, D / 2), .y = heads(x, count),
        .backward = backward}));
}

static void sum(float *a, float *b, float *out)
{
    ok(hb_add(&context, &(struct hb_add_args){.a = vec(a, N * C), .b = vec(b, N * C),
        .out = vec(out, N * C)}));
}

/* --- forward -------------------------------------------------------------------------- */

static void attention_forward(struct layer *p, struct activations *t)
{
    norm(t->x, N, C, p->input_norm, t->a, t->a_rstd);
    linear(t->a, C, p->q, H * D, t->q_raw);
    linear(t->a, C, p->k, G * D, t->k_raw);
    linear(t->a, C, p->v, G * D, t->v);
    norm(t->q_raw, N * H, D, p->q_norm, t->q, t->q_rstd);
    norm(t->k_raw, N * G, D, p->k_norm, t->k, t->k_rstd);
    rope(t->q, H, false);
    rope(t->k, G, false);
    ok(hb_attention_forward(&context, &(struct hb_attention_forward_args){.q = heads(t->q, H),
        .k = heads(t->k, G), .v = heads(t->v, G), .q_begin = ints(begin, S + 1),
        .k_begin = ints(begin, S + 1), .longest = T, .scale = (float)(1 / sqrt((double)D)),
        .out = heads(t->mixed, H), .lse = mat(t->lse, N, H)}));
    linear(t->mixed, H * D, p->o, C, t->h);
    sum(t->x, t->h, t->h);
}

static void experts_forward(int l, struct layer *p, struct activations *t, float *y)
{
    static float gate_logits[N * E];
    norm(t->h, N, C, p->post_norm, t->b, t->b_rstd);
    linear(t->b, C, p->router, E, gate_logits);
    ok(hb_router_forward(&context, &(struct hb_router_forward_args){.logits = mat(gate_logits, N, E),
        .renormalise = true, .probs = mat(t->probs, N, E), .lse = vec(t->router_lse, N),
        .index = hb_tensor_2d(&context, t->index, HB_I32, N, K), .weight = mat(t->weight, N, K),
        .counts = hb_tensor_1d(&context, counts + l * E, HB_I64, E)}));
    ok(hb_column_sum(&context, &(struct hb_column_sum_args){.x = mat(t->probs, N, E), .out = vec(prob_sum, E),
        .epilogue = l == 0 ? HB_STORE : HB_ADD}));
    ok(hb_dispatch_plan(&context,
        &(struct hb_dispatch_plan_args){.index = hb_tensor_2d(&context, t->index, HB_I32, N, K),
        .offsets = ints(t->offsets, E + 1), .row_of = hb_tensor_2d(&context, t->row_of, HB_I32, N, K),
        .pair_of = ints(t->pair_of, N * K)}));
    ok(hb_dispatch_forward(&context, &(struct hb_dispatch_forward_args){.x = mat(t->b, N, C),
        .pair_of = ints(t->pair_of, N * K), .rows = mat(t->rows, N * K, C)}));
    expert_linear(t, t->rows, C, p->gate, F, t->gate);
    expert_linear(t, t->rows, C, p->up, F, t->up);
    ok(hb_swiglu_forward(&context, &(struct hb_swiglu_forward_args){.gate = vec(t->gate, N * K * F),
        .up = vec(t->up, N * K * F), .out = vec(t->hidden, N * K * F)}));
    expert_linear(t, t->hidden, F, p->down, C, t->out);
    ok(hb_combine_forward(&context, &(struct hb_combine_forward_args){.rows = mat(t->out, N * K, C),
        .row_of = hb_tensor_2d(&context, t->row_of, HB_I32, N, K), .weight = mat(t->weight, N, K),
        .y = mat(y, N, C)}));
    sum(t->h, y, y);
}

/* Returns the sum of the cross-entropy; leaves dlogits in `logits`. */
static double forward(int64_t step_labels)
{
    double total;
    memset(counts, 0, sizeof counts);
    ok(hb_embedding_forward(&context, &(struct hb_embedding_forward_args){.weight = mat(w.embedding, V, C),
        .ids = ints(ids, N), .out = mat(act[0].x, N, C)}));
    for (int l = 0; l < L; l++) {
        attention_forward(&w.layer[l], &act[l]);
        experts_forward(l, &w.layer[l], &act[l], l + 1 < L ? act[l + 1].x : x_last);
    }
    norm(x_last, N, C, w.norm, x_normed, x_rstd);
    linear(x_normed, C, w.head, V, logits);
    ok(hb_cross_entropy(&context, &(struct hb_cross_entropy_args){.logits = mat(logits, N, V),
        .labels = ints(labels, N), .loss = vec(loss_row, N), .gradient = true,
        .factor = (float)(1 / (double)step_labels)}));
    ok(hb_balance_loss(&context,
        &(struct hb_balance_loss_args){.counts = hb_tensor_2d(&context, counts, HB_I64, L, E),
        .prob_sum = vec(prob_sum, E), .rows = (int64_t)N * L, .denominator = (int64_t)N * L,
        .fraction = vec(fraction, E), .loss = vec(aux_loss, 1)}));
    ok(hb_sum(&context, &(struct hb_sum_args){.x = vec(loss_row, N), .factor = 1,
        .out = hb_tensor_1d(&context, &total, HB_F64, 1)}));
    return total;
}

/* --- backward --------------------------------------------------------------------------- */

static int32_t expert_present[M][L][3][E], row_present[M][V]; /* who has a leaf */

/* dy is the gradient of the layer's output; it becomes that of h. */
static void experts_backward(int l, struct layer *p, struct activations *t, float *dy, struct layer *g, int m)
{
    static float dweight[N * K], dhidden[N * K * F], drows[N * K * C], dlogits[N * E], db[N * C], dh[N * C];
    struct hb_tensor row_of = hb_tensor_2d(&context, t->row_of, HB_I32, N, K);
    /* t->out becomes the gradient of the expert rows, t->gate and t->up theirs. */
    ok(hb_combine_backward(&context, &(struct hb_combine_backward_args){.rows = mat(t->out, N * K, C),
        .row_of = row_of, .weight = mat(t->weight, N, K), .dy = mat(dy, N, C), .drows = mat(t->out, N * K, C),
        .dweight = mat(dweight, N, K)}));
    expert_input_gradient(t, t->out, C, p->down, F, dhidden, HB_STORE);
    ok(hb_swiglu_backward(&context, &(struct hb_swiglu_backward_args){.gate = vec(t->gate, N * K * F),
        .up = vec(t->up, N * K * F), .dout = vec(dhidden, N * K * F), .dgate = vec(t->gate, N * K * F),
        .dup = vec(t->up, N * K * F)}));
    ok(hb_router_backward(&context, &(struct hb_router_backward_args){.probs = mat(t->probs, N, E),
        .lse = vec(t->router_lse, N), .index = hb_tensor_2d(&context, t->index, HB_I32, N, K),
        .weight = mat(t->weight, N, K), .dweight = mat(dweight, N, K), .renormalise = true,
        .fraction = vec(fraction, E), .aux_factor = (float)((double)AUX / M), .aux_rows = (int64_t)N * L,
        .dlogits = mat(dlogits, N, E)}));
    /* The input's gradient: gate, then up continued; slots ascending; then the router. */
    expert_input_gradient(t, t->gate, F, p->gate, C, drows, HB_STORE);
    expert_input_gradient(t, t->up, F, p->up, C, drows, HB_CONTINUE);
    ok(hb_dispatch_backward(&context, &(struct hb_dispatch_backward_args){.drows = mat(drows, N * K, C),
        .row_of = row_of, .dx = mat(db, N, C)}));
    linear_backward(t->b, C, p->router, E, dlogits, db, HB_ADD, g->router);
    expert_weight_gradient(t, t->gate, F, t->rows, C, g->gate, expert_present[m][l][0]);
    expert_weight_gradient(t, t->up, F, t->rows, C, g->up, expert_present[m][l][1]);
    expert_weight_gradient(t, t->out, C, t->hidden, F, g->down, expert_present[m][l][2]);
    norm_backward(t->h, N, C, p->post_norm, t->b_rstd, db, dh, g->post_norm);
    sum(dh, dy, dy);
}

/* dy is the gradient of h; it becomes that of the layer's input. */
static void attention_backward(struct layer *p, struct activations *t, float *dy, struct layer *g)
{
    static float dmixed[N * H * D], dq[N * H * D], dk[N * G * D], dv[N * G * D];
    static float dq_raw[N * H * D], dk_raw[N * G * D], da[N * C], dx[N * C];
    linear_backward(t->mixed, H * D, p->o, C, dy, dmixed, HB_STORE, g->o);
    ok(hb_attention_backward(&context, &(struct hb_attention_backward_args){.q = heads(t->q, H),
        .k = heads(t->k, G), .v = heads(t->v, G), .q_begin = ints(begin, S + 1),
        .k_begin = ints(begin, S + 1), .longest = T, .scale = (float)(1 / sqrt((double)D)),
        .out = heads(t->mixed, H), .lse = mat(t->lse, N, H), .dout = heads(dmixed, H), .dq = heads(dq, H),
        .dk = heads(dk, G), .dv = heads(dv, G)}));
    rope(dq, H, true);
    rope(dk, G, true);
    norm_backward(t->q_raw, N * H, D, p->q_norm, t->q_rstd, dq, dq_raw, g->q_norm);
    norm_backward(t->k_raw, N * G, D, p->k_norm, t->k_rstd, dk, dk_raw, g->k_norm);
    linear_backward(t->a, C, p->q, H * D, dq_raw, da, HB_STORE, g->q);
    linear_backward(t->a, C, p->k, G * D, dk_raw, da, HB_CONTINUE, g->k);
    linear_backward(t->a, C, p->v, G * D, dv, da, HB_CONTINUE, g->v);
    norm_backward(t->x, N, C, p->input_norm, t->a_rstd, da, dx, g->input_norm);
    sum(dx, dy, dy);
}

static void backward(int m)
{
    static float dnormed[N * C], dx[N * C];
    struct weights *g = &leaf[m];
    linear_backward(x_normed, C, w.head, V, logits, dnormed, HB_STORE, g->head);
    norm_backward(x_last, N, C, w.norm, x_rstd, dnormed, dx, g->norm);
    for (int l = L - 1; l >= 0; l--) {
        experts_backward(l, &w.layer[l], &act[l], dx, &g->layer[l], m);
        attention_backward(&w.layer[l], &act[l], dx, &g->layer[l]);
    }
    memset(row_present[m], 0, sizeof row_present[m]);
    ok(hb_embedding_backward(&context, &(struct hb_embedding_backward_args){.ids = ints(ids, N),
        .dout = mat(dx, N, C), .dweight = mat(g->embedding, V, C), .present = ints(row_present[m], V)}));
}

/* --- fold, norm, update --------------------------------------------------------------------- */

/* The flags of a parameter's leaf: rows of the embedding, experts of a stack. */
static struct hb_tensor flags(const struct param *p, int i, int m)
{
    if (i == 0)
        return ints(row_present[m], V);
    if (p->parts == 1)
        return (struct hb_tensor){0};
    int line = (i - 1) % 12; /* of its layer */
    return ints(expert_present[m][(i - 1) / 12][line - 9], E);
}

/* The tree over two microbatches has one inner node: leaf 0 + leaf 1. */
static void fold(void)
{
    for (int i = 0; i < param_count; i++) {
        const struct param *p = &params[i];
        int64_t parts = i == 0 ? V : p->parts;
        struct hb_tensor left = mat(at(&leaf[0], p, 0), parts, p->parts * p->count / parts), right = left;
        right.data = at(&leaf[1], p, 0);
        ok(hb_fold_merge(&context, &(struct hb_fold_merge_args){.left = left, .right = right,
            .left_present = flags(p, i, 0), .right_present = flags(p, i, 1)}));
        if (flags(p, i, 0).data)
            ok(hb_fold_close(&context, &(struct hb_fold_close_args){left, flags(p, i, 0)}));
    }
}

struct named {
    char name[96];
    int param;
    int64_t part;
};
static struct named by_name[2 + (9 + 3 * E) * L + 1];
static int named_count;

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

static void sort_names(void)
{
    for (int i = 0; i < param_count; i++)
        for (int64_t g = 0; g < params[i].parts; g++) {
            struct named *n = &by_name[named_count++];
            part_name(&params[i], g, n->name);
            n->param = i;
            n->part = g;
        }
    qsort(by_name, (size_t)named_count, sizeof *by_name, compare);
}

/* Norm over all logical tensors in order of names, clip, AdamW. */
static double update(int64_t s, double rate)
{
    static double squares[sizeof by_name / sizeof by_name[0]];
    double norm_value;
    float coef;
    int32_t found = 0;
    struct hb_tensor found_tensor = ints(&found, 1), coef_tensor = vec(&coef, 1);
    for (int i = 0; i < named_count; i++) {
        const struct param *p = &params[by_name[i].param];
        struct hb_tensor gradient = vec(at(&leaf[0], p, by_name[i].part), p->count);
        ok(hb_finite(&context, &(struct hb_finite_args){.x = gradient, .found = found_tensor}));
        ok(hb_sum(&context, &(struct hb_sum_args){.x = gradient, .squares = true, .factor = 1,
            .out = hb_tensor_1d(&context, &squares[i], HB_F64, 1)}));
    }
    ok(hb_clip(&context,
        &(struct hb_clip_args){.squares = hb_tensor_1d(&context, squares, HB_F64, named_count),
        .max_norm = CLIP, .norm = hb_tensor_1d(&context, &norm_value, HB_F64, 1), .coef = coef_tensor}));
    for (int i = 0; i < param_count; i++) {
        const struct param *p = &params[i];
        int64_t n = p->parts * p->count;
        ok(hb_adamw(&context, &(struct hb_adamw_args){.param = vec(at(&w, p, 0), n),
            .grad = vec(at(&leaf[0], p, 0), n), .m = vec(at(&adam_m, p, 0), n),
            .v = vec(at(&adam_v, p, 0), n), .coef = coef_tensor, .found = found_tensor, .inv_scale = 1,
            .keep = p->matrix ? (float)(1 - rate * 0.1) : 1.0f, .beta1 = 0.9f,
            .one_minus_beta1 = (float)(1 - 0.9), .beta2 = 0.95f, .one_minus_beta2 = (float)(1 - 0.95),
            .step_size = (float)(rate / (1 - hb_pow64(0.9, (double)s))),
            .root2 = (float)sqrt(1 - hb_pow64(0.95, (double)s)), .eps = 1e-8f, .groups = p->parts}));
    }
    return norm_value;
}

static void print_digest(void)
{
    struct hb_digest digest;
    char text[HB_DIGEST_TEXT + 1];
    ok(hb_digest_init(&digest, HB_NUMERICS_VERSION));
    for (int i = 0; i < named_count; i++) {
        const struct param *p = &params[by_name[i].param];
        const float *x = at(&w, p, by_name[i].part);
        for (int64_t c = 0; c * HB_CHUNK < p->count; c++) {
            int64_t rest = p->count - c * HB_CHUNK;
            hb_digest_add_chunk(&digest, by_name[i].name, (uint64_t)c,
                                hb_chunk_hash(x + c * HB_CHUNK, (size_t)(rest < HB_CHUNK ? rest : HB_CHUNK)));
        }
    }
    hb_digest_value(&digest, text);
    hb_digest_release(&digest);
    printf("%s\n", text);
}

int main(int argc, char **argv)
{
    int64_t steps = argc > 1 ? atoll(argv[1]) : 20;
    ok(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    list_params();
    sort_names();
    initialise();
    make_rope();
    printf("step 0 digest ");
    print_digest();
    for (int64_t step = 0; step < steps; step++) {
        double losses[M], rate = 0.003;
        for (int m = 0; m < M; m++) {
            load(step, m);
            losses[m] = forward(M * N);
            backward(m);
        }
        fold();
        double norm_value = update(step + 1, rate);
        printf("step %lld loss %.6f norm %.6f digest ", (long long)step + 1,
               hb_tree_sum_f64(losses, M) / (M * N), norm_value);
        print_digest();
    }
    hb_context_close(&context);
    return 0;
}
