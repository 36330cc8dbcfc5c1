/* One write. Purpose: a single pair at the speed of memory, without the buffers of a batch. Invariants: the same
 * operations as a batch of one, so the same bits; nothing is changed before the pair is certain: U is written beside
 * itself or put back, P-bar is folded elsewhere, and M is read once from the first row to the last (dot products, and
 * the largest number in it, which proves that the update stays finite) and updated from the last row to the first, so
 * that what the first pass left in the cache serves the second. */

#include "emm_gains.h"

enum { ROWS_AT_ONCE = 16 };

size_t emm_write_one_floats(size_t dim, size_t rank) { return 16 + dim + 16 + 2 * rank + DEFERRED * rank + 8 * rank; }

typedef struct {
    const emm_operations *operations;
    size_t dim, rank;
    float *error, *gain, *next, *u_copy, *tile;
} emm_single;

/* e of rules 1 and 2, its norm, and the largest magnitude in M. */
static int32_t predict(const emm_single *single, const float *matrix, float alpha, const float *x, const float *values,
                       float *surprise) {
    int32_t worst = 0;
    double sum = 0.0;
    for (size_t first = 0; first < single->dim; first += ROWS_AT_ONCE) {
        const size_t n_rows = single->dim - first < ROWS_AT_ONCE ? single->dim - first : ROWS_AT_ONCE;
        float *e = single->error + first;
        int32_t here = single->operations->dots_measured(single->rank, n_rows, matrix + first * single->rank, alpha, x, e);
        worst = here > worst ? here : worst;
        for (size_t i = 0; i < n_rows; i++) {
            e[i] = values[first + i] - e[i];
            sum += (double)e[i] * (double)e[i];
        }
    }
    *surprise = (float)sqrt(sum);
    return worst;
}

/* |alpha m + e g| for the largest of each: below the largest number, with room for the rounding. */
static int stays_finite(const emm_single *single, int32_t worst, const float *gain) {
    const emm_operations *operations = single->operations;
    const double e = (double)from_magnitude(operations->largest(single->error, single->dim));
    const double g = (double)from_magnitude(operations->largest(gain, single->rank));
    return (double)from_magnitude(worst) + e * g < 0x1p127;
}

static int overlaps(const float *a, size_t n_a, const float *b, size_t n_b) {
    const uintptr_t p = (uintptr_t)a, q = (uintptr_t)b;
    return p < q + n_b * sizeof(float) && q < p + n_a * sizeof(float);
}

/* What the pair does to P; *gain is g, or NULL for a no-op. Returns 1 when it is refused; `state` has moved on. */
static int advance(const emm_single *single, emm_gain *state, const float *x, float square, float alpha, float beta,
                   const float **gain, emm_outcome *outcome) {
    const emm_operations *operations = single->operations;
    const size_t rank = single->rank;
    const unsigned count = state->scalars->count;
    uint8_t active = 0;
    if (alpha != 1.0f) {
        memcpy(single->u_copy, state->u, DEFERRED * rank * sizeof(float));
        state->u = single->u_copy;
        emm_decay(operations, state, alpha);
    }
    if (square == 0.0f) return 0;
    operations->dots(rank, rank, state->pbar, x, single->gain);
    if (emm_advance(operations, state, 0, x, square, beta, single->gain, single->next, &active, outcome)) return 1;
    if (!active) return 0;
    memcpy(state->u + count * rank, single->next, rank * sizeof(float));
    *gain = single->gain;
    return 0;
}

int emm_write_one(int level, int rule, size_t dim, size_t rank, float *matrix, const float *x, const float *values,
                  float decay, float gate, float prior, const float *pbar, float *pbar_folded, float *u,
                  emm_gain_scalars *scalars, float *work, emm_outcome *outcome) {
    const emm_operations *operations = emm_operations_of(level);
    float *aligned = (float *)(((uintptr_t)work + 63) & ~(uintptr_t)63);
    const emm_single single = {
        .operations = operations,
        .dim = dim,
        .rank = rank,
        .gain = aligned,
        .next = aligned + rank,
        .u_copy = aligned + 2 * rank,
        .tile = aligned + (2 + DEFERRED) * rank,
        .error = aligned + (2 + DEFERRED + 8) * rank,
    };
    emm_gain_scalars moved = {1.0f, 0.0f, 0, 0, 0.0};
    emm_gain state = {rank, pbar, pbar_folded, u, &moved, prior};
    const float *gain = NULL;
    const int32_t bound = magnitude_of(INPUT_MAX);
    int status = 0, folds = 0;
    if (overlaps(x, rank, matrix, dim * rank) || overlaps(values, dim, matrix, dim * rank)) return -1;
    control_word before = enter();
    outcome->reason = 0;
    outcome->surprise = 0.0f;
    if (operations->largest(x, rank) > bound || operations->largest(values, dim) > bound)
        status = emm_refuse(outcome, REFUSE_INPUT, 0, 0.0f);
    const float square = status ? 0.0f : operations->dot(rank, x, x);
    if (!(square <= SQUARE_MAX)) status = emm_refuse(outcome, REFUSE_KEY_NORM, 0, square);
    if (!status && rule == 2) {
        moved = *scalars;
        status = advance(&single, &state, x, square, decay, gate, &gain, outcome);
    } else if (!status && square != 0.0f) {
        gain = rule == 0 ? x : single.gain;
        if (rule == 1 && operations->scale(rank, gate / square, x, single.gain) >= 0x7F800000)
            status = emm_refuse(outcome, REFUSE_GAIN, 0, gate / square);
    }
    if (!status && gain) {
        int32_t worst;
        if (rule == 0) {
            worst = operations->largest(matrix, dim * rank);
            for (size_t i = 0; i < dim; i++) single.error[i] = gate * values[i];
        } else {
            worst = predict(&single, matrix, decay, x, values, &outcome->surprise);
        }
        if (!stays_finite(&single, worst, gain)) status = -1;
    }
    if (!status && moved.count == DEFERRED) {
        folds = 1;
        if (operations->fold(&state, 0, NULL, NULL, single.tile) >= 0x7F800000)
            status = emm_refuse(outcome, REFUSE_GAIN, 0, 0.0f);
    }
    if (status) {
        if (rule == 2 && state.u == u && scalars->count < DEFERRED)
            memset(u + scalars->count * rank, 0, rank * sizeof(float)); /* the row that `advance` may have filled */
        leave(before);
        return status;
    }
    if (gain)
        operations->rank_one(rank, dim, matrix, decay, single.error, gain);
    else if (decay != 1.0f)
        operations->scale(dim * rank, decay, matrix, matrix);
    if (rule == 2) {
        if (state.u != u) memcpy(u, state.u, DEFERRED * rank * sizeof(float));
        state.u = u;
        if (folds) emm_folded(&state);
        *scalars = moved;
    }
    leave(before);
    return 0;
}
