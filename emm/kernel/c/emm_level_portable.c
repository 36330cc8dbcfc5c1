/* Level 0: any C compiler, the library's fmaf (one instruction where the processor has one). */

#include "emm_arithmetic.h"

static FORCE_INLINE void fold_rows_portable(float lanes[][LANES], size_t n_rows, float *out) {
    for (size_t r = 0; r < n_rows; r++) {
        for (int half = LANES / 2; half; half /= 2)
            for (int i = 0; i < half; i++) lanes[r][i] = lanes[r][i] + lanes[r][i + half];
        out[r] = lanes[r][0];
    }
}

static inline int32_t larger_portable(int32_t worst, float value) {
    int32_t magnitude = magnitude_of(value);
    return magnitude > worst ? magnitude : worst;
}

static inline void hadamard_16(float *work, const float *signs) {
    for (size_t i = 0; i < LANES; i++) work[i] = work[i] * signs[i];
    for (size_t half = 1; half < LANES; half *= 2)
        for (size_t start = 0; start < LANES; start += 2 * half)
            for (size_t i = start; i < start + half; i++) {
                float a = work[i], b = work[i + half];
                work[i] = a + b;
                work[i + half] = a - b;
            }
}

#define EMM(name) name##_portable
#define EMM_TARGET
#define ROWS 4
#define STRIP 4
#define PARTS 16
#define QUERIES 1
#define VECTOR float
#define LOAD(p) (*(p))
#define STORE(p, v) (*(p) = (v))
#define SET1(f) (f)
#define ADD(a, b) ((a) + (b))
#define SUB(a, b) ((a) - (b))
#define MUL(a, b) ((a) * (b))
#define DIV(a, b) ((a) / (b))
#define FMA(a, b, c) fmaf(a, b, c)
#define ZERO() 0.0f
#define COUNTS int32_t
#define NO_COUNTS() 0
#define LARGER(worst, v) larger_portable(worst, v)
#define LARGEST(worst) (worst)
#define HOLD(m) ((void)(m))
#define fold_rows(lanes, out) fold_rows_portable(lanes, ROWS, out)
#include "emm_level.h"

#include "emm_level_gain.h"
