#include "ops/attention.h"

#include "ops/check.h"

/* q, k, v, the segments and lse: what both directions share. */
static hb_status check(const struct hb_context *context, const char *op, const struct hb_tensor *q,
                       const struct hb_tensor *k, const struct hb_tensor *v, const struct hb_tensor *q_begin,
                       const struct hb_tensor *k_begin, int64_t longest, const struct hb_tensor *lse)
{
    HB_TRY(hb_check_tensor(context, op, "q", q, HB_FLOATS, 3));
    HB_TRY(hb_check_tensor(context, op, "k", k, HB_FLOATS, 3));
    HB_TRY(hb_check_tensor(context, op, "v", v, HB_FLOATS, 3));
    HB_TRY(hb_check_size(op, "k", k, 2, q->shape[2]));
    HB_TRY(hb_check_like(op, "v", v, "k", k));
    if (q->shape[2] < 1)
        return HB_FAIL(HB_ESHAPE, "%s: the head width is 0, must be at least 1", op);
    if (k->shape[1] < 1 || q->shape[1] % k->shape[1] != 0)
        return HB_FAIL(HB_ESHAPE, "%s: key/value heads (%lld) must divide query heads (%lld)", op,
                       (long long)k->shape[1], (long long)q->shape[1]);
    HB_TRY(hb_check_tensor(context, op, "q_begin", q_begin, HB_ONLY(HB_I32), 1));
    HB_TRY(hb_check_tensor(context, op, "k_begin", k_begin, HB_ONLY(HB_I32), 1));
    if (q_begin->shape[0] < 1)
        return HB_FAIL(HB_ESHAPE, "%s: q_begin is empty, must have one entry more than there are segments",
                       op);
    HB_TRY(hb_check_size(op, "k_begin", k_begin, 0, q_begin->shape[0]));
    if (longest < 0)
        return HB_FAIL(HB_EARGUMENT, "%s: longest (%lld) must not be negative", op, (long long)longest);
    HB_TRY(hb_check_tensor(context, op, "lse", lse, HB_REAL, 2));
    HB_TRY(hb_check_size(op, "lse", lse, 0, q->shape[0]));
    return hb_check_size(op, "lse", lse, 1, q->shape[1]);
}

/* Pairs of query and key for the clock: right where the segments are equally
 * long and have one query, or as many queries as keys. */
static double pairs(const struct hb_tensor *q, const struct hb_tensor *q_begin, int64_t longest)
{
    double rows = (double)q->shape[0];
    bool generating = q->shape[0] == q_begin->shape[0] - 1;
    return generating ? rows * (double)longest : rows * ((double)longest + 1) / 2;
}

static double width(const struct hb_tensor *q)
{
    return (double)q->shape[1] * (double)q->shape[2];
}

hb_status hb_attention_forward(struct hb_context *context, const struct hb_attention_forward_args *args)
{
    const char *op = "attention_forward";
    HB_TRY(check(context, op, &args->q, &args->k, &args->v, &args->q_begin, &args->k_begin, args->longest,
                 &args->lse));
    HB_TRY(hb_check_tensor(context, op, "out", &args->out, HB_FLOATS, 3));
    HB_TRY(hb_check_like(op, "out", &args->out, "q", &args->q));
    HB_TRY(hb_check_apart(op, "out", &args->out, "q", &args->q));
    HB_TRY(hb_check_apart(op, "out", &args->out, "k", &args->k));
    HB_TRY(hb_check_apart(op, "out", &args->out, "v", &args->v));
    HB_DISPATCH(context, attention_forward, args,
                4 * width(&args->q) * pairs(&args->q, &args->q_begin, args->longest));
}

hb_status hb_attention_backward(struct hb_context *context, const struct hb_attention_backward_args *args)
{
    const char *op = "attention_backward";
    HB_TRY(check(context, op, &args->q, &args->k, &args->v, &args->q_begin, &args->k_begin, args->longest,
                 &args->lse));
    const struct {
        const char *name;
        const struct hb_tensor *t;
        const char *other;
        const struct hb_tensor *like;
    } rest[] = {
        {"out", &args->out, "q", &args->q}, {"dout", &args->dout, "q", &args->q},
        {"dq", &args->dq, "q", &args->q},   {"dk", &args->dk, "k", &args->k},
        {"dv", &args->dv, "v", &args->v},
    };
    const struct {
        const char *name;
        const struct hb_tensor *t;
    } inputs[] = {
        {"q", &args->q}, {"k", &args->k}, {"v", &args->v}, {"out", &args->out}, {"dout", &args->dout}};
    enum { RESULTS = 2, REST = sizeof rest / sizeof *rest, INPUTS = sizeof inputs / sizeof *inputs };
    for (int i = 0; i < REST; i++) {
        HB_TRY(hb_check_tensor(context, op, rest[i].name, rest[i].t, HB_FLOATS, 3));
        HB_TRY(hb_check_like(op, rest[i].name, rest[i].t, rest[i].other, rest[i].like));
    }
    for (int i = RESULTS; i < REST; i++) {
        for (int j = 0; j < INPUTS; j++)
            HB_TRY(hb_check_apart(op, rest[i].name, rest[i].t, inputs[j].name, inputs[j].t));
        for (int j = RESULTS; j < i; j++)
            HB_TRY(hb_check_apart(op, rest[i].name, rest[i].t, rest[j].name, rest[j].t));
    }
    HB_DISPATCH(context, attention_backward, args,
                10 * width(&args->q) * pairs(&args->q, &args->q_begin, args->longest));
}
