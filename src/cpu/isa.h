/* The instruction-set level of the fast CPU backend.
 *
 * Every file of this folder is compiled once per level (base, avx2, avx512; on
 * other processors base only) with HB_ISA set by the build and that level's
 * compiler flags, and names its functions HB_CPU(op): hb_cpu_avx2_rmsnorm_forward.
 * The level changes how many elements go at once, never the order of a sum, so
 * all levels give the same bits. */
#ifndef HB_CPU_ISA_H
#define HB_CPU_ISA_H

#if defined(__FAST_MATH__)
#error "fast-math changes the bits: build without -ffast-math and -Ofast"
#endif
#ifndef HB_ISA
#error "HB_ISA must name the level: base, avx2 or avx512"
#endif

#define HB_CPU_JOIN(isa, name) hb_cpu_##isa##_##name
#define HB_CPU_EXPAND(isa, name) HB_CPU_JOIN(isa, name)
#define HB_CPU(name) HB_CPU_EXPAND(HB_ISA, name)

#endif
