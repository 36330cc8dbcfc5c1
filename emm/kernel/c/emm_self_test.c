/* A programme that says whether a compiler kept its promises. Purpose: run everything that a level computes on numbers
 * that make wrong arithmetic show (ties, subnormal numbers, signed zeros, all three rules, decay, unlearn, a fold,
 * forget, phi, recall), and digest every bit that comes out. Invariants: well below a millisecond; tests/kernel holds
 * the digest against the NumPy reference, so it is the reference's number that every level must give. */

#include "emm_arithmetic.h"
#include "emm_sweep.h"

enum { DIM = 9, RANK = 32, PAIRS = 24, SINGLES = 4, QUERIES_N = 5, FORGOTTEN_N = 3, PADDED = 64, KEY_DIM = 48 };

static uint64_t words(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Uniform in [-1, 1) with 24 bits, which an integer holds exactly. */
static void fill(uint64_t seed, size_t n, float *out) {
    for (size_t i = 0; i < n; i++) out[i] = (float)((int32_t)(words(&seed) >> 40) - 8388608) * 0x1p-23f;
}

static uint64_t digest(uint64_t hash, const void *bytes, size_t n) {
    const unsigned char *each = bytes;
    for (size_t i = 0; i < n; i++) hash = (hash ^ each[i]) * 0x100000001B3u;
    return hash;
}

static uint64_t digest_state(uint64_t hash, const emm_batch *batch) {
    hash = digest(hash, batch->matrix, DIM * RANK * sizeof(float));
    if (batch->rule != 2) return hash;
    hash = digest(hash, batch->pbar, RANK * RANK * sizeof(float));
    hash = digest(hash, batch->u, DEFERRED * RANK * sizeof(float));
    const float scalars[2] = {batch->scalars.scale, batch->scalars.leak};
    return digest(hash, scalars, sizeof scalars);
}

typedef struct {
    float x[(PAIRS + SINGLES) * RANK], values[(PAIRS + SINGLES) * DIM], decay[PAIRS + SINGLES], gate[PAIRS + SINGLES];
    float ones[FORGOTTEN_N];
    float matrix[DIM * RANK], undo[DIM * RANK], pbar[RANK * RANK], folded[RANK * RANK], u[DEFERRED * RANK];
    float gains[FORGOTTEN_N * RANK], whole[FORGOTTEN_N + RANK], answers[QUERIES_N * DIM];
    float keys[2 * KEY_DIM], signs[PADDED], room[PADDED], projected[2 * RANK];
    double squares[PAIRS];
    int32_t order[RANK];
    uint8_t active[FORGOTTEN_N];
} emm_programme;

static size_t work_floats(void) {
    const size_t update = emm_update_floats(DIM, RANK, 1), one = emm_write_one_floats(DIM, RANK);
    return update > one ? update : one;
}

size_t emm_self_test_floats(void) { return 16 + (sizeof(emm_programme) + 3) / 4 + work_floats(); }

/* Awkward on purpose: a decay whose square is inexact, a zero key, a tiny one, tiny and huge values, one key twice. */
static void prepare(emm_programme *programme, int rule) {
    fill(1, (PAIRS + SINGLES) * RANK, programme->x);
    fill(2, (PAIRS + SINGLES) * DIM, programme->values);
    for (size_t i = 0; i < RANK; i++) {
        programme->x[3 * RANK + i] = 0.0f;
        programme->x[5 * RANK + i] *= 0x1p-60f;
        programme->x[7 * RANK + i] = programme->x[2 * RANK + i];
    }
    for (size_t i = 0; i < DIM; i++) {
        programme->values[6 * DIM + i] *= 0x1p-140f;
        programme->values[8 * DIM + i] *= 0x1p39f;
    }
    for (size_t k = 0; k < PAIRS + SINGLES; k++) {
        programme->decay[k] = k % 5 == 4 ? 0.7f : k % 7 == 6 ? 0x1.fffffep-1f : 1.0f;
        programme->gate[k] = k % 3 ? 1.0f : 0.34375f;
    }
    if (rule == 2) {
        programme->gate[PAIRS + 1] = -0.0078125f; /* unlearn */
        programme->decay[PAIRS + 1] = 1.0f;
    }
    for (size_t k = 0; k < FORGOTTEN_N; k++) programme->ones[k] = 1.0f;
    memset(programme->matrix, 0, sizeof programme->matrix);
    memset(programme->pbar, 0, sizeof programme->pbar);
    memset(programme->u, 0, sizeof programme->u);
    memset(programme->squares, 0, sizeof programme->squares);
    for (size_t i = 0; i < RANK; i++) programme->pbar[i * RANK + i] = 3.3333332538604736f; /* fl(1 / fl(0.3)) */
}

static uint64_t one_rule(int level, int rule, emm_programme *programme, float *work, uint64_t hash) {
    emm_outcome outcome;
    emm_batch batch = {
        .rule = rule,
        .dim = DIM,
        .rank = RANK,
        .n = PAIRS,
        .matrix = programme->matrix,
        .x = programme->x,
        .values = programme->values,
        .decay = programme->decay,
        .gate = programme->gate,
        .prior = 3.3333332538604736f,
        .pbar = programme->pbar,
        .pbar_folded = programme->folded,
        .u = programme->u,
        .scalars = {1.0f, 0.0f, 0, 0, 0.0},
        .undo = programme->undo,
        .work = work,
        .squares = programme->squares,
    };
    prepare(programme, rule);
    emm_update(level, 1, &batch, &outcome);
    hash = digest(hash, &outcome.reason, sizeof outcome.reason);
    if (batch.folded) batch.pbar = programme->folded;
    hash = digest_state(hash, &batch);
    for (size_t k = 0; k < PAIRS; k++) {
        const float surprise = (float)sqrt(programme->squares[k]);
        hash = digest(hash, &surprise, sizeof surprise);
    }
    for (size_t k = PAIRS; k < PAIRS + SINGLES; k++) {
        int32_t status = emm_write_one(level, rule, DIM, RANK, programme->matrix, programme->x + k * RANK,
                                       programme->values + k * DIM, programme->decay[k], programme->gate[k], batch.prior,
                                       batch.pbar, NULL, batch.u, &batch.scalars, work, &outcome);
        hash = digest(hash, &status, sizeof status);
        hash = digest(hash, &outcome.surprise, sizeof outcome.surprise);
    }
    hash = digest_state(hash, &batch);
    emm_recall(level, 1, programme->matrix, DIM, RANK, programme->x, QUERIES_N, programme->answers, work, &outcome);
    hash = digest(hash, programme->answers, sizeof programme->answers);
    if (rule == 2) {
        emm_fold(level, RANK, batch.pbar, programme->pbar, batch.u, &batch.scalars, work);
    } else {
        memset(programme->pbar, 0, sizeof programme->pbar);
        for (size_t i = 0; i < RANK; i++) programme->pbar[i * RANK + i] = 1.0f;
    }
    hash = digest(hash, programme->pbar, sizeof programme->pbar);
    emm_forget(level, 1, DIM, RANK, FORGOTTEN_N, programme->matrix, programme->x, programme->pbar, programme->gains,
               programme->whole, programme->active, programme->undo, programme->ones, work, &outcome);
    return digest(hash, programme->matrix, sizeof programme->matrix);
}

uint64_t emm_self_test(int level, float *work) {
    uint64_t hash = 0xCBF29CE484222325u, seed = 3;
    float *aligned = (float *)(((uintptr_t)work + 63) & ~(uintptr_t)63);
    emm_programme *programme = (emm_programme *)(void *)aligned;
    aligned += (sizeof(emm_programme) + 3) / 4;
    for (int rule = 0; rule < 3; rule++) hash = one_rule(level, rule, programme, aligned, hash);
    fill(4, 2 * KEY_DIM, programme->keys);
    for (size_t i = 0; i < PADDED; i++) programme->signs[i] = words(&seed) >> 63 ? -1.0f : 1.0f;
    for (size_t i = 0; i < RANK; i++) programme->order[i] = (int32_t)((i * 37 + 11) % PADDED);
    emm_transform(level, programme->keys, 2, KEY_DIM, PADDED, programme->signs, programme->order, 0.125f, RANK,
                  programme->room, programme->projected);
    return digest(hash, programme->projected, sizeof programme->projected);
}
