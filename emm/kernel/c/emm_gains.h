/* From keys to gains. */
#ifndef EMM_GAINS_H
#define EMM_GAINS_H

#include "emm_arithmetic.h"

/* The gains of a batch, made in row order, one stretch of keys after another. */
typedef struct {
    const emm_operations *operations;
    int rule;
    const float *x, *decay, *gate;
    emm_gain gain;   /* rule 2; rank always */
    int fold_due;    /* U is full: the fold waits for the next keys, so that both take one sweep over P-bar */
    size_t fold_row; /* the pair that filled it */
    int folded;      /* P-bar is now gain.folded */
    double row_norm; /* a bound on the norm of a row of M after the pairs so far */
    float *tile;     /* 8 x rank */
} emm_stage;

int emm_refuse(emm_outcome *outcome, int reason, size_t row, float value);

/* Gains (end - begin, rank) and active flags of pairs begin..end; returns 1 when one of them is refused. */
int emm_gains(emm_stage *stage, size_t begin, size_t end, float *gains, uint8_t *active, emm_outcome *outcome);

/* The fold that waits, if one does; returns 1 when it is refused. */
int emm_gains_end(emm_stage *stage, emm_outcome *outcome);

/* Rule A-13, step 1, for the scalars, and for the rows of U in use. */
void emm_decay(const emm_operations *operations, emm_gain *gain, float alpha);

/* Rule A-13, steps 2 to 4, for one key: `gain` comes in as P-bar x and leaves as g; `next` is the new row of U. Returns
 * 1 when it is refused; *active = 0 for a no-op. */
int emm_advance(const emm_operations *operations, emm_gain *state, size_t row, const float *key, float square,
                float beta, float *gain, float *next, uint8_t *active, emm_outcome *outcome);

/* Afterwards P = P-bar, wherever that is. */
void emm_folded(emm_gain *gain);

#endif
