/* The engine's loops over very many rows. Purpose: one declaration of every entry, read by the C compiler and, between
 * the two marks, by cffi (tools/emm_build.py). Invariants: results are the same to the bit wherever this is compiled:
 * integers, or floating-point sums in the order that is written; nothing allocates, and nothing outside the arguments is
 * read or written. */
#ifndef EMM_LOOPS_H
#define EMM_LOOPS_H

#include <stddef.h>
#include <stdint.h>

/* cdef begins */
/* products[i] = sum over j of codes[i * dim + j] * query[j]. codes: n * dim; query: dim; products: n.
 * No sum overflows where 128 * dim * (the largest |query[j]|) < 2^31. */
void emm_code_products(const int8_t *codes, size_t n, size_t dim, const int16_t *query, int32_t *products);

/* sums[i] = tables[codes[i]] + tables[256 + codes[n + i]] + ..., one table of 256 for each of n_bytes rows of n codes,
 * added in this order. codes: n_bytes * n; tables: n_bytes * 256; sums: n. */
void emm_table_sums(const uint8_t *codes, size_t n_bytes, size_t n, const double *tables, double *sums);
/* cdef ends */

#endif
