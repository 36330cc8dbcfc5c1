/* One level of the kernel, included by emm_kernel.c once per instruction set.
 *
 * The includer defines: EMM(name), EMM_TARGET, ROWS (rows worked on together), PARTS (vectors that make 16 lanes),
 * VECTOR and the operations LOAD STORE SET1 MUL FMA ZERO, and `fold_rows`, which folds ROWS x 16 lanes by adding the
 * upper half to the lower until one is left (rule A-4). Everything is written once, against those; nothing here
 * reassociates, and contraction is off, so an FMA happens exactly where FMA is written. */

#define WIDTH (LANES / PARTS)

/* dots[r] = dot(rows[r], x), and first rows[r] <- fma(e[r], g, rows[r]) when there is an update (rule A-13, step 6). */
EMM_TARGET static inline __attribute__((always_inline)) void EMM(pass)(size_t rank, float *const *rows,
                                                                       const float *g, const float *e, const float *x,
                                                                       float *dots, int update, int predict) {
    VECTOR lanes[ROWS][PARTS];
    VECTOR factor[ROWS];
    for (int r = 0; r < ROWS; r++) {
        if (update) factor[r] = SET1(e[r]);
        for (int p = 0; p < PARTS; p++) lanes[r][p] = ZERO();
    }
    for (size_t j = 0; j < rank; j += LANES) {
        for (int p = 0; p < PARTS; p++) {
            const size_t at = j + (size_t)p * WIDTH;
            VECTOR gain = update ? LOAD(g + at) : ZERO();
            VECTOR key = predict ? LOAD(x + at) : ZERO();
            for (int r = 0; r < ROWS; r++) {
                VECTOR m = LOAD(rows[r] + at);
                if (update) {
                    m = FMA(factor[r], gain, m);
                    STORE(rows[r] + at, m);
                }
                if (predict) lanes[r][p] = FMA(m, key, lanes[r][p]);
            }
        }
    }
    if (predict) fold_rows(lanes, dots);
}

EMM_TARGET static void EMM(update_and_dot)(size_t rank, float *const *rows, const float *g, const float *e,
                                           const float *x, float *dots) {
    EMM(pass)(rank, rows, g, e, x, dots, 1, 1);
}

EMM_TARGET static void EMM(update)(size_t rank, float *const *rows, const float *g, const float *e) {
    EMM(pass)(rank, rows, g, e, NULL, NULL, 1, 0);
}

EMM_TARGET static void EMM(dot_group)(size_t rank, float *const *rows, const float *x, float *dots) {
    EMM(pass)(rank, rows, NULL, NULL, x, dots, 0, 1);
}

/* out[i] = dot(row i, x) for n_rows rows. */
EMM_TARGET static void EMM(dots)(size_t rank, size_t n_rows, const float *matrix, const float *x, float *out) {
    for (size_t first = 0; first < n_rows; first += ROWS) {
        float *rows[ROWS];
        float found[ROWS];
        for (size_t r = 0; r < ROWS; r++) {
            size_t row = first + r < n_rows ? first + r : n_rows - 1;
            rows[r] = (float *)(uintptr_t)(matrix + row * rank); /* only read */
        }
        EMM(dot_group)(rank, rows, x, found);
        for (size_t r = 0; r < ROWS && first + r < n_rows; r++) out[first + r] = found[r];
    }
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

EMM_TARGET static void EMM(recall)(const float *matrix, size_t dim, size_t rank, const float *x, size_t n, float *out) {
    for (size_t first = 0; first < dim; first += ROWS) {
        float *rows[ROWS];
        float found[ROWS];
        for (size_t r = 0; r < ROWS; r++) {
            size_t row = first + r < dim ? first + r : dim - 1;
            rows[r] = (float *)(uintptr_t)(matrix + row * rank); /* only read */
        }
        for (size_t query = 0; query < n; query++) {
            EMM(dot_group)(rank, rows, x + query * rank, found);
            for (size_t r = 0; r < ROWS && first + r < dim; r++) out[query * dim + first + r] = found[r];
        }
    }
}

/* P-bar <- a P-bar + b I - sum of sigma u u' (rule A-13, step 5); every element sees the u in ascending order. Four
 * rows at a time, so that a u is loaded once for four. */
EMM_TARGET static void EMM(fold)(size_t rank, float *pbar, float *u, emm_gain_scalars *scalars) {
    const unsigned count = scalars->count;
    for (size_t i = 0; i < rank; i += 4) {
        float *row = pbar + i * rank;
        float left[DEFERRED][4];
        for (unsigned k = 0; k < count; k++)
            for (size_t r = 0; r < 4; r++) left[k][r] = scalars->signs >> k & 1 ? u[k * rank + i + r] : -u[k * rank + i + r];
        if (scalars->scale != 1.0f)
            for (size_t j = 0; j < 4 * rank; j++) row[j] = scalars->scale * row[j];
        if (scalars->leak != 0.0f)
            for (size_t r = 0; r < 4; r++) row[r * rank + i + r] = row[r * rank + i + r] + scalars->leak;
        for (size_t j = 0; j < rank; j += WIDTH) {
            VECTOR p0 = LOAD(row + j), p1 = LOAD(row + rank + j);
            VECTOR p2 = LOAD(row + 2 * rank + j), p3 = LOAD(row + 3 * rank + j);
            for (unsigned k = 0; k < count; k++) {
                VECTOR right = LOAD(u + k * rank + j);
                p0 = FMA(SET1(left[k][0]), right, p0);
                p1 = FMA(SET1(left[k][1]), right, p1);
                p2 = FMA(SET1(left[k][2]), right, p2);
                p3 = FMA(SET1(left[k][3]), right, p3);
            }
            STORE(row + j, p0);
            STORE(row + rank + j, p1);
            STORE(row + 2 * rank + j, p2);
            STORE(row + 3 * rank + j, p3);
        }
    }
    memset(u, 0, DEFERRED * rank * sizeof(float));
    scalars->scale = 1.0f;
    scalars->leak = 0.0f;
    scalars->count = 0;
    scalars->signs = 0;
}

/* w comes in as P-bar x and leaves as P x (rule A-13, step 2). */
EMM_TARGET static void EMM(times)(size_t rank, const float *u, const emm_gain_scalars *scalars, const float *x,
                                  float *w) {
    float along[DEFERRED];
    for (size_t i = 0; i < rank; i++) w[i] = scalars->scale * w[i];
    if (scalars->leak != 0.0f)
        for (size_t i = 0; i < rank; i++) w[i] = fmaf(scalars->leak, x[i], w[i]);
    if (scalars->count) EMM(dots)(rank, scalars->count, u, x, along);
    for (unsigned k = 0; k < scalars->count; k++)
        if (!(scalars->signs >> k & 1)) along[k] = -along[k];
    for (size_t j = 0; j < rank; j += WIDTH) {
        VECTOR sum = LOAD(w + j);
        for (unsigned k = 0; k < scalars->count; k++) sum = FMA(SET1(along[k]), LOAD(u + k * rank + j), sum);
        STORE(w + j, sum);
    }
}

/* scratch <- scratch - u u' for one vector (rule A-16). */
EMM_TARGET static void EMM(downdate)(size_t rank, float *scratch, const float *u) {
    for (size_t i = 0; i < rank; i++) {
        VECTOR left = SET1(-u[i]);
        float *row = scratch + i * rank;
        for (size_t j = 0; j < rank; j += WIDTH) STORE(row + j, FMA(left, LOAD(u + j), LOAD(row + j)));
    }
}

/* Signed Walsh-Hadamard transform of one padded key, in place (rule A-7). */
EMM_TARGET static void EMM(hadamard)(size_t padded, const float *signs, float *restrict work) {
    for (size_t i = 0; i < padded; i++) work[i] = work[i] * signs[i];
    for (size_t half = 1; half < padded; half *= 2)
        for (size_t start = 0; start < padded; start += 2 * half)
            for (size_t i = start; i < start + half; i++) {
                float a = work[i], b = work[i + half];
                work[i] = a + b;
                work[i + half] = a - b;
            }
}

/* A group of rows is copied to `work` (padded, so that no stride aliases in L1), the keys stream past it, and it is
 * copied back: "apply update k" and "dot for key k+1" share one load and one store of every element. */
EMM_TARGET static int EMM(sweep)(const emm_batch *batch, size_t row_begin, size_t row_end, float *matrix, float *work,
                                 double *squares) {
    const size_t rank = batch->rank, dim = batch->dim, stride = rank + LANES;
    int finite = 1;
    float *rows[ROWS];
    for (size_t r = 0; r < ROWS; r++) rows[r] = work + r * stride;
    for (size_t first = row_begin; first < row_end; first += ROWS) {
        const size_t n_rows = row_end - first < ROWS ? row_end - first : ROWS;
        float error[ROWS] = {0}, found[ROWS];
        const float *pending = NULL; /* the g whose update is still to be applied, with `error` */
        for (size_t r = 0; r < ROWS; r++) {
            if (r < n_rows)
                memcpy(rows[r], matrix + (first + r) * rank, rank * sizeof(float));
            else
                memset(rows[r], 0, rank * sizeof(float));
        }
        for (size_t k = 0; k < batch->n; k++) {
            const float *x = batch->x + k * rank, *v = batch->values + k * dim + first;
            if (batch->decay[k] != 1.0f) {
                if (pending) EMM(update)(rank, rows, pending, error);
                pending = NULL;
                for (size_t r = 0; r < n_rows; r++)
                    for (size_t j = 0; j < rank; j++) rows[r][j] = batch->decay[k] * rows[r][j];
            }
            if (!batch->active[k]) continue;
            if (batch->predict && pending)
                EMM(update_and_dot)(rank, rows, pending, error, x, found);
            else if (batch->predict)
                EMM(dot_group)(rank, rows, x, found);
            else if (pending)
                EMM(update)(rank, rows, pending, error);
            for (size_t r = 0; r < n_rows; r++) {
                error[r] = batch->predict ? v[r] - found[r] : v[r];
                if (squares) squares[k] += (double)error[r] * (double)error[r];
            }
            pending = batch->gains + k * rank;
        }
        if (pending) EMM(update)(rank, rows, pending, error);
        for (size_t r = 0; r < n_rows; r++) {
            finite &= all_finite(rows[r], rank);
            memcpy(matrix + (first + r) * rank, rows[r], rank * sizeof(float));
        }
    }
    return !finite;
}

static const emm_operations EMM(operations) = {
    EMM(dot), EMM(dots), EMM(recall), EMM(fold), EMM(times), EMM(downdate), EMM(hadamard), EMM(sweep),
};

#undef EMM
#undef EMM_TARGET
#undef ROWS
#undef PARTS
#undef WIDTH
#undef VECTOR
#undef LOAD
#undef STORE
#undef SET1
#undef FMA
#undef ZERO
#undef fold_rows
