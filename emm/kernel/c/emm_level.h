/* One level of the kernel: M and its rows. Included by emm_level_*.c, once per instruction set, before
 * emm_level_gain.h.
 *
 * The includer defines: EMM(name), EMM_TARGET, ROWS (rows worked on together), PARTS (vectors that make 16 lanes),
 * QUERIES (queries in a register tile), VECTOR with LOAD STORE SET1 ADD SUB MUL FMA ZERO, COUNTS (a vector of integer
 * magnitudes) with NO_COUNTS LARGER(counts, vector) LARGEST(counts), HOLD(vector), which keeps
 * one in its register (else the compiler loads it again for each use), and `fold_rows`, which folds ROWS x 16 lanes by
 * adding the upper half to the lower until one is left (rule A-4). Everything is written once, against those; nothing
 * here reassociates, and contraction is off, so an FMA happens exactly where FMA is written.
 *
 * A group of ROWS rows is kept as a tile: strips of STRIP rows, each [rank / 16][STRIP][16], so that no stride aliases
 * in L1 and every load and store of the inner loop has one base register. */

#define WIDTH (LANES / PARTS)
#define BLOCK_ROWS_MAX 768

/* Where the 16 numbers from column j on of row r of a tile are. */
#define AT(tile, rank, j, r) ((tile) + (size_t)((r) / STRIP) * STRIP * (rank) + (j) * STRIP + (size_t)((r) % STRIP) * LANES)

/* One sweep over a tile: row <- fma(e, g, row) where `update`, row <- alpha row where `shrink`, and
 * dots[r] = dot(row r, x) where `predict` (rules ). */
EMM_TARGET static FORCE_INLINE void EMM(pass)(size_t rank, float *tile, const float *g, const float *e, float alpha,
                                              const float *x, float *dots, int update, int shrink, int predict) {
    VECTOR lanes[ROWS][PARTS], decay = SET1(alpha);
    UNROLL
    for (int first = 0; first < ROWS; first += STRIP) {
        VECTOR factor[STRIP], sums[STRIP][PARTS];
        float *strip = AT(tile, rank, 0, first);
        for (int r = 0; r < STRIP; r++) {
            if (update) factor[r] = SET1(e[first + r]);
            for (int p = 0; p < PARTS; p++) sums[r][p] = ZERO();
        }
        for (size_t j = 0; j < rank; j += LANES, strip += STRIP * LANES) {
            for (int p = 0; p < PARTS; p++) {
                VECTOR gain = update ? LOAD(g + j + p * WIDTH) : ZERO();
                VECTOR key = predict ? LOAD(x + j + p * WIDTH) : ZERO();
                for (int r = 0; r < STRIP; r++) {
                    float *at = strip + r * LANES + p * WIDTH;
                    VECTOR m = LOAD(at);
                    if (update) m = FMA(factor[r], gain, m);
                    if (shrink) m = MUL(decay, m);
                    if (update || shrink) STORE(at, m);
                    if (predict) sums[r][p] = FMA(m, key, sums[r][p]);
                }
            }
        }
        for (int r = 0; r < STRIP; r++)
            for (int p = 0; p < PARTS; p++) lanes[first + r][p] = sums[r][p];
    }
    if (predict) fold_rows(lanes, dots);
}

#define PASS(u, s, p) EMM(pass)(rank, tile, g, e, alpha, x, dots, u, s, p)
EMM_TARGET static void EMM(rare_pass)(size_t rank, float *tile, const float *g, const float *e, float alpha,
                                      const float *x, float *dots) {
    if (g && alpha != 1.0f) {
        if (x) PASS(1, 1, 1); else PASS(1, 1, 0);
    } else if (g) {
        if (x) PASS(1, 0, 1); else PASS(1, 0, 0);
    } else if (alpha != 1.0f) {
        if (x) PASS(0, 1, 1); else PASS(0, 1, 0);
    } else if (x) {
        PASS(0, 0, 1);
    }
}
#undef PASS

EMM_TARGET static void EMM(pack)(size_t rank, size_t n_rows, const float *matrix, float *tile) {
    for (size_t r = 0; r < ROWS; r++)
        for (size_t j = 0; j < rank; j += LANES)
            for (int p = 0; p < PARTS; p++)
                STORE(AT(tile, rank, j, r) + p * WIDTH, r < n_rows ? LOAD(matrix + r * rank + j + p * WIDTH) : ZERO());
}

EMM_TARGET static int32_t EMM(unpack)(size_t rank, size_t n_rows, const float *tile, float *matrix) {
    COUNTS worst = NO_COUNTS();
    for (size_t r = 0; r < n_rows; r++)
        for (size_t j = 0; j < rank; j += LANES)
            for (int p = 0; p < PARTS; p++) {
                VECTOR m = LOAD(AT(tile, rank, j, r) + p * WIDTH);
                worst = LARGER(worst, m);
                STORE(matrix + r * rank + j + p * WIDTH, m);
            }
    return LARGEST(worst);
}

/* Every group of the block takes key k before any takes key k + 1: a group waits for its dot product only after the
 * others have had their turn. "Apply update k" and "dot for key k + 1" share one load and one store of every element. */
EMM_TARGET static int32_t EMM(sweep)(const emm_keys *keys, size_t n_rows, float *matrix, float *tile, float *errors) {
    const size_t rank = keys->rank, width = block_width(n_rows);
    float error[BLOCK_ROWS_MAX];
    const float *pending = NULL; /* the g whose update is still to be applied, with `error` */
    for (size_t i = 0; i < width; i += ROWS)
        EMM(pack)(rank, rows_left(n_rows, i, ROWS), matrix + i * rank, tile + i * rank);
    for (size_t k = 0; k < keys->n; k++) {
        const float alpha = keys->decay[k], *values = keys->values ? keys->values + k * keys->stride : NULL;
        const float *x = keys->active[k] && keys->predict ? keys->x + k * rank : NULL;
        float *found = errors + k * width;
        if (!keys->active[k]) {
            memset(found, 0, width * sizeof(float));
            if (alpha == 1.0f) continue;
        }
        for (size_t i = 0; i < width; i += ROWS) {
            float dots[ROWS] = {0}, v[ROWS] = {0};
            if (pending && x && alpha == 1.0f)
                EMM(pass)(rank, tile + i * rank, pending, error + i, 1.0f, x, dots, 1, 0, 1);
            else
                EMM(rare_pass)(rank, tile + i * rank, pending, error + i, alpha, x, dots);
            if (!keys->active[k]) continue;
            if (values) {
                if (i + ROWS <= n_rows)
                    memcpy(v, values + i, sizeof v);
                else
                    memcpy(v, values + i, rows_left(n_rows, i, ROWS) * sizeof(float));
                PREFETCH(values + i + 2 * keys->stride);
            }
            if (keys->predict)
                for (size_t r = 0; r < ROWS; r++) v[r] = v[r] - dots[r];
            else
                for (size_t r = 0; r < ROWS; r++) v[r] = keys->gate[k] * v[r];
            memcpy(error + i, v, sizeof v);
            memcpy(found + i, v, sizeof v);
        }
        pending = keys->active[k] ? keys->gains + k * rank : NULL;
    }
    int32_t worst = 0;
    for (size_t i = 0; i < width; i += ROWS) {
        EMM(rare_pass)(rank, tile + i * rank, pending, error + i, 1.0f, NULL, NULL);
        int32_t here = EMM(unpack)(rank, rows_left(n_rows, i, ROWS), tile + i * rank, matrix + i * rank);
        worst = here > worst ? here : worst;
    }
    return worst;
}

#ifndef HAVE_SQUARES
EMM_TARGET static void EMM(squares)(size_t n, size_t n_rows, const float *errors, double *sums) {
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < n_rows; i++) {
            double e = errors[k * n_rows + i];
            sums[k] += e * e;
        }
}
#endif

/* --- rows as they lie in memory ------------------------------------------------------------------------------------ */

EMM_TARGET static FORCE_INLINE void EMM(dot_group)(size_t rank, const float *const *rows, float alpha, const float *x,
                                                   float *dots, COUNTS *worst, int measure, int shrink) {
    VECTOR lanes[ROWS][PARTS], decay = SET1(alpha);
    for (int r = 0; r < ROWS; r++)
        for (int p = 0; p < PARTS; p++) lanes[r][p] = ZERO();
    for (size_t j = 0; j < rank; j += LANES)
        for (int p = 0; p < PARTS; p++) {
            const size_t at = j + (size_t)p * WIDTH;
            VECTOR key = LOAD(x + at);
            for (int r = 0; r < ROWS; r++) {
                VECTOR m = LOAD(rows[r] + at);
                if (p == 0) PREFETCH((uintptr_t)(rows[r] + at) + ROWS * rank * sizeof(float));
                if (measure) *worst = LARGER(*worst, m);
                if (shrink) m = MUL(decay, m);
                lanes[r][p] = FMA(m, key, lanes[r][p]);
            }
        }
    fold_rows(lanes, dots);
}

EMM_TARGET static FORCE_INLINE int32_t EMM(dots_any)(size_t rank, size_t n_rows, const float *matrix, float alpha,
                                                     const float *x, float *out, int measure, int shrink) {
    COUNTS worst = NO_COUNTS();
    for (size_t first = 0; first < n_rows; first += ROWS) {
        const float *rows[ROWS];
        float found[ROWS];
        for (size_t r = 0; r < ROWS; r++) rows[r] = matrix + (first + r < n_rows ? first + r : n_rows - 1) * rank;
        if (first + ROWS <= n_rows) {
            EMM(dot_group)(rank, rows, alpha, x, out + first, &worst, measure, shrink);
            continue;
        }
        EMM(dot_group)(rank, rows, alpha, x, found, &worst, measure, shrink);
        for (size_t r = 0; first + r < n_rows; r++) out[first + r] = found[r];
    }
    return measure ? LARGEST(worst) : 0;
}

EMM_TARGET static void EMM(dots)(size_t rank, size_t n_rows, const float *matrix, const float *x, float *out) {
    EMM(dots_any)(rank, n_rows, matrix, 1.0f, x, out, 0, 0);
}

EMM_TARGET static int32_t EMM(dots_measured)(size_t rank, size_t n_rows, const float *matrix, float alpha,
                                             const float *x, float *out) {
    return alpha == 1.0f ? EMM(dots_any)(rank, n_rows, matrix, 1.0f, x, out, 1, 0)
                         : EMM(dots_any)(rank, n_rows, matrix, alpha, x, out, 1, 1);
}

EMM_TARGET static float EMM(dot)(size_t rank, const float *a, const float *b) {
    VECTOR lanes[ROWS][PARTS];
    float found[ROWS];
    for (int r = 0; r < ROWS; r++)
        for (int p = 0; p < PARTS; p++) lanes[r][p] = ZERO();
    for (size_t j = 0; j < rank; j += LANES)
        for (int p = 0; p < PARTS; p++)
            lanes[0][p] = FMA(LOAD(a + j + p * WIDTH), LOAD(b + j + p * WIDTH), lanes[0][p]);
    fold_rows(lanes, found);
    return found[0];
}

EMM_TARGET static FORCE_INLINE void EMM(rank_one_rows)(size_t rank, float *matrix, float alpha, const float *e,
                                                       const float *g, int n_rows, int shrink) {
    const VECTOR decay = SET1(alpha);
    VECTOR factor[4];
    for (int r = 0; r < n_rows; r++) factor[r] = SET1(e[r]);
    for (size_t j = 0; j < rank; j += WIDTH) {
        const VECTOR gain = LOAD(g + j);
        for (int r = 0; r < n_rows; r++) {
            float *at = matrix + (size_t)r * rank + j;
            PREFETCH((uintptr_t)at - 4 * rank * sizeof(float));
            VECTOR m = LOAD(at);
            if (shrink) m = MUL(decay, m);
            STORE(at, FMA(factor[r], gain, m));
        }
    }
}

EMM_TARGET static FORCE_INLINE void EMM(rank_one_any)(size_t rank, size_t n_rows, float *matrix, float alpha,
                                                      const float *e, const float *g, int shrink) {
    size_t left = n_rows;
    for (; left % 4; left--) EMM(rank_one_rows)(rank, matrix + (left - 1) * rank, alpha, e + left - 1, g, 1, shrink);
    for (; left; left -= 4) EMM(rank_one_rows)(rank, matrix + (left - 4) * rank, alpha, e + left - 4, g, 4, shrink);
}

EMM_TARGET static void EMM(rank_one)(size_t rank, size_t n_rows, float *matrix, float alpha, const float *e,
                                     const float *g) {
    if (alpha == 1.0f)
        EMM(rank_one_any)(rank, n_rows, matrix, 1.0f, e, g, 0);
    else
        EMM(rank_one_any)(rank, n_rows, matrix, alpha, e, g, 1);
}

/* A register tile: ROWS rows x `queries` queries, one part of the lanes after the other. */
EMM_TARGET static FORCE_INLINE void EMM(tile_dots)(size_t rank, const float *tile, const float *x, float *out,
                                                   size_t stride, size_t n_rows, int queries) {
    VECTOR lanes[QUERIES][ROWS][PARTS];
    for (int p = 0; p < PARTS; p++) {
        VECTOR sums[QUERIES][ROWS];
        const float *key = x + p * WIDTH;
        for (int q = 0; q < queries; q++)
            for (int r = 0; r < ROWS; r++) sums[q][r] = ZERO();
        for (size_t j = 0; j < rank; j += LANES, key += LANES) {
            VECTOR keys[QUERIES];
            for (int q = 0; q < queries; q++) keys[q] = LOAD(key + (size_t)q * rank);
            for (int r = 0; r < ROWS; r++) {
                VECTOR m = LOAD(AT(tile, rank, j, r) + p * WIDTH);
                HOLD(m);
                for (int q = 0; q < queries; q++) sums[q][r] = FMA(m, keys[q], sums[q][r]);
            }
        }
        for (int q = 0; q < queries; q++)
            for (int r = 0; r < ROWS; r++) lanes[q][r][p] = sums[q][r];
    }
    UNROLL
    for (int q = 0; q < queries; q++) {
        float found[ROWS];
        float *at = n_rows == ROWS ? out + (size_t)q * stride : found;
        fold_rows(lanes[q], at);
        if (at == found) memcpy(out + (size_t)q * stride, found, n_rows * sizeof(float));
    }
}

EMM_TARGET static void EMM(tile_recall)(size_t rank, const float *tile, size_t n, const float *x, float *out,
                                        size_t stride, size_t n_rows) {
    size_t q = 0;
    for (; q + QUERIES <= n; q += QUERIES)
        EMM(tile_dots)(rank, tile, x + q * rank, out + q * stride, stride, n_rows, QUERIES);
    for (; q < n; q++) EMM(tile_dots)(rank, tile, x + q * rank, out + q * stride, stride, n_rows, 1);
}

EMM_TARGET static void EMM(recall)(size_t rank, size_t n_rows, const float *matrix, size_t n, const float *x,
                                   float *out, size_t stride, float *tile) {
    for (size_t first = 0; first < n_rows; first += ROWS) {
        const size_t here = n_rows - first < ROWS ? n_rows - first : ROWS;
        EMM(pack)(rank, here, matrix + first * rank, tile);
        EMM(tile_recall)(rank, tile, n, x, out + first, stride, here);
    }
}
