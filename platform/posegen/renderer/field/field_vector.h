// Eight floats at a time: the channels of one sample, or one channel of eight samples.
#pragma once

#include <cmath>
#include <cstdint>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

typedef float v8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef float v4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef double d4 __attribute__((vector_size(32)));
typedef int32_t i8 __attribute__((vector_size(32), aligned(4), may_alias));

constexpr int LANES = 8;
constexpr i8 EIGHT = {0, 1, 2, 3, 4, 5, 6, 7};

inline v8 fill(float x) { return v8{x, x, x, x, x, x, x, x}; }
inline i8 fill(int32_t x) { return i8{x, x, x, x, x, x, x, x}; }
inline v8 load(const float* p) { return *reinterpret_cast<const v8*>(p); }
inline i8 load(const int32_t* p) { return *reinterpret_cast<const i8*>(p); }
inline void store(float* p, v8 x) { *reinterpret_cast<v8*>(p) = x; }
inline void store(int32_t* p, i8 x) { *reinterpret_cast<i8*>(p) = x; }
inline v8 at_least(v8 x, v8 low) { return x > low ? x : low; }
inline v8 at_least(v8 x, float low) { return at_least(x, fill(low)); }
inline v8 at_most(v8 x, v8 high) { return x < high ? x : high; }
inline v8 at_most(v8 x, float high) { return at_most(x, fill(high)); }
inline v8 magnitude(v8 x) { return x < 0.0f ? -x : x; }
inline v8 to_float(i8 x) { return __builtin_convertvector(x, v8); }
inline i8 to_int(v8 x) { return __builtin_convertvector(x, i8); }  // towards 0

// a * b + c, rounded once where the processor can: by hand where a compiler's other choice would move samples
inline v8 fused(v8 a, v8 b, v8 c) {
#if defined(__FMA__)
  return reinterpret_cast<v8>(_mm256_fmadd_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b),
                                              reinterpret_cast<__m256>(c)));
#else
  return a * b + c;
#endif
}

inline v8 floor8(v8 x) {
#if defined(__AVX2__)
  return reinterpret_cast<v8>(_mm256_floor_ps(reinterpret_cast<__m256>(x)));
#else
  for (int i = 0; i < LANES; i++) x[i] = std::floor(x[i]);
  return x;
#endif
}
inline v8 ceil8(v8 x) { return -floor8(-x); }

inline v8 sqrt8(v8 x) {
#if defined(__AVX2__)
  return reinterpret_cast<v8>(_mm256_sqrt_ps(reinterpret_cast<__m256>(x)));
#else
  for (int i = 0; i < LANES; i++) x[i] = std::sqrt(x[i]);
  return x;
#endif
}

// exp, relative error under 2e-7 on [-87, 87] (range reduction by ln 2, then a polynomial of degree 6)
inline v8 exp8(v8 x) {
  x = at_least(at_most(x, 87.0f), -87.0f);
  const v8 scaled = x * 1.44269504f;
  const i8 n = to_int(scaled + (scaled > 0.0f ? fill(0.5f) : fill(-0.5f)));
  const v8 whole = to_float(n);
  const v8 r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  v8 p = r * 1.3888889e-3f + 8.3333333e-3f;
  p = p * r + 4.1666667e-2f;
  p = p * r + 1.6666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const i8 bits = (n + 127) << 23;
  return p * reinterpret_cast<const v8&>(bits);
}

// log(1 + y) for y in [0, 1], from the series of atanh
inline v8 log1p_unit(v8 y) {
  const v8 s = y / (2.0f + y), q = s * s;
  return 2.0f * s * (1.0f + q * (1.0f / 3 + q * (1.0f / 5 + q * (1.0f / 7 + q * (1.0f / 9 + q * (1.0f / 11))))));
}

// Rows become columns
inline void transpose(v8* m) {
#if defined(__AVX2__)
  __m256 r[LANES], s[LANES];
  for (int i = 0; i < LANES; i++) r[i] = reinterpret_cast<__m256>(m[i]);
  for (int i = 0; i < LANES; i += 2) {
    s[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    s[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < LANES; i += 4) {
    r[i] = _mm256_shuffle_ps(s[i], s[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(s[i], s[i + 2], 0xEE);
    r[i + 2] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0xEE);
  }
  for (int i = 0; i < 4; i++) {
    m[i] = reinterpret_cast<v8>(_mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    m[i + 4] = reinterpret_cast<v8>(_mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
#else
  for (int i = 0; i < LANES; i++)
    for (int j = 0; j < i; j++) {
      const float x = m[i][j];
      m[i][j] = m[j][i];
      m[j][i] = x;
    }
#endif
}

inline float sum(const v8& m) { return ((m[0] + m[4]) + (m[2] + m[6])) + ((m[1] + m[5]) + (m[3] + m[7])); }

// The sum of each row, added in the same order
inline v8 row_sums(const v8* m) {
#if defined(__AVX2__)
  __m256 half[4], pair[2];  // rows i and i + 4, of which four sums are left; two of these, of which two are left
  for (int i = 0; i < 4; i++) {
    const __m256 a = reinterpret_cast<__m256>(m[i]), b = reinterpret_cast<__m256>(m[i + 4]);
    half[i] = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  }
  for (int i = 0; i < 2; i++)
    pair[i] = _mm256_add_ps(_mm256_shuffle_ps(half[2 * i], half[2 * i + 1], 0x44),
                            _mm256_shuffle_ps(half[2 * i], half[2 * i + 1], 0xEE));
  return reinterpret_cast<v8>(
      _mm256_add_ps(_mm256_shuffle_ps(pair[0], pair[1], 0x88), _mm256_shuffle_ps(pair[0], pair[1], 0xDD)));
#else
  v8 sums;
  for (int i = 0; i < LANES; i++) sums[i] = sum(m[i]);
  return sums;
#endif
}

// The bits of a table at eight places, as a mask whose lowest bit is the first lane's. Words of 32 bits, lowest first.
inline unsigned bits_at(const uint32_t* words, i8 place) {
#if defined(__AVX2__)
  const __m256i at = reinterpret_cast<__m256i>(place);
  const __m256i word = _mm256_i32gather_epi32(reinterpret_cast<const int*>(words), _mm256_srli_epi32(at, 5), 4);
  const __m256i last = _mm256_set1_epi32(31), bit = _mm256_and_si256(at, last);
  const __m256i up = _mm256_sllv_epi32(word, _mm256_sub_epi32(last, bit));  // the bit is the lane's sign
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(up)));
#else
  unsigned mask = 0;
  for (int i = 0; i < LANES; i++) mask |= (words[static_cast<uint32_t>(place[i]) >> 5] >> (place[i] & 31) & 1) << i;
  return mask;
#endif
}

// Floats of a table at eight places
inline v8 values_at(const float* table, i8 place) {
#if defined(__AVX2__)
  return reinterpret_cast<v8>(_mm256_i32gather_ps(table, reinterpret_cast<__m256i>(place), 4));
#else
  v8 x;
  for (int i = 0; i < LANES; i++) x[i] = table[place[i]];
  return x;
#endif
}

inline i8 values_at(const int32_t* table, i8 place) {
#if defined(__AVX2__)
  return reinterpret_cast<i8>(_mm256_i32gather_epi32(table, reinterpret_cast<__m256i>(place), 4));
#else
  i8 x;
  for (int i = 0; i < LANES; i++) x[i] = table[place[i]];
  return x;
#endif
}

inline int32_t least(i8 x) {
  int32_t found = x[0];
  for (int i = 1; i < LANES; i++) found = found < x[i] ? found : x[i];
  return found;
}
inline int32_t most(i8 x) { return -least(-x); }

// For each mask of eight lanes the lanes that are in it, in order
struct Orders {
  uint8_t lanes[1 << LANES][LANES];
  constexpr Orders() : lanes() {
    for (int mask = 0; mask < 1 << LANES; mask++) {
      int count = 0;
      for (int i = 0; i < LANES; i++)
        if (mask >> i & 1) lanes[mask][count++] = static_cast<uint8_t>(i);
    }
  }
};
constexpr Orders ORDERS;

// The lanes that are in a mask, in order, then zeros
inline i8 lanes_of(unsigned mask) {
#if defined(__AVX2__)
  return reinterpret_cast<i8>(
      _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(ORDERS.lanes[mask]))));
#else
  i8 x;
  for (int i = 0; i < LANES; i++) x[i] = ORDERS.lanes[mask][i];
  return x;
#endif
}

// Lanes that are true (all bits set), as a mask
inline unsigned mask_of(i8 truth) {
#if defined(__AVX2__)
  return static_cast<unsigned>(_mm256_movemask_ps(reinterpret_cast<__m256>(truth)));
#else
  unsigned mask = 0;
  for (int i = 0; i < LANES; i++) mask |= (truth[i] & 1u) << i;
  return mask;
#endif
}

}  // namespace
