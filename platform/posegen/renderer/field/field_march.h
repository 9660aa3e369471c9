// Rays through an image's volumes: which ones a ray crosses, and its samples, eight at a time.
//
// Samples lie on a lattice in depth. A volume is asked about eight steps of it at once, a bit each; the bits of eight
// volumes, rows turned to columns, are the samples of all of them in order, so nothing is sorted. Eight samples at a
// time are taken: their voxels are asked for, and read only after other rays have walked, while memory answers.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>
#include "field_problem.h"
#include "field_vector.h"
#include "field_voxels.h"

namespace {

constexpr int MAX_STEPS = 4096;            // of a ray in a volume
constexpr int MAX_SPAN = 16 * MAX_STEPS;  // of a ray from its first volume on: no body is a kilometre deep
constexpr int DITHER[4][4] = {{0, 8, 2, 10}, {12, 4, 14, 6}, {3, 11, 1, 9}, {15, 7, 13, 5}};

inline float phase_of(int x, int y) { return (static_cast<float>(DITHER[y & 3][x & 3]) + 0.5f) / 16; }

struct Ray {
  float u, v, phase, length;
};

inline Ray ray_of(const Problem& q, int64_t image, int x, int y) {
  Ray ray;
  const float width = static_cast<float>(q.width);
  ray.u = (static_cast<float>(x) + 0.5f) / width - 0.5f;
  ray.v = (static_cast<float>(y) + 0.5f) / width - 0.5f;
  ray.phase = phase_of(x, y);
  const float *lens = q.lens + image * 3, du = ray.u - lens[1], dv = ray.v - lens[2];
  ray.length = std::sqrt(1 + lens[0] * (du * du + dv * dv));
  return ray;
}

// Voxel coordinates that rays gain with each metre of depth, from a row of M: eight rays of a row of pixels in one
// volume, or one ray in eight
inline v8 per_metre(v8 m0, v8 m1, v8 m2, v8 u, float v) { return fused(m0, u, m1 * v) + m2; }

// The cells along one axis that hold eight voxel coordinates; the first or the last of those beyond
inline i8 cells_at(v8 g, int64_t n) { return to_int(at_most(at_least(g, 0.0f), static_cast<float>(n - 2))); }

// What does not change within an image. Cells read float voxels, or codes: a quarter of the memory to wait for. Codes
// are interpolated and then decoded, which is the same by linearity.
template <typename Cells>
struct View {
  const Problem& q;
  const Cells& cells;
  const int64_t image;
  const float *M, *C, *light, *shade;
  float low[CHANNELS], scale[CHANNELS];  // of the codes
  std::vector<int32_t> place;            // (K) of each volume's first cell in the table

  View(const Problem& q, const Cells& cells, int64_t image)
      : q(q), cells(cells), image(image), M(q.M + image * q.volumes * 9), C(q.c + image * q.volumes * 3),
        light(q.light + image * q.volumes * 3), shade(q.shade + image * 2), place(q.volumes) {
    for (int i = 0; i < CHANNELS; i++) low[i] = q.codes ? q.code_low[i] : 0, scale[i] = q.codes ? q.code_scale[i] : 1;
    const int64_t *rows = q.volume + image * q.volumes, voxels = q.resolution * q.resolution * q.resolution;
    for (int64_t k = 0; k < q.volumes; k++) place[k] = static_cast<int32_t>(rows[k] * voxels);
  }
};

// Eight samples of a ray, and where they lie in their volumes
template <typename Cells>
struct Samples {
  typedef typename Cells::Voxel Voxel;
  int count;
  int32_t lattice[LANES], volume[LANES];  // volume: among the image's
  const Voxel* begin[LANES];
  Places places;

  // Finds the samples' voxels by their coordinates, and asks memory for them
  void place(const View<Cells>& view, const v8* g) {
    i8 cell[3];
    float* const fractions[3] = {places.fx, places.fy, places.fz};
    for (int d = 0; d < 3; d++) {
      cell[d] = cells_at(g[d], view.q.resolution);
      store(fractions[d], g[d] - to_float(cell[d]));
    }
    view.cells.places(cell, places);
    for (int s = 0; s < LANES; s++) {
      const Voxel* first = view.cells.table + static_cast<int64_t>(view.place[volume[s]]) * CHANNELS + places.begin[s];
      const int64_t x = places.x[s], y = places.y[s], z = places.z[s];
      begin[s] = first;
      for (const Voxel* at : {first, first + x, first + y, first + x + y}) {
        __builtin_prefetch(at);
        __builtin_prefetch(at + z);
      }
    }
  }

  Corners<Voxel> corners(int s) const {
    return {begin[s], places.x[s], places.y[s], places.z[s], places.fx[s], places.fy[s], places.fz[s]};
  }
};

// A volume that a pixel's ray crosses
struct Crossing {
  int32_t first, last;       // range on the lattice
  int32_t place, volume;     // place: of the volume's first cell in the table
  float start[3], slope[3];  // voxel coordinates at depth 0, and gained with each metre
};
constexpr int CROSSING = sizeof(Crossing) / sizeof(float);

// A row of pixels, and the volumes that each one's ray crosses
class Row {
 public:
  int begin = 0, end = -1;  // the first and the last column that may see a volume

  explicit Row(const Problem& q) : room(q.volumes + 1), crossings(room * q.width) {
    for (auto* each : {&counts, &firsts, &lasts}) each->resize(q.width + LANES);
  }

  template <typename Cells>
  void fill_in(const View<Cells>& view, int y) {
    const Problem& q = view.q;
    const int32_t* boxes = q.boxes + view.image * q.volumes * 4;
    const int64_t* rows = q.volume + view.image * q.volumes;
    begin = static_cast<int>(q.width), end = -1;
    std::fill(counts.begin(), counts.end(), 0);
    std::fill(firsts.begin(), firsts.end(), INT32_MAX);
    std::fill(lasts.begin(), lasts.end(), -1);
    for (int k = 0; k < q.volumes; k++) {
      const int32_t* box = boxes + k * 4;
      if (y < box[2] || y > box[3] || box[0] > box[1]) continue;
      begin = std::min(begin, box[0]);
      end = std::max(end, box[1]);
      slabs(q, view.M + k * 9, view.C + k * 3, q.low + rows[k] * 3, q.high + rows[k] * 3, y, box[0], box[1], k,
            view.place[k]);
    }
  }

  int count(int x) const { return counts[x]; }
  int32_t first(int x) const { return firsts[x]; }  // step of the lattice that may meet a volume
  int32_t last(int x) const { return lasts[x]; }
  const Crossing* at(int x) const { return &crossings[x * room]; }

 private:
  int64_t room;  // of each column: all volumes, and one more, since columns a power of two apart share a cache's lines
  std::vector<Crossing> crossings;
  std::vector<int32_t> counts, firsts, lasts;

  // Adds a volume to the columns that see it, by slabs of the box around its occupied cells: eight columns at a time
  void slabs(const Problem& q, const float* m, const float* c, const float* low, const float* high, int y, int x0,
             int x1, int volume, int32_t place) {
    const float width = static_cast<float>(q.width), v = (static_cast<float>(y) + 0.5f) / width - 0.5f;
    const float per_step = 1.0f / q.step;
    for (int x = x0; x <= x1; x += LANES) {
      const i8 column = fill(x) + EIGHT;
      const v8 u = (to_float(column) + 0.5f) / width - 0.5f;
      v8 near = fill(q.near), far = fill(3e38f);
      float slopes[3][LANES];
      for (int i = 0; i < 3; i++) {
        v8 slope = fused(fill(m[3 * i]), u, fused(fill(m[3 * i + 1]), fill(v), fill(m[3 * i + 2])));
        slope = magnitude(slope) < 1e-9f ? fill(1e-9f) : slope;
        const v8 inverse = 1.0f / slope, ta = (low[i] - c[i]) * inverse, tb = (high[i] - c[i]) * inverse;
        const v8 lower = ta < tb ? ta : tb, upper = ta < tb ? tb : ta;
        near = near > lower ? near : lower;
        far = far < upper ? far : upper;
        store(slopes[i], per_metre(fill(m[3 * i]), fill(m[3 * i + 1]), fill(m[3 * i + 2]), u, v));
      }
      v8 phase;
      for (int i = 0; i < LANES; i++) phase[i] = phase_of(x + i, y);
      const v8 nearest = at_most(ceil8(fused(near, fill(per_step), -phase)), 1e9f);
      const v8 last = floor8(fused(far, fill(per_step), -phase));
      const v8 farthest = at_least(at_most(last, nearest + (MAX_STEPS - 1)), -1.0f);
      const i8 a = to_int(nearest), b = to_int(farthest);
      const i8 there = (a <= b) & (column <= x1), least = load(&firsts[x]), most = load(&lasts[x]);
      store(&firsts[x], (there & (a < least)) ? a : least);
      store(&lasts[x], (there & (b > most)) ? b : most);
      int32_t from[LANES], to[LANES];
      store(from, a);
      store(to, b);
      for (unsigned met = mask_of(there); met; met &= met - 1) {
        const int i = __builtin_ctz(met);
        crossings[(x + i) * room + counts[x + i]++] = {from[i], to[i], place, volume, {c[0], c[1], c[2]},
                                                       {slopes[0][i], slopes[1][i], slopes[2][i]}};
      }
    }
  }
};

// Of eight bytes the first bits, then the second, ...: rows of bits become columns, the lowest first
inline uint64_t transposed(uint64_t m) {
  uint64_t t = (m ^ (m >> 7)) & 0x00AA00AA00AA00AAull;
  m ^= t ^ (t << 7);
  t = (m ^ (m >> 14)) & 0x0000CCCC0000CCCCull;
  m ^= t ^ (t << 14);
  t = (m ^ (m >> 28)) & 0x00000000F0F0F0F0ull;
  return m ^ t ^ (t << 28);
}

// A ray on its way along the lattice. Whoever has composited the samples of a search says whether it goes on.
template <typename Cells>
struct Walk {
  int x = -1;  // column
  Ray ray;
  Samples<Cells> samples;  // up to eight, in order: what was found last

  void begin(const Row& row, const View<Cells>& view, int column, int y) {
    x = column;
    ray = ray_of(view.q, view.image, x, y);
    crossings = row.at(x);
    count = row.count(x);
    groups = (count + LANES - 1) / LANES;
    step = row.first(x), end = std::min(row.last(x), step + MAX_SPAN);
    meet(view.q);
  }

  // Walks until eight samples are found, or those that are left where the ray ends. Returns whether there are any.
  // on: whether it may go to another step than that of the last sample that it gave.
  bool search(const View<Cells>& view, bool on) {
    if (!on && !(from < to && lattice[from] == samples.lattice[samples.count - 1])) return false;
    while (to - from < LANES && on && step <= end) go();
    if (from == to) return false;
    take(view);
    return true;
  }

 private:
  const Crossing* crossings = nullptr;
  int count = 0, groups = 0;               // of the crossings, and of eight of them
  int32_t step = 0, end = -1;              // the next one, and the last
  std::vector<uint8_t> met;                // (steps / 8,groups,8) a byte for eight steps of a crossing, a bit each
  uint8_t* next = nullptr;                 // the bytes of the steps to come
  std::vector<uint64_t> words;             // (groups) the same for the steps that it is at, a byte for each step
  std::vector<int32_t> lattice, crossing;  // of the samples that wait: from `from` to before `to`
  int from = 0, to = 0;

  // Which steps meet each volume: eight steps at once
  void meet(const Problem& q) {
    const int32_t n = static_cast<int32_t>(q.resolution);
    const size_t line = groups * LANES, bytes = ((end - step) / LANES + 2) * line, waiting = (line + 2) * LANES;
    if (met.size() < bytes) met.resize(bytes);
    if (lattice.size() < waiting) lattice.resize(waiting), crossing.resize(waiting), words.resize(groups);
    next = met.data(), from = to = 0;
    std::fill_n(next, bytes, uint8_t{0});
    for (int j = 0; j < count; j++) {
      const Crossing& of = crossings[j];
      for (int32_t l = of.first, last = std::min(of.last, end); l <= last; l += LANES) {
        const i8 steps = fill(l) + EIGHT;
        const v8 depth = (to_float(steps) + ray.phase) * q.step;
        i8 cell[3];
        for (int d = 0; d < 3; d++) cell[d] = cells_at(fused(depth, fill(of.slope[d]), fill(of.start[d])), n);
        const unsigned full = bits_at(q.occupied, of.place + (cell[0] * n + cell[1]) * n + cell[2]);
        const unsigned at = l - step, bits = (mask_of(steps <= last) & full) << at % LANES;
        uint8_t* const byte = next + at / LANES * line + j;
        byte[0] |= static_cast<uint8_t>(bits);
        byte[line] |= static_cast<uint8_t>(bits >> LANES);
      }
    }
  }

  // Eight steps on: what they meet, in their order
  void go() {
    int32_t *const steps = lattice.data(), *const volumes = crossing.data();
    store(steps, load(steps + from));
    store(volumes, load(volumes + from));
    to -= from, from = 0;
    uint64_t* const eights = words.data();
    for (int g = 0; g < groups; g++, next += LANES) {
      uint64_t eight = 0;
      for (int i = 0; i < LANES; i++) eight |= static_cast<uint64_t>(next[i]) << (i * LANES);
      eights[g] = transposed(eight);
    }
    int count = to;
    const auto append = [&](int s, int g) {  // without a branch, which would be guessed wrong half of the time
      const unsigned lanes = eights[g] >> (s * LANES) & 255;
      store(volumes + count, lanes_of(lanes) + g * LANES);
      store(steps + count, fill(step + s));
      count += __builtin_popcount(lanes);
    };
    if (groups == 1) {
#pragma GCC unroll 8
      for (int s = 0; s < LANES; s++) append(s, 0);
    } else {
      for (int s = 0; s < LANES; s++)
        for (int g = 0; g < groups; g++) append(s, g);
    }
    to = count;
    step += LANES;
  }

  void take(const View<Cells>& view) {  // the first of those that wait
    samples.count = std::min(to - from, LANES);
    const i8 of = load(&crossing[from]) * CROSSING, at = load(&lattice[from]);
    const v8 depth = (to_float(at) + ray.phase) * view.q.step;
    v8 g[3];
    for (int d = 0; d < 3; d++) {
      g[d] = fused(depth, values_at(&crossings->slope[d], of), values_at(&crossings->start[d], of));
    }
    store(samples.lattice, at);
    store(samples.volume, values_at(&crossings->volume, of));
    samples.place(view, g);
    from += samples.count;
  }
};

}  // namespace
