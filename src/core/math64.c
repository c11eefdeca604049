/* Numbers that need more than 53 bits are held as hi + lo with |lo| <= ulp(hi)/2.
 * Polynomials are minimax fits of ours (Remez exchange in 300 bits). */
#include "core/math64.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined __FAST_MATH__ || (defined __FINITE_MATH_ONLY__ && __FINITE_MATH_ONLY__)
#error "fast-math changes results: remove -ffast-math or -Ofast (numerics are a contract here)"
#endif
#if FLT_EVAL_METHOD != 0
#error "double arithmetic must be done in double: on 32-bit x86 use -msse2 -mfpmath=sse"
#endif

struct pair {
    double hi, lo;
};

static uint64_t bits_of(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static double of_bits(uint64_t u)
{
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static double absolute(double x)
{
    return of_bits(bits_of(x) & ~(UINT64_C(1) << 63));
}

/* The sign of `sign` on the magnitude x >= 0. */
static double with_sign(double x, double sign)
{
    return of_bits(bits_of(x) | (bits_of(sign) & (UINT64_C(1) << 63)));
}

/* To the nearest integer, ties to even; |x| < 2^51. Adding 1.5 * 2^52 leaves no room for a fraction. */
static double nearest(double x)
{
    double shifted = x + 0x1.8p+52;
    return shifted - 0x1.8p+52;
}

/* a + b without error. */
static struct pair two_sum(double a, double b)
{
    double s = a + b;
    double b_part = s - a;
    return (struct pair){s, (a - (s - b_part)) + (b - b_part)};
}

/* The same for |a| >= |b|. */
static struct pair fast_two_sum(double a, double b)
{
    double s = a + b;
    return (struct pair){s, b - (s - a)};
}

/* a * b without error. */
static struct pair two_product(double a, double b)
{
    double p = a * b;
    return (struct pair){p, fma(a, b, -p)};
}

/* p (1 or so) times 2^n for -1076 <= n <= 1026: in two halves, because 2^n itself may not exist. */
static double scale(double p, int n)
{
    int half = n / 2;
    p *= of_bits((uint64_t)(half + 1023) << 52);
    return p * of_bits((uint64_t)(n - half + 1023) << 52);
}

static const double log2_e = 0x1.71547652b82fep+0;
static const double ln2_hi = 0x1.62e42fefa38p-1; /* 42 bits: times any |n| < 2^11 it is exact */
static const double ln2_lo = 0x1.ef35793c7673p-45;

/* e^(x + tail) = 2^n (1 + hi + lo) with |hi| < 0.35; |x| < 800, |tail| tiny. Relative error below 2^-64. */
static struct pair exp_core(double x, double tail, int *n)
{
    double count = nearest(x * log2_e);
    *n = (int)count;
    struct pair low = two_product(count, -ln2_lo);
    struct pair r = two_sum(fma(count, -ln2_hi, x), low.hi); /* the fma is exact */
    r = fast_two_sum(r.hi, r.lo + low.lo + tail);
    double p = 0x1.2043c8de3aa3cp-29;
    p = fma(p, r.hi, 0x1.af73e73f14670p-26);
    p = fma(p, r.hi, 0x1.27e450904931dp-22);
    p = fma(p, r.hi, 0x1.71ddeada4b920p-19);
    p = fma(p, r.hi, 0x1.a01a01e6e9ec6p-16);
    p = fma(p, r.hi, 0x1.a01a01b5e7cfep-13);
    p = fma(p, r.hi, 0x1.6c16c16c0a67cp-10);
    p = fma(p, r.hi, 0x1.111111110e55ap-7);
    p = fma(p, r.hi, 0x1.555555555556cp-5);
    p = fma(p, r.hi, 0x1.555555555555dp-3);
    /* e^r - 1 = r + r^2/2 + r^3 P(r), and d(e^r) = e^r dr for the tail of r. */
    struct pair half_square = two_product(0.5 * r.hi, r.hi);
    double rest = fma(r.hi * r.hi, r.hi * p, half_square.lo);
    struct pair s = fast_two_sum(r.hi, half_square.hi);
    return fast_two_sum(s.hi, s.lo + (rest + fma(r.lo, s.hi, r.lo)));
}

/* e^(hi + lo) for any hi; NaN is the caller's. */
static double exp_pair(double hi, double lo)
{
    if (hi > 710.0)
        return of_bits(UINT64_C(0x7ff) << 52);
    if (hi < -746.0)
        return 0.0;
    int n;
    struct pair e = exp_core(hi, lo, &n);
    struct pair one = fast_two_sum(1.0, e.hi);
    return scale(one.hi + (one.lo + e.lo), n);
}

double hb_exp64(double x)
{
    return x != x ? x : exp_pair(x, 0.0);
}

/* ln x for finite x > 0, relative error below 2^-64. With x = 2^e m, sqrt(1/2) <= m < sqrt(2),
 * s = (m - 1) / (m + 1): e ln 2 + 2 s + s^3 (2/3 + z (2/5 + z R(z))), z = s^2. */
static struct pair log_core(double x)
{
    int e = 0;
    if (x < DBL_MIN) {
        x *= 0x1p+54;
        e = -54;
    }
    uint64_t u = bits_of(x);
    int64_t exponent = (int64_t)(u - UINT64_C(0x3fe6a09e667f3bcd)) >> 52;
    double m = of_bits(u - ((uint64_t)exponent << 52));
    double count = (double)(e + (int)exponent);

    double f = m - 1.0; /* exact */
    struct pair d = two_sum(m, 1.0);
    struct pair s;
    s.hi = f / d.hi;
    s.lo = fma(-s.hi, d.lo, fma(-s.hi, d.hi, f)) / d.hi;
    struct pair z = two_product(s.hi, s.hi);
    z.lo = fma(2.0 * s.hi, s.lo, z.lo);

    double r = 0x1.e7f98b3d0889fp-4;
    r = fma(r, z.hi, 0x1.de9bcfd66d4bap-4);
    r = fma(r, z.hi, 0x1.111ddce072108p-3);
    r = fma(r, z.hi, 0x1.3b1377e6a502ep-3);
    r = fma(r, z.hi, 0x1.745d17d83c0f0p-3);
    r = fma(r, z.hi, 0x1.c71c71c658e32p-3);
    r = fma(r, z.hi, 0x1.24924924927d2p-2);
    r = fma(r, z.hi, 0x1.999999999999ap-2);
    double q = fma(z.hi, r, 0x1.5555555555555p-55); /* 2/3 has its head in the next line, its tail here */
    struct pair a = fast_two_sum(0x1.5555555555555p-1, q);
    /* t = s^3 a = s z a */
    struct pair za = two_product(z.hi, a.hi);
    za.lo += fma(z.hi, a.lo, z.lo * a.hi);
    struct pair t = two_product(s.hi, za.hi);
    t.lo += fma(s.hi, za.lo, s.lo * za.hi);

    struct pair sum = fast_two_sum(2.0 * s.hi, t.hi);
    sum = fast_two_sum(sum.hi, sum.lo + fma(2.0, s.lo, t.lo));
    struct pair low = two_product(count, ln2_lo);
    struct pair whole = two_sum(count * ln2_hi, sum.hi); /* the product is exact */
    struct pair middle = two_sum(whole.lo, low.hi);
    struct pair result = two_sum(whole.hi, middle.hi);
    return fast_two_sum(result.hi, result.lo + (middle.lo + low.lo + sum.lo));
}

double hb_log64(double x)
{
    if (x != x || x == of_bits(UINT64_C(0x7ff) << 52))
        return x;
    if (x == 0.0)
        return of_bits(UINT64_C(0xfff) << 52);
    if (x < 0.0)
        return of_bits(UINT64_C(0x7ff8) << 48);
    struct pair l = log_core(x);
    return l.hi + l.lo;
}

double hb_pow64(double x, double y)
{
    if (x != x || y != y)
        return x + y;
    if (x < 0.0)
        return of_bits(UINT64_C(0x7ff8) << 48);
    if (y == 0.0 || x == 1.0)
        return 1.0;
    double infinity = of_bits(UINT64_C(0x7ff) << 52);
    if (x == 0.0 || x == infinity)
        return (x == 0.0) == (y < 0.0) ? infinity : 0.0;
    struct pair l = log_core(x);
    double hi = y * l.hi;
    /* Far outside (and there y may be infinite) the low part says nothing. */
    double lo = absolute(hi) > 800.0 ? 0.0 : fma(y, l.lo, fma(y, l.hi, -hi));
    return exp_pair(hi, lo);
}

/* x = n pi/2 + r, |r| <= pi/4 and a little; returns r and n mod 4. pi/2 is held in
 * three doubles, 161 bits, so that r has 64 good bits even for the double up to
 * 2^30 that lies nearest to a multiple of pi/2 (some 2^-60 away). */
static struct pair reduce(double x, int *quadrant)
{
    double n = nearest(x * 0x1.45f306dc9c883p-1);
    *quadrant = (int)((int64_t)n & 3);
    struct pair p1 = two_product(n, -0x1.921fb54442d18p+0);
    struct pair p2 = two_product(n, -0x1.1a62633145c07p-54);
    struct pair a = two_sum(x + p1.hi, p1.lo); /* x + p1.hi is exact: the two are within a factor of 2 */
    struct pair b = two_sum(a.hi, p2.hi);
    return fast_two_sum(b.hi, a.lo + b.lo + fma(n, 0x1.f1976b7ed8fbcp-110, p2.lo));
}

/* sin(r) on [-pi/4, pi/4]: r - r^3/6 + r^5 P(r^2). */
static double sin_core(struct pair r)
{
    double z = r.hi * r.hi;
    double p = 0x1.5d9300db5c823p-33;
    p = fma(p, z, -0x1.ae5e66a38145ep-26);
    p = fma(p, z, 0x1.71de3578ecb48p-19);
    p = fma(p, z, -0x1.a01a019c141aap-13);
    p = fma(p, z, 0x1.111111110f89cp-7);
    p = fma(p, z, -0x1.5555555555549p-3);
    double tail = fma(-0.5 * z, r.lo, r.lo); /* r.lo cos r */
    return r.hi + fma(p, z * r.hi, tail);
}

/* cos(r) on [-pi/4, pi/4]: 1 - r^2/2 + r^4 P(r^2). */
static double cos_core(struct pair r)
{
    struct pair z = two_product(r.hi, r.hi);
    double p = -0x1.8fadcff72241bp-37;
    p = fma(p, z.hi, 0x1.1ee9ec548ab5fp-29);
    p = fma(p, z.hi, -0x1.27e4f80dbf97ep-22);
    p = fma(p, z.hi, 0x1.a01a019cbbcf6p-16);
    p = fma(p, z.hi, -0x1.6c16c16c15217p-10);
    p = fma(p, z.hi, 0x1.555555555554cp-5);
    struct pair s = fast_two_sum(1.0, -0.5 * z.hi);
    double rest = fma(-r.hi, r.lo, -0.5 * z.lo);
    return s.hi + (s.lo + fma(p * z.hi, z.hi, rest));
}

/* sin(x + shift pi/2) */
static double circular(double x, int shift)
{
    if (!(absolute(x) <= 0x1p+30))
        return of_bits(UINT64_C(0x7ff8) << 48);
    int quadrant;
    struct pair r = reduce(x, &quadrant);
    quadrant += shift;
    double value = quadrant & 1 ? cos_core(r) : sin_core(r);
    return quadrant & 2 ? -value : value;
}

double hb_sin64(double x)
{
    return x == 0.0 ? x : circular(x, 0); /* keeps -0 */
}

double hb_cos64(double x)
{
    return circular(x, 1);
}

/* (E - 1) / (E + 1) with E = e^2|x| = 2^n (1 + hi + lo). */
double hb_tanh64(double x)
{
    double a = absolute(x);
    if (a > 8.0) /* 2^n +- 1 would soon need more than 53 bits */
        return with_sign(1.0 - 2.0 / (hb_exp64(a + a) + 1.0), x);
    if (!(a > 0x1p-28)) /* x - x^3/3 rounds to x; also 0 and NaN */
        return x;
    int n;
    struct pair e = exp_core(a + a, 0.0, &n);
    double power = of_bits((uint64_t)(n + 1023) << 52);
    double hi = power * e.hi, lo = power * e.lo;
    struct pair over = two_sum(power - 1.0, hi);
    struct pair under = two_sum(power + 1.0, hi);
    over = fast_two_sum(over.hi, over.lo + lo);
    under = fast_two_sum(under.hi, under.lo + lo);
    double q = over.hi / under.hi;
    double rest = fma(-q, under.hi, over.hi) + fma(-q, under.lo, over.lo);
    return with_sign(q + rest / under.hi, x);
}

double hb_sigmoid64(double x)
{
    double e = hb_exp64(-absolute(x));
    return (x < 0.0 ? e : 1.0) / (1.0 + e);
}

/* x + x P(x^2) up to 1; from there 1 - e^(-x^2) Q(t) with t = (x - 3) / (x + 3); from 6 on it rounds to 1. */
double hb_erf64(double x)
{
    double a = absolute(x);
    if (a >= 6.0)
        return with_sign(1.0, x);
    double z = a * a;
    if (!(a >= 1.0)) {
        double p = -0x1.a0f6aa0617ab1p-31;
        p = fma(p, z, 0x1.d380e2a95cf90p-27);
        p = fma(p, z, -0x1.5b8178505e77bp-23);
        p = fma(p, z, 0x1.b969f31daf003p-20);
        p = fma(p, z, -0x1.f4c814ccd56e3p-17);
        p = fma(p, z, 0x1.f9a2959735d31p-14);
        p = fma(p, z, -0x1.c02daeb070fdcp-11);
        p = fma(p, z, 0x1.565bcceec81c7p-8);
        p = fma(p, z, -0x1.b82ce311a958ap-6);
        p = fma(p, z, 0x1.ce2f21a03f8b9p-4);
        p = fma(p, z, -0x1.812746b03799dp-2);
        p = fma(p, z, 0x1.06eba8214db68p-3);
        return fma(x, p, x);
    }
    double t = (a - 3.0) / (a + 3.0);
    double q = -0x1.bacd3411d06b0p-18;
    q = fma(q, t, -0x1.b4b330b0d91f8p-18);
    q = fma(q, t, 0x1.2bffb6f985e42p-14);
    q = fma(q, t, 0x1.a494f14eb1248p-15);
    q = fma(q, t, -0x1.37f903c86886ep-11);
    q = fma(q, t, 0x1.735975c6704d1p-11);
    q = fma(q, t, 0x1.17c9cc7a27ca1p-8);
    q = fma(q, t, -0x1.8fa584f8edaf6p-6);
    q = fma(q, t, 0x1.258b13bf4aa24p-4);
    q = fma(q, t, -0x1.336ffbf0a4779p-3);
    q = fma(q, t, 0x1.f6ff2040dc190p-3);
    q = fma(q, t, -0x1.4e102b9cf8e8ep-2);
    q = fma(q, t, 0x1.6e9827d229d2cp-3);
    return with_sign(1.0 - exp_pair(-z, -fma(a, a, -z)) * q, x);
}
