/* The compiled kernel: rules in C, equal to emm/kernel/reference.py to the bit.
 *
 * Purpose: the same operations in the same order, fast. One template (emm_kernel_level.h) is compiled per instruction
 * set; Python asks for a level. Invariants: no entry allocates; FLT_EVAL_METHOD is 0 and no fast-math, asserted below;
 * contraction is off (-ffp-contract=off; gcc fuses even intrinsics without it); the floating-point control word is
 * saved, set and restored by every entry, because loading any -ffast-math library switches FTZ/DAZ on. */

#include "emm_kernel.h"

#include <float.h>
#include <math.h>
#include <string.h>

#ifdef __FAST_MATH__
#error "the format's arithmetic cannot be computed with -ffast-math"
#endif
_Static_assert(FLT_EVAL_METHOD == 0, "binary32 operations must round to binary32");
_Static_assert(FLT_RADIX == 2 && FLT_MANT_DIG == 24 && FLT_MAX_EXP == 128, "float must be IEEE-754 binary32");
_Static_assert(DBL_MANT_DIG == 53 && DBL_MAX_EXP == 1024, "double must be IEEE-754 binary64");

#if defined(__x86_64__) && defined(__GNUC__)
#define EMM_X86 1
#include <immintrin.h>
#else
#define EMM_X86 0
#endif

#define LANES 16
#define DEFERRED 16
#define ROWS_MAX 8
#define SQUARE_MAX 0x1p80f
#define DENOMINATOR_MIN 0x1p-6f
#define FORGET_MIN 0x1p-20f

enum { REFUSE_KEY_NORM = 1, REFUSE_INDEFINITE, REFUSE_DENOMINATOR, REFUSE_GAIN };

/* --- the floating-point control word: nearest even, subnormals on, no traps -------------------------------------- */

#if EMM_X86
typedef unsigned int control_word;
static control_word control_enter(void) {
    control_word before = _mm_getcsr();
    _mm_setcsr(0x1F80);
    return before;
}
static void control_leave(control_word before) { _mm_setcsr(before); }
#elif defined(__aarch64__)
typedef uint64_t control_word;
static control_word control_enter(void) {
    control_word before, none = 0;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(none) : "memory");
    return before;
}
static void control_leave(control_word before) { __asm__ volatile("msr fpcr, %0" : : "r"(before) : "memory"); }
#else
#include <fenv.h>
typedef fenv_t control_word;
static control_word control_enter(void) {
    control_word before;
    fegetenv(&before);
    fesetenv(FE_DFL_ENV);
    return before;
}
static void control_leave(control_word before) { fesetenv(&before); }
#endif

/* The control word is invisible to the compiler's dependence analysis: no load may move above `enter`, no store below
 * `leave`, so no arithmetic can. */
#if defined(__GNUC__)
#define BARRIER() __asm__ volatile("" : : : "memory")
#else
#define BARRIER() ((void)0)
#endif
static control_word enter(void) {
    control_word before = control_enter();
    BARRIER();
    return before;
}
static void leave(control_word before) {
    BARRIER();
    control_leave(before);
}

/* --- helpers that no level changes -------------------------------------------------------------------------------- */

/* The bits of |value|: as integers, magnitudes order like numbers, infinity above them and NaN above it. */
static int32_t magnitude_of(float value) {
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & 0x7FFFFFFF;
}

static int32_t largest_magnitude(const float *values, size_t n) {
    int32_t worst = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t magnitude = magnitude_of(values[i]);
        worst = magnitude > worst ? magnitude : worst;
    }
    return worst;
}

static int is_finite(float value) { return magnitude_of(value) < 0x7F800000; }

static int all_finite(const float *values, size_t n) { return largest_magnitude(values, n) < 0x7F800000; }

static double norm_of(const float *values, size_t n) {
    double sum[4] = {0, 0, 0, 0};
    for (size_t i = 0; i < n; i += 4)
        for (size_t j = 0; j < 4; j++) sum[j] += (double)values[i + j] * (double)values[i + j];
    return sqrt(sum[0] + sum[1] + sum[2] + sum[3]);
}

typedef struct {
    float (*dot)(size_t, const float *, const float *);
    void (*dots)(size_t, size_t, const float *, const float *, float *);
    void (*recall)(const float *, size_t, size_t, const float *, size_t, float *);
    void (*fold)(size_t, float *, float *, emm_gain_scalars *);
    void (*times)(size_t, const float *, const emm_gain_scalars *, const float *, float *);
    void (*downdate)(size_t, float *, const float *);
    void (*hadamard)(size_t, const float *, float *);
    int (*sweep)(const emm_batch *, size_t, size_t, float *, float *, double *);
} emm_operations;

/* --- level 0: any C compiler, the library's fmaf (one instruction on aarch64) -------------------------------------- */

static void fold_scalar(float lanes[][LANES], size_t n_rows, float *out) {
    for (size_t r = 0; r < n_rows; r++) {
        for (int half = LANES / 2; half; half /= 2)
            for (int i = 0; i < half; i++) lanes[r][i] = lanes[r][i] + lanes[r][i + half];
        out[r] = lanes[r][0];
    }
}

#define EMM(name) name##_portable
#define EMM_TARGET
#define ROWS 4
#define PARTS 16
#define VECTOR float
#define LOAD(p) (*(p))
#define STORE(p, v) (*(p) = (v))
#define SET1(f) (f)
#define FMA(a, b, c) fmaf(a, b, c)
#define ZERO() 0.0f
#define fold_rows(lanes, out) fold_scalar(lanes, ROWS, out)
#include "emm_kernel_level.h"

#if EMM_X86

/* --- level 1: AVX2 and FMA ----------------------------------------------------------------------------------------- */

#define TARGET_AVX2 __attribute__((target("avx2,fma")))
#define TARGET_AVX512 __attribute__((target("avx512f,avx2,fma")))

/* Four rows of 8 lanes to [r0a r0b r2a r2b | r1a r1b r3a r3b]: 8 -> 4 -> 2, upper half added to lower. */
#define FOLD_FOUR(name, target)                                                                        \
    target static inline __m256 name(__m256 r0, __m256 r1, __m256 r2, __m256 r3) {                     \
        __m256 t01 = _mm256_add_ps(_mm256_permute2f128_ps(r0, r1, 0x20), _mm256_permute2f128_ps(r0, r1, 0x31)); \
        __m256 t23 = _mm256_add_ps(_mm256_permute2f128_ps(r2, r3, 0x20), _mm256_permute2f128_ps(r2, r3, 0x31)); \
        return _mm256_add_ps(_mm256_shuffle_ps(t01, t23, 0x44), _mm256_shuffle_ps(t01, t23, 0xEE));     \
    }
FOLD_FOUR(fold_four_avx2, TARGET_AVX2)
FOLD_FOUR(fold_four_avx512, TARGET_AVX512)

TARGET_AVX2 static inline void fold_rows_avx2(__m256 lanes[4][2], float *out) {
    __m256 q = fold_four_avx2(_mm256_add_ps(lanes[0][0], lanes[0][1]), _mm256_add_ps(lanes[1][0], lanes[1][1]),
                              _mm256_add_ps(lanes[2][0], lanes[2][1]), _mm256_add_ps(lanes[3][0], lanes[3][1]));
    __m256 z = _mm256_add_ps(_mm256_shuffle_ps(q, q, 0x88), _mm256_shuffle_ps(q, q, 0xDD));
    _mm_storeu_ps(out, _mm_unpacklo_ps(_mm256_castps256_ps128(z), _mm256_extractf128_ps(z, 1)));
}

#define EMM(name) name##_avx2
#define EMM_TARGET TARGET_AVX2
#define ROWS 4
#define PARTS 2
#define VECTOR __m256
#define LOAD(p) _mm256_loadu_ps(p)
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define SET1(f) _mm256_set1_ps(f)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define ZERO() _mm256_setzero_ps()
#define fold_rows(lanes, out) fold_rows_avx2(lanes, out)
#include "emm_kernel_level.h"

/* --- level 2: AVX-512F --------------------------------------------------------------------------------------------- */

TARGET_AVX512 static inline __m256 halve_avx512(__m512 lanes) {
    __m256 upper = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(lanes), 1));
    return _mm256_add_ps(_mm512_castps512_ps256(lanes), upper);
}

TARGET_AVX512 static inline void fold_rows_avx512(__m512 lanes[8][1], float *out) {
    __m256 q = fold_four_avx512(halve_avx512(lanes[0][0]), halve_avx512(lanes[1][0]), halve_avx512(lanes[2][0]),
                                halve_avx512(lanes[3][0]));
    __m256 s = fold_four_avx512(halve_avx512(lanes[4][0]), halve_avx512(lanes[5][0]), halve_avx512(lanes[6][0]),
                                halve_avx512(lanes[7][0]));
    __m256 z = _mm256_add_ps(_mm256_shuffle_ps(q, s, 0x88), _mm256_shuffle_ps(q, s, 0xDD));
    __m128 even = _mm256_castps256_ps128(z), odd = _mm256_extractf128_ps(z, 1);
    _mm_storeu_ps(out, _mm_unpacklo_ps(even, odd));
    _mm_storeu_ps(out + 4, _mm_unpackhi_ps(even, odd));
}

#define EMM(name) name##_avx512
#define EMM_TARGET TARGET_AVX512
#define ROWS 8
#define PARTS 1
#define VECTOR __m512
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define SET1(f) _mm512_set1_ps(f)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define ZERO() _mm512_setzero_ps()
#define fold_rows(lanes, out) fold_rows_avx512(lanes, out)
#include "emm_kernel_level.h"

#endif

/* --- entries --------------------------------------------------------------------------------------------------------- */

static const emm_operations *operations_of(int level) {
#if EMM_X86
    if (level == 1) return &operations_avx2;
    if (level == 2) return &operations_avx512;
#endif
    (void)level;
    return &operations_portable;
}

int emm_level_runs(int level) {
#if EMM_X86
    __builtin_cpu_init();
    if (level == 1) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (level == 2)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return level == 0;
}

size_t emm_work_floats(size_t rank) { return ROWS_MAX * (rank + LANES); }

ptrdiff_t emm_first_outside(const float *rows, size_t n, size_t width, float bound) {
    for (size_t row = 0; row < n; row++)
        if (largest_magnitude(rows + row * width, width) > magnitude_of(bound)) return (ptrdiff_t)row;
    return -1;
}

double emm_row_norm_max(const float *matrix, size_t dim, size_t rank) {
    int32_t worst = largest_magnitude(matrix, dim * rank);
    float largest;
    memcpy(&largest, &worst, sizeof largest);
    return (double)largest * sqrt((double)rank);
}

void emm_transform(int level, const float *keys, size_t n, size_t key_dim, size_t padded, const float *signs,
                   const int64_t *order, float scale, size_t rank, float *work, float *x) {
    const emm_operations *operations = operations_of(level);
    control_word before = enter();
    for (size_t row = 0; row < n; row++) {
        memcpy(work, keys + row * key_dim, key_dim * sizeof(float));
        memset(work + key_dim, 0, (padded - key_dim) * sizeof(float));
        operations->hadamard(padded, signs, work);
        for (size_t i = 0; i < rank; i++) x[row * rank + i] = work[order[i]] * scale;
    }
    leave(before);
}

static int refuse(emm_outcome *outcome, int reason, size_t row, float value) {
    outcome->reason = reason;
    outcome->row = (int64_t)row;
    outcome->value = value;
    return 1;
}

static int square_refused(float square, size_t row, emm_outcome *outcome) {
    return square <= SQUARE_MAX ? 0 : refuse(outcome, REFUSE_KEY_NORM, row, square);
}

/* |m + e g| <= |m|(1 + |x||g|) + |v||g|: keeps a bound on the rows of M, so that most batches need no undo copy. */
static void bound_rows(emm_outcome *outcome, size_t rank, float square, const float *gain) {
    double norm = norm_of(gain, rank);
    outcome->row_norm = outcome->row_norm * (1.0 + sqrt((double)square) * norm) + 0x1p46 * norm;
}

void emm_recall(int level, const float *matrix, size_t dim, size_t rank, const float *x, size_t n, float *out,
                emm_outcome *outcome) {
    const emm_operations *operations = operations_of(level);
    control_word before = enter();
    int refused = 0;
    outcome->reason = 0;
    for (size_t row = 0; row < n && !refused; row++)
        refused = square_refused(operations->dot(rank, x + row * rank, x + row * rank), row, outcome);
    if (!refused) operations->recall(matrix, dim, rank, x, n, out);
    leave(before);
}

void emm_gains_plain(int level, int rule, size_t rank, size_t n, const float *x, const float *gate, float *gains,
                     uint8_t *active, emm_outcome *outcome) {
    const emm_operations *operations = operations_of(level);
    control_word before = enter();
    outcome->reason = 0;
    for (size_t row = 0; row < n; row++) {
        const float *key = x + row * rank;
        float *gain = gains + row * rank;
        float square = operations->dot(rank, key, key);
        if (square_refused(square, row, outcome)) break;
        active[row] = square != 0.0f;
        if (!active[row]) continue;
        if (rule == 0) {
            bound_rows(outcome, rank, 0.0f, key);
            continue;
        }
        float eta = gate[row] / square;
        for (size_t i = 0; i < rank; i++) gain[i] = eta * key[i];
        if (!all_finite(gain, rank)) {
            refuse(outcome, REFUSE_GAIN, row, eta);
            break;
        }
        bound_rows(outcome, rank, square, gain);
    }
    leave(before);
}

/* Rule A-13, step 1, without M. */
static void decay_gains(size_t rank, float alpha, float prior, float *u, emm_gain_scalars *scalars) {
    float squared = alpha * alpha;
    float rest = 1.0f - squared;
    rest = rest * prior;
    scalars->leak = fmaf(squared, scalars->leak, rest);
    scalars->scale = squared * scalars->scale;
    for (size_t i = 0; i < DEFERRED * rank; i++) u[i] = alpha * u[i];
    scalars->gram_trace = (double)squared * scalars->gram_trace;
}

/* Rule A-13, steps 2 to 5, for one key; `gain` comes in as P-bar x. Returns 1 when it is refused. */
static int advance(const emm_operations *operations, size_t rank, size_t row, const float *key, float beta,
                   float *pbar, float *u, emm_gain_scalars *scalars, float *gain, uint8_t *active,
                   emm_outcome *outcome) {
    float square = operations->dot(rank, key, key);
    *active = 0;
    if (square_refused(square, row, outcome)) return 1;
    if (square == 0.0f) return 0;
    operations->times(rank, u, scalars, key, gain);
    float s = operations->dot(rank, key, gain);
    if (s == 0.0f) return 0;
    float d = fmaf(beta, s, 1.0f);
    if (!(s > 0.0f && is_finite(s))) return refuse(outcome, REFUSE_INDEFINITE, row, s);
    if (beta < 0.0f && !(d >= DENOMINATOR_MIN)) return refuse(outcome, REFUSE_DENOMINATOR, row, d);
    float gamma = beta / d;
    float root = sqrtf(fabsf(gamma));
    float *next = u + scalars->count * rank;
    for (size_t i = 0; i < rank; i++) {
        next[i] = root * gain[i];
        gain[i] = gamma * gain[i];
    }
    if (!all_finite(next, rank) || !all_finite(gain, rank)) return refuse(outcome, REFUSE_GAIN, row, gamma);
    if (beta < 0.0f) scalars->signs |= 1u << scalars->count;
    scalars->count++;
    double trace = scalars->gram_trace + (double)beta * (double)square;
    scalars->gram_trace = trace > 0.0 ? trace : 0.0;
    *active = 1;
    bound_rows(outcome, rank, square, gain);
    if (scalars->count == DEFERRED) {
        operations->fold(rank, pbar, u, scalars);
        if (!all_finite(pbar, rank * rank)) return refuse(outcome, REFUSE_GAIN, row, gamma);
    }
    return 0;
}

void emm_gains(int level, size_t rank, size_t n, const float *x, const float *decay, const float *gate, float prior,
               float *pbar, float *u, emm_gain_scalars *scalars, float *gains, uint8_t *active, emm_outcome *outcome) {
    const emm_operations *operations = operations_of(level);
    control_word before = enter();
    size_t ready = 0; /* gains holds P-bar x up to here: P-bar stands still until 16 keys have been taken in */
    outcome->reason = 0;
    for (size_t row = 0; row < n; row++) {
        if (row == ready) {
            size_t ahead = DEFERRED - scalars->count;
            if (ahead > n - row) ahead = n - row;
            operations->recall(pbar, rank, rank, x + row * rank, ahead, gains + row * rank);
            ready += ahead;
        }
        if (decay[row] != 1.0f) decay_gains(rank, decay[row], prior, u, scalars);
        if (advance(operations, rank, row, x + row * rank, gate[row], pbar, u, scalars, gains + row * rank,
                    active + row, outcome))
            break;
    }
    leave(before);
}

void emm_fold(int level, size_t rank, float *pbar, float *u, emm_gain_scalars *scalars) {
    control_word before = enter();
    operations_of(level)->fold(rank, pbar, u, scalars);
    leave(before);
}

void emm_deflate(int level, size_t rank, size_t n, const float *x, float *scratch, float *whole, float *gains,
                 uint8_t *active, emm_outcome *outcome) {
    const emm_operations *operations = operations_of(level);
    control_word before = enter();
    int refused = 0;
    outcome->reason = 0;
    for (size_t row = 0; row < n && !refused; row++) {
        const float *key = x + row * rank;
        refused = square_refused(operations->dot(rank, key, key), row, outcome);
        operations->dots(rank, rank, scratch, key, gains);
        whole[row] = operations->dot(rank, key, gains);
    }
    for (size_t row = 0; row < n && !refused; row++) {
        const float *key = x + row * rank;
        float *gain = gains + row * rank;
        operations->dots(rank, rank, scratch, key, gain);
        float s = operations->dot(rank, key, gain);
        active[row] = s > FORGET_MIN * whole[row];
        if (!active[row]) continue;
        float root = sqrtf(s);
        float *u = whole + n;
        for (size_t i = 0; i < rank; i++) {
            u[i] = gain[i] / root;
            gain[i] = gain[i] / s;
        }
        refused = !all_finite(u, rank) || !all_finite(gain, rank);
        if (!refused) operations->downdate(rank, scratch, u);
        if (refused) refuse(outcome, REFUSE_GAIN, row, s);
    }
    leave(before);
}

int emm_sweep(int level, const emm_batch *batch, size_t row_begin, size_t row_end, float *matrix, float *work,
              double *squares) {
    control_word before = enter();
    int spoiled = operations_of(level)->sweep(batch, row_begin, row_end, matrix, work, squares);
    leave(before);
    return spoiled;
}
