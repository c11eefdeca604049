/* How operators of ONNX are expressed by ours, and the terms of their bounds.
 * Sums of magnitudes are taken from the largest inputs: coarse, but derived. */
#include <math.h>
#include <string.h>

#include "core/json.h"
#include "core/math64.h"
#include "verify/onnx_test.h"

/* The attribute `axis` must name the last dimension. */
static hb_status last_axis(struct hb_onnx_test *test, int rank, bool *is_last)
{
    int64_t axis;
    HB_TRY(hb_json_int_or(test->attributes, "attributes", "axis", -1, &axis));
    *is_last = axis == -1 || axis == rank - 1;
    return *is_last ? HB_OK
                    : hb_onnx_uncovered(test, "axis %lld: ours works on the last one", (long long)axis);
}

/* Attributes that are not in `known` would change the result. */
static bool knows_attributes(struct hb_onnx_test *test, const char *const *known)
{
    const char *key;
    json_t *value;
    json_object_foreach (test->attributes, key, value) {
        int i = 0;
        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        if (!known[i]) {
            (void)hb_onnx_uncovered(test, "attribute %s", key);
            return false;
        }
    }
    return true;
}

static hb_status rms_normalization(struct hb_onnx_test *test)
{
    struct hb_safetensors_tensor x, w;
    float *xs, *ws;
    double eps, *y;
    bool last;
    HB_TRY(hb_onnx_input(test, 0, &x, &xs));
    HB_TRY(hb_onnx_input(test, 1, &w, &ws));
    HB_TRY(last_axis(test, x.rank, &last));
    if (!last)
        return HB_OK;
    HB_TRY(hb_json_real_or(test->attributes, "attributes", "epsilon", 1e-5, &eps));
    int64_t D = x.shape[x.rank - 1], n = x.count / D;
    struct hb_rmsnorm_forward_args args = {.eps = (float)eps};
    HB_TRY(hb_onnx_tensor(test, HB_F32, 2, (int64_t[]){n, D}, xs, &args.x));
    HB_TRY(hb_onnx_tensor(test, HB_F32, 1, &D, ws, &args.weight));
    HB_TRY(hb_onnx_tensor(test, HB_F32, 2, (int64_t[]){n, D}, NULL, &args.y));
    HB_TRY(hb_onnx_tensor(test, HB_F32, 1, &n, NULL, &args.rstd));
    HB_TRY(hb_rmsnorm_forward(test->context, &args));
    HB_TRY(hb_onnx_values(test, args.y, &y));
    return hb_onnx_check(test, 0, y, x.count, (struct hb_onnx_bound){.steps = D + 6, .relative = 1});
}

/* The softmax of the router is ours; K = 1 chooses something and is not looked at. */
static hb_status run_router(struct hb_onnx_test *test, const float *xs, int64_t n, int64_t E, int64_t K,
                            struct hb_router_forward_args *args)
{
    int64_t *counts;
    void *memory;
    HB_TRY(hb_onnx_host(test, (size_t)E * sizeof(int64_t), &memory));
    counts = memory; /* zeros */
    HB_TRY(hb_onnx_tensor(test, HB_F32, 2, (int64_t[]){n, E}, xs, &args->logits));
    HB_TRY(hb_onnx_tensor(test, HB_F32, 2, (int64_t[]){n, E}, NULL, &args->probs));
    HB_TRY(hb_onnx_tensor(test, HB_F32, 1, &n, NULL, &args->lse));
    HB_TRY(hb_onnx_tensor(test, HB_I32, 2, (int64_t[]){n, K}, NULL, &args->index));
    HB_TRY(hb_onnx_tensor(test, HB_F32, 2, (int64_t[]){n, K}, NULL, &args->weight));
    HB_TRY(hb_onnx_tensor(test, HB_I64, 1, &E, counts, &args->counts));
    return hb_router_forward(test->context, args);
}

static hb_status softmax(struct hb_onnx_test *test)
{
    struct hb_safetensors_tensor x;
    struct hb_router_forward_args args = {0};
    float *xs;
    double *p, range = 0;
    bool last;
    HB_TRY(hb_onnx_input(test, 0, &x, &xs));
    HB_TRY(last_axis(test, x.rank, &last));
    if (!last)
        return HB_OK;
    int64_t E = x.shape[x.rank - 1], n = x.count / E;
    HB_TRY(run_router(test, xs, n, E, 1, &args));
    HB_TRY(hb_onnx_values(test, args.probs, &p));
    for (int64_t t = 0; t < n; t++)
        for (int64_t i = 0; i < E * E; i++) {
            double d = (double)xs[t * E + i / E] - (double)xs[t * E + i % E];
            range = d > range ? d : range;
        }
    return hb_onnx_check(test, 0, p, x.count,
                         (struct hb_onnx_bound){.steps = E + 5, .relative = 2 + 2 * range});
}

/* The order of x is the order of its softmax, as long as the row does not underflow. */
static hb_status top_k(struct hb_onnx_test *test)
{
    struct hb_safetensors_tensor x, k;
    struct hb_router_forward_args args = {0};
    float *xs;
    int64_t *ks, largest;
    double *index, *values;
    void *memory;
    bool last;
    HB_TRY(hb_onnx_input(test, 0, &x, &xs));
    HB_TRY(hb_onnx_input_i64(test, 1, &k, &ks));
    HB_TRY(last_axis(test, x.rank, &last));
    HB_TRY(hb_json_int_or(test->attributes, "attributes", "largest", 1, &largest));
    if (!last)
        return HB_OK;
    if (!largest)
        return hb_onnx_uncovered(test, "largest = 0: the router takes the largest");
    int64_t E = x.shape[x.rank - 1], n = x.count / E, K = ks[0];
    HB_TRY(run_router(test, xs, n, E, K, &args));
    HB_TRY(hb_onnx_values(test, args.index, &index));
    HB_TRY(hb_onnx_host(test, (size_t)(n * K) * sizeof(double), &memory));
    values = memory;
    for (int64_t i = 0; i < n * K; i++)
        values[i] = (double)xs[i / K * E + (int64_t)index[i]];
    HB_TRY(hb_onnx_check(test, 0, values, n * K, (struct hb_onnx_bound){0}));
    return hb_onnx_check(test, 1, index, n * K, (struct hb_onnx_bound){0});
}

/* [B,H,T,D] to our [B,T,H,D]. */
static void swap_heads(const float *from, float *to, int64_t B, int64_t H, int64_t T, int64_t D)
{
    for (int64_t i = 0; i < B * H * T; i++) {
        int64_t b = i / (H * T), h = i / T % H, t = i % T;
        memcpy(to + ((b * T + t) * H + h) * D, from + i * D, (size_t)D * sizeof *to);
    }
}

/* Output values in the layout of the test: 3-D tensors have ours already. */
static hb_status in_layout(struct hb_onnx_test *test, const double *y, int rank, int64_t B, int64_t H,
                           int64_t T, int64_t D, double **out)
{
    void *memory;
    HB_TRY(hb_onnx_host(test, (size_t)(B * H * T * D) * sizeof(double), &memory));
    *out = memory;
    for (int64_t i = 0; i < B * H * T; i++) {
        int64_t b = i / (H * T), h = i / T % H, t = i % T, ours = (b * T + t) * H + h;
        memcpy(*out + (rank == 4 ? i : ours) * D, y + ours * D, (size_t)D * sizeof **out);
    }
    return HB_OK;
}

/* Input i as [B,T,H,D] from [B,H,T,D], or from [B,T,H*D] with `heads` heads. */
static hb_status heads_input(struct hb_onnx_test *test, size_t i, int64_t heads,
                             struct hb_safetensors_tensor *x, float **out)
{
    float *xs;
    void *memory;
    HB_TRY(hb_onnx_input(test, i, x, &xs));
    if (x->rank != 4 && (x->rank != 3 || heads < 1 || x->shape[2] % heads != 0))
        return HB_FAIL(HB_EFORMAT, "%s must be [B,H,T,D], or [B,T,H*D] with a number of heads", x->name);
    *out = xs;
    if (x->rank == 3) { /* from here on the shape is [B,H,T,D] in words, our layout in memory */
        int64_t D = x->shape[2] / heads;
        x->shape[2] = x->shape[1];
        x->shape[1] = heads;
        x->shape[3] = D;
        return HB_OK;
    }
    HB_TRY(hb_onnx_host(test, (size_t)x->count * sizeof(float), &memory));
    *out = memory;
    swap_heads(xs, *out, x->shape[0], x->shape[1], x->shape[2], x->shape[3]);
    return HB_OK;
}

static hb_status rotary_embedding(struct hb_onnx_test *test)
{
    static const char *const known[] = {"num_heads", "interleaved", NULL};
    struct hb_safetensors_tensor x, c, s, p;
    float *xs, *cosine, *sine;
    int64_t heads, interleaved, *ids = NULL;
    int32_t *positions;
    double *y, *out;
    void *memory;
    if (!knows_attributes(test, known))
        return HB_OK;
    HB_TRY(hb_json_int_or(test->attributes, "attributes", "num_heads", 0, &heads));
    HB_TRY(hb_json_int_or(test->attributes, "attributes", "interleaved", 0, &interleaved));
    if (interleaved)
        return hb_onnx_uncovered(test, "interleaved: ours rotates halves");
    HB_TRY(heads_input(test, 0, heads, &x, &xs));
    HB_TRY(hb_onnx_input(test, 1, &c, &cosine));
    HB_TRY(hb_onnx_input(test, 2, &s, &sine));
    if (hb_onnx_inputs(test) > 3)
        HB_TRY(hb_onnx_input_i64(test, 3, &p, &ids));
    int64_t B = x.shape[0], H = x.shape[1], T = x.shape[2], D = x.shape[3], n = B * T, P = 2 * c.count / D;
    HB_TRY(hb_onnx_host(test, (size_t)n * sizeof(int32_t), &memory));
    positions = memory;
    for (int64_t t = 0; t < n; t++) { /* without ids the tables have a row per token */
        positions[t] = ids ? (int32_t)ids[t] : (int32_t)t;
        if (positions[t] < 0 || positions[t] >= P)
            return HB_FAIL(HB_EFORMAT, "position %d is outside the tables", positions[t]);
    }
    struct hb_rope_args args = {0};
    HB_TRY(hb_onnx_tensor(test, HB_F32, 3, (int64_t[]){n, H, D}, xs, &args.x));
    HB_TRY(hb_onnx_tensor(test, HB_I32, 1, &n, positions, &args.positions));
    HB_TRY(hb_onnx_tensor(test, HB_F32, 2, (int64_t[]){P, D / 2}, cosine, &args.cosine));
    HB_TRY(hb_onnx_tensor(test, HB_F32, 2, (int64_t[]){P, D / 2}, sine, &args.sine));
    HB_TRY(hb_onnx_tensor(test, HB_F32, 3, (int64_t[]){n, H, D}, NULL, &args.y));
    HB_TRY(hb_rope(test->context, &args));
    HB_TRY(hb_onnx_values(test, args.y, &y));
    HB_TRY(in_layout(test, y, x.rank, B, H, T, D, &out));
    double turn = fmax(hb_onnx_largest(cosine, c.count), hb_onnx_largest(sine, s.count));
    double terms = 2 * hb_onnx_largest(xs, x.count) * turn;
    return hb_onnx_check(test, 0, out, x.count, (struct hb_onnx_bound){.steps = 3, .terms = terms});
}

/* Ours is causal from the end, so every query becomes a segment of its own, with
 * a copy of the keys that it sees: all of them, or those up to its own number. */
static hb_status copy_keys(struct hb_onnx_test *test, const float *x, int64_t B, int64_t queries,
                           int64_t keys, int64_t row, bool causal, int32_t *k_begin, float **out)
{
    void *memory;
    HB_TRY(hb_onnx_host(test, (size_t)(B * queries * keys * row) * sizeof(float), &memory));
    *out = memory;
    k_begin[0] = 0;
    for (int64_t s = 0; s < B * queries; s++) {
        int64_t b = s / queries, seen = causal && s % queries < keys ? s % queries + 1 : keys;
        memcpy(*out + k_begin[s] * row, x + b * keys * row, (size_t)(seen * row) * sizeof **out);
        k_begin[s + 1] = k_begin[s] + (int32_t)seen;
    }
    return HB_OK;
}

static hb_status attention(struct hb_onnx_test *test)
{
    static const char *const known[] = {"is_causal", "scale", "q_num_heads", "kv_num_heads", NULL};
    struct hb_safetensors_tensor q, k, v;
    struct hb_attention_forward_args args = {0};
    float *qs, *ks, *vs, *k_rows, *v_rows;
    int64_t causal, q_heads, k_heads;
    int32_t *begin;
    double scale, *y, *out;
    void *memory;
    if (hb_onnx_inputs(test) > 3)
        return hb_onnx_uncovered(test, "an additive mask: ours has segments and causal order only");
    if (!knows_attributes(test, known))
        return HB_OK;
    HB_TRY(hb_json_int_or(test->attributes, "attributes", "is_causal", 0, &causal));
    HB_TRY(hb_json_int_or(test->attributes, "attributes", "q_num_heads", 0, &q_heads));
    HB_TRY(hb_json_int_or(test->attributes, "attributes", "kv_num_heads", 0, &k_heads));
    HB_TRY(heads_input(test, 0, q_heads, &q, &qs));
    HB_TRY(heads_input(test, 1, k_heads, &k, &ks));
    HB_TRY(heads_input(test, 2, k_heads, &v, &vs));
    int64_t B = q.shape[0], H = q.shape[1], T = q.shape[2], D = q.shape[3], G = k.shape[1], keys = k.shape[2];
    if (v.shape[3] != D)
        return hb_onnx_uncovered(test, "values narrower or wider than keys");
    if (!(test->context->backend->storage & HB_STORAGE(q.dtype)))
        return hb_onnx_uncovered(test, "backend %s has no %s", test->context->backend->name,
                                 hb_dtype_name(q.dtype));
    HB_TRY(hb_json_real_or(test->attributes, "attributes", "scale", 1 / sqrt((double)D), &scale));
    int64_t n = B * T, edges = n + 1;
    HB_TRY(hb_onnx_host(test, 2 * (size_t)edges * sizeof(int32_t), &memory));
    begin = memory;
    for (int64_t s = 0; s < edges; s++)
        begin[s] = (int32_t)s;
    HB_TRY(copy_keys(test, ks, B, T, keys, G * D, causal, begin + edges, &k_rows));
    HB_TRY(copy_keys(test, vs, B, T, keys, G * D, causal, begin + edges, &v_rows));
    int64_t rows[3] = {begin[2 * edges - 1], G, D}, heads[3] = {n, H, D};
    args.longest = keys;
    args.scale = (float)scale;
    HB_TRY(hb_onnx_tensor(test, q.dtype, 3, heads, qs, &args.q));
    HB_TRY(hb_onnx_tensor(test, q.dtype, 3, rows, k_rows, &args.k));
    HB_TRY(hb_onnx_tensor(test, q.dtype, 3, rows, v_rows, &args.v));
    HB_TRY(hb_onnx_tensor(test, HB_I32, 1, &edges, begin, &args.q_begin));
    HB_TRY(hb_onnx_tensor(test, HB_I32, 1, &edges, begin + edges, &args.k_begin));
    HB_TRY(hb_onnx_tensor(test, q.dtype, 3, heads, NULL, &args.out));
    HB_TRY(hb_onnx_tensor(test, HB_F32, 2, heads, NULL, &args.lse));
    HB_TRY(hb_attention_forward(test->context, &args));
    HB_TRY(hb_onnx_values(test, args.out, &y));
    HB_TRY(in_layout(test, y, q.rank, B, H, T, D, &out));
    /* A weight errs with its score, |score| <= scale D max|q| max|k|, and with its
     * distance from the largest score. */
    double score = scale * (double)D * hb_onnx_largest(qs, q.count) * hb_onnx_largest(ks, k.count);
    double terms = 2 * hb_onnx_largest(vs, v.count) * (1 + 3 * score);
    return hb_onnx_check(test, 0, out, q.count,
                         (struct hb_onnx_bound){.steps = D + keys + 12, .terms = terms});
}

static hb_status cross_entropy_loss(struct hb_onnx_test *test)
{
    static const char *const known[] = {"reduction", "ignore_index", NULL};
    struct hb_safetensors_tensor x, y;
    struct hb_cross_entropy_args args = {0};
    struct hb_sum_args sum = {.factor = 1};
    const char *reduction;
    float *xs;
    int64_t *ys, ignored, used = 0;
    int32_t *labels;
    double *loss;
    void *memory;
    if (hb_onnx_inputs(test) > 2)
        return hb_onnx_uncovered(test, "class weights");
    if (!knows_attributes(test, known))
        return HB_OK;
    HB_TRY(hb_json_string_or(test->attributes, "attributes", "reduction", "mean", &reduction));
    HB_TRY(hb_json_int_or(test->attributes, "attributes", "ignore_index", -1, &ignored));
    HB_TRY(hb_onnx_input(test, 0, &x, &xs));
    HB_TRY(hb_onnx_input_i64(test, 1, &y, &ys));
    if (x.rank != 2)
        return hb_onnx_uncovered(test, "classes are not the last dimension");
    int64_t n = x.shape[0], V = x.shape[1];
    HB_TRY(hb_onnx_host(test, (size_t)n * sizeof(int32_t), &memory));
    labels = memory;
    for (int64_t t = 0; t < n; t++) {
        labels[t] = ys[t] == ignored ? -100 : (int32_t)ys[t];
        used += labels[t] >= 0;
    }
    HB_TRY(hb_onnx_tensor(test, HB_F32, 2, x.shape, xs, &args.logits));
    HB_TRY(hb_onnx_tensor(test, HB_I32, 1, &n, labels, &args.labels));
    HB_TRY(hb_onnx_tensor(test, HB_F32, 1, &n, NULL, &args.loss));
    HB_TRY(hb_cross_entropy(test->context, &args));
    /* m + log s - l_y: the terms of docs/golden-format.md, from the largest logit. */
    double terms = 1 + 3 * hb_log64((double)V) + 5 * hb_onnx_largest(xs, x.count);
    struct hb_onnx_bound bound = {.steps = V + 6, .terms = terms};
    if (strcmp(reduction, "none") == 0) {
        HB_TRY(hb_onnx_values(test, args.loss, &loss));
        return hb_onnx_check(test, 0, loss, n, bound);
    }
    sum.x = args.loss;
    HB_TRY(hb_onnx_tensor(test, HB_F64, 1, (int64_t[]){1}, NULL, &sum.out));
    HB_TRY(hb_sum(test->context, &sum));
    HB_TRY(hb_onnx_values(test, sum.out, &loss));
    bool mean = strcmp(reduction, "mean") == 0;
    loss[0] = mean ? loss[0] / (double)used : loss[0];
    bound.steps += n + 1;
    bound.terms *= mean ? 1 : (double)n;
    return hb_onnx_check(test, 0, loss, 1, bound);
}

static hb_status adam(struct hb_onnx_test *test)
{
    static const char *const known[] = {
        "alpha", "beta", "epsilon", "norm_coefficient", "norm_coefficient_post", NULL};
    struct hb_safetensors_tensor t;
    float *rate, *x, *g, *m, *v;
    int64_t *step, one = 1;
    double alpha, beta, eps, decay, post, *out;
    if (hb_onnx_inputs(test) != 6)
        return hb_onnx_uncovered(test, "several tensors in one call");
    if (!knows_attributes(test, known))
        return HB_OK;
    HB_TRY(hb_json_real_or(test->attributes, "attributes", "alpha", 0.9, &alpha));
    HB_TRY(hb_json_real_or(test->attributes, "attributes", "beta", 0.999, &beta));
    HB_TRY(hb_json_real_or(test->attributes, "attributes", "epsilon", 0, &eps));
    HB_TRY(hb_json_real_or(test->attributes, "attributes", "norm_coefficient", 0, &decay));
    HB_TRY(hb_json_real_or(test->attributes, "attributes", "norm_coefficient_post", 0, &post));
    HB_TRY(hb_onnx_input(test, 0, &t, &rate));
    HB_TRY(hb_onnx_input_i64(test, 1, &t, &step));
    HB_TRY(hb_onnx_input(test, 2, &t, &x));
    HB_TRY(hb_onnx_input(test, 3, &t, &g));
    HB_TRY(hb_onnx_input(test, 4, &t, &m));
    HB_TRY(hb_onnx_input(test, 5, &t, &v));
    if (*step != 0 || post != 0)
        return hb_onnx_uncovered(test, "bias correction outside of epsilon");
    for (int64_t i = 0; i < t.count; i++) /* their decay is part of the gradient */
        g[i] = (float)((double)g[i] + decay * (double)x[i]);
    float coef = 1;
    int32_t found = 0;
    struct hb_adamw_args args = {.inv_scale = 1,
                                 .keep = 1,
                                 .beta1 = (float)alpha,
                                 .one_minus_beta1 = (float)(1 - alpha),
                                 .beta2 = (float)beta,
                                 .one_minus_beta2 = (float)(1 - beta),
                                 .step_size = *rate,
                                 .root2 = 1,
                                 .eps = (float)eps,
                                 .groups = 1};
    HB_TRY(hb_onnx_tensor(test, HB_F32, 1, &t.count, x, &args.param));
    HB_TRY(hb_onnx_tensor(test, HB_F32, 1, &t.count, g, &args.grad));
    HB_TRY(hb_onnx_tensor(test, HB_F32, 1, &t.count, m, &args.m));
    HB_TRY(hb_onnx_tensor(test, HB_F32, 1, &t.count, v, &args.v));
    HB_TRY(hb_onnx_tensor(test, HB_F32, 1, &one, &coef, &args.coef));
    HB_TRY(hb_onnx_tensor(test, HB_I32, 1, &one, &found, &args.found));
    HB_TRY(hb_adamw(test->context, &args));
    double gradient = hb_onnx_largest(g, t.count), square = gradient * gradient;
    double m_terms = alpha * hb_onnx_largest(m, t.count) + (1 - alpha) * gradient;
    double v_terms = beta * hb_onnx_largest(v, t.count) + (1 - beta) * square, least = INFINITY;
    HB_TRY(hb_onnx_values(test, args.v, &out));
    for (int64_t i = 0; i < t.count; i++)
        least = out[i] < least ? out[i] : least;
    HB_TRY(hb_onnx_check(test, 2, out, t.count, (struct hb_onnx_bound){.steps = 9, .terms = v_terms}));
    HB_TRY(hb_onnx_values(test, args.m, &out));
    HB_TRY(hb_onnx_check(test, 1, out, t.count, (struct hb_onnx_bound){.steps = 7, .terms = m_terms}));
    HB_TRY(hb_onnx_values(test, args.param, &out));
    double x_terms = hb_onnx_largest(x, t.count) + (double)*rate * m_terms / (sqrt(least) + eps);
    return hb_onnx_check(test, 0, out, t.count, (struct hb_onnx_bound){.steps = 18, .terms = x_terms});
}

hb_status hb_onnx_run(struct hb_onnx_test *test, const char *op)
{
    static const struct {
        const char *name;
        hb_status (*run)(struct hb_onnx_test *);
    } mapped[] = {
        {"Adam", adam},
        {"Attention", attention},
        {"RMSNormalization", rms_normalization},
        {"RotaryEmbedding", rotary_embedding},
        {"Softmax", softmax},
        {"SoftmaxCrossEntropyLoss", cross_entropy_loss},
        {"TopK", top_k},
    };
    for (size_t i = 0; i < sizeof mapped / sizeof mapped[0]; i++)
        if (strcmp(op, mapped[i].name) == 0)
            return mapped[i].run(test);
    return hb_onnx_uncovered(test, "no op of ours does %s", op);
}
