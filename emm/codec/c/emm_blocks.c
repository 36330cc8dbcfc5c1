/* Sixteen SHA-256 side by side, one in each 32-bit lane of AVX-512. Purpose: blocks are independent, and one SHA-256 is
 * a chain of dependent steps that leaves most of a processor idle, with SHA extensions too. Invariants: see
 * emm_blocks.h; a group of fewer than sixteen blocks hashes its first one in the lanes that are left over. */

#include "emm_blocks.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw")))
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16, CHUNK = 64, DIGEST = 32, AHEAD = 256 };

static const uint32_t ROUND[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};
static const uint32_t START[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

#define XOR3(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0x96)
#define CHOOSE(e, f, g) _mm512_ternarylogic_epi32(e, f, g, 0xCA)
#define MAJORITY(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0xE8)
#define ROTATED(x, p, q, r) XOR3(_mm512_ror_epi32(x, p), _mm512_ror_epi32(x, q), _mm512_ror_epi32(x, r))
#define SHIFTED(x, p, q, r) XOR3(_mm512_ror_epi32(x, p), _mm512_ror_epi32(x, q), _mm512_srli_epi32(x, r))
#define ADD(a, b) _mm512_add_epi32(a, b)

/* 16 x 16 numbers of 32 bits: what was row i becomes column i. */
TARGET INLINE void transpose(__m512i r[16]) {
    __m512i s[16];
    for (int i = 0; i < 16; i += 2) {
        s[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        s[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(s[i], s[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(s[i], s[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(s[i + 1], s[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(s[i + 1], s[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        s[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        s[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xDD);
        s[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        s[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xDD);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(s[i], s[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(s[i], s[i + 8], 0xDD);
        r[i + 4] = _mm512_shuffle_i32x4(s[i + 4], s[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(s[i + 4], s[i + 12], 0xDD);
    }
}

/* One chunk of every lane, 16 words each, into the state. */
TARGET INLINE void compress(__m512i state[8], __m512i w[16]) {
    __m512i a = state[0], b = state[1], c = state[2], d = state[3];
    __m512i e = state[4], f = state[5], g = state[6], h = state[7];
#pragma GCC unroll 64
    for (int i = 0; i < 64; i++) {
        if (i >= 16) {
            const __m512i before = w[(i + 1) % 16], last = w[(i + 14) % 16];
            w[i % 16] = ADD(ADD(w[i % 16], SHIFTED(before, 7, 18, 3)), ADD(w[(i + 9) % 16], SHIFTED(last, 17, 19, 10)));
        }
        const __m512i fixed = ADD(w[i % 16], _mm512_set1_epi32((int)ROUND[i]));
        const __m512i one = ADD(ADD(h, fixed), ADD(ROTATED(e, 6, 11, 25), CHOOSE(e, f, g)));
        const __m512i two = ADD(ROTATED(a, 2, 13, 22), MAJORITY(a, b, c));
        h = g, g = f, f = e, e = ADD(d, one);
        d = c, c = b, b = a, a = ADD(one, two);
    }
    const __m512i out[8] = {a, b, c, d, e, f, g, h};
    for (int i = 0; i < 8; i++) state[i] = ADD(state[i], out[i]);
}

TARGET static void hash_group(const uint8_t *data, size_t n, size_t size, uint8_t *digests) {
    const __m512i swap = _mm512_set4_epi32(0x0C0D0E0F, 0x08090A0B, 0x04050607, 0x00010203); /* big-endian words */
    const uint8_t *lane[LANES];
    __m512i state[8], w[16];
    for (size_t i = 0; i < LANES; i++) lane[i] = data + (i < n ? i : 0) * size;
    for (int i = 0; i < 8; i++) state[i] = _mm512_set1_epi32((int)START[i]);
    for (size_t at = 0; at < size; at += CHUNK) {
        for (int i = 0; i < LANES; i++) {
            _mm_prefetch((const char *)((uintptr_t)lane[i] + at + AHEAD), _MM_HINT_T1); /* may point anywhere */
            w[i] = _mm512_shuffle_epi8(_mm512_loadu_si512((const void *)(lane[i] + at)), swap);
        }
        transpose(w);
        compress(state, w);
    }
    for (int i = 0; i < 16; i++) w[i] = _mm512_setzero_si512(); /* the padding: a bit, zeros, and the length in bits */
    w[0] = _mm512_set1_epi32((int)0x80000000u);
    w[14] = _mm512_set1_epi32((int)(uint32_t)((uint64_t)size >> 29));
    w[15] = _mm512_set1_epi32((int)(uint32_t)((uint64_t)size << 3));
    compress(state, w);
    for (int i = 0; i < 16; i++) w[i] = i < 8 ? state[i] : _mm512_setzero_si512();
    transpose(w);
    for (size_t i = 0; i < n; i++) {
        const __m512i digest = _mm512_shuffle_epi8(w[i], swap);
        _mm256_storeu_si256((__m256i *)(void *)(digests + i * DIGEST), _mm512_castsi512_si256(digest));
    }
}

size_t emm_hash_lanes(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") ? LANES : 0;
}

void emm_hash_blocks(const uint8_t *data, size_t n, size_t size, uint8_t *digests) {
    for (size_t first = 0; first < n; first += LANES) {
        const size_t here = n - first < LANES ? n - first : LANES;
        hash_group(data + first * size, here, size, digests + first * DIGEST);
    }
}

#else

size_t emm_hash_lanes(void) { return 0; }

void emm_hash_blocks(const uint8_t *data, size_t n, size_t size, uint8_t *digests) {
    (void)data, (void)n, (void)size, (void)digests;
}

#endif
