#include "verify/verify.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "verify/compare.h"

static void __attribute__((format(printf, 2, 3))) fail(struct hb_verdict *v, const char *format, ...)
{
    va_list args;
    if (!v->passed)
        return; /* the first problem is the one to look at */
    v->passed = false;
    va_start(args, format);
    vsnprintf(v->problem, sizeof v->problem, format, args);
    va_end(args);
}

/* Keeps the place of the largest share. */
static void note(const struct hb_case *c, int t, int64_t at, double share, double worst, struct hb_verdict *v)
{
    if (share > v->share) {
        v->share = share;
        hb_case_place(c, t, at, v->place, sizeof v->place);
    }
    v->worst = fmax(v->worst, worst);
}

/* Integers whole, floats with their bits readable. */
static char *value_text(enum hb_dtype dtype, const void *data, int64_t i, char *text, size_t size)
{
    if (dtype == HB_I64)
        snprintf(text, size, "%lld", (long long)((const int64_t *)data)[i]);
    else if (dtype == HB_I32)
        snprintf(text, size, "%d", ((const int32_t *)data)[i]);
    else
        snprintf(text, size, "%.9g (%a)", hb_element_value(dtype, data, i), hb_element_value(dtype, data, i));
    return text;
}

/* Exact: the expected bits, nothing else. */
static void check_exact(const struct hb_case *c, int t, const void *got, const void *expected,
                        struct hb_verdict *v)
{
    const struct hb_case_tensor *x = &c->tensors[t];
    int64_t at = hb_compare_bits(x->dtype, got, expected, x->count);
    char place[64], a[64], b[64];
    if (at < 0)
        return;
    note(c, t, at, INFINITY, INFINITY, v);
    fail(v, "first wrong element %s, which is exact: expected %s, got %s",
         hb_case_place(c, t, at, place, sizeof place), value_text(x->dtype, expected, at, a, sizeof a),
         value_text(x->dtype, got, at, b, sizeof b));
}

static void check_bound(const struct hb_case *c, int t, const void *got, const double *expected,
                        const float *terms, struct hb_verdict *v)
{
    const struct hb_case_tensor *x = &c->tensors[t];
    struct hb_comparison result = hb_compare_bound(x->dtype, got, expected, terms, x->count, x->steps);
    char place[64];
    note(c, t, result.at, result.share, result.worst, v);
    if (result.first >= 0)
        fail(v, "first wrong element %s: expected %.9g, got %.9g, error %.3g, bound %.3g",
             hb_case_place(c, t, result.first, place, sizeof place), expected[result.first], result.got,
             result.error, result.bound);
}

/* Against the file. The copies bring the alignment that a map does not promise. */
static hb_status check_golden(const struct hb_case *c, int t, const void *got, struct hb_verdict *v)
{
    const struct hb_case_tensor *x = &c->tensors[t];
    void *expected = malloc(x->output.bytes + 1), *terms = malloc((size_t)x->count * sizeof(float) + 1);
    hb_status status =
        expected && terms ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for the expected values");
    if (status == HB_OK) {
        hb_safetensors_copy(&x->output, expected);
        if (x->steps == 0) {
            check_exact(c, t, got, expected, v);
        } else {
            hb_safetensors_copy(&x->terms, terms);
            check_bound(c, t, got, expected, terms, v);
        }
    }
    free(expected);
    free(terms);
    return status;
}

static void check_bits(const struct hb_case *c, int t, const void *got, const void *reference, bool required,
                       struct hb_verdict *v)
{
    const struct hb_case_tensor *x = &c->tensors[t];
    int64_t at = hb_compare_bits(x->dtype, got, reference, x->count);
    char place[64], a[64], b[64];
    if (at < 0)
        return;
    v->same_bits = false;
    if (required)
        fail(v, "bits differ from ref, first at %s: ref has %s, got %s",
             hb_case_place(c, t, at, place, sizeof place), value_text(x->dtype, reference, at, a, sizeof a),
             value_text(x->dtype, got, at, b, sizeof b));
}

static hb_status compare(const struct hb_case *c, const struct hb_case_results *got,
                         const struct hb_case_results *reference, bool canonical, struct hb_verdict *v)
{
    for (int t = 0; t < c->count; t++)
        if (c->tensors[t].expected)
            HB_TRY(check_golden(c, t, got->data[t], v));
    for (int t = 0; t < c->count; t++)
        if (c->tensors[t].expected)
            check_bits(c, t, got->data[t], reference->data[t], canonical, v);
    return HB_OK;
}

hb_status hb_verify_case(const struct hb_case *c, struct hb_context *subject, struct hb_context *ref,
                         struct hb_verdict *out)
{
    struct hb_case_results got, reference;
    *out =
        (struct hb_verdict){.passed = true, .covered = hb_case_fits(c, subject->backend), .same_bits = true};
    if (!out->covered)
        return HB_OK;
    out->ran = true;
    HB_TRY(hb_case_run(c, ref, &reference));
    if (hb_case_run(c, subject, &got) != HB_OK) {
        out->ran = out->same_bits = false;
        fail(out, "%s", hb_error());
    } else {
        hb_status status = compare(c, &got, &reference, subject->numerics == HB_CANONICAL, out);
        hb_case_results_release(&got);
        if (status != HB_OK) {
            hb_case_results_release(&reference);
            return status;
        }
    }
    hb_case_results_release(&reference);
    return HB_OK;
}
