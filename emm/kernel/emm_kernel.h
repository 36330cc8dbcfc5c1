/* The compiled kernel's interface. Purpose: one declaration of every entry, read by the C compiler and, between the
 * two marks, by cffi (tools/emm_build.py). Invariants: arrays are C-contiguous and rank is a multiple of 16 (the
 * Python wrapper has checked); no entry allocates; every entry runs with subnormals on and rounding to nearest, and
 * restores the caller's floating-point control word. Results equal emm/kernel/reference.py to the bit. */
#ifndef EMM_KERNEL_H
#define EMM_KERNEL_H

#include <stddef.h>
#include <stdint.h>

/* cdef begins */
typedef struct {
    float scale;       /* a, the factor on P-bar */
    float leak;        /* b, the pending multiple of I */
    uint32_t count;    /* c, rows of U in use, 0..15 */
    uint32_t signs;    /* bit k set: sigma_k = -1 */
    double gram_trace; /* sum of beta x'x */
} emm_gain_scalars;

typedef struct {
    int32_t reason;  /* emm.kernel.checks.Refusal; 0 = none */
    int64_t row;     /* the pair that is refused */
    float value;     /* what was found */
    double row_norm; /* in: a bound on the norm of a row of M; out: the same after the batch */
} emm_outcome;

typedef struct {
    size_t dim, rank, n;
    const float *x;        /* (n, rank) */
    const float *gains;    /* (n, rank), g of each pair; x itself for rule 0 */
    const float *values;   /* (n, dim) */
    const float *decay;    /* (n,) */
    const uint8_t *active; /* (n,), 0 = a no-op: only its decay happens */
    int predict;           /* 1: e = v - M x;  0: e = v (rule 0, values already times beta) */
} emm_batch;

/* Levels: 0 portable, 1 AVX2 + FMA, 2 AVX-512F. */
int emm_level_runs(int level);

/* Index of the first row with a number outside +-bound (or NaN); -1 when there is none. */
ptrdiff_t emm_first_outside(const float *rows, size_t n, size_t width, float bound);

/* The largest norm of a row of M, in binary64, rounded as it comes: only a bound is needed. */
double emm_row_norm_max(const float *matrix, size_t dim, size_t rank);

/* Rule A-7: keys (n, key_dim) -> x (n, rank); work holds `padded` floats. */
void emm_transform(int level, const float *keys, size_t n, size_t key_dim, size_t padded, const float *signs,
                   const int64_t *order, float scale, size_t rank, float *work, float *x);

/* Rule A-17: out (n, dim). */
void emm_recall(int level, const float *matrix, size_t dim, size_t rank, const float *x, size_t n, float *out,
                emm_outcome *outcome);

/* Rule A-12: gains and active flags of rules 0 and 1. */
void emm_gains_plain(int level, int rule, size_t rank, size_t n, const float *x, const float *gate, float *gains,
                     uint8_t *active, emm_outcome *outcome);

/* Rule A-13, steps 1 to 5, for P alone; pbar, u and scalars move on even when the batch is refused. */
void emm_gains(int level, size_t rank, size_t n, const float *x, const float *decay, const float *gate, float prior,
               float *pbar, float *u, emm_gain_scalars *scalars, float *gains, uint8_t *active, emm_outcome *outcome);

/* Rule A-13, step 5, at any count. */
void emm_fold(int level, size_t rank, float *pbar, float *u, emm_gain_scalars *scalars);

/* Rule A-16: gains of a joint forget; scratch is P and is used up; whole holds n + rank
 * floats. */
void emm_deflate(int level, size_t rank, size_t n, const float *x, float *scratch, float *whole, float *gains,
                 uint8_t *active, emm_outcome *outcome);

/* Steps 1 and 6 for rows row_begin..row_end of M; work holds emm_work_floats(rank). squares (n,) gains the squares of
 * e in row order, or is NULL. Returns 0 when every number stored is finite. */
int emm_sweep(int level, const emm_batch *batch, size_t row_begin, size_t row_end, float *matrix, float *work,
              double *squares);

size_t emm_work_floats(size_t rank);
/* cdef ends */

#endif
