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

// The corners of a cell, where the first is and how far the next one lies along each axis, and a point among them
template <typename Voxel>
struct Corners {
  const Voxel* begin;
  int64_t x, y, z;
  float fx, fy, fz;  // of the way to the next one
  const Voxel* of(int i, int j, int k) const { return begin + i * x + j * y + k * z; }
  v8 at(int i, int j, int k) const { return load(of(i, j, k)); }
};

// The same for eight points. Offsets are from their volumes' beginnings.
struct Places {
  int32_t begin[LANES], x[LANES], y[LANES], z[LANES];
  float fx[LANES], fy[LANES], fz[LANES];
};

// Voxels row by row
template <typename V>
struct Grid {
  typedef V Voxel;
  const V* table;
  int32_t n;
  Grid(const V* table, int64_t n) : table(table), n(static_cast<int32_t>(n)) {}
  void places(const i8* cell, Places& to) const {
    store(to.begin, ((cell[0] * n + cell[1]) * n + cell[2]) * CHANNELS);
    store(to.x, fill(n * n * CHANNELS));
    store(to.y, fill(n * CHANNELS));
    store(to.z, fill(CHANNELS));
  }
};

// Codes in blocks: the cells along a surface share fewer cache lines than they do in rows, which leave it at both ends
struct Blocks {
  typedef uint8_t Voxel;
  const uint8_t* table;
  int32_t n;
  Blocks(const uint8_t* table, int64_t n) : table(table), n(static_cast<int32_t>(n)) {}
  void places(const i8* cell, Places& to) const {
    const int32_t half = n / 2, z = 8 * CHANNELS, y = half * z, x = half * y;  // from block to block
    const i8 odd[3] = {cell[0] & 1, cell[1] & 1, cell[2] & 1};
    store(to.begin, (cell[0] >> 1) * x + (cell[1] >> 1) * y + (cell[2] >> 1) * z +
                        (odd[0] * 4 + odd[1] * 2 + odd[2]) * CHANNELS);
    store(to.x, 4 * CHANNELS - odd[0] * (8 * CHANNELS - x));  // the next one is in this block, or in the next
    store(to.y, 2 * CHANNELS - odd[1] * (4 * CHANNELS - y));
    store(to.z, CHANNELS - odd[2] * (2 * CHANNELS - z));
  }
};

template <typename Voxel>
inline v8 interpolate(const Corners<Voxel>& p) {
  const v8 a0 = p.at(0, 0, 0), b0 = p.at(0, 1, 0), c0 = p.at(1, 0, 0), d0 = p.at(1, 1, 0);
  const v8 a = a0 + (p.at(0, 0, 1) - a0) * p.fz, b = b0 + (p.at(0, 1, 1) - b0) * p.fz;
  const v8 c = c0 + (p.at(1, 0, 1) - c0) * p.fz, d = d0 + (p.at(1, 1, 1) - d0) * p.fz;
  const v8 ab = a + (b - a) * p.fy, cd = c + (d - c) * p.fy;
  return ab + (cd - ab) * p.fx;
}

// The value and its derivatives to the voxel coordinates
template <typename Voxel>
inline v8 interpolate(const Corners<Voxel>& p, v8* slope) {
  const v8 a0 = p.at(0, 0, 0), b0 = p.at(0, 1, 0), c0 = p.at(1, 0, 0), d0 = p.at(1, 1, 0);
  const v8 az = p.at(0, 0, 1) - a0, bz = p.at(0, 1, 1) - b0, cz = p.at(1, 0, 1) - c0, dz = p.at(1, 1, 1) - d0;
  const v8 a = a0 + az * p.fz, b = b0 + bz * p.fz, c = c0 + cz * p.fz, d = d0 + dz * p.fz;
  const v8 ab = a + (b - a) * p.fy, cd = c + (d - c) * p.fy;
  slope[0] = cd - ab;
  slope[1] = (b - a) + ((d - c) - (b - a)) * p.fx;
  const v8 abz = az + (bz - az) * p.fy, cdz = cz + (dz - cz) * p.fy;
  slope[2] = abz + (cdz - abz) * p.fx;
  return ab + (cd - ab) * p.fx;
}

}  // namespace
