/* What every file of the compiled kernel rests on. Purpose: the environment of rule A-2 (asserted, entered, left), the
 * constants of the rules and the operations that each level provides. Invariants: FLT_EVAL_METHOD is 0 and there is no
 * fast-math, asserted here; contraction is off (-ffp-contract=off; gcc fuses even intrinsics without it); the
 * floating-point control word is saved, set and restored by every entry and every worker, because loading any
 * -ffast-math library switches FTZ/DAZ on. */
#ifndef EMM_ARITHMETIC_H
#define EMM_ARITHMETIC_H

#include "emm_kernel.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __FAST_MATH__
#error "the format's arithmetic cannot be computed with -ffast-math"
#endif
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "the format's arithmetic cannot be computed with -ffinite-math-only"
#endif
#if defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__)
#error "the format's arithmetic cannot be computed with reassociation or reciprocals"
#endif
_Static_assert(FLT_EVAL_METHOD == 0, "binary32 operations must round to binary32");
_Static_assert(FLT_RADIX == 2 && FLT_MANT_DIG == 24 && FLT_MAX_EXP == 128, "float must be IEEE-754 binary32");
_Static_assert(DBL_MANT_DIG == 53 && DBL_MAX_EXP == 1024, "double must be IEEE-754 binary64");

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

#if defined(__x86_64__) && defined(__GNUC__)
#define EMM_X86 1
#include <immintrin.h>
#else
#define EMM_X86 0
#endif
#if defined(__aarch64__) && defined(__GNUC__)
#define EMM_NEON 1
#else
#define EMM_NEON 0
#endif

#define LANES 16
#define DEFERRED 16
#define INPUT_MAX 0x1p40f
#define SQUARE_MAX 0x1p80f
#define DENOMINATOR_MIN 0x1p-6f
#define FORGET_MIN 0x1p-20f

enum { REFUSE_KEY_NORM = 1, REFUSE_INDEFINITE, REFUSE_DENOMINATOR, REFUSE_GAIN, REFUSE_MATRIX, REFUSE_INPUT };

/* --- the floating-point control word: nearest even, subnormals on, no traps -------------------------------------- */

#if EMM_X86
typedef unsigned int control_word;
static inline control_word control_enter(void) {
    control_word before = _mm_getcsr();
    _mm_setcsr(0x1F80);
    return before;
}
static inline void control_leave(control_word before) { _mm_setcsr(before); }
#elif defined(__aarch64__)
typedef uint64_t control_word;
static inline control_word control_enter(void) {
    control_word before, none = 0;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(none) : "memory");
    return before;
}
static inline void control_leave(control_word before) { __asm__ volatile("msr fpcr, %0" : : "r"(before) : "memory"); }
#else
#include <fenv.h>
typedef fenv_t control_word;
static inline control_word control_enter(void) {
    control_word before;
    fegetenv(&before);
    fesetenv(FE_DFL_ENV);
    return before;
}
static inline void control_leave(control_word before) { fesetenv(&before); }
#endif

/* The control word is invisible to the compiler's dependence analysis: no load may move above `enter`, no store below
 * `leave`, so no arithmetic can. */
#if defined(__GNUC__)
#define BARRIER() __asm__ volatile("" : : : "memory")
#define PREFETCH(address) __builtin_prefetch((const void *)(address)) /* may point anywhere */
#define FORCE_INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#else
#define BARRIER() ((void)0)
#define PREFETCH(address) ((void)0)
#define FORCE_INLINE inline
#define UNROLL
#endif
static inline control_word enter(void) {
    control_word before = control_enter();
    BARRIER();
    return before;
}
static inline void leave(control_word before) {
    BARRIER();
    control_leave(before);
}

/* The bits of |value|: as integers, magnitudes order like numbers, infinity above them and NaN above it. */
static inline int32_t magnitude_of(float value) {
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & 0x7FFFFFFF;
}
static inline float from_magnitude(int32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
static inline int is_finite(float value) { return magnitude_of(value) < 0x7F800000; }

/* Keys begin..end of a batch, as the sweep over a block of rows of M sees them. */
typedef struct {
    size_t rank, n;
    const float *x;        /* (n, rank) */
    const float *gains;    /* (n, rank) */
    const uint8_t *active; /* (n,), 0 = a no-op: only its decay happens */
    const float *decay;    /* (n,) */
    const float *values;   /* (n, stride), from the block's first row on; NULL: zeros */
    const float *gate;     /* (n,), used by rule 0 alone */
    size_t stride;
    int predict; /* 1: e = v - M x;  0: e = beta v (rule 0) */
} emm_keys;

typedef struct {
    size_t rank;
    const float *pbar; /* P-bar as it stands */
    float *folded;     /* where the next fold leaves it; may be pbar */
    float *u;          /* (16, rank) */
    emm_gain_scalars *scalars;
    float prior;
} emm_gain;

typedef struct {
    size_t rows; /* of M in one group; a block of the sweep is a multiple of it */
    float (*dot)(size_t rank, const float *a, const float *b);
    /* the largest magnitude among n numbers, as an integer */
    int32_t (*largest)(const float *values, size_t n);
    /* out[i] = dot(row i, x) */
    void (*dots)(size_t rank, size_t n_rows, const float *matrix, const float *x, float *out);
    /* out[i] = dot(alpha row i, x); returns the largest magnitude among the rows */
    int32_t (*dots_measured)(size_t rank, size_t n_rows, const float *matrix, float alpha, const float *x, float *out);
    /* out[q stride + i] = dot(row i, x_q); tile holds rows x rank floats */
    void (*recall)(size_t rank, size_t n_rows, const float *matrix, size_t n, const float *x, float *out, size_t stride,
                   float *tile);
    /* rows ... <- fma(e_i, g_j, alpha row), last row first */
    void (*rank_one)(size_t rank, size_t n_rows, float *matrix, float alpha, const float *e, const float *g);
    /* a block of rows against n keys; errors (n, block_width(n_rows)) come out; returns the largest magnitude
     * stored; tile holds that many rows */
    int32_t (*sweep)(const emm_keys *keys, size_t n_rows, float *matrix, float *tile, float *errors);
    /* sums[k] += errors[k][i] squared for ascending i */
    void (*squares)(size_t n, size_t n_rows, const float *errors, double *sums);
    /* folded <- P-bar after step 5 of A-13, then out[q rank + i] = dot(new row i, x_q) unless out is NULL; returns the
     * largest magnitude; tile holds rows x rank floats */
    int32_t (*fold)(const emm_gain *gain, size_t n, const float *x, float *out, float *tile);
    /* w comes in as P-bar x and leaves as P x (rule A-13, step 2) */
    void (*times)(const emm_gain *gain, const float *x, float *w);
    /* out = factor * in; returns the largest magnitude of out */
    int32_t (*scale)(size_t n, float factor, const float *in, float *out);
    /* scratch <- scratch - u u' for one vector (rule A-16) */
    void (*downdate)(size_t rank, float *scratch, const float *u);
    /* u = w / root, w = w / s (rule A-16); returns the largest magnitude */
    int32_t (*deflate)(size_t rank, float root, float s, float *w, float *u);
    /* signed Walsh-Hadamard transform of one padded key, in place (rule A-7) */
    void (*hadamard)(size_t padded, const float *signs, float *work);
    /* x[i] = work[order[i]] * scale */
    void (*gather)(size_t rank, const int32_t *order, float scale, const float *work, float *x);
} emm_operations;

extern const emm_operations emm_portable, emm_avx2, emm_avx512, emm_neon;
const emm_operations *emm_operations_of(int level);

/* Rows of M that one thread takes through the keys together, and keys in a chunk: the block stays in L1, the chunk's
 * keys and gains in L2. */
static inline size_t block_rows(const emm_operations *operations, size_t rank) {
    size_t groups = 8192 / (operations->rows * rank); /* floats: 32 KiB */
    return operations->rows * (groups ? groups : 1);
}
/* Rows of a block's errors, whole groups of every level; rows past the last are zero. */
static inline size_t block_width(size_t n_rows) { return (n_rows + 7) / 8 * 8; }
static inline size_t rows_left(size_t n_rows, size_t first, size_t most) {
    return first >= n_rows ? 0 : n_rows - first < most ? n_rows - first : most;
}
static inline size_t chunk_keys(size_t rank) {
    size_t keys = 65536 / rank / DEFERRED * DEFERRED;
    return keys < 16 ? 16 : keys > 256 ? 256 : keys;
}

#endif
