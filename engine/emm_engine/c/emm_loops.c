/* The loops. Purpose: read codes at the speed of memory; what a compiler makes of plain C for the least processor is
 * nearly as fast as anything. Invariants: see emm_loops.h. */

#include "emm_loops.h"

enum { AHEAD = 4096, LINE = 64, BLOCK = 1024 }; /* bytes fetched ahead (processors stop at pages), of a line; sums kept near */

#if defined(__GNUC__)
#define FETCH(address) __builtin_prefetch(address)
#else
#define FETCH(address) ((void)0)
#endif

void emm_code_products(const int8_t *restrict codes, size_t n, size_t dim, const int16_t *restrict query,
                       int32_t *restrict products) {
    for (size_t i = 0; i < n; i++) {
        const int8_t *restrict row = codes + i * dim;
        int32_t sum = 0;
        for (size_t at = 0; at < dim && (n - i) * dim > AHEAD + dim; at += LINE)
            FETCH(row + AHEAD + at);
        for (size_t j = 0; j < dim; j++)
            sum += (int32_t)row[j] * (int32_t)query[j];
        products[i] = sum;
    }
}

void emm_table_sums(const uint8_t *restrict codes, size_t n_bytes, size_t n, const double *restrict tables,
                    double *restrict sums) {
    for (size_t low = 0; low < n; low += BLOCK) {
        size_t high = n - low < BLOCK ? n : low + BLOCK;
        for (size_t i = low; i < high; i++)
            sums[i] = 0.0;
        for (size_t j = 0; j < n_bytes; j++) {
            const uint8_t *restrict row = codes + j * n;
            const double *restrict table = tables + 256 * j;
            for (size_t i = low; i < high; i++)
                sums[i] += table[row[i]];
        }
    }
}
