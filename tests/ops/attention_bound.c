/* attention: the fast backend against attention written out in double, within
 * the worst-case bounds of docs/ops/attention.md. */
#include "ops/attention_case.h"

enum { T = 150, H = 2, D = 32 };

/* One segment of T, one key head: values and bounds. */
struct truth {
    double p[H][T][T], ds[H][T][T], lse[H][T], out[H][T][D];
    double p_error[H][T];     /* relative */
    double ds_error[H][T][T]; /* absolute */
    double lse_error[H][T], out_error[H][T][D];
};

static const double u = 0x1p-24;

static double dot64(const float *a, const float *b, double *size)
{
    double sum = 0;
    *size = 0;
    for (int d = 0; d < D; d++) {
        sum += (double)a[d] * (double)b[d];
        *size += fabs((double)a[d] * (double)b[d]);
    }
    return sum;
}

static void truth_forward(const struct example *e, struct truth *t, int h, int i)
{
    double s[T], top = -INFINITY, low = INFINITY, l = 0, score_error = 0, size;
    for (int j = 0; j <= i; j++) {
        s[j] = (double)e->scale * dot64(e->q + (i * H + h) * D, e->k + j * D, &size);
        score_error = fmax(score_error, (D + 1) * u * (double)e->scale * size);
        top = fmax(top, s[j]);
        low = fmin(low, s[j]);
    }
    for (int j = 0; j <= i; j++)
        l += exp(s[j] - top);
    t->lse[h][i] = top + log(l);
    double rounding = (64 + 8 * (i / 64 + 1) + (top - low) + 8) * u;
    t->lse_error[h][i] = score_error + rounding + 2 * u * fabs(t->lse[h][i]);
    t->p_error[h][i] = score_error + t->lse_error[h][i] + (top - low + fabs(t->lse[h][i]) + 2) * u;
    for (int j = 0; j <= i; j++)
        t->p[h][i][j] = exp(s[j] - top) / l;
    for (int d = 0; d < D; d++) {
        double mean = 0;
        size = 0;
        for (int j = 0; j <= i; j++) {
            mean += t->p[h][i][j] * (double)e->v[j * D + d];
            size += t->p[h][i][j] * fabs((double)e->v[j * D + d]);
        }
        t->out[h][i][d] = mean;
        t->out_error[h][i][d] = 2 * (score_error + rounding) * size;
    }
}

static void truth_backward(const struct example *e, struct truth *t, int h, int i)
{
    const float *dout = e->dout + (i * H + h) * D;
    double delta = 0, delta_error = 0, size;
    for (int d = 0; d < D; d++) {
        delta += (double)dout[d] * t->out[h][i][d];
        delta_error +=
            fabs((double)dout[d]) * (t->out_error[h][i][d] + (D / 32 + 5) * u * fabs(t->out[h][i][d]));
    }
    for (int j = 0; j <= i; j++) {
        double p = t->p[h][i][j], dp = dot64(dout, e->v + j * D, &size);
        t->ds[h][i][j] = p * (dp - delta);
        t->ds_error[h][i][j] =
            p * (D * u * size + delta_error + (t->p_error[h][i] + 2 * u) * (fabs(dp) + fabs(delta)));
    }
}

/* error / bound of one number; fails above 1. */
static double share(double got, double expected, double bound)
{
    double error = fabs(got - expected);
    if (!(error <= bound))
        fail_msg("error %g exceeds the bound %g", error, bound);
    return bound > 0 ? error / bound : 0;
}

static void test_against_double(void **state)
{
    (void)state;
    struct example e = example_of(&(struct shape){1, {T}, {0}, H, 1, D}, TH_NORMAL, 81);
    struct th_outputs got = run_fast(&e);
    const float *out = got.item[0].data, *lse = got.item[1].data, *dq = got.item[2].data,
                *dk = got.item[3].data, *dv = got.item[4].data;
    struct truth *t = malloc(sizeof *t);
    assert_non_null(t);
    double worst[5] = {0}, scale = (double)e.scale;
    for (int h = 0; h < H; h++)
        for (int i = 0; i < T; i++) {
            truth_forward(&e, t, h, i);
            truth_backward(&e, t, h, i);
            worst[1] = fmax(worst[1], share((double)lse[i * H + h], t->lse[h][i], t->lse_error[h][i]));
            for (int d = 0; d < D; d++) {
                double sum = 0, bound = 0;
                for (int j = 0; j <= i; j++) {
                    double k = (double)e.k[j * D + d];
                    sum += t->ds[h][i][j] * k;
                    bound += (t->ds_error[h][i][j] + (64 + i / 64 + 2) * u * fabs(t->ds[h][i][j])) * fabs(k);
                }
                int at = (i * H + h) * D + d;
                worst[0] = fmax(worst[0], share((double)out[at], t->out[h][i][d], t->out_error[h][i][d]));
                worst[2] = fmax(worst[2], share((double)dq[at], scale * sum, scale * bound));
            }
        }
    for (int j = 0; j < T; j++)
        for (int d = 0; d < D; d++) {
            double sum_k = 0, sum_v = 0, bound_k = 0, bound_v = 0, chain = (64 + H * (T / 64 + 1) + 2) * u;
            for (int h = 0; h < H; h++)
                for (int i = j; i < T; i++) {
                    double q = (double)e.q[(i * H + h) * D + d], dout = (double)e.dout[(i * H + h) * D + d];
                    sum_k += t->ds[h][i][j] * q;
                    sum_v += t->p[h][i][j] * dout;
                    bound_k += (t->ds_error[h][i][j] + chain * fabs(t->ds[h][i][j])) * fabs(q);
                    bound_v += t->p[h][i][j] * (t->p_error[h][i] + chain) * fabs(dout);
                }
            worst[3] = fmax(worst[3], share((double)dk[j * D + d], scale * sum_k, scale * bound_k));
            worst[4] = fmax(worst[4], share((double)dv[j * D + d], sum_v, bound_v));
        }
    print_message("share of the bound: out %.3f, lse %.3f, dq %.3f, dk %.3f, dv %.3f\n", worst[0], worst[1],
                  worst[2], worst[3], worst[4]);
    free(t);
    th_outputs_release(&got);
    example_release(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_double)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
