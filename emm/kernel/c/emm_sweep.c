/* The sweep over M. Purpose: rule A-13.6 (and its like) for a batch: blocks of rows that fit L1, chunks of keys that
 * fit L2, the gains of the next chunk made while this one is swept. Invariants: work is handed out in one order, chunk
 * by chunk and block by block, so whoever holds a piece waits only for pieces that somebody is working on; a block takes
 * its chunks in order; squares are added in row order; M is saved before it is first changed, unless all gains are
 * known and a bound proves that it stays finite. */

#include "emm_sweep.h"
#include "emm_pool.h"

typedef struct {
    emm_sweep_task *task;
    emm_outcome *outcome;
    size_t rank, block, n_blocks, chunk, n_chunks;
    int threads, save;
    float *gains;             /* CHUNKS_AHEAD slots of (chunk, rank); or all of them, when they are given */
    const uint8_t *active;    /* likewise */
    float *tiles;             /* one per thread */
    size_t tile_floats;
    atomic_size_t *swept;     /* per block: chunks that it has taken */
    atomic_size_t next;       /* piece: chunk * n_blocks + block */
    atomic_size_t ready;      /* chunks with gains */
    atomic_size_t summed;     /* pieces whose squares have been added */
    atomic_int stop, spoiled; /* a pair is refused; M holds a number that is not finite */
} emm_flow;

static size_t rows_max(size_t rank) { return 8192 / rank + 8; }
static size_t rounded(size_t floats) { return (floats + 15) / 16 * 16; }
static size_t tile_size(size_t rank) { return rounded(rows_max(rank) * rank) + rounded(chunk_keys(rank) * rows_max(rank)); }
static size_t flags_size(size_t rank) { return rounded(CHUNKS_AHEAD * chunk_keys(rank) / sizeof(float) + 1); }
static size_t swept_size(size_t dim) { return rounded((dim + 3) / 4 * (sizeof(atomic_size_t) / sizeof(float))); }

size_t emm_sweep_floats(size_t dim, size_t rank, int threads) {
    return 16 + CHUNKS_AHEAD * chunk_keys(rank) * rank + flags_size(rank) + swept_size(dim) +
           (size_t)threads * tile_size(rank) + 8 * rank;
}

static size_t slot_of(const emm_flow *flow, size_t chunk) {
    return (flow->task->stage ? chunk % CHUNKS_AHEAD : chunk) * flow->chunk;
}

/* Gains of the next chunk; its slot is free. A number out of range is found here, as the values pass by on their way
 * to L2. */
static void make_gains(emm_flow *flow) {
    emm_sweep_task *task = flow->task;
    const size_t chunk = atomic_load(&flow->ready), begin = chunk * flow->chunk;
    const size_t end = begin + flow->chunk < task->n ? begin + flow->chunk : task->n;
    const int32_t bound = magnitude_of(INPUT_MAX);
    emm_outcome *outcome = flow->outcome;
    int refused = 0;
    if (task->operations->largest(task->x + begin * flow->rank, (end - begin) * flow->rank) > bound ||
        (task->values && task->operations->largest(task->values + begin * task->dim, (end - begin) * task->dim) > bound))
        refused = emm_refuse(outcome, REFUSE_INPUT, begin, 0.0f);
    if (!refused)
        refused = emm_gains(task->stage, begin, end, flow->gains + slot_of(flow, chunk) * flow->rank,
                            (uint8_t *)(uintptr_t)flow->active + slot_of(flow, chunk), outcome);
    if (!refused && end == task->n) refused = emm_gains_end(task->stage, outcome);
    if (refused)
        atomic_store(&flow->stop, 1);
    else
        atomic_store(&flow->ready, chunk + 1);
}

/* Whether every block has left the slot that the next chunk's gains go to. */
static int slot_is_free(emm_flow *flow) {
    const size_t chunk = atomic_load(&flow->ready);
    if (chunk < CHUNKS_AHEAD) return 1;
    for (size_t b = 0; b < flow->n_blocks; b++)
        if (atomic_load(&flow->swept[b]) + CHUNKS_AHEAD <= chunk) return 0;
    return 1;
}

static void sweep_piece(emm_flow *flow, size_t piece, float *tile) {
    emm_sweep_task *task = flow->task;
    const size_t chunk = piece / flow->n_blocks, b = piece % flow->n_blocks, rank = flow->rank;
    const size_t first = b * flow->block, begin = chunk * flow->chunk, slot = slot_of(flow, chunk);
    const size_t n_rows = task->dim - first < flow->block ? task->dim - first : flow->block;
    const size_t n = task->n - begin < flow->chunk ? task->n - begin : flow->chunk;
    float *matrix = task->matrix + first * rank, *errors = tile + rounded(rows_max(rank) * rank);
    const int plain = task->stage && task->stage->rule == 0;
    unsigned turns = 0;
    emm_keys keys = {
        .rank = rank,
        .n = n,
        .x = task->x + begin * rank,
        .gains = flow->gains + slot * rank,
        .active = flow->active + slot,
        .decay = task->decay + begin,
        .values = task->values ? task->values + begin * task->dim + first : NULL,
        .gate = plain ? task->stage->gate + begin : NULL,
        .stride = task->dim,
        .predict = !plain,
    };
    while (atomic_load(&flow->swept[b]) < chunk) emm_wait(&turns);
    if (flow->save && chunk == 0) memcpy(task->undo + first * rank, matrix, n_rows * rank * sizeof(float));
    int32_t worst = task->operations->sweep(&keys, n_rows, matrix, tile, errors);
    if (worst >= 0x7F800000) atomic_store(&flow->spoiled, 1);
    atomic_store(&flow->swept[b], chunk + 1);
    while (atomic_load(&flow->summed) < piece) emm_wait(&turns);
    if (task->squares && !plain) task->operations->squares(n, block_width(n_rows), errors, task->squares + begin);
    atomic_store(&flow->summed, piece + 1);
}

/* A piece that has been taken is swept whatever happens, once its gains are there: the order of the sums needs it. */
static void flow_helper(emm_flow *flow, float *tile) {
    for (;;) {
        const size_t piece = atomic_fetch_add(&flow->next, 1);
        if (piece >= flow->n_blocks * flow->n_chunks) return;
        for (unsigned turns = 0; atomic_load(&flow->ready) <= piece / flow->n_blocks; emm_wait(&turns))
            if (atomic_load(&flow->stop)) return;
        sweep_piece(flow, piece, tile);
    }
}

static void flow_caller(emm_flow *flow, float *tile) {
    const size_t n_pieces = flow->n_blocks * flow->n_chunks, lookahead = flow->threads > 1 ? CHUNKS_AHEAD - 2 : 0;
    for (;;) {
        while (atomic_load(&flow->ready) < flow->n_chunks &&
               atomic_load(&flow->ready) <= atomic_load(&flow->next) / flow->n_blocks + lookahead &&
               slot_is_free(flow)) {
            make_gains(flow);
            if (atomic_load(&flow->stop)) return;
        }
        const size_t piece = atomic_fetch_add(&flow->next, 1);
        const size_t wanted = piece < n_pieces ? piece / flow->n_blocks + 1 : flow->n_chunks; /* others wait for these */
        for (unsigned turns = 0; atomic_load(&flow->ready) < wanted;) {
            if (!slot_is_free(flow)) {
                emm_wait(&turns);
                continue;
            }
            make_gains(flow);
            if (atomic_load(&flow->stop)) return;
        }
        if (piece >= n_pieces) return;
        sweep_piece(flow, piece, tile);
    }
}

static void flow_task(void *argument, int index) {
    emm_flow *flow = argument;
    control_word before = enter();
    float *tile = flow->tiles + (size_t)index * flow->tile_floats;
    if (index)
        flow_helper(flow, tile);
    else
        flow_caller(flow, tile);
    leave(before);
}

/* All gains first, when they fit: then the bound says whether M has to be saved. */
static void gains_first(emm_flow *flow) {
    const float *matrix = flow->task->matrix;
    emm_stage *stage = flow->task->stage;
    const int32_t worst = flow->task->operations->largest(matrix, flow->task->dim * flow->rank);
    stage->row_norm = 1.001 * (double)from_magnitude(worst) * sqrt((double)flow->rank);
    while (!atomic_load(&flow->stop) && atomic_load(&flow->ready) < flow->n_chunks) make_gains(flow);
    flow->save = !(stage->row_norm <= 0x1p80); /* then e and M, one FMA further, are far below 2^128 */
}

void emm_sweep(emm_sweep_task *task, size_t rank, int threads, emm_outcome *outcome) {
    emm_flow flow = {.task = task, .outcome = outcome, .rank = rank, .threads = threads, .save = 1};
    float *work = (float *)(((uintptr_t)task->work + 63) & ~(uintptr_t)63);
    flow.block = block_rows(task->operations, rank);
    flow.n_blocks = (task->dim + flow.block - 1) / flow.block;
    flow.chunk = chunk_keys(rank);
    flow.n_chunks = (task->n + flow.chunk - 1) / flow.chunk;
    flow.tile_floats = tile_size(rank);
    flow.gains = task->stage ? work : (float *)(uintptr_t)task->gains;
    work += CHUNKS_AHEAD * flow.chunk * rank;
    flow.active = task->stage ? (const uint8_t *)work : task->active;
    work += flags_size(rank);
    flow.swept = (atomic_size_t *)(void *)work;
    work += swept_size(task->dim);
    flow.tiles = work;
    if (task->stage) task->stage->tile = work + (size_t)threads * flow.tile_floats;
    for (size_t b = 0; b < flow.n_blocks; b++) atomic_init(&flow.swept[b], 0);
    atomic_init(&flow.next, 0);
    atomic_init(&flow.ready, task->stage ? 0 : flow.n_chunks);
    atomic_init(&flow.summed, 0);
    atomic_init(&flow.stop, 0);
    atomic_init(&flow.spoiled, 0);
    outcome->reason = 0;
    if (task->stage && flow.n_chunks <= CHUNKS_AHEAD) gains_first(&flow);
    if (!atomic_load(&flow.stop)) emm_run(threads, flow_task, &flow);
    if (!outcome->reason && atomic_load(&flow.spoiled)) emm_refuse(outcome, REFUSE_MATRIX, (size_t)-1, 0.0f);
    if (!outcome->reason) return;
    for (size_t b = 0; b < flow.n_blocks; b++) {
        if (!atomic_load(&flow.swept[b])) continue;
        const size_t first = b * flow.block, n_rows = task->dim - first < flow.block ? task->dim - first : flow.block;
        memcpy(task->matrix + first * rank, task->undo + first * rank, n_rows * rank * sizeof(float));
    }
}
