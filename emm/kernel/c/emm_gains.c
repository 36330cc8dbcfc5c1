/* Gains of the three rules. Purpose: rules without M, which never looks back at M, so the gains of many
 * keys can run ahead of the sweep over it. Invariants: P-bar is read in one place and written to another until the
 * first fold has happened, so that a refused batch leaves it alone; every check comes in the order of the pairs. */

#include "emm_gains.h"

int emm_refuse(emm_outcome *outcome, int reason, size_t row, float value) {
    outcome->reason = reason;
    outcome->row = (int64_t)row;
    outcome->value = value;
    return 1;
}

/* |m + e g| <= |m|(1 + |x||g|) + |v||g|: keeps a bound on the rows of M, so that most batches need no undo copy. The
 * rounding of dot products is far below the factor and the addend. */
static void bound_rows(emm_stage *stage, float square, const float *gain) {
    const double norm = 1.001 * sqrt((double)stage->operations->dot(stage->gain.rank, gain, gain)) + 0x1p-60;
    stage->row_norm = stage->row_norm * (1.0 + 1.001 * sqrt((double)square) * norm) + 0x1p46 * norm;
}

void emm_decay(const emm_operations *operations, emm_gain *gain, float alpha) {
    emm_gain_scalars *scalars = gain->scalars;
    float squared = alpha * alpha;
    float rest = 1.0f - squared;
    rest = rest * gain->prior;
    scalars->leak = fmaf(squared, scalars->leak, rest);
    scalars->scale = squared * scalars->scale;
    scalars->gram_trace = (double)squared * scalars->gram_trace;
    operations->scale(scalars->count * gain->rank, alpha, gain->u, gain->u);
}

void emm_folded(emm_gain *gain) {
    gain->pbar = gain->folded;
    memset(gain->u, 0, DEFERRED * gain->rank * sizeof(float));
    gain->scalars->scale = 1.0f;
    gain->scalars->leak = 0.0f;
    gain->scalars->count = 0;
    gain->scalars->signs = 0;
}

int emm_advance(const emm_operations *operations, emm_gain *state, size_t row, const float *key, float square,
                float beta, float *gain, float *next, uint8_t *active, emm_outcome *outcome) {
    const size_t rank = state->rank;
    emm_gain_scalars *scalars = state->scalars;
    *active = 0;
    operations->times(state, key, gain);
    float s = operations->dot(rank, key, gain);
    if (s == 0.0f) return 0;
    float d = fmaf(beta, s, 1.0f);
    if (!(s > 0.0f && is_finite(s))) return emm_refuse(outcome, REFUSE_INDEFINITE, row, s);
    if (beta < 0.0f && !(d >= DENOMINATOR_MIN)) return emm_refuse(outcome, REFUSE_DENOMINATOR, row, d);
    float gamma = beta / d;
    float root = sqrtf(fabsf(gamma));
    int32_t worst = operations->scale(rank, root, gain, next);
    int32_t other = operations->scale(rank, gamma, gain, gain);
    if ((worst > other ? worst : other) >= 0x7F800000) return emm_refuse(outcome, REFUSE_GAIN, row, gamma);
    if (beta < 0.0f) scalars->signs |= 1u << scalars->count;
    scalars->count++;
    double trace = scalars->gram_trace + (double)beta * (double)square;
    scalars->gram_trace = trace > 0.0 ? trace : 0.0;
    *active = 1;
    return 0;
}

static int take_fold(emm_stage *stage, size_t n, const float *x, float *out, emm_outcome *outcome) {
    int32_t worst = stage->operations->fold(&stage->gain, n, x, out, stage->tile);
    emm_folded(&stage->gain);
    stage->folded = 1;
    stage->fold_due = 0;
    return worst < 0x7F800000 ? 0 : emm_refuse(outcome, REFUSE_GAIN, stage->fold_row, from_magnitude(worst));
}

int emm_gains_end(emm_stage *stage, emm_outcome *outcome) {
    return stage->fold_due ? take_fold(stage, 0, NULL, NULL, outcome) : 0;
}

/* P-bar x of as many keys as P-bar stands still for; returns how many, 0 when the fold before them is refused. */
static size_t run_ahead(emm_stage *stage, size_t n, const float *x, float *out, emm_outcome *outcome) {
    const size_t rank = stage->gain.rank;
    size_t ahead = stage->fold_due ? DEFERRED : DEFERRED - stage->gain.scalars->count;
    if (ahead > n) ahead = n;
    if (stage->fold_due) return take_fold(stage, ahead, x, out, outcome) ? 0 : ahead;
    if (ahead > 2)
        stage->operations->recall(rank, rank, stage->gain.pbar, ahead, x, out, rank, stage->tile);
    else
        for (size_t k = 0; k < ahead; k++)
            stage->operations->dots(rank, rank, stage->gain.pbar, x + k * rank, out + k * rank);
    return ahead;
}

static int plain_gain(emm_stage *stage, size_t row, const float *key, float square, float *gain,
                      emm_outcome *outcome) {
    float eta = stage->gate[row] / square;
    int32_t worst = stage->operations->scale(stage->gain.rank, eta, key, gain);
    return worst < 0x7F800000 ? 0 : emm_refuse(outcome, REFUSE_GAIN, row, eta);
}

int emm_gains(emm_stage *stage, size_t begin, size_t end, float *gains, uint8_t *active, emm_outcome *outcome) {
    const emm_operations *operations = stage->operations;
    const size_t rank = stage->gain.rank;
    size_t ready = begin;
    for (size_t row = begin; row < end; row++) {
        const float *key = stage->x + row * rank;
        float *gain = gains + (row - begin) * rank;
        uint8_t *flag = active + (row - begin);
        if (stage->rule == 2 && row == ready) {
            size_t ahead = run_ahead(stage, end - row, key, gain, outcome);
            if (!ahead) return 1;
            ready += ahead;
        }
        if (stage->rule == 2 && stage->decay[row] != 1.0f) emm_decay(operations, &stage->gain, stage->decay[row]);
        float square = operations->dot(rank, key, key);
        if (!(square <= SQUARE_MAX)) return emm_refuse(outcome, REFUSE_KEY_NORM, row, square);
        *flag = square != 0.0f;
        if (!*flag) continue;
        if (stage->rule == 0) {
            memcpy(gain, key, rank * sizeof(float));
        } else if (stage->rule == 1) {
            if (plain_gain(stage, row, key, square, gain, outcome)) return 1;
        } else {
            float *next = stage->gain.u + stage->gain.scalars->count * rank;
            if (emm_advance(operations, &stage->gain, row, key, square, stage->gate[row], gain, next, flag, outcome))
                return 1;
            if (stage->gain.scalars->count == DEFERRED) {
                stage->fold_due = 1;
                stage->fold_row = row;
            }
        }
        if (*flag) bound_rows(stage, stage->rule == 0 ? 0.0f : square, gain);
    }
    return 0;
}
