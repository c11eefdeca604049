#include "ops/harness.h"

#include <math.h>
#include <stdio.h>

#include "backends/plugin.h"
#include "backends/registry.h"
#include "cpu/select.h"
#include "ref/backend.h"
#include "strict/strict.h"

void th_ok(hb_status status, const char *what, const char *file, int line)
{
    if (status != HB_OK) {
        print_error("%s failed (%d): %s\n", what, status, hb_error());
        _fail(file, line);
    }
}

enum hb_dtype th_real(const struct hb_context *context)
{
    return context->backend->storage == HB_STORAGE(HB_F64) ? HB_F64 : HB_F32;
}

enum { MIXTURES = 5 };
static int mixture;        /* that the current run stores its tensors in */
static bool mixture_asked; /* by the current run */

enum hb_dtype th_storage(const struct hb_context *context, int i)
{
    static const enum hb_dtype of_mixture[MIXTURES][3] = {
        {HB_F32, HB_F32, HB_F32},  {HB_BF16, HB_BF16, HB_BF16}, {HB_F16, HB_F16, HB_F16},
        {HB_BF16, HB_F16, HB_F32}, {HB_F32, HB_BF16, HB_F16},
    };
    mixture_asked = true;
    return th_real(context) == HB_F64 ? HB_F64 : of_mixture[mixture][i % 3];
}

static void convert(enum hb_dtype dtype, const float *from, void *to, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        switch (dtype) {
        case HB_F64:
            ((double *)to)[i] = (double)from[i];
            break;
        case HB_BF16:
            ((uint16_t *)to)[i] = hb_bf16_of_f32(from[i]);
            break;
        case HB_F16:
            ((uint16_t *)to)[i] = hb_f16_of_f32(from[i]);
            break;
        default:
            ((float *)to)[i] = from[i];
        }
}

struct hb_tensor th_tensor(struct hb_context *context, enum hb_dtype dtype, int rank, const int64_t *shape,
                           const void *host)
{
    struct hb_tensor t = {.home = context, .dtype = dtype, .rank = rank, .shape = {1, 1, 1, 1, 1, 1}};
    for (int d = 0; d < rank; d++)
        t.shape[d] = shape[d];
    size_t bytes = hb_tensor_bytes(&t);
    TH_OK(hb_alloc(context, HB_MEMORY_ACTIVATIONS, bytes, &t.data));
    char *staging = malloc(bytes + 1);
    assert_non_null(staging);
    memset(staging, 0xff, bytes);
    bool integers = dtype == HB_I32 || dtype == HB_I64 || dtype == HB_U8;
    if (host && integers)
        memcpy(staging, host, bytes);
    else if (host)
        convert(dtype, host, staging, hb_tensor_count(&t));
    TH_OK(hb_copy_in(context, t, staging));
    free(staging);
    return t;
}

struct hb_tensor th_1d(struct hb_context *context, enum hb_dtype dtype, int64_t n, const void *host)
{
    return th_tensor(context, dtype, 1, &n, host);
}

struct hb_tensor th_2d(struct hb_context *context, enum hb_dtype dtype, int64_t n0, int64_t n1,
                       const void *host)
{
    return th_tensor(context, dtype, 2, (int64_t[]){n0, n1}, host);
}

struct hb_tensor th_3d(struct hb_context *context, enum hb_dtype dtype, int64_t n0, int64_t n1, int64_t n2,
                       const void *host)
{
    return th_tensor(context, dtype, 3, (int64_t[]){n0, n1, n2}, host);
}

void th_free(struct hb_context *context, struct hb_tensor *t)
{
    hb_free(context, t->data);
    t->data = NULL;
}

double *th_doubles(struct hb_context *context, struct hb_tensor t)
{
    int64_t n = hb_tensor_count(&t);
    char *raw = malloc(hb_tensor_bytes(&t) + 1);
    double *out = malloc((size_t)(n + 1) * sizeof *out);
    assert_true(raw && out);
    TH_OK(hb_copy_out(context, raw, t));
    for (int64_t i = 0; i < n; i++)
        switch (t.dtype) {
        case HB_F64:
            out[i] = ((double *)raw)[i];
            break;
        case HB_BF16:
            out[i] = (double)hb_f32_of_bf16(((uint16_t *)raw)[i]);
            break;
        case HB_F16:
            out[i] = (double)hb_f32_of_f16(((uint16_t *)raw)[i]);
            break;
        case HB_I32:
            out[i] = ((int32_t *)raw)[i];
            break;
        case HB_I64:
            out[i] = (double)((int64_t *)raw)[i];
            break;
        default:
            out[i] = (double)((float *)raw)[i];
        }
    free(raw);
    return out;
}

/* splitmix64: a test's own generator, so that tests do not lean on what they test. */
static uint64_t mix(uint64_t seed, uint64_t i)
{
    uint64_t z = seed * 0x9e3779b97f4a7c15u + (i + 1) * 0xd1b54a32d192ed03u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static float bell(uint64_t seed, uint64_t i)
{
    uint64_t u = mix(seed, i);
    float sum = 0;
    for (int j = 0; j < 4; j++)
        sum += (float)((u >> (16 * j)) & 0xffff) / 65536.0f - 0.5f;
    return 1.7f * sum;
}

const char *th_kind_name(enum th_kind kind)
{
    static const char *const names[TH_KIND_COUNT] = {"normal", "same sign", "zeros", "one-hot",
                                                     "large",  "denormal",  "tiny"};
    return names[kind];
}

float *th_numbers(enum th_kind kind, uint64_t seed, int64_t n)
{
    float *x = malloc((size_t)(n + 1) * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) {
        float b = bell(seed, (uint64_t)i);
        switch (kind) {
        case TH_SAME_SIGN:
            x[i] = fabsf(b) + 0.01f;
            break;
        case TH_ZEROS:
            x[i] = b < 0 ? -0.0f : 0.0f;
            break;
        case TH_ONE_HOT:
            x[i] = (uint64_t)i == mix(seed, 7) % (uint64_t)n ? 1.0f : 0.0f;
            break;
        case TH_LARGE:
            x[i] = b * 1e15f;
            break;
        case TH_DENORMAL:
            x[i] = b * 1e-40f;
            break;
        case TH_TINY: /* products of two underflow */
            x[i] = b * 1e-23f;
            break;
        default:
            x[i] = b;
        }
    }
    return x;
}

int32_t *th_integers(uint64_t seed, int64_t n, int32_t below)
{
    int32_t *x = malloc((size_t)(n + 1) * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (int32_t)(mix(seed, (uint64_t)i) % (uint64_t)below);
    return x;
}

void *th_host(struct hb_context *context, struct hb_tensor t)
{
    void *bytes = malloc(hb_tensor_bytes(&t) + 1);
    assert_non_null(bytes);
    TH_OK(hb_copy_out(context, bytes, t));
    return bytes;
}

void th_keep(struct th_outputs *out, struct hb_context *context, const char *name, struct hb_tensor t)
{
    assert_true(out->count < 16);
    struct th_output *o = &out->item[out->count++];
    snprintf(o->name, sizeof o->name, "%s", name);
    o->dtype = t.dtype;
    o->n = hb_tensor_count(&t);
    o->data = th_host(context, t);
}

void th_outputs_release(struct th_outputs *out)
{
    for (int i = 0; i < out->count; i++)
        free(out->item[i].data);
    out->count = 0;
}

static bool same_element(enum hb_dtype dtype, const void *a, const void *b, int64_t i)
{
    size_t size = hb_dtype_size(dtype);
    const char *x = (const char *)a + (size_t)i * size, *y = (const char *)b + (size_t)i * size;
    if (memcmp(x, y, size) == 0)
        return true;
    if (dtype == HB_F32) {
        float u, v;
        memcpy(&u, x, size);
        memcpy(&v, y, size);
        return isnan(u) && isnan(v);
    }
    if (dtype == HB_F64) {
        double u, v;
        memcpy(&u, x, size);
        memcpy(&v, y, size);
        return isnan(u) && isnan(v);
    }
    if (dtype == HB_BF16 || dtype == HB_F16) {
        uint16_t u, v, infinity = dtype == HB_BF16 ? 0x7f80 : 0x7c00;
        memcpy(&u, x, size);
        memcpy(&v, y, size);
        return (u & 0x7fff) > infinity && (v & 0x7fff) > infinity;
    }
    return false;
}

void th_assert_same_bits(const char *label, const struct th_outputs *expected, const struct th_outputs *got)
{
    assert_int_equal(expected->count, got->count);
    for (int o = 0; o < expected->count; o++) {
        const struct th_output *e = &expected->item[o], *g = &got->item[o];
        assert_int_equal(e->dtype, g->dtype);
        assert_int_equal(e->n, g->n);
        for (int64_t i = 0; i < e->n; i++)
            if (!same_element(e->dtype, e->data, g->data, i)) {
                if (e->dtype == HB_F32)
                    print_error("%s: %s[%lld] is %a, ref has %a\n", label, e->name, (long long)i,
                                (double)((float *)g->data)[i], (double)((float *)e->data)[i]);
                fail_msg("%s: %s differs from ref at element %lld of %lld", label, e->name, (long long)i,
                         (long long)e->n);
            }
    }
}

/* One run on a subject against what `ref` gave. */
static void compare(const char *label, const struct hb_backend *backend, int threads, th_run run,
                    const void *data, const struct th_outputs *expected)
{
    struct hb_context context;
    struct th_outputs got = {0};
    TH_OK(hb_context_open(backend, HB_CANONICAL, threads, &context));
    run(&context, data, &got);
    TH_OK(hb_sync(&context));
    hb_context_close(&context);
    th_assert_same_bits(label, expected, &got);
    th_outputs_release(&got);
}

const struct hb_backend *th_kernels(void)
{
    static struct hb_plugin plugin; /* stays loaded */
    static bool loaded;
    const char *named = getenv("HB_KERNELS");
    const struct hb_backend *found;
    if (!named)
        return hb_backend_find("cuda-emulated", &found) == HB_OK ? found : NULL;
    if (!strchr(named, '/')) {
        TH_OK(hb_backend_find(named, &found));
        return found;
    }
    if (!loaded)
        TH_OK(hb_plugin_init(&plugin, named));
    loaded = true;
    return &plugin.backend;
}

/* On the emulator each case under another order of threads. */
static void compare_kernels(const char *label, th_run run, const void *data,
                             const struct th_outputs *expected)
{
    static unsigned schedule;
    const struct hb_backend *kernels = th_kernels();
    if (!kernels)
        return;
    char name[160], number[16];
    snprintf(number, sizeof number, "%u", schedule++ % 6);
    snprintf(name, sizeof name, "%s, mixture %d, %s, HB_EMULATED_SCHEDULE=%s", label, mixture, kernels->name,
             number);
    setenv("HB_EMULATED_SCHEDULE", number, 1);
    compare(name, kernels, 1, run, data, expected);
    unsetenv("HB_EMULATED_SCHEDULE");
}

static void same_bits(const char *label, th_run run, const void *data)
{
    static const int threads[] = {1, 3, 2, 5};
    size_t thread_counts = mixture ? 2 : 4;
    struct hb_context context;
    struct th_outputs expected = {0};
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    run(&context, data, &expected);
    hb_context_close(&context);
    char name[160];
    if (getenv("HB_KERNELS")) {
        compare_kernels(label, run, data, &expected);
        th_outputs_release(&expected);
        return;
    }
    const struct hb_cpu_level *levels;
    int count = hb_cpu_levels(&levels);
    for (int l = 0; l < count; l++)
        for (size_t t = 0; levels[l].usable && t < thread_counts; t++) {
            snprintf(name, sizeof name, "%s, mixture %d, cpu %s, %d threads", label, mixture, levels[l].name,
                     threads[t]);
            compare(name, levels[l].backend, threads[t], run, data, &expected);
        }
    const struct hb_backend *strict;
    TH_OK(hb_strict_select(&strict));
    for (int t = 1; t <= (mixture ? 1 : 2); t++) {
        snprintf(name, sizeof name, "%s, mixture %d, strict, %d threads", label, mixture, t);
        compare(name, strict, t, run, data, &expected);
    }
    int schedules = getenv("HB_EMULATED_SCHEDULES") ? atoi(getenv("HB_EMULATED_SCHEDULES")) : 1;
    for (int i = 0; i < schedules; i++)
        compare_kernels(label, run, data, &expected);
    th_outputs_release(&expected);
}

void th_same_bits_everywhere(const char *label, th_run run, const void *data)
{
    mixture_asked = false;
    same_bits(label, run, data);
    int mixtures = mixture_asked ? MIXTURES : 1;
    for (mixture = 1; mixture < mixtures; mixture++)
        same_bits(label, run, data);
    mixture = 0;
}

void th_check_gradient(const char *label, double (*loss)(void *data), void *data, double *x, const double *dx,
                       int64_t n)
{
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(dx[i]));
    for (int64_t i = 0; i < n; i++) {
        double kept = x[i], h = 1e-5 * fmax(1, fabs(kept));
        x[i] = kept + h;
        double above = loss(data);
        x[i] = kept - h;
        double below = loss(data);
        x[i] = kept;
        double numeric = (above - below) / (2 * h), bound = 1e-6 * largest + 1e-9;
        if (!(fabs(numeric - dx[i]) <= bound))
            fail_msg("%s: gradient %lld is %.12g, central difference %.12g (bound %.3g)", label, (long long)i,
                     dx[i], numeric, bound);
    }
}

void th_open_double(struct hb_context *context)
{
    TH_OK(hb_context_open(&hb_backend_ref64, HB_CANONICAL, 1, context));
}

void th_put(struct hb_context *context, struct hb_tensor t, const double *host)
{
    assert_int_equal(t.dtype, HB_F64);
    TH_OK(hb_copy_in(context, t, host));
}
