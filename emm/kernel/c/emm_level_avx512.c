/* Level 2: AVX-512F. */

#include "emm_arithmetic.h"

#if EMM_X86

#define EMM_TARGET __attribute__((target("avx512f,avx2,fma")))

/* Two vectors of 2 x 4 x 4 lanes to one of 4 x 4: neighbouring quarters added. */
#define QUARTERS(a, b) _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD))

/* The halves of a and the halves of b added: 16 -> 8 for two rows at once. (Addition commutes, to the bit.) */
EMM_TARGET static inline __m512 halves_avx512(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_mask_blend_ps(0xFF00, a, b), _mm512_shuffle_f32x4(a, b, 0x4E));
}

/* Eight rows of 16 lanes: 16 -> 8 -> 4 -> 2 -> 1, upper half added to lower. */
EMM_TARGET static FORCE_INLINE void fold_rows_avx512(__m512 lanes[8][1], float *out) {
    __m512 a = QUARTERS(halves_avx512(lanes[0][0], lanes[1][0]), halves_avx512(lanes[2][0], lanes[3][0]));
    __m512 b = QUARTERS(halves_avx512(lanes[4][0], lanes[5][0]), halves_avx512(lanes[6][0], lanes[7][0]));
    __m512 c = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xEE));
    __m512 d = _mm512_add_ps(c, _mm512_permute_ps(c, 0xB1));
    const __m512i first = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm256_storeu_ps(out, _mm512_castps512_ps256(_mm512_permutexvar_ps(first, d)));
}

EMM_TARGET static inline __m512i larger_avx512(__m512i worst, __m512 value) {
    return _mm512_max_epi32(worst, _mm512_and_epi32(_mm512_castps_si512(value), _mm512_set1_epi32(0x7FFFFFFF)));
}

EMM_TARGET static inline void hadamard_16(float *work, const float *signs) {
    __m512 v = _mm512_mul_ps(_mm512_loadu_ps(work), _mm512_loadu_ps(signs));
    __m512 swapped = _mm512_permute_ps(v, 0xB1);
    v = _mm512_mask_sub_ps(_mm512_add_ps(swapped, v), 0xAAAA, swapped, v);
    swapped = _mm512_permute_ps(v, 0x4E);
    v = _mm512_mask_sub_ps(_mm512_add_ps(swapped, v), 0xCCCC, swapped, v);
    swapped = _mm512_shuffle_f32x4(v, v, 0xB1);
    v = _mm512_mask_sub_ps(_mm512_add_ps(swapped, v), 0xF0F0, swapped, v);
    swapped = _mm512_shuffle_f32x4(v, v, 0x4E);
    v = _mm512_mask_sub_ps(_mm512_add_ps(swapped, v), 0xFF00, swapped, v);
    _mm512_storeu_ps(work, v);
}

/* Eight keys at a time, their numbers transposed eight by eight; a square is exact in binary64, so the FMA rounds
 * once, as the sum does. */
EMM_TARGET static inline __m512d eight_squares(const float *e, size_t n_rows, __m512d sum) {
    __m256 r[8], s[8], t[8];
    for (int k = 0; k < 8; k++) r[k] = _mm256_loadu_ps(e + (size_t)k * n_rows);
    for (int k = 0; k < 8; k += 2) {
        s[k] = _mm256_unpacklo_ps(r[k], r[k + 1]);
        s[k + 1] = _mm256_unpackhi_ps(r[k], r[k + 1]);
    }
    for (int k = 0; k < 8; k += 4) {
        t[k] = _mm256_shuffle_ps(s[k], s[k + 2], 0x44);
        t[k + 1] = _mm256_shuffle_ps(s[k], s[k + 2], 0xEE);
        t[k + 2] = _mm256_shuffle_ps(s[k + 1], s[k + 3], 0x44);
        t[k + 3] = _mm256_shuffle_ps(s[k + 1], s[k + 3], 0xEE);
    }
    for (int i = 0; i < 8; i++) {
        __m256 column = i < 4 ? _mm256_permute2f128_ps(t[i], t[i + 4], 0x20)
                              : _mm256_permute2f128_ps(t[i - 4], t[i], 0x31);
        __m512d wide = _mm512_cvtps_pd(column);
        sum = _mm512_fmadd_pd(wide, wide, sum);
    }
    return sum;
}

EMM_TARGET static void squares_avx512(size_t n, size_t n_rows, const float *errors, double *sums) {
    size_t k = 0;
    for (; k + 16 <= n; k += 16) { /* two chains of additions at once */
        __m512d low = _mm512_loadu_pd(sums + k), high = _mm512_loadu_pd(sums + k + 8);
        for (size_t i = 0; i < n_rows; i += 8) {
            low = eight_squares(errors + k * n_rows + i, n_rows, low);
            high = eight_squares(errors + (k + 8) * n_rows + i, n_rows, high);
        }
        _mm512_storeu_pd(sums + k, low);
        _mm512_storeu_pd(sums + k + 8, high);
    }
    for (; k < n; k++)
        for (size_t i = 0; i < n_rows; i++) {
            double e = errors[k * n_rows + i];
            sums[k] += e * e;
        }
}

EMM_TARGET static void gather_avx512(size_t rank, const int32_t *order, float scale, const float *work, float *x) {
    const __m512 all = _mm512_set1_ps(scale);
    for (size_t i = 0; i < rank; i += LANES) {
        __m512i index = _mm512_loadu_si512((const void *)(order + i));
        _mm512_storeu_ps(x + i, _mm512_mul_ps(_mm512_i32gather_ps(index, work, 4), all));
    }
}

#define HAVE_SQUARES
#define HAVE_GATHER
#define EMM(name) name##_avx512
#define ROWS 8
#define STRIP 4
#define PARTS 1
#define QUERIES 3
#define VECTOR __m512
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define SET1(f) _mm512_set1_ps(f)
#define ADD(a, b) _mm512_add_ps(a, b)
#define SUB(a, b) _mm512_sub_ps(a, b)
#define MUL(a, b) _mm512_mul_ps(a, b)
#define DIV(a, b) _mm512_div_ps(a, b)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define ZERO() _mm512_setzero_ps()
#define COUNTS __m512i
#define NO_COUNTS() _mm512_setzero_si512()
#define LARGER(worst, v) larger_avx512(worst, v)
#define LARGEST(worst) _mm512_reduce_max_epi32(worst)
#define HOLD(m) __asm__("" : "+v"(m))
#define fold_rows(lanes, out) fold_rows_avx512(lanes, out)
#include "emm_level.h"

#include "emm_level_gain.h"

#endif
