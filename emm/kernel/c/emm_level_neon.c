/* Level 3: NEON on aarch64. */

#include "emm_arithmetic.h"

#if EMM_NEON

#include <arm_neon.h>

#define EMM_TARGET

/* 16 -> 8 -> 4 -> 2 -> 1, upper half added to lower; two rows share the last step. */
static inline float32x2_t fold_two_neon(float32x4_t lanes[4]) {
    float32x4_t four = vaddq_f32(vaddq_f32(lanes[0], lanes[2]), vaddq_f32(lanes[1], lanes[3]));
    return vadd_f32(vget_low_f32(four), vget_high_f32(four));
}
static FORCE_INLINE void fold_rows_neon(float32x4_t lanes[4][4], float *out) {
    vst1_f32(out, vpadd_f32(fold_two_neon(lanes[0]), fold_two_neon(lanes[1])));
    vst1_f32(out + 2, vpadd_f32(fold_two_neon(lanes[2]), fold_two_neon(lanes[3])));
}

static inline int32x4_t larger_neon(int32x4_t worst, float32x4_t value) {
    return vmaxq_s32(worst, vandq_s32(vreinterpretq_s32_f32(value), vdupq_n_s32(0x7FFFFFFF)));
}

static inline float32x4_t hadamard_4(float32x4_t v) {
    const uint32x4_t odd = {0, ~0u, 0, ~0u}, upper = {0, 0, ~0u, ~0u};
    float32x4_t swapped = vrev64q_f32(v);
    v = vbslq_f32(odd, vsubq_f32(swapped, v), vaddq_f32(swapped, v));
    swapped = vextq_f32(v, v, 2);
    return vbslq_f32(upper, vsubq_f32(swapped, v), vaddq_f32(swapped, v));
}
static inline void hadamard_16(float *work, const float *signs) {
    float32x4_t v[4];
    for (int i = 0; i < 4; i++) v[i] = hadamard_4(vmulq_f32(vld1q_f32(work + 4 * i), vld1q_f32(signs + 4 * i)));
    float32x4_t a = vaddq_f32(v[0], v[1]), b = vsubq_f32(v[0], v[1]);
    float32x4_t c = vaddq_f32(v[2], v[3]), d = vsubq_f32(v[2], v[3]);
    vst1q_f32(work, vaddq_f32(a, c));
    vst1q_f32(work + 4, vaddq_f32(b, d));
    vst1q_f32(work + 8, vsubq_f32(a, c));
    vst1q_f32(work + 12, vsubq_f32(b, d));
}

#define EMM(name) name##_neon
#define ROWS 4
#define STRIP 4
#define PARTS 4
#define QUERIES 4
#define VECTOR float32x4_t
#define LOAD(p) vld1q_f32(p)
#define STORE(p, v) vst1q_f32(p, v)
#define SET1(f) vdupq_n_f32(f)
#define ADD(a, b) vaddq_f32(a, b)
#define SUB(a, b) vsubq_f32(a, b)
#define MUL(a, b) vmulq_f32(a, b)
#define DIV(a, b) vdivq_f32(a, b)
#define FMA(a, b, c) vfmaq_f32(c, a, b)
#define ZERO() vdupq_n_f32(0.0f)
#define COUNTS int32x4_t
#define NO_COUNTS() vdupq_n_s32(0)
#define LARGER(worst, v) larger_neon(worst, v)
#define LARGEST(worst) vmaxvq_s32(worst)
#define HOLD(m) __asm__("" : "+w"(m))
#define fold_rows(lanes, out) fold_rows_neon(lanes, out)
#include "emm_level.h"

#include "emm_level_gain.h"

#endif
