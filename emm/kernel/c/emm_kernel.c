/* The kernel's entries. Purpose: what Python calls: levels, phi, recall, batches, forget. Invariants: see emm_kernel.h;
 * each entry sets the floating-point environment, and every thread that computes sets its own. */

#include "emm_pool.h"
#include "emm_sweep.h"

const emm_operations *emm_operations_of(int level) {
#if EMM_X86
    if (level == 1) return &emm_avx2;
    if (level == 2) return &emm_avx512;
#endif
#if EMM_NEON
    if (level == 3) return &emm_neon;
#endif
    (void)level;
    return &emm_portable;
}

int emm_level_runs(int level) {
#if EMM_X86
    __builtin_cpu_init();
    if (level == 1) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (level == 2)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
#if EMM_NEON
    if (level == 3) return 1; /* every aarch64 has it */
#endif
    return level == 0;
}

ptrdiff_t emm_first_outside(int level, const float *rows, size_t n, size_t width, float bound) {
    const emm_operations *operations = emm_operations_of(level);
    for (size_t row = 0; row < n; row++)
        if (operations->largest(rows + row * width, width) > magnitude_of(bound)) return (ptrdiff_t)row;
    return -1;
}

ptrdiff_t emm_transform(int level, const float *keys, size_t n, size_t key_dim, size_t padded, const float *signs,
                        const int32_t *order, float scale, size_t rank, float *work, float *x) {
    const emm_operations *operations = emm_operations_of(level);
    control_word before = enter();
    ptrdiff_t outside = -1;
    for (size_t row = 0; row < n; row++) {
        const float *key = keys + row * key_dim;
        if (operations->largest(key, key_dim) >= 0x7F800000) {
            outside = (ptrdiff_t)row;
            break;
        }
        memcpy(work, key, key_dim * sizeof(float));
        memset(work + key_dim, 0, (padded - key_dim) * sizeof(float));
        operations->hadamard(padded, signs, work);
        operations->gather(rank, order, scale, work, x + row * rank);
    }
    leave(before);
    return outside;
}

/* --- recall -------------------------------------------------------------------------------------------------------- */

typedef struct {
    const emm_operations *operations;
    const float *matrix, *x;
    float *out, *work;
    size_t dim, rank, n, rows, queries, n_blocks, n_pieces;
    atomic_size_t next;
} emm_reading;

static void recall_task(void *argument, int index) {
    emm_reading *reading = argument;
    const size_t rank = reading->rank, dim = reading->dim;
    control_word before = enter();
    for (size_t piece; (piece = atomic_fetch_add(&reading->next, 1)) < reading->n_pieces;) {
        const size_t first = piece % reading->n_blocks * reading->rows;
        const size_t begin = piece / reading->n_blocks * reading->queries;
        const size_t n_rows = dim - first < reading->rows ? dim - first : reading->rows;
        const size_t n = reading->n - begin < reading->queries ? reading->n - begin : reading->queries;
        const float *matrix = reading->matrix + first * rank, *x = reading->x + begin * rank;
        float *out = reading->out + begin * dim + first;
        if (reading->work)
            reading->operations->recall(rank, n_rows, matrix, n, x, out, dim, reading->work + (size_t)index * 8 * rank);
        else
            for (size_t q = 0; q < n; q++) reading->operations->dots(rank, n_rows, matrix, x + q * rank, out + q * dim);
    }
    leave(before);
}

size_t emm_recall_floats(size_t rank, int threads) { return 16 + (size_t)threads * 8 * rank; }

int emm_recall(int level, int threads, const float *matrix, size_t dim, size_t rank, const float *x, size_t n,
               float *out, float *work, emm_outcome *outcome) {
    const emm_operations *operations = emm_operations_of(level);
    float *aligned = work ? (float *)(((uintptr_t)work + 63) & ~(uintptr_t)63) : NULL;
    emm_reading reading = {operations, matrix, x, out, aligned, dim, rank, n, 0, 0, 0, 0, 0};
    control_word before = enter();
    outcome->reason = 0;
    for (size_t row = 0; row < n && !outcome->reason; row++) {
        const float *key = x + row * rank;
        if (operations->largest(key, rank) > magnitude_of(INPUT_MAX)) {
            emm_refuse(outcome, REFUSE_INPUT, row, 0.0f);
            break;
        }
        float square = operations->dot(rank, key, key);
        if (!(square <= SQUARE_MAX)) emm_refuse(outcome, REFUSE_KEY_NORM, row, square);
    }
    if (!outcome->reason && n) {
        threads = emm_threads_for(threads, (double)n * (double)dim * (double)rank);
        reading.queries = 131072 / rank / 12 * 12; /* 512 KiB of queries stay in L2 */
        if (reading.queries < 12) reading.queries = 12;
        reading.rows = threads == 1 ? (dim + 7) / 8 * 8 : (dim / (size_t)threads / 4 + 8) / 8 * 8;
        reading.n_blocks = (dim + reading.rows - 1) / reading.rows;
        reading.n_pieces = reading.n_blocks * ((n + reading.queries - 1) / reading.queries);
        emm_run(threads, recall_task, &reading);
    }
    leave(before);
    return outcome->reason;
}

/* --- writes -------------------------------------------------------------------------------------------------------- */

size_t emm_update_floats(size_t dim, size_t rank, int threads) { return emm_sweep_floats(dim, rank, threads); }

void emm_update(int level, int threads, emm_batch *batch, emm_outcome *outcome) {
    emm_stage stage = {
        .operations = emm_operations_of(level),
        .rule = batch->rule,
        .x = batch->x,
        .decay = batch->decay,
        .gate = batch->gate,
        .gain = {batch->rank, batch->pbar, batch->pbar_folded, batch->u, &batch->scalars, batch->prior},
    };
    emm_sweep_task task = {
        .operations = stage.operations,
        .dim = batch->dim,
        .n = batch->n,
        .matrix = batch->matrix,
        .values = batch->values,
        .squares = batch->squares,
        .undo = batch->undo,
        .work = batch->work,
        .stage = &stage,
        .x = batch->x,
        .decay = batch->decay,
    };
    control_word before = enter();
    threads = emm_threads_for(threads, (double)batch->n * (double)batch->dim * (double)batch->rank);
    emm_sweep(&task, batch->rank, threads, outcome);
    batch->folded = stage.folded;
    leave(before);
}

void emm_fold(int level, size_t rank, const float *pbar, float *folded, float *u, emm_gain_scalars *scalars,
              float *work) {
    emm_gain gain = {rank, pbar, folded, u, scalars, 0.0f};
    control_word before = enter();
    emm_operations_of(level)->fold(&gain, 0, NULL, NULL, work);
    emm_folded(&gain);
    leave(before);
}

/* Rule A-16 for S alone: gains and active flags, or a refusal. */
static void deflate(const emm_operations *operations, size_t rank, size_t n, const float *x, float *scratch,
                    float *whole, float *gains, uint8_t *active, emm_outcome *outcome) {
    float *u = whole + n;
    outcome->reason = 0;
    for (size_t row = 0; row < n; row++) {
        const float *key = x + row * rank;
        float square = operations->dot(rank, key, key);
        if (!(square <= SQUARE_MAX)) {
            emm_refuse(outcome, REFUSE_KEY_NORM, row, square);
            return;
        }
        operations->dots(rank, rank, scratch, key, gains);
        whole[row] = operations->dot(rank, key, gains);
    }
    for (size_t row = 0; row < n; row++) {
        const float *key = x + row * rank;
        float *gain = gains + row * rank;
        operations->dots(rank, rank, scratch, key, gain);
        float s = operations->dot(rank, key, gain);
        active[row] = s > FORGET_MIN * whole[row];
        if (!active[row]) continue;
        if (operations->deflate(rank, sqrtf(s), s, gain, u) >= 0x7F800000) {
            emm_refuse(outcome, REFUSE_GAIN, row, s);
            return;
        }
        operations->downdate(rank, scratch, u);
    }
}

void emm_forget(int level, int threads, size_t dim, size_t rank, size_t n, float *matrix, const float *x,
                float *scratch, float *gains, float *whole, uint8_t *active, float *undo, const float *ones,
                float *work, emm_outcome *outcome) {
    const emm_operations *operations = emm_operations_of(level);
    emm_sweep_task task = {
        .operations = operations,
        .dim = dim,
        .n = n,
        .matrix = matrix,
        .undo = undo,
        .work = work,
        .x = x,
        .gains = gains,
        .active = active,
        .decay = ones,
    };
    control_word before = enter();
    deflate(operations, rank, n, x, scratch, whole, gains, active, outcome);
    if (!outcome->reason) {
        threads = emm_threads_for(threads, (double)n * (double)dim * (double)rank);
        emm_sweep(&task, rank, threads, outcome);
    }
    leave(before);
}
