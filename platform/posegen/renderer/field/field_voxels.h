// Voxels of eight channels in memory, and trilinear interpolation between the eight corners of a cell.
#pragma once

#include <cstdint>
#include "field_vector.h"

namespace {

constexpr int CHANNELS = 8;

typedef uint8_t b8 __attribute__((vector_size(8), aligned(1), may_alias));

inline v8 load(const uint8_t* p) {
#if defined(__AVX2__)  // compilers do not find these two instructions by themselves
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return reinterpret_cast<v8>(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)));
#else
  return __builtin_convertvector(*reinterpret_cast<const b8*>(p), v8);
#endif
}

// The corners of a cell: where they begin, and what each axis adds
template <typename Voxel>
struct Corners {
  const Voxel* begin;
  int64_t x[2], y[2], z[2];
  v8 at(int i, int j, int k) const { return load(begin + x[i] + y[j] + z[k]); }
};

// Voxels row by row
template <typename V>
struct Grid {
  typedef V Voxel;
  const V* table;
  int64_t n;
  Grid(const V* table, int64_t n) : table(table), n(n) {}
  Corners<V> corners(int64_t volume, const int* cell) const {
    const int64_t x = n * n * CHANNELS, y = n * CHANNELS;
    return {table + volume * n * x, {cell[0] * x, cell[0] * x + x}, {cell[1] * y, cell[1] * y + y},
            {cell[2] * CHANNELS, cell[2] * CHANNELS + CHANNELS}};
  }
};

// Codes in blocks: the cells along a surface share fewer cache lines than they do in rows, which leave it at both ends
struct Blocks {
  typedef uint8_t Voxel;
  const uint8_t* table;
  int64_t n;
  Blocks(const uint8_t* table, int64_t n) : table(table), n(n) {}
  Corners<uint8_t> corners(int64_t volume, const int* cell) const {
    const int64_t side = n / 2, z = 8 * CHANNELS, y = side * z, x = side * y;
    const auto along = [&](int c, int64_t block, int64_t odd) { return (c >> 1) * block + (c & 1) * odd; };
    return {table + volume * side * x,
            {along(cell[0], x, 4 * CHANNELS), along(cell[0] + 1, x, 4 * CHANNELS)},
            {along(cell[1], y, 2 * CHANNELS), along(cell[1] + 1, y, 2 * CHANNELS)},
            {along(cell[2], z, CHANNELS), along(cell[2] + 1, z, CHANNELS)}};
  }
};

template <typename Voxel>
inline v8 interpolate(const Corners<Voxel>& p, const float* f) {
  const v8 a0 = p.at(0, 0, 0), b0 = p.at(0, 1, 0), c0 = p.at(1, 0, 0), d0 = p.at(1, 1, 0);
  const v8 a = a0 + (p.at(0, 0, 1) - a0) * f[2], b = b0 + (p.at(0, 1, 1) - b0) * f[2];
  const v8 c = c0 + (p.at(1, 0, 1) - c0) * f[2], d = d0 + (p.at(1, 1, 1) - d0) * f[2];
  const v8 ab = a + (b - a) * f[1], cd = c + (d - c) * f[1];
  return ab + (cd - ab) * f[0];
}

// The value and its derivatives to the voxel coordinates
template <typename Voxel>
inline v8 interpolate(const Corners<Voxel>& p, const float* f, v8* slope) {
  const v8 a0 = p.at(0, 0, 0), b0 = p.at(0, 1, 0), c0 = p.at(1, 0, 0), d0 = p.at(1, 1, 0);
  const v8 az = p.at(0, 0, 1) - a0, bz = p.at(0, 1, 1) - b0, cz = p.at(1, 0, 1) - c0, dz = p.at(1, 1, 1) - d0;
  const v8 a = a0 + az * f[2], b = b0 + bz * f[2], c = c0 + cz * f[2], d = d0 + dz * f[2];
  const v8 ab = a + (b - a) * f[1], cd = c + (d - c) * f[1];
  slope[0] = cd - ab;
  slope[1] = (b - a) + ((d - c) - (b - a)) * f[0];
  const v8 abz = az + (bz - az) * f[1], cdz = cz + (dz - cz) * f[1];
  slope[2] = abz + (cdz - abz) * f[0];
  return ab + (cd - ab) * f[0];
}

}  // namespace
