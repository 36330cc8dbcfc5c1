/* Level 1: AVX2 and FMA. */

#include "emm_arithmetic.h"

#if EMM_X86

#define EMM_TARGET __attribute__((target("avx2,fma")))

/* Four rows of 2 x 8 lanes: 16 -> 8 -> 4 -> 2 -> 1, upper half added to lower. */
EMM_TARGET static FORCE_INLINE void fold_rows_avx2(__m256 lanes[4][2], float *out) {
    __m256 r0 = _mm256_add_ps(lanes[0][0], lanes[0][1]), r1 = _mm256_add_ps(lanes[1][0], lanes[1][1]);
    __m256 r2 = _mm256_add_ps(lanes[2][0], lanes[2][1]), r3 = _mm256_add_ps(lanes[3][0], lanes[3][1]);
    __m256 t01 = _mm256_add_ps(_mm256_permute2f128_ps(r0, r1, 0x20), _mm256_permute2f128_ps(r0, r1, 0x31));
    __m256 t23 = _mm256_add_ps(_mm256_permute2f128_ps(r2, r3, 0x20), _mm256_permute2f128_ps(r2, r3, 0x31));
    __m256 q = _mm256_add_ps(_mm256_shuffle_ps(t01, t23, 0x44), _mm256_shuffle_ps(t01, t23, 0xEE));
    __m256 z = _mm256_add_ps(_mm256_shuffle_ps(q, q, 0x88), _mm256_shuffle_ps(q, q, 0xDD));
    _mm_storeu_ps(out, _mm_unpacklo_ps(_mm256_castps256_ps128(z), _mm256_extractf128_ps(z, 1)));
}

EMM_TARGET static inline __m256i larger_avx2(__m256i worst, __m256 value) {
    return _mm256_max_epi32(worst, _mm256_and_si256(_mm256_castps_si256(value), _mm256_set1_epi32(0x7FFFFFFF)));
}

EMM_TARGET static inline int32_t largest_of_avx2(__m256i worst) {
    int32_t lanes[8], found = 0;
    _mm256_storeu_si256((__m256i *)(void *)lanes, worst);
    for (int i = 0; i < 8; i++) found = lanes[i] > found ? lanes[i] : found;
    return found;
}

/* a and b, neighbours at distance half, become a + b and a - b. */
#define BUTTERFLY(v, swapped, odd) _mm256_blend_ps(_mm256_add_ps(swapped, v), _mm256_sub_ps(swapped, v), odd)
EMM_TARGET static inline __m256 hadamard_8(__m256 v) {
    v = BUTTERFLY(v, _mm256_permute_ps(v, 0xB1), 0xAA);
    v = BUTTERFLY(v, _mm256_permute_ps(v, 0x4E), 0xCC);
    return BUTTERFLY(v, _mm256_permute2f128_ps(v, v, 0x01), 0xF0);
}
EMM_TARGET static inline void hadamard_16(float *work, const float *signs) {
    __m256 a = hadamard_8(_mm256_mul_ps(_mm256_loadu_ps(work), _mm256_loadu_ps(signs)));
    __m256 b = hadamard_8(_mm256_mul_ps(_mm256_loadu_ps(work + 8), _mm256_loadu_ps(signs + 8)));
    _mm256_storeu_ps(work, _mm256_add_ps(a, b));
    _mm256_storeu_ps(work + 8, _mm256_sub_ps(a, b));
}

/* Four keys at a time, their numbers transposed four by four; a square is exact in binary64, so the FMA rounds once,
 * as the sum does. */
EMM_TARGET static void squares_avx2(size_t n, size_t n_rows, const float *errors, double *sums) {
    size_t k = 0;
    for (; k + 4 <= n; k += 4) {
        const float *e = errors + k * n_rows;
        __m256d sum = _mm256_loadu_pd(sums + k);
        for (size_t i = 0; i < n_rows; i += 4) {
            __m128 r0 = _mm_loadu_ps(e + i), r1 = _mm_loadu_ps(e + n_rows + i);
            __m128 r2 = _mm_loadu_ps(e + 2 * n_rows + i), r3 = _mm_loadu_ps(e + 3 * n_rows + i);
            _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
            __m256d d0 = _mm256_cvtps_pd(r0), d1 = _mm256_cvtps_pd(r1);
            __m256d d2 = _mm256_cvtps_pd(r2), d3 = _mm256_cvtps_pd(r3);
            sum = _mm256_fmadd_pd(d0, d0, sum);
            sum = _mm256_fmadd_pd(d1, d1, sum);
            sum = _mm256_fmadd_pd(d2, d2, sum);
            sum = _mm256_fmadd_pd(d3, d3, sum);
        }
        _mm256_storeu_pd(sums + k, sum);
    }
    for (; k < n; k++)
        for (size_t i = 0; i < n_rows; i++) {
            double e = errors[k * n_rows + i];
            sums[k] += e * e;
        }
}

#define HAVE_SQUARES
#define EMM(name) name##_avx2
#define ROWS 4
#define STRIP 4
#define PARTS 2
#define QUERIES 3
#define VECTOR __m256
#define LOAD(p) _mm256_loadu_ps(p)
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define SET1(f) _mm256_set1_ps(f)
#define ADD(a, b) _mm256_add_ps(a, b)
#define SUB(a, b) _mm256_sub_ps(a, b)
#define MUL(a, b) _mm256_mul_ps(a, b)
#define DIV(a, b) _mm256_div_ps(a, b)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define ZERO() _mm256_setzero_ps()
#define COUNTS __m256i
#define NO_COUNTS() _mm256_setzero_si256()
#define LARGER(worst, v) larger_avx2(worst, v)
#define LARGEST(worst) largest_of_avx2(worst)
#define HOLD(m) __asm__("" : "+x"(m))
#define fold_rows(lanes, out) fold_rows_avx2(lanes, out)
#include "emm_level.h"

#include "emm_level_gain.h"

#endif
