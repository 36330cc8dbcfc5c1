/* One level of the kernel: P, phi and vectors. Included by emm_level_*.c after emm_level.h, whose head says what the
 * includer defines; this file ends the level with its table of operations and clears the definitions. */

EMM_TARGET static int32_t EMM(largest)(const float *values, size_t n) {
    COUNTS worst = NO_COUNTS();
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) worst = LARGER(worst, LOAD(values + i));
    int32_t found = LARGEST(worst);
    for (; i < n; i++) {
        int32_t magnitude = magnitude_of(values[i]);
        found = magnitude > found ? magnitude : found;
    }
    return found;
}

EMM_TARGET static int32_t EMM(scale)(size_t n, float factor, const float *in, float *out) {
    COUNTS worst = NO_COUNTS();
    const VECTOR all = SET1(factor);
    for (size_t i = 0; i < n; i += WIDTH) {
        VECTOR product = MUL(all, LOAD(in + i));
        worst = LARGER(worst, product);
        STORE(out + i, product);
    }
    return LARGEST(worst);
}

/* Step 5 of rule A-13, ROWS rows at a time and every element with the u in ascending order; while the new rows are in
 * L1, their dot products with the next keys (step 2) are taken. `out` is NULL when there are no keys. */
EMM_TARGET static int32_t EMM(fold)(const emm_gain *gain, size_t n, const float *x, float *out, float *tile) {
    const size_t rank = gain->rank;
    const emm_gain_scalars *scalars = gain->scalars;
    const unsigned count = scalars->count;
    COUNTS worst = NO_COUNTS();
    for (size_t i = 0; i < rank; i += ROWS) {
        const float *source = gain->pbar + i * rank;
        float *target = gain->folded + i * rank, left[DEFERRED][ROWS];
        for (unsigned k = 0; k < count; k++)
            for (size_t r = 0; r < ROWS; r++) {
                float u = gain->u[k * rank + i + r];
                left[k][r] = scalars->signs >> k & 1 ? u : -u;
            }
        if (scalars->scale != 1.0f || scalars->leak != 0.0f) {
            EMM(scale)(ROWS * rank, scalars->scale, source, target);
            if (scalars->leak != 0.0f)
                for (size_t r = 0; r < ROWS; r++)
                    target[r * rank + i + r] = target[r * rank + i + r] + scalars->leak;
            source = target;
        }
        for (size_t j = 0; j < rank; j += LANES) {
            VECTOR rows[ROWS][PARTS];
            for (int r = 0; r < ROWS; r++)
                for (int p = 0; p < PARTS; p++) rows[r][p] = LOAD(source + r * rank + j + p * WIDTH);
            for (unsigned k = 0; k < count; k++) {
                VECTOR right[PARTS];
                for (int p = 0; p < PARTS; p++) right[p] = LOAD(gain->u + k * rank + j + p * WIDTH);
                for (int r = 0; r < ROWS; r++) {
                    const VECTOR factor = SET1(left[k][r]);
                    for (int p = 0; p < PARTS; p++) rows[r][p] = FMA(factor, right[p], rows[r][p]);
                }
            }
            for (int r = 0; r < ROWS; r++)
                for (int p = 0; p < PARTS; p++) {
                    worst = LARGER(worst, rows[r][p]);
                    STORE(target + r * rank + j + p * WIDTH, rows[r][p]);
                    if (out) STORE(AT(tile, rank, j, r) + p * WIDTH, rows[r][p]);
                }
        }
        if (out) EMM(tile_recall)(rank, tile, n, x, out + i, rank, ROWS);
    }
    return LARGEST(worst);
}

EMM_TARGET static void EMM(times)(const emm_gain *gain, const float *x, float *w) {
    const size_t rank = gain->rank;
    const emm_gain_scalars *scalars = gain->scalars;
    const unsigned count = scalars->count;
    const VECTOR scale = SET1(scalars->scale), leak = SET1(scalars->leak);
    float along[DEFERRED];
    if (count) EMM(dots)(rank, count, gain->u, x, along);
    for (unsigned k = 0; k < count; k++)
        if (!(scalars->signs >> k & 1)) along[k] = -along[k];
    for (size_t j = 0; j < rank; j += LANES) {
        VECTOR sum[PARTS];
        for (int p = 0; p < PARTS; p++) {
            sum[p] = MUL(scale, LOAD(w + j + p * WIDTH));
            if (scalars->leak != 0.0f) sum[p] = FMA(leak, LOAD(x + j + p * WIDTH), sum[p]);
        }
        for (unsigned k = 0; k < count; k++) {
            const VECTOR factor = SET1(along[k]);
            for (int p = 0; p < PARTS; p++) sum[p] = FMA(factor, LOAD(gain->u + k * rank + j + p * WIDTH), sum[p]);
        }
        for (int p = 0; p < PARTS; p++) STORE(w + j + p * WIDTH, sum[p]);
    }
}

EMM_TARGET static void EMM(downdate)(size_t rank, float *scratch, const float *u) {
    for (size_t i = 0; i < rank; i++) {
        VECTOR left = SET1(-u[i]);
        float *row = scratch + i * rank;
        for (size_t j = 0; j < rank; j += WIDTH) STORE(row + j, FMA(left, LOAD(u + j), LOAD(row + j)));
    }
}

EMM_TARGET static int32_t EMM(deflate)(size_t rank, float root, float s, float *w, float *u) {
    COUNTS worst = NO_COUNTS();
    const VECTOR by_root = SET1(root), by_s = SET1(s);
    for (size_t j = 0; j < rank; j += WIDTH) {
        VECTOR value = LOAD(w + j), left = DIV(value, by_root), right = DIV(value, by_s);
        worst = LARGER(LARGER(worst, left), right);
        STORE(u + j, left);
        STORE(w + j, right);
    }
    return LARGEST(worst);
}

/* Two stages of butterflies at a time, half and 2 half, for half >= 16; a last one alone where their number is odd. */
EMM_TARGET static void EMM(hadamard)(size_t padded, const float *signs, float *restrict work) {
    size_t half = LANES;
    for (size_t i = 0; i < padded; i += LANES) hadamard_16(work + i, signs + i);
    for (; half * 2 < padded; half *= 4)
        for (size_t start = 0; start < padded; start += 4 * half)
            for (size_t i = start; i < start + half; i += WIDTH) {
                float *p0 = work + i, *p1 = p0 + half, *p2 = p1 + half, *p3 = p2 + half;
                VECTOR a = LOAD(p0), b = LOAD(p1), c = LOAD(p2), d = LOAD(p3);
                VECTOR ab = ADD(a, b), ba = SUB(a, b), cd = ADD(c, d), dc = SUB(c, d);
                STORE(p0, ADD(ab, cd));
                STORE(p1, ADD(ba, dc));
                STORE(p2, SUB(ab, cd));
                STORE(p3, SUB(ba, dc));
            }
    if (half < padded)
        for (size_t i = 0; i < half; i += WIDTH) {
            VECTOR a = LOAD(work + i), b = LOAD(work + i + half);
            STORE(work + i, ADD(a, b));
            STORE(work + i + half, SUB(a, b));
        }
}

#ifndef HAVE_GATHER
EMM_TARGET static void EMM(gather)(size_t rank, const int32_t *order, float scale, const float *work, float *x) {
    for (size_t i = 0; i < rank; i++) x[i] = work[order[i]] * scale;
}
#endif

const emm_operations EMM(emm) = {
    .rows = ROWS,
    .dot = EMM(dot),
    .largest = EMM(largest),
    .dots = EMM(dots),
    .dots_measured = EMM(dots_measured),
    .recall = EMM(recall),
    .rank_one = EMM(rank_one),
    .sweep = EMM(sweep),
    .squares = EMM(squares),
    .fold = EMM(fold),
    .times = EMM(times),
    .scale = EMM(scale),
    .downdate = EMM(downdate),
    .deflate = EMM(deflate),
    .hadamard = EMM(hadamard),
    .gather = EMM(gather),
};
