#include "cpu/blas.h"

#ifdef HB_HAVE_OPENBLAS

#include <cblas.h>
#include <limits.h>
#include <string.h>

#include "ops/host.h"

static void multiply(const struct hb_product_args *args, const struct hb_product_sizes *s, int64_t g)
{
    const int32_t *offsets = args->offsets.data, *present = args->present.data;
    bool transposed = args->form == HB_PRODUCT_TN;
    int64_t begin = offsets ? offsets[g] : 0, end = offsets ? offsets[g + 1] : transposed ? s->k : s->m;
    int64_t m = transposed ? s->m : end - begin, n = s->n, k = transposed ? end - begin : s->k;
    const float *a = (const float *)args->a.data + begin * (transposed ? m : k);
    const float *b = (const float *)args->b.data + (transposed ? begin * n : g * n * k);
    float *out = (float *)args->out.data + (transposed ? g * m * n : begin * n);
    bool keep = args->epilogue != HB_STORE && !(present && !present[g]);
    if (m == 0 || n == 0)
        return;
    if (k == 0) {
        if (args->epilogue == HB_STORE)
            memset(out, 0, (size_t)(m * n) * sizeof *out);
        return;
    }
    cblas_sgemm(CblasRowMajor, transposed ? CblasTrans : CblasNoTrans,
                args->form == HB_PRODUCT_NT ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, 1.0f, a,
                (int)(transposed ? m : k), b, (int)(args->form == HB_PRODUCT_NT ? k : n), keep ? 1.0f : 0.0f,
                out, (int)n);
}

static hb_status product_of_floats(struct hb_context *context, const struct hb_product_args *args)
{
    struct hb_product_sizes s = hb_product_sizes(args);
    if (s.m > INT_MAX || s.n > INT_MAX || s.k > INT_MAX)
        return HB_FAIL(
            HB_EUNSUPPORTED,
            "product: OpenBLAS takes sizes up to %d, this one is %lld x %lld x %lld; use canonical numerics",
            INT_MAX, (long long)s.m, (long long)s.n, (long long)s.k);
    if (!args->offsets.data) {
        openblas_set_num_threads(context->threads);
        multiply(args, &s, 0);
        return HB_OK;
    }
    /* Threads over groups, each calling OpenBLAS on one thread: its pthread build
     * would serialise callers that each ask for many, and one small product gains
     * nothing from two threads. */
    openblas_set_num_threads(1);
#pragma omp parallel for schedule(dynamic) num_threads(context->threads) if (context->threads > 1)
    for (int64_t g = 0; g < s.groups; g++)
        multiply(args, &s, g);
    int32_t *present = args->present.data;
    const int32_t *offsets = args->offsets.data;
    for (int64_t g = 0; present && g < s.groups; g++)
        if (offsets[g + 1] > offsets[g])
            present[g] = 1;
    return HB_OK;
}

/* A tensor's fp32 copy at *room, which moves on; fp32 tensors stay what they are. */
static struct hb_tensor floats_of(struct hb_tensor t, float **room)
{
    if (t.dtype == HB_F32)
        return t;
    t.dtype = HB_F32;
    t.data = *room;
    *room += hb_tensor_count(&t);
    return t;
}

/* OpenBLAS multiplies floats: 16-bit operands are widened before, a 16-bit out is rounded after. */
hb_status hb_blas_product(struct hb_context *context, const struct hb_product_args *args)
{
    hb_status (*cast)(struct hb_context *, const struct hb_cast_args *) = context->backend->cast;
    struct hb_product_args wide = *args;
    float *room = NULL;
    const struct hb_tensor *all[] = {&args->a, &args->b, &args->out};
    int64_t count = 0;
    void *workspace;
    for (int i = 0; i < 3; i++)
        if (all[i]->dtype != HB_F32)
            count += hb_tensor_count(all[i]);
    if (count == 0)
        return product_of_floats(context, args);
    HB_TRY(hb_host_workspace(context, (size_t)count * sizeof *room, &workspace));
    room = workspace;
    wide.a = floats_of(args->a, &room);
    wide.b = floats_of(args->b, &room);
    wide.out = floats_of(args->out, &room);
    if (args->a.dtype != HB_F32)
        HB_TRY(cast(context, &(struct hb_cast_args){.x = args->a, .out = wide.a}));
    if (args->b.dtype != HB_F32)
        HB_TRY(cast(context, &(struct hb_cast_args){.x = args->b, .out = wide.b}));
    if (args->out.dtype != HB_F32 && args->epilogue != HB_STORE)
        HB_TRY(cast(context, &(struct hb_cast_args){.x = args->out, .out = wide.out}));
    HB_TRY(product_of_floats(context, &wide));
    if (args->out.dtype == HB_F32)
        return HB_OK;
    return cast(context, &(struct hb_cast_args){.x = wide.out, .out = args->out});
}

#else

hb_status hb_blas_product(struct hb_context *context, const struct hb_product_args *args)
{
    (void)context;
    (void)args;
    return HB_FAIL(HB_EUNSUPPORTED,
                   "numerics: fast multiplies with OpenBLAS, which this build does not have; "
                   "install libopenblas-dev and configure again, or use numerics: canonical");
}

#endif
