// March, interpolation, shading, compositing and their derivatives for bone volumes, fused: one pass over the rays.
// The same mathematics as field.py, march.py, appearance.py and composite.py, which are the reference.
//
// A voxel is eight floats, one vector register. Samples lie on a lattice in depth, so that walking the lattice visits
// the samples of all volumes in order: nothing is stored, sorted or pruned. The forward pass notes the samples it
// composited (lattice index and volume); the backward pass visits those again.
//
// Images are spread over threads; each image is computed by one thread in a fixed order, so results do not depend on
// the number of threads (the table's derivative, summed over threads in order, depends on their number only).

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>
#include "field_voxels.h"

namespace {

inline v8 fill(float x) { return v8{x, x, x, x, x, x, x, x}; }

// exp, relative error under 2e-7 on [-87, 87] (range reduction by ln 2, then a polynomial of degree 6)
inline v8 exp8(v8 x) {
  x = x > 87.0f ? fill(87.0f) : x;
  x = x < -87.0f ? fill(-87.0f) : x;
  const v8 scaled = x * 1.44269504f;
  const i8 n = __builtin_convertvector(scaled + (scaled > 0.0f ? fill(0.5f) : fill(-0.5f)), i8);
  const v8 whole = __builtin_convertvector(n, v8);
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

inline float exp1(float x) {
  x = std::min(std::max(x, -87.0f), 87.0f);
  const float scaled = x * 1.44269504f;
  const int n = static_cast<int>(scaled + (scaled > 0 ? 0.5f : -0.5f));
  const float whole = static_cast<float>(n);
  const float r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  float p = r * 1.3888889e-3f + 8.3333333e-3f;
  p = p * r + 4.1666667e-2f;
  p = p * r + 1.6666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const int32_t bits = (n + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, 4);
  return p * scale;
}

// log(1 + y) for y in [0, 1], from the series of atanh
inline float log1p_unit(float y) {
  const float s = y / (2.0f + y), q = s * s;
  return 2.0f * s * (1.0f + q * (1.0f / 3 + q * (1.0f / 5 + q * (1.0f / 7 + q * (1.0f / 9 + q * (1.0f / 11))))));
}

struct Noted {  // a composited sample
  int32_t lattice;
  int32_t volume;
};

struct NotedRay {
  int32_t pixel;
  int32_t start;  // of its samples
};

struct Image {
  std::vector<Noted> samples;
  std::vector<NotedRay> rays;
};

struct Record {
  std::vector<Image> images;
};

}  // namespace

extern "C" {

// Mirrored by native.Problem; all pointers are to contiguous arrays.
struct Problem {
  int64_t batch, volumes, resolution, height, width, threads;
  float step, near, threshold;
  const float *M, *c, *light, *shade, *lens;  // (B,K,9) (B,K,3) (B,K,3) (B,2) (B,3)
  const int64_t* volume;                      // (B,K) row of the field's volumes
  const int32_t* boxes;                       // (B,K,4) first and last column, first and last row
  const float *table, *low, *high;            // (V*N^3,8) (V,3) (V,3)
  const uint8_t* occupied;                    // a bit a cell, (V*N^3/8,): as bytes they would fill a second-level cache
  float* out;                                 // (B,H*W,4), zeroed
  // backward only
  const float* grad_out;                                       // (B,H*W,4)
  float *grad_M, *grad_c, *grad_light, *grad_shade, *grad_lens;  // as their namesakes, zeroed
  float* grad_table;                                           // (T,V*N^3,8), zeroed, or null
  int64_t table_size;                                          // floats of one table
  // a frozen table as it is stored: value = code_low + code_scale * code; null if there are no codes
  const uint8_t* codes;                // (V*N^3,8)
  const float *code_low, *code_scale;  // (8,)
  // the same codes in blocks of 2 x 2 x 2 voxels, a cache line each; null where N is odd
  const uint8_t* blocks;  // (V,N/2,N/2,N/2,2,2,2,8)
};
}

namespace {

struct Segment {
  int volume;
  int first, last;
  float slope[3];
};

struct Values {
  float sigma, ambient_share, cosine, brightness, inverse_length;
  float albedo[3];
  float normal[3];
};

// Activations of the eight interpolated channels
inline void activate(const v8 f, const float* light, const float* shade, Values& v) {
  v8 x = -f;
  x[0] = -std::fabs(f[0]);
  const v8 e = exp8(x);
  v.sigma = DENSITY_SCALE * (std::max(f[0], 0.0f) + log1p_unit(e[0]));
  const v8 s = 1.0f / (1.0f + e);
  v.albedo[0] = s[1];
  v.albedo[1] = s[2];
  v.albedo[2] = s[3];
  v.ambient_share = s[7];
  v.inverse_length = 1.0f / std::sqrt(f[4] * f[4] + f[5] * f[5] + f[6] * f[6] + NORMAL_FLOOR);
  v.normal[0] = f[4] * v.inverse_length;
  v.normal[1] = f[5] * v.inverse_length;
  v.normal[2] = f[6] * v.inverse_length;
  v.cosine = v.normal[0] * light[0] + v.normal[1] * light[1] + v.normal[2] * light[2];
  v.brightness = shade[0] * v.ambient_share + shade[1] * std::max(v.cosine, 0.0f);
}

// The cell of a point and where in it the point is
inline void locate(const float* g, int n, int* cell, float* fraction) {
  for (int i = 0; i < 3; i++) {
    cell[i] = std::min(std::max(static_cast<int>(g[i]), 0), n - 2);
    fraction[i] = g[i] - static_cast<float>(cell[i]);
  }
}

inline int64_t index_of(int64_t volume, const int* cell, int64_t n) {
  return ((volume * n + cell[0]) * n + cell[1]) * n + cell[2];
}

inline float dot(const v8 a, const v8 b) {
  const v8 m = a * b;
  return ((m[0] + m[4]) + (m[2] + m[6])) + ((m[1] + m[5]) + (m[3] + m[7]));
}

struct Ray {
  float u, v, phase, length;
};

inline Ray ray_of(const Problem& q, int64_t image, int x, int y) {
  Ray ray;
  const float width = static_cast<float>(q.width);
  ray.u = (static_cast<float>(x) + 0.5f) / width - 0.5f;
  ray.v = (static_cast<float>(y) + 0.5f) / width - 0.5f;
  ray.phase = (static_cast<float>(DITHER[y & 3][x & 3]) + 0.5f) / 16;
  const float *lens = q.lens + image * 3, du = ray.u - lens[1], dv = ray.v - lens[2];
  ray.length = std::sqrt(1 + lens[0] * (du * du + dv * dv));
  return ray;
}

// Buffers of one thread
struct Scratch {
  std::vector<int32_t> first, last;  // (K,W) lattice range of each volume along a row of pixels
  std::vector<float> near, far;      // (W)
  std::vector<int> active;
  std::vector<Segment> segments;
  explicit Scratch(const Problem& q)
      : first(q.volumes * q.width), last(q.volumes * q.width), near(q.width), far(q.width), active(q.volumes),
        segments(q.volumes) {}
};

// Lattice ranges of volume k along a row, by slabs of the box around its occupied cells; vectorised over columns
void slabs(const Problem& q, const float* m, const float* c, const float* low, const float* high, int y, int x0, int x1,
           int32_t* first, int32_t* last, Scratch& s) {
  const float width = static_cast<float>(q.width), v = (static_cast<float>(y) + 0.5f) / width - 0.5f;
  float *near = s.near.data(), *far = s.far.data();
  for (int x = x0; x <= x1; x++) {
    near[x] = q.near;
    far[x] = 3e38f;
  }
  for (int i = 0; i < 3; i++) {
    const float across = m[3 * i], start = m[3 * i + 1] * v + m[3 * i + 2], a = low[i] - c[i], b = high[i] - c[i];
    for (int x = x0; x <= x1; x++) {
      float slope = across * ((static_cast<float>(x) + 0.5f) / width - 0.5f) + start;
      slope = std::fabs(slope) < 1e-9f ? 1e-9f : slope;
      const float inverse = 1.0f / slope, ta = a * inverse, tb = b * inverse;
      const float lower = ta < tb ? ta : tb, upper = ta < tb ? tb : ta;
      near[x] = near[x] > lower ? near[x] : lower;
      far[x] = far[x] < upper ? far[x] : upper;
    }
  }
  const float per_step = 1.0f / q.step;
  for (int x = x0; x <= x1; x++) {
    const float phase = (static_cast<float>(DITHER[y & 3][x & 3]) + 0.5f) / 16;
    float a = std::ceil(near[x] * per_step - phase), b = std::floor(far[x] * per_step - phase);
    a = a < 1e9f ? a : 1e9f;
    b = b < a + (MAX_STEPS - 1) ? b : a + (MAX_STEPS - 1);
    b = b > -1.0f ? b : -1.0f;
    first[x] = static_cast<int32_t>(a);
    last[x] = static_cast<int32_t>(b);
  }
}

// Voxel is float, or uint8_t for codes: a quarter of the memory to wait for. Codes are interpolated and then decoded,
// which is the same by linearity.
template <typename Cells>
void forward_image(const Problem& q, const Cells& cells, int64_t image, Image* noted, Scratch& s) {
  const v8 code_low = q.codes ? load(q.code_low) : fill(0), code_scale = q.codes ? load(q.code_scale) : fill(1);
  const int n = static_cast<int>(q.resolution), volumes = static_cast<int>(q.volumes);
  const int width = static_cast<int>(q.width);
  const int32_t* boxes = q.boxes + image * volumes * 4;
  const float *M = q.M + image * volumes * 9, *C = q.c + image * volumes * 3, *light = q.light + image * volumes * 3;
  const int64_t* row_of = q.volume + image * volumes;
  for (int y = 0; y < q.height; y++) {
    int active = 0, begin = width, end = -1;
    for (int k = 0; k < volumes; k++) {
      const int32_t* box = boxes + k * 4;
      if (y < box[2] || y > box[3] || box[0] > box[1]) continue;
      s.active[active++] = k;
      begin = std::min(begin, box[0]);
      end = std::max(end, box[1]);
      slabs(q, M + k * 9, C + k * 3, q.low + row_of[k] * 3, q.high + row_of[k] * 3, y, box[0], box[1],
            s.first.data() + static_cast<int64_t>(k) * width, s.last.data() + static_cast<int64_t>(k) * width, s);
    }
    for (int x = begin; x <= end; x++) {
      int count = 0, first = INT32_MAX, last = -1;
      const Ray ray = ray_of(q, image, x, y);
      for (int j = 0; j < active; j++) {
        const int k = s.active[j];
        if (x < boxes[k * 4] || x > boxes[k * 4 + 1]) continue;
        const int a = s.first[static_cast<int64_t>(k) * width + x], b = s.last[static_cast<int64_t>(k) * width + x];
        if (a > b) continue;
        Segment& segment = s.segments[count++];
        segment.volume = k;
        segment.first = a;
        segment.last = b;
        const float* m = M + k * 9;
        for (int i = 0; i < 3; i++) segment.slope[i] = m[3 * i] * ray.u + m[3 * i + 1] * ray.v + m[3 * i + 2];
        first = std::min(first, a);
        last = std::max(last, b);
      }
      if (count == 0) continue;
      const float length = q.step * ray.length;
      float left = 1, sum[4] = {0, 0, 0, 0};
      bool any = false;
      for (int l = first; l <= last && left > q.threshold; l++) {
        const float depth = (static_cast<float>(l) + ray.phase) * q.step;
        for (int j = 0; j < count; j++) {
          const Segment& segment = s.segments[j];
          if (l < segment.first || l > segment.last) continue;
          const float* c = C + segment.volume * 3;
          const float g[3] = {c[0] + depth * segment.slope[0], c[1] + depth * segment.slope[1],
                              c[2] + depth * segment.slope[2]};
          float fraction[3];
          int cell[3];
          locate(g, n, cell, fraction);
          const int64_t volume = row_of[segment.volume], bit = index_of(volume, cell, n);
          if (!(q.occupied[bit >> 3] >> (bit & 7) & 1)) continue;
          Values v;
          const v8 f = interpolate(cells.corners(volume, cell), fraction) * code_scale + code_low;
          activate(f, light + segment.volume * 3, q.shade + image * 2, v);
          const float through = exp1(-v.sigma * length), weight = left * (1 - through);
          for (int i = 0; i < 3; i++) sum[i] += weight * v.albedo[i] * v.brightness;
          sum[3] += weight;
          left *= through;
          if (noted) {
            if (!any) noted->rays.push_back({y * width + x, static_cast<int32_t>(noted->samples.size())});
            noted->samples.push_back({l, segment.volume});
          }
          any = true;
        }
      }
      if (any) std::memcpy(q.out + (image * q.height * q.width + y * width + x) * 4, sum, sizeof sum);
    }
  }
}

template <typename Cells>
void backward_image(const Problem& q, const Cells& cells, int64_t image, const Image& noted, float* grad_table) {
  const v8 code_low = q.codes ? load(q.code_low) : fill(0), code_scale = q.codes ? load(q.code_scale) : fill(1);
  const int n = static_cast<int>(q.resolution), volumes = static_cast<int>(q.volumes);
  const int width = static_cast<int>(q.width);
  const float *M = q.M + image * volumes * 9, *C = q.c + image * volumes * 3, *light = q.light + image * volumes * 3;
  const float *shade = q.shade + image * 2, *lens = q.lens + image * 3;
  const int64_t* row_of = q.volume + image * volumes;
  std::vector<double> sum_M(volumes * 9, 0.0), sum_c(volumes * 3, 0.0), sum_light(volumes * 3, 0.0);
  double sum_shade[2] = {0, 0}, sum_lens[3] = {0, 0, 0};
  const size_t rays = noted.rays.size();
  for (size_t r = 0; r < rays; r++) {
    const int pixel = noted.rays[r].pixel;
    const size_t start = noted.rays[r].start;
    const size_t stop = r + 1 < rays ? static_cast<size_t>(noted.rays[r + 1].start) : noted.samples.size();
    const float* go = q.grad_out + (image * q.height * q.width + pixel) * 4;
    if (go[0] == 0 && go[1] == 0 && go[2] == 0 && go[3] == 0) continue;
    const float* total = q.out + (image * q.height * q.width + pixel) * 4;
    const Ray ray = ray_of(q, image, pixel % width, pixel / width);
    const float length = q.step * ray.length;
    float left = 1, done[4] = {0, 0, 0, 0}, grad_length = 0;
    for (size_t i = start; i < stop; i++) {
      const int k = noted.samples[i].volume;
      const float depth = (static_cast<float>(noted.samples[i].lattice) + ray.phase) * q.step;
      const float *m = M + k * 9, *c = C + k * 3;
      float g[3], fraction[3];
      for (int d = 0; d < 3; d++) g[d] = c[d] + depth * (m[3 * d] * ray.u + m[3 * d + 1] * ray.v + m[3 * d + 2]);
      int cell[3];
      locate(g, n, cell, fraction);
      v8 slope[3];
      const v8 f = interpolate(cells.corners(row_of[k], cell), fraction, slope) * code_scale + code_low;
      Values v;
      activate(f, light + k * 3, shade, v);
      const float through = exp1(-v.sigma * length), weight = left * (1 - through);
      left *= through;

      // out = sum_j w_j c_j: the optical depth of a sample adds its own colour and dims all behind it
      float grad_optical = 0, grad_brightness = 0;
      v8 grad_f = fill(0);
      for (int d = 0; d < 3; d++) {
        const float colour = v.albedo[d] * v.brightness;
        done[d] += weight * colour;
        grad_optical += go[d] * (left * colour - (total[d] - done[d]));
        grad_brightness += go[d] * v.albedo[d];
        grad_f[1 + d] = go[d] * weight * v.brightness * v.albedo[d] * (1 - v.albedo[d]);
      }
      done[3] += weight;
      grad_optical += go[3] * (left - (total[3] - done[3]));
      grad_length += grad_optical * v.sigma;
      // the logistic function is 1 - exp(-softplus)
      grad_f[0] = grad_optical * length * DENSITY_SCALE * (1 - exp1(-v.sigma / DENSITY_SCALE));
      grad_brightness *= weight;
      grad_f[7] = grad_brightness * shade[0] * v.ambient_share * (1 - v.ambient_share);
      sum_shade[0] += grad_brightness * v.ambient_share;
      if (v.cosine > 0) {
        sum_shade[1] += grad_brightness * v.cosine;
        const float scale = grad_brightness * shade[1];
        for (int d = 0; d < 3; d++) {
          sum_light[k * 3 + d] += scale * v.normal[d];
          grad_f[4 + d] = scale * (light[k * 3 + d] - v.cosine * v.normal[d]) * v.inverse_length;
        }
      }
      for (int d = 0; d < 3; d++) {
        const float grad_g = dot(grad_f * code_scale, slope[d]), deep = grad_g * depth;
        sum_c[k * 3 + d] += grad_g;
        sum_M[k * 9 + 3 * d] += deep * ray.u;
        sum_M[k * 9 + 3 * d + 1] += deep * ray.v;
        sum_M[k * 9 + 3 * d + 2] += deep;
      }
      if (grad_table) {
        float* p = grad_table + index_of(row_of[k], cell, n) * CHANNELS;
        const int64_t across[8] = {0, 1, n, n + 1, static_cast<int64_t>(n) * n, static_cast<int64_t>(n) * n + 1,
                                   static_cast<int64_t>(n) * n + n, static_cast<int64_t>(n) * n + n + 1};
        for (int corner = 0; corner < 8; corner++) {
          const float w = (corner & 4 ? fraction[0] : 1 - fraction[0]) * (corner & 2 ? fraction[1] : 1 - fraction[1]) *
                          (corner & 1 ? fraction[2] : 1 - fraction[2]);
          v8* voxel = reinterpret_cast<v8*>(p + across[corner] * CHANNELS);
          *voxel = *voxel + grad_f * w;
        }
      }
    }
    const float du = ray.u - lens[1], dv = ray.v - lens[2], scale = grad_length * q.step / ray.length;
    sum_lens[0] += scale * 0.5f * (du * du + dv * dv);
    sum_lens[1] -= scale * lens[0] * du;
    sum_lens[2] -= scale * lens[0] * dv;
  }
  for (int i = 0; i < volumes * 9; i++) q.grad_M[image * volumes * 9 + i] = static_cast<float>(sum_M[i]);
  for (int i = 0; i < volumes * 3; i++) q.grad_c[image * volumes * 3 + i] = static_cast<float>(sum_c[i]);
  for (int i = 0; i < volumes * 3; i++) q.grad_light[image * volumes * 3 + i] = static_cast<float>(sum_light[i]);
  for (int i = 0; i < 2; i++) q.grad_shade[image * 2 + i] = static_cast<float>(sum_shade[i]);
  for (int i = 0; i < 3; i++) q.grad_lens[image * 3 + i] = static_cast<float>(sum_lens[i]);
}

// Calls work with the form of the voxels that is read with the least waiting
template <typename Work>
void with_cells(const Problem& q, Work work) {
  if (q.blocks) {
    work(Blocks(q.blocks, q.resolution));
  } else if (q.codes) {
    work(Grid<uint8_t>(q.codes, q.resolution));
  } else {
    work(Grid<float>(q.table, q.resolution));
  }
}

template <typename Work>
void spread(int64_t threads, Work work) {
  std::vector<std::thread> others;
  for (int64_t t = 1; t < threads; t++) others.emplace_back(work, t);
  work(0);
  for (auto& other : others) other.join();
}

}  // namespace

extern "C" {

int64_t posegen_problem_size() { return sizeof(Problem); }

// Returns a record for the backward pass (to be given to posegen_free), or null if none is wanted.
void* posegen_forward(const Problem* q, int wanted) {
  Record* record = wanted ? new Record : nullptr;
  if (record) record->images.resize(q->batch);
  std::atomic<int64_t> next(0);
  spread(std::max<int64_t>(1, std::min(q->threads, q->batch)), [&](int64_t) {
    Scratch scratch(*q);
    for (int64_t i = next++; i < q->batch; i = next++) {
      Image* noted = record ? &record->images[i] : nullptr;
      with_cells(*q, [&](const auto& cells) { forward_image(*q, cells, i, noted, scratch); });
    }
  });
  return record;
}

void posegen_backward(const Problem* q, const void* record) {
  const Record& noted = *static_cast<const Record*>(record);
  const int64_t threads = std::max<int64_t>(1, std::min(q->threads, q->batch));
  if (!q->grad_table) {
    std::atomic<int64_t> next(0);
    spread(threads, [&](int64_t) {
      for (int64_t i = next++; i < q->batch; i = next++) {
        with_cells(*q, [&](const auto& cells) { backward_image(*q, cells, i, noted.images[i], nullptr); });
      }
    });
    return;
  }
  spread(threads, [&](int64_t t) {  // a fixed share each, so that the sums are always the same
    for (int64_t i = t; i < q->batch; i += threads)
      backward_image(*q, Grid<float>(q->table, q->resolution), i, noted.images[i], q->grad_table + t * q->table_size);
  });
}

int64_t posegen_samples(const void* record) {
  int64_t count = 0;
  for (const Image& image : static_cast<const Record*>(record)->images) count += image.samples.size();
  return count;
}

void posegen_free(void* record) { delete static_cast<Record*>(record); }
}
