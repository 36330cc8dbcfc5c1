/* The compiled kernel's interface. Purpose: one declaration of every entry, read by the C compiler and, between the
 * two marks, by cffi (tools/emm_build.py). Invariants: arrays are C-contiguous and rank is a multiple of 16 (the
 * Python wrapper has checked); no entry allocates; every entry runs with subnormals on and rounding to nearest, and
 * restores the caller's floating-point control word. Results equal emm/kernel/reference.py to the bit, for any level,
 * any split of a batch and any number of threads. */
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
    int32_t reason; /* emm.kernel.checks.Refusal; 0 = none */
    float value;    /* what was found */
    int64_t row;    /* the pair that is refused, -1 when it is none in particular */
    float surprise; /* emm_write_one: the norm of e */
} emm_outcome;

typedef struct {
    int rule;              /* 0, 1, 2 */
    size_t dim, rank, n;   /* n pairs */
    float *matrix;         /* (dim, rank), M */
    const float *x;        /* (n, rank) */
    const float *values;   /* (n, dim); NULL: zeros */
    const float *decay;    /* (n,) */
    const float *gate;     /* (n,), negative to unlearn */
    float prior;           /* P_0, for rule 2, as all down to `folded` */
    const float *pbar;     /* (rank, rank), never written */
    float *pbar_folded;    /* (rank, rank), where a fold leaves P-bar; NULL when count + n stays below 16 */
    float *u;              /* (16, rank); like scalars it moves on even when the batch is refused */
    emm_gain_scalars scalars;
    int folded;            /* out: P-bar is now pbar_folded */
    float *undo;           /* (dim, rank), room for M as it was */
    float *work;           /* emm_update_floats(dim, rank, threads) numbers */
    double *squares;       /* (n,) zeros; gains the squares of e in row order */
} emm_batch;

/* Levels: 0 portable, 1 AVX2 + FMA, 2 AVX-512F, 3 NEON. Whether this processor runs one. */
int emm_level_runs(int level);

/* A digest of everything that a level computes from a fixed programme: the same number on every level of every machine,
 * emm.kernel.native.SELF_TEST. work holds emm_self_test_floats() numbers. */
size_t emm_self_test_floats(void);
uint64_t emm_self_test(int level, float *work);

/* A problem of fewer multiplications stays on one thread, whatever an entry's `threads` says (1 to 64). */
void emm_set_work_min(size_t multiplications);

/* Index of the first row with a number outside +-bound (or NaN); -1 when there is none. */
ptrdiff_t emm_first_outside(int level, const float *rows, size_t n, size_t width, float bound);

/* Rule A-7: keys (n, key_dim) -> x (n, rank); work holds `padded` floats. Returns the first row with a number that is
 * not finite, or -1; rows from there on are not computed. */
ptrdiff_t emm_transform(int level, const float *keys, size_t n, size_t key_dim, size_t padded, const float *signs,
                        const int32_t *order, float scale, size_t rank, float *work, float *x);

/* Rule A-17: out (n, dim). work holds emm_recall_floats(rank, threads) numbers, or is NULL for one query. Returns the
 * reason of a refusal, else 0. */
size_t emm_recall_floats(size_t rank, int threads);
int emm_recall(int level, int threads, const float *matrix, size_t dim, size_t rank, const float *x, size_t n,
               float *out, float *work, emm_outcome *outcome);

/* Rules for a batch; M is as it was when it is refused. */
size_t emm_update_floats(size_t dim, size_t rank, int threads);
void emm_update(int level, int threads, emm_batch *batch, emm_outcome *outcome);

/* The same for one pair, with everything as it was when it is refused. Returns 0, or 1 when it is refused, or -1 when
 * only emm_update with its undo can tell. work holds emm_write_one_floats(dim, rank) numbers; pbar_folded may be NULL
 * unless count is 15. */
size_t emm_write_one_floats(size_t dim, size_t rank);
int emm_write_one(int level, int rule, size_t dim, size_t rank, float *matrix, const float *x, const float *values,
                  float decay, float gate, float prior, const float *pbar, float *pbar_folded, float *u,
                  emm_gain_scalars *scalars, float *work, emm_outcome *outcome);

/* Rule A-13, step 5, at any count, from pbar to folded; work holds 8 x rank numbers. */
void emm_fold(int level, size_t rank, const float *pbar, float *folded, float *u, emm_gain_scalars *scalars,
              float *work);

/* Rule A-16: deflates scratch (P, used up) for every key, then M; M is as it was when it is refused. gains holds
 * n x rank, whole n + rank, active n, undo dim x rank, ones n (each 1), work emm_update_floats(dim, rank, threads). */
void emm_forget(int level, int threads, size_t dim, size_t rank, size_t n, float *matrix, const float *x,
                float *scratch, float *gains, float *whole, uint8_t *active, float *undo, const float *ones,
                float *work, emm_outcome *outcome);
/* cdef ends */

#define EMM_THREADS_MAX 64

#endif
