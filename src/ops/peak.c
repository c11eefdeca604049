#include "ops/peak.h"

#include <math.h>
#include <omp.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "ops/clock.h"

enum { PEAK_ROUNDS = 4000000 };

#if defined(__x86_64__)

/* 12 independent chains, enough for every latency; written in assembly, because
 * a compiler sees that equal chains have equal sums. Result: floating-point
 * operations of one round. */
static double peak_rounds(void)
{
    long n = PEAK_ROUNDS;
    if (__builtin_cpu_supports("avx512f")) {
        __asm__ volatile("vpxorq %%zmm15, %%zmm15, %%zmm15\n"
                         "1:\n"
                         "vfmadd231ps %%zmm15, %%zmm15, %%zmm0\n vfmadd231ps %%zmm15, %%zmm15, %%zmm1\n"
                         "vfmadd231ps %%zmm15, %%zmm15, %%zmm2\n vfmadd231ps %%zmm15, %%zmm15, %%zmm3\n"
                         "vfmadd231ps %%zmm15, %%zmm15, %%zmm4\n vfmadd231ps %%zmm15, %%zmm15, %%zmm5\n"
                         "vfmadd231ps %%zmm15, %%zmm15, %%zmm6\n vfmadd231ps %%zmm15, %%zmm15, %%zmm7\n"
                         "vfmadd231ps %%zmm15, %%zmm15, %%zmm8\n vfmadd231ps %%zmm15, %%zmm15, %%zmm9\n"
                         "vfmadd231ps %%zmm15, %%zmm15, %%zmm10\n vfmadd231ps %%zmm15, %%zmm15, %%zmm11\n"
                         "dec %0\n jnz 1b\n vzeroupper"
                         : "+r"(n)
                         :
                         : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                           "xmm9", "xmm10", "xmm11", "xmm15");
        return 12 * 16 * 2;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        __asm__ volatile("vxorps %%ymm15, %%ymm15, %%ymm15\n"
                         "1:\n"
                         "vfmadd231ps %%ymm15, %%ymm15, %%ymm0\n vfmadd231ps %%ymm15, %%ymm15, %%ymm1\n"
                         "vfmadd231ps %%ymm15, %%ymm15, %%ymm2\n vfmadd231ps %%ymm15, %%ymm15, %%ymm3\n"
                         "vfmadd231ps %%ymm15, %%ymm15, %%ymm4\n vfmadd231ps %%ymm15, %%ymm15, %%ymm5\n"
                         "vfmadd231ps %%ymm15, %%ymm15, %%ymm6\n vfmadd231ps %%ymm15, %%ymm15, %%ymm7\n"
                         "vfmadd231ps %%ymm15, %%ymm15, %%ymm8\n vfmadd231ps %%ymm15, %%ymm15, %%ymm9\n"
                         "vfmadd231ps %%ymm15, %%ymm15, %%ymm10\n vfmadd231ps %%ymm15, %%ymm15, %%ymm11\n"
                         "dec %0\n jnz 1b\n vzeroupper"
                         : "+r"(n)
                         :
                         : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                           "xmm9", "xmm10", "xmm11", "xmm15");
        return 12 * 8 * 2;
    }
    return 0;
}

#else

static double peak_rounds(void)
{
    float lane[64] = {0};
    volatile float one = 1.0f;
    float x = one;
    for (long n = 0; n < PEAK_ROUNDS; n++)
        for (int l = 0; l < 64; l++)
            lane[l] = fmaf(x, x, lane[l]);
    for (int l = 0; l < 64; l++)
        one = lane[l];
    return 64 * 2;
}

#endif

double hb_peak_gflops(int threads)
{
    double best = 0;
    for (int repeat = 0; repeat < 5; repeat++) {
        double start = hb_clock_now(), flops = 0;
#pragma omp parallel num_threads(threads) reduction(+ : flops)
        flops += peak_rounds() * PEAK_ROUNDS;
        double gflops = flops / (hb_clock_now() - start) / 1e9;
        best = gflops > best ? gflops : best;
    }
    return best;
}

/* Thread `me` of two takes every second turn. */
static void take_turns(_Atomic int *turn, int me, int turns)
{
    for (int i = me; i < turns; i += 2) {
        while (atomic_load_explicit(turn, memory_order_acquire) != i)
            ;
        atomic_store_explicit(turn, i + 1, memory_order_release);
    }
}

double hb_handover_ns(int threads)
{
    enum { TURNS = 200 };
    static const double SECONDS = 0.005; /* for all tries; one takes long where threads share a processor */
    double best = 0, end = hb_clock_now() + SECONDS;
    for (bool more = threads > 1; more; more = hb_clock_now() < end) {
        _Alignas(128) _Atomic int turn = 0;
        double seconds = 0;
#pragma omp parallel num_threads(threads)
        {
            int me = omp_get_thread_num(), last = omp_get_num_threads() - 1;
#pragma omp barrier
            double start = hb_clock_now();
            if (last > 0 && (me == 0 || me == last))
                take_turns(&turn, me == last, TURNS);
            if (me == 0)
                seconds = hb_clock_now() - start;
        }
        best = best > 0 && best < seconds ? best : seconds;
    }
    return 1e9 * best / TURNS;
}
