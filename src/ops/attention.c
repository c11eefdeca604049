#include "ops/attention.h"

#include "ops/check.h"

/* What forward and backward check alike. */
struct call {
    const struct hb_context *context;
    const char *op;
    const struct hb_tensor *q, *k, *v, *q_begin, *k_begin, *slots_k, *slots_v, *gate, *lse;
    int64_t longest, window, sinks, ring;
    enum hb_attention_combine combine;
};

/* The shape of another argument; storage may differ. */
static hb_status shaped(const struct hb_context *context, const char *op, const char *name,
                        const struct hb_tensor *t, uint32_t dtypes, const char *other,
                        const struct hb_tensor *like)
{
    char a[96], b[96];
    HB_TRY(hb_check_tensor(context, op, name, t, dtypes, like->rank));
    if (!hb_tensor_same_shape(t, like))
        return HB_FAIL(HB_ESHAPE, "%s: %s is %s, must have the shape of %s, %s", op, name,
                       hb_tensor_describe(t, a, sizeof a), other, hb_tensor_describe(like, b, sizeof b));
    return HB_OK;
}

/* An argument that this call has no use for. */
static hb_status absent(const char *op, const char *name, const struct hb_tensor *t, const char *owner)
{
    if (hb_given(t))
        return HB_FAIL(HB_EARGUMENT, "%s: %s belongs to %s; leave it out", op, name, owner);
    return HB_OK;
}

static hb_status check_slots(const struct call *c)
{
    if ((unsigned)c->combine > HB_GATED)
        return HB_FAIL(HB_EARGUMENT, "%s: combine is %d, must be joint, sum or gated", c->op,
                       (int)c->combine);
    if (!hb_given(c->slots_k) && c->combine != HB_JOINT)
        return HB_FAIL(HB_EARGUMENT, "%s: sum and gated combine slots with keys; give slots_k and slots_v",
                       c->op);
    if (hb_given(c->slots_k)) {
        HB_TRY(hb_check_tensor(c->context, c->op, "slots_k", c->slots_k, HB_FLOATS, 3));
        HB_TRY(hb_check_size(c->op, "slots_k", c->slots_k, 1, c->k->shape[1]));
        HB_TRY(hb_check_size(c->op, "slots_k", c->slots_k, 2, c->k->shape[2]));
        HB_TRY(shaped(c->context, c->op, "slots_v", c->slots_v, HB_FLOATS, "slots_k", c->slots_k));
        if (c->slots_k->shape[0] < 1)
            return HB_FAIL(HB_ESHAPE, "%s: slots_k has no rows; leave it out", c->op);
    } else {
        HB_TRY(absent(c->op, "slots_v", c->slots_v, "slots_k"));
    }
    if (c->combine != HB_GATED)
        return absent(c->op, "gate", c->gate, "gated");
    HB_TRY(hb_check_tensor(c->context, c->op, "gate", c->gate, HB_FLOATS, 1));
    return hb_check_size(c->op, "gate", c->gate, 0, c->q->shape[1]);
}

static hb_status check_mask(const struct call *c)
{
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {{"longest", c->longest}, {"window", c->window}, {"sinks", c->sinks}, {"ring", c->ring}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].value < 0)
            return HB_FAIL(HB_EARGUMENT, "%s: %s (%lld) must not be negative", c->op, numbers[i].name,
                           (long long)numbers[i].value);
    if (c->ring == 0)
        return HB_OK;
    if (c->window == 0 || c->ring - c->sinks < c->window)
        return HB_FAIL(HB_EARGUMENT,
                       "%s: a ring of %lld rows needs a window and room for it behind the sinks", c->op,
                       (long long)c->ring);
    return hb_check_size(c->op, "k", c->k, 0, (c->q_begin->shape[0] - 1) * c->ring);
}

static hb_status check(const struct call *c)
{
    const char *op = c->op;
    HB_TRY(hb_check_tensor(c->context, op, "q", c->q, HB_FLOATS, 3));
    HB_TRY(hb_check_tensor(c->context, op, "k", c->k, HB_FLOATS, 3));
    HB_TRY(hb_check_size(op, "k", c->k, 2, c->q->shape[2]));
    HB_TRY(shaped(c->context, op, "v", c->v, HB_FLOATS, "k", c->k));
    if (c->q->shape[2] < 1)
        return HB_FAIL(HB_ESHAPE, "%s: the head width is 0, must be at least 1", op);
    if (c->k->shape[1] < 1 || c->q->shape[1] % c->k->shape[1] != 0)
        return HB_FAIL(HB_ESHAPE, "%s: key/value heads (%lld) must divide query heads (%lld)", op,
                       (long long)c->k->shape[1], (long long)c->q->shape[1]);
    HB_TRY(hb_check_tensor(c->context, op, "q_begin", c->q_begin, HB_ONLY(HB_I32), 1));
    HB_TRY(hb_check_tensor(c->context, op, "k_begin", c->k_begin, HB_ONLY(HB_I32), 1));
    if (c->q_begin->shape[0] < 1)
        return HB_FAIL(HB_ESHAPE, "%s: q_begin is empty, must have one entry more than there are segments",
                       op);
    HB_TRY(hb_check_size(op, "k_begin", c->k_begin, 0, c->q_begin->shape[0]));
    HB_TRY(check_mask(c));
    HB_TRY(check_slots(c));
    HB_TRY(hb_check_tensor(c->context, op, "lse", c->lse, HB_REAL, 2));
    HB_TRY(hb_check_size(op, "lse", c->lse, 0, c->q->shape[0]));
    return hb_check_size(op, "lse", c->lse, 1, c->q->shape[1]);
}

/* An argument, and whether this call has it. */
struct argument {
    const char *name;
    const struct hb_tensor *t;
    bool wanted;
};

static hb_status check_apart(const char *op, const struct argument *outputs, int output_count,
                             const struct argument *inputs, int input_count)
{
    for (int i = 0; i < output_count; i++) {
        for (int j = 0; outputs[i].wanted && j < input_count; j++)
            if (inputs[j].wanted)
                HB_TRY(hb_check_apart(op, outputs[i].name, outputs[i].t, inputs[j].name, inputs[j].t));
        for (int j = 0; outputs[i].wanted && j < i; j++)
            if (outputs[j].wanted)
                HB_TRY(hb_check_apart(op, outputs[i].name, outputs[i].t, outputs[j].name, outputs[j].t));
    }
    return HB_OK;
}

/* FLOPs per pair are 4 or 10 times D. Pairs for the clock: right where the segments are equally long and have
 * one query, or as many queries as keys, and no window. */
static double work(const struct call *c, bool bidirectional)
{
    double rows = (double)c->q->shape[0], keys = (double)c->longest, seen;
    bool generating = c->q->shape[0] == c->q_begin->shape[0] - 1;
    seen = generating || bidirectional ? keys : (keys + 1) / 2;
    if (c->window > 0 && (double)(c->window + c->sinks) < seen)
        seen = (double)(c->window + c->sinks);
    seen += hb_given(c->slots_k) ? (double)c->slots_k->shape[0] : 0;
    return rows * seen * (double)c->q->shape[1] * (double)c->q->shape[2];
}

hb_status hb_attention_forward(struct hb_context *context, const struct hb_attention_forward_args *args)
{
    const char *op = "attention_forward";
    const struct call c = {context, op, &args->q, &args->k, &args->v, &args->q_begin, &args->k_begin,
                           &args->slots_k, &args->slots_v, &args->gate, &args->lse,
                           args->longest, args->window, args->sinks, args->ring, args->combine};
    HB_TRY(check(&c));
    if (args->ring && args->bidirectional)
        return HB_FAIL(HB_EARGUMENT, "%s: a ring is for causal attention", op);
    bool slots = hb_given(&args->slots_k), two = args->combine != HB_JOINT;
    HB_TRY(shaped(context, op, "out", &args->out, HB_FLOATS, "q", &args->q));
    const struct argument inputs[] = {{"q", &args->q, true},
                                      {"k", &args->k, true},
                                      {"v", &args->v, true},
                                      {"slots_k", &args->slots_k, slots},
                                      {"slots_v", &args->slots_v, slots},
                                      {"gate", &args->gate, args->combine == HB_GATED}};
    const struct argument outputs[] = {{"out", &args->out, true},
                                       {"rest_out", &args->rest_out, two},
                                       {"slots_out", &args->slots_out, two},
                                       {"lse", &args->lse, true},
                                       {"slots_lse", &args->slots_lse, two}};
    enum { INPUTS = sizeof inputs / sizeof *inputs, OUTPUTS = sizeof outputs / sizeof *outputs };
    for (int i = 1; i < OUTPUTS; i++)
        if (!outputs[i].wanted)
            HB_TRY(absent(op, outputs[i].name, outputs[i].t, "sum and gated"));
    if (two) {
        HB_TRY(shaped(context, op, "rest_out", &args->rest_out, HB_FLOATS, "q", &args->q));
        HB_TRY(shaped(context, op, "slots_out", &args->slots_out, HB_FLOATS, "q", &args->q));
        HB_TRY(shaped(context, op, "slots_lse", &args->slots_lse, HB_REAL, "lse", &args->lse));
    }
    HB_TRY(check_apart(op, outputs, OUTPUTS, inputs, INPUTS));
    HB_DISPATCH(context, attention_forward, args, 4 * work(&c, args->bidirectional));
}

hb_status hb_attention_backward(struct hb_context *context, const struct hb_attention_backward_args *args)
{
    const char *op = "attention_backward";
    const struct call c = {context, op, &args->q, &args->k, &args->v, &args->q_begin, &args->k_begin,
                           &args->slots_k, &args->slots_v, &args->gate, &args->lse,
                           args->longest, args->window, args->sinks, 0, args->combine};
    HB_TRY(check(&c));
    bool slots = hb_given(&args->slots_k), two = args->combine != HB_JOINT, gated = args->combine == HB_GATED;
    const struct {
        struct argument argument;
        uint32_t dtypes;
        const char *other, *owner;
        const struct hb_tensor *like;
    } rest[] = {
        {{"out", &args->out, true}, HB_FLOATS, "q", "", &args->q},
        {{"dout", &args->dout, true}, HB_FLOATS, "q", "", &args->q},
        {{"slots_out", &args->slots_out, two}, HB_FLOATS, "q", "sum and gated", &args->q},
        {{"slots_lse", &args->slots_lse, two}, HB_REAL, "lse", "sum and gated", &args->lse},
        {{"dq", &args->dq, true}, HB_FLOATS, "q", "", &args->q},
        {{"dk", &args->dk, true}, HB_FLOATS, "k", "", &args->k},
        {{"dv", &args->dv, true}, HB_FLOATS, "k", "", &args->k},
        {{"dslots_k", &args->dslots_k, slots}, HB_REAL, "slots_k", "slots", &args->slots_k},
        {{"dslots_v", &args->dslots_v, slots}, HB_REAL, "slots_k", "slots", &args->slots_k},
        {{"dgate", &args->dgate, gated}, HB_REAL, "gate", "gated", &args->gate},
    };
    enum { OWN = 5, GIVEN = 4, REST = sizeof rest / sizeof *rest };
    struct argument inputs[OWN + GIVEN] = {{"q", &args->q, true},
                                           {"k", &args->k, true},
                                           {"v", &args->v, true},
                                           {"slots_k", &args->slots_k, slots},
                                           {"slots_v", &args->slots_v, slots}};
    struct argument outputs[REST - GIVEN];
    for (int i = 0; i < REST; i++) {
        const struct argument *a = &rest[i].argument;
        if (a->wanted)
            HB_TRY(shaped(context, op, a->name, a->t, rest[i].dtypes, rest[i].other, rest[i].like));
        else
            HB_TRY(absent(op, a->name, a->t, rest[i].owner));
        if (i < GIVEN)
            inputs[OWN + i] = *a;
        else
            outputs[i - GIVEN] = *a;
    }
    HB_TRY(check_apart(op, outputs, REST - GIVEN, inputs, OWN + GIVEN));
    HB_DISPATCH(context, attention_backward, args, 10 * work(&c, args->bidirectional));
}
