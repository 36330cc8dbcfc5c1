/* SHA-256 of many blocks at once. Purpose: one declaration of every entry, read by the C compiler and, between the two
 * marks, by cffi (tools/emm_build.py). Invariants: nothing allocates, and nothing outside `data` and `digests` is read
 * or written; the digests are those of FIPS 180-4, whatever the order in which they are computed. */
#ifndef EMM_BLOCKS_H
#define EMM_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

/* cdef begins */
/* How many blocks are hashed side by side on this processor; 0 where it has no AVX-512 (F and BW). */
size_t emm_hash_lanes(void);

/* The SHA-256 of n blocks of `size` bytes each, one behind another; size is a multiple of 64. digests: 32 bytes for
 * each. Only where emm_hash_lanes() is not 0. */
void emm_hash_blocks(const uint8_t *data, size_t n, size_t size, uint8_t *digests);
/* cdef ends */

#endif
