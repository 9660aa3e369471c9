// March, interpolation, shading, compositing and their derivatives for bone volumes, fused: one pass over the rays.
// The same mathematics as field.py, march.py, appearance.py and composite.py, which are the reference.
//
// A voxel is eight floats, one vector register. Samples lie on a lattice in depth, so that walking the lattice visits
// the samples of all volumes in order: nothing is sorted or pruned. Eight volumes are asked at once whether a step meets
// them; samples wait until there are eight, which are read one by one and shaded together, a lane each. The forward pass
// notes the samples it composited (lattice index and volume); the backward pass visits those again, eight by eight.
//
// Images are spread over threads; each image is computed by one thread in a fixed order, so results do not depend on
// the number of threads (the table's derivative, summed over threads in order, depends on their number only).

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <thread>
#include <vector>
#include "field_problem.h"
#include "field_shading.h"
#include "field_voxels.h"

namespace {

constexpr int MAX_STEPS = 4096;
constexpr int DITHER[4][4] = {{0, 8, 2, 10}, {12, 4, 14, 6}, {3, 11, 1, 9}, {15, 7, 13, 5}};

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

// The cells along one axis that hold eight voxel coordinates; the first or the last of those beyond
inline i8 cells_at(v8 g, int64_t n) { return to_int(at_most(at_least(g, 0.0f), static_cast<float>(n - 2))); }

// Eight samples of a ray, and where they lie in their volumes
struct Samples {
  int32_t lattice[LANES], volume[LANES];  // volume: among the image's
  Places places;

  template <typename Cells>
  void place(const Cells& cells, const v8* g) {  // by their voxel coordinates
    i8 cell[3];
    float* const fractions[3] = {places.fx, places.fy, places.fz};
    for (int d = 0; d < 3; d++) {
      cell[d] = cells_at(g[d], cells.n);
      store(fractions[d], g[d] - to_float(cell[d]));
    }
    cells.places(cell, places);
  }
};

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

// Voxel coordinates that a ray gains with each metre of depth, from eight rows of M
inline v8 per_metre(const float* m, i8 row, const Ray& ray) {
  return fused(values_at(m, row), fill(ray.u), values_at(m + 1, row) * ray.v) + values_at(m + 2, row);
}

// The volumes that a ray crosses. Eight of them are looked at together: what is after the last one is met by no step
struct Segments {
  int count = 0;
  std::vector<int32_t> volume, first, last, place;  // place: of the volume's first cell among the flags
  std::vector<float> start[3], slope[3];            // voxel coordinates at depth 0 and for each metre
  explicit Segments(int64_t volumes) {
    const size_t room = volumes + LANES;
    for (auto* each : {&volume, &first, &last, &place}) each->resize(room);
    for (int d = 0; d < 3; d++) start[d].resize(room), slope[d].resize(room);
  }
};

// Buffers of one thread
struct Scratch {
  int64_t row, room;                         // a row's pixels, all volumes, each and seven more
  std::vector<int32_t> first, last;          // (K,row) lattice range of each volume along a row of pixels
  std::vector<int32_t> place;                // (K) of each volume's first cell among the flags
  std::vector<int32_t> crossing, crossings;  // (W,room) the volumes that a pixel of the row sees, and their number (W)
  Segments segments;
  explicit Scratch(const Problem& q)
      : row(q.width + LANES), room(q.volumes + LANES), first(q.volumes * row), last(q.volumes * row), place(q.volumes),
        crossing(room * q.width), crossings(q.width), segments(q.volumes) {}
};

// Lattice ranges of a volume along a row, by slabs of the box around its occupied cells: eight columns at a time, up to
// seven beyond the last one
void slabs(const Problem& q, const float* m, const float* c, const float* low, const float* high, int y, int x0, int x1,
           int32_t* first, int32_t* last) {
  const float width = static_cast<float>(q.width), v = (static_cast<float>(y) + 0.5f) / width - 0.5f;
  const float per_step = 1.0f / q.step;
  for (int x = x0; x <= x1; x += LANES) {
    const i8 column = fill(x) + EIGHT;
    const v8 u = (to_float(column) + 0.5f) / width - 0.5f;
    v8 near = fill(q.near), far = fill(3e38f);
    for (int i = 0; i < 3; i++) {
      v8 slope = m[3 * i] * u + (m[3 * i + 1] * v + m[3 * i + 2]);
      slope = magnitude(slope) < 1e-9f ? fill(1e-9f) : slope;
      const v8 inverse = 1.0f / slope, ta = (low[i] - c[i]) * inverse, tb = (high[i] - c[i]) * inverse;
      const v8 lower = ta < tb ? ta : tb, upper = ta < tb ? tb : ta;
      near = near > lower ? near : lower;
      far = far < upper ? far : upper;
    }
    v8 phase;
    for (int i = 0; i < LANES; i++) phase[i] = phase_of(x + i, y);
    const v8 a = at_most(ceil8(near * per_step - phase), 1e9f);
    const v8 b = at_least(at_most(floor8(far * per_step - phase), a + (MAX_STEPS - 1)), -1.0f);
    store(first + x, to_int(a));
    store(last + x, to_int(b));
  }
}

// What does not change within an image. Cells read float voxels, or codes: a quarter of the memory to wait for. Codes
// are interpolated and then decoded, which is the same by linearity.
template <typename Cells>
struct View {
  const Problem& q;
  const Cells& cells;
  const int64_t image;
  const float *M, *C, *light, *shade;
  const int64_t* row_of;
  float low[CHANNELS], scale[CHANNELS];  // of the codes

  View(const Problem& q, const Cells& cells, int64_t image)
      : q(q), cells(cells), image(image), M(q.M + image * q.volumes * 9), C(q.c + image * q.volumes * 3),
        light(q.light + image * q.volumes * 3), shade(q.shade + image * 2), row_of(q.volume + image * q.volumes) {
    for (int i = 0; i < CHANNELS; i++) low[i] = q.codes ? q.code_low[i] : 0, scale[i] = q.codes ? q.code_scale[i] : 1;
  }

  Corners<typename Cells::Voxel> corners(const Samples& of, int s) const {
    const Places& at = of.places;
    return {cells.volume(row_of[of.volume[s]]) + at.begin[s], at.x[s], at.y[s], at.z[s],
            at.fx[s], at.fy[s], at.fz[s]};
  }

  // Channels of `count` samples, a row each -> their meaning, a lane each. The rows become columns.
  Values meaning(v8* f, const Samples& samples, int count, v8* towards) const {
    float along[3][LANES] = {};
    for (int s = 0; s < count; s++)
      for (int d = 0; d < 3; d++) along[d][s] = light[samples.volume[s] * 3 + d];
    for (int d = 0; d < 3; d++) towards[d] = load(along[d]);
    for (int s = count; s < LANES; s++) f[s] = fill(0.0f);
    transpose(f);
    for (int i = 0; i < CHANNELS; i++) f[i] = f[i] * scale[i] + low[i];
    return activate(f, towards, shade);
  }
};

// What a ray has gathered on its way
struct Gathered {
  float left = 1;
  int32_t lattice = -1;  // of the last sample
  v8 sum[4] = {fill(0.0f), fill(0.0f), fill(0.0f), fill(0.0f)};
};

// Composites up to eight samples, in order. Returns how many came before the light was gone: it is asked for at each
// step of the lattice.
template <typename Cells>
int composite(const View<Cells>& view, const Samples& samples, int count, float length, Gathered& ray) {
  v8 f[LANES], towards[3];
  for (int s = 0; s < count; s++) f[s] = interpolate(view.corners(samples, s));
  const Values v = view.meaning(f, samples, count, towards);
  float through[LANES], weight[LANES] = {};
  store(through, exp8(-v.sigma * length));
  int s = 0;
  for (; s < count; s++) {
    if (samples.lattice[s] != ray.lattice && !(ray.left > view.q.threshold)) break;
    ray.lattice = samples.lattice[s];
    weight[s] = ray.left * (1 - through[s]);
    ray.left *= through[s];
  }
  const v8 share = load(weight);
  for (int d = 0; d < 3; d++) ray.sum[d] += share * v.albedo[d] * v.brightness;
  ray.sum[3] += share;
  return s;
}

template <typename Cells>
void forward_image(const Problem& q, const Cells& cells, int64_t image, Image* noted, Scratch& s) {
  const View<Cells> view(q, cells, image);
  const int n = static_cast<int>(q.resolution), volumes = static_cast<int>(q.volumes);
  const int width = static_cast<int>(q.width);
  const int32_t* boxes = q.boxes + image * volumes * 4;
  Segments& segments = s.segments;
  for (int k = 0; k < volumes; k++) s.place[k] = static_cast<int32_t>(view.row_of[k] * n * n * n);
  for (int y = 0; y < q.height; y++) {
    int begin = width, end = -1;
    std::fill(s.crossings.begin(), s.crossings.end(), 0);
    for (int k = 0; k < volumes; k++) {
      const int32_t* box = boxes + k * 4;
      if (y < box[2] || y > box[3] || box[0] > box[1]) continue;
      begin = std::min(begin, box[0]);
      end = std::max(end, box[1]);
      int32_t *firsts = &s.first[k * s.row], *lasts = &s.last[k * s.row];
      slabs(q, view.M + k * 9, view.C + k * 3, q.low + view.row_of[k] * 3, q.high + view.row_of[k] * 3, y, box[0],
            box[1], firsts, lasts);
      for (int x = box[0]; x <= box[1]; x++) {
        s.crossing[static_cast<int64_t>(x) * s.room + s.crossings[x]] = k;
        s.crossings[x] += firsts[x] <= lasts[x];
      }
    }
    for (int x = begin; x <= end; x++) {
      segments.count = s.crossings[x];
      if (segments.count == 0) continue;
      const Ray ray = ray_of(q, image, x, y);
      i8 first = fill(INT32_MAX), last = fill(-1);
      for (int j = 0; j < segments.count; j += LANES) {
        const i8 k = load(&s.crossing[static_cast<int64_t>(x) * s.room + j]);
        const i8 there = fill(j) + EIGHT < segments.count, at = k * static_cast<int32_t>(s.row) + x;
        const i8 a = there ? values_at(s.first.data(), at) : fill(INT32_MAX);
        const i8 b = there ? values_at(s.last.data(), at) : fill(-1);
        first = first < a ? first : a;
        last = last > b ? last : b;
        store(&segments.volume[j], k);
        store(&segments.first[j], a);
        store(&segments.last[j], b);
        store(&segments.place[j], values_at(s.place.data(), k));
        for (int d = 0; d < 3; d++) {
          store(&segments.start[d][j], values_at(view.C + d, k * 3));
          store(&segments.slope[d][j], per_metre(view.M + 3 * d, k * 9, ray));
        }
      }
      const float length = q.step * ray.length;
      Gathered gathered;
      int32_t lattice[2 * LANES] = {}, segment[2 * LANES] = {};  // of the samples that wait
      int count = 0, done = 0;
      bool open = true;  // every sample so far was before the light was gone
      const auto take = [&] {  // the first of those that wait
        Samples samples;
        const int taken = std::min(count, LANES);
        const i8 of = load(segment);
        const v8 depth = (to_float(load(lattice)) + ray.phase) * q.step;
        v8 g[3];
        for (int d = 0; d < 3; d++)
          g[d] = fused(depth, values_at(segments.slope[d].data(), of), values_at(segments.start[d].data(), of));
        samples.place(cells, g);
        store(samples.lattice, load(lattice));
        store(samples.volume, values_at(segments.volume.data(), of));
        const int used = composite(view, samples, taken, length, gathered);
        if (noted) {
          if (done == 0) noted->rays.push_back({y * width + x, static_cast<int32_t>(noted->samples.size())});
          for (int i = 0; i < used; i++) noted->samples.push_back({samples.lattice[i], samples.volume[i]});
        }
        done += used;
        count -= taken;
        store(lattice, load(lattice + LANES));
        store(segment, load(segment + LANES));
        open = used == taken;
      };
      const int end_at = most(last);
      for (int l = least(first); l <= end_at && open && gathered.left > q.threshold; l++) {
        const float depth = (static_cast<float>(l) + ray.phase) * q.step;
        for (int j = 0; j < segments.count; j += LANES) {
          unsigned met = mask_of((load(&segments.first[j]) <= l) & (load(&segments.last[j]) >= l));
          if (!met) continue;
          i8 cell[3];
          for (int d = 0; d < 3; d++) {
            cell[d] = cells_at(fused(fill(depth), load(&segments.slope[d][j]), load(&segments.start[d][j])), n);
          }
          met &= bits_at(q.occupied, load(&segments.place[j]) + (cell[0] * n + cell[1]) * n + cell[2]);
          store(segment + count, lanes_of(met) + j);  // without a branch, which would be guessed wrong half of the time
          store(lattice + count, fill(l));
          count += __builtin_popcount(met);
          if (count >= LANES) take();
        }
      }
      if (count && open) take();
      if (!done) continue;
      float* out = q.out + (image * q.height * q.width + y * width + x) * 4;
      for (int d = 0; d < 4; d++) out[d] = sum(gathered.sum[d]);
    }
  }
}

// Sums over an image, for each of its volumes
struct alignas(32) VolumeSums {
  d4 axis[3];  // of each axis of M and c: to c, and to the three of M
  d4 light;
};

inline d4 wide(v4 x) { return __builtin_convertvector(x, d4); }

template <typename Cells>
void backward_image(const Problem& q, const Cells& cells, int64_t image, const Image& noted, float* grad_table) {
  const View<Cells> view(q, cells, image);
  const int n = static_cast<int>(q.resolution), volumes = static_cast<int>(q.volumes);
  const int width = static_cast<int>(q.width);
  const float *shade = view.shade, *lens = q.lens + image * 3;
  std::vector<VolumeSums> sums(volumes, VolumeSums{});
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
    float left = 1, behind = 0;  // light that is left, and what the samples behind add to the loss
    for (int d = 0; d < 4; d++) behind += go[d] * total[d];
    v8 grad_length = fill(0.0f), grad_ambient = fill(0.0f), grad_diffuse = fill(0.0f);
    for (size_t at = start; at < stop; at += LANES) {
      const int count = static_cast<int>(std::min<size_t>(LANES, stop - at));
      Samples samples;
      v4 basis[LANES];
      v8 f[LANES], slope[3][LANES], towards[3];
      for (int s = 0; s < LANES; s++) {  // the last one stands for those that are missing
        const Noted& sample = noted.samples[at + std::min(s, count - 1)];
        samples.lattice[s] = sample.lattice;
        samples.volume[s] = sample.volume;
      }
      const i8 volume = load(samples.volume);
      const v8 depth = (to_float(load(samples.lattice)) + ray.phase) * q.step;
      v8 g[3];
      for (int d = 0; d < 3; d++) {
        g[d] = fused(depth, per_metre(view.M + 3 * d, volume * 9, ray), values_at(view.C + d, volume * 3));
      }
      for (int s = 0; s < count; s++) basis[s] = v4{1, depth[s] * ray.u, depth[s] * ray.v, depth[s]};
      samples.place(cells, g);
      for (int s = 0; s < count; s++) {
        v8 rise[3];
        f[s] = interpolate(view.corners(samples, s), rise);
        for (int d = 0; d < 3; d++) slope[d][s] = rise[d];
      }
      const Values v = view.meaning(f, samples, count, towards);

      // out = sum_j w_j c_j: the optical depth of a sample adds its own colour and dims all behind it
      const v8 tinted = go[0] * v.albedo[0] + go[1] * v.albedo[1] + go[2] * v.albedo[2];
      const v8 worth = tinted * v.brightness + go[3];
      float through[LANES], value[LANES], weights[LANES] = {}, optical[LANES] = {};
      store(through, exp8(-v.sigma * length));
      store(value, worth);
      for (int s = 0; s < count; s++) {
        weights[s] = left * (1 - through[s]);
        left *= through[s];
        behind -= weights[s] * value[s];
        optical[s] = left * value[s] - behind;
      }
      const v8 weight = load(weights), grad_optical = load(optical), grad_brightness = weight * tinted;
      const v8 lit = v.cosine > 0.0f ? grad_brightness : fill(0.0f), turned = lit * shade[1];
      grad_length += grad_optical * v.sigma;
      grad_ambient += grad_brightness * v.ambient_share;
      grad_diffuse += lit * v.cosine;
      v8 grad_f[LANES];
      grad_f[0] = grad_optical * (length * DENSITY_SCALE) * v.rise;
      for (int d = 0; d < 3; d++) {
        grad_f[1 + d] = go[d] * weight * v.brightness * v.albedo[d] * (1 - v.albedo[d]);
        grad_f[4 + d] = turned * (towards[d] - v.cosine * v.normal[d]) * v.inverse_length;
      }
      grad_f[7] = grad_brightness * shade[0] * v.ambient_share * (1 - v.ambient_share);
      float grad_light[3][LANES], grad_g[3][LANES];
      for (int d = 0; d < 3; d++) store(grad_light[d], turned * v.normal[d]);
      transpose(grad_f);  // a row a sample again
      const v8 scale = load(view.scale);
      for (int d = 0; d < 3; d++) {
        for (int s = 0; s < count; s++) slope[d][s] = slope[d][s] * (grad_f[s] * scale);
        for (int s = count; s < LANES; s++) slope[d][s] = fill(0.0f);
        store(grad_g[d], row_sums(slope[d]));
      }
      for (int s = 0; s < count; s++) {
        VolumeSums& to = sums[samples.volume[s]];
        for (int d = 0; d < 3; d++) to.axis[d] += wide(grad_g[d][s] * basis[s]);
        to.light += wide(v4{grad_light[0][s], grad_light[1][s], grad_light[2][s], 0});
      }
      if (!grad_table) continue;
      for (int s = 0; s < count; s++) {
        const Places& place = samples.places;
        float* first = grad_table + view.row_of[samples.volume[s]] * n * n * n * CHANNELS + place.begin[s];
        for (int corner = 0; corner < 8; corner++) {
          const int i = corner >> 2, j = corner >> 1 & 1, k = corner & 1;
          const float x = place.fx[s], y = place.fy[s], z = place.fz[s];
          const float w = (i ? x : 1 - x) * (j ? y : 1 - y) * (k ? z : 1 - z);
          float* voxel = first + i * place.x[s] + j * place.y[s] + k * place.z[s];
          store(voxel, load(voxel) + grad_f[s] * w);
        }
      }
    }
    sum_shade[0] += sum(grad_ambient);
    sum_shade[1] += sum(grad_diffuse);
    const float du = ray.u - lens[1], dv = ray.v - lens[2], scale = sum(grad_length) * q.step / ray.length;
    sum_lens[0] += scale * 0.5f * (du * du + dv * dv);
    sum_lens[1] -= scale * lens[0] * du;
    sum_lens[2] -= scale * lens[0] * dv;
  }
  for (int k = 0; k < volumes; k++) {
    const int64_t row = image * volumes + k;
    for (int d = 0; d < 3; d++) {
      q.grad_c[row * 3 + d] = static_cast<float>(sums[k].axis[d][0]);
      for (int i = 0; i < 3; i++) q.grad_M[row * 9 + 3 * d + i] = static_cast<float>(sums[k].axis[d][1 + i]);
      q.grad_light[row * 3 + d] = static_cast<float>(sums[k].light[d]);
    }
  }
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

// The images, those of the same subject one after the other: its voxels are still in the cache then
std::vector<int64_t> by_subject(const Problem& q) {
  std::vector<int64_t> order(q.batch);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return q.volume[a * q.volumes] < q.volume[b * q.volumes]; });
  return order;
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
  const std::vector<int64_t> order = by_subject(*q);
  std::atomic<int64_t> next(0);
  spread(std::max<int64_t>(1, std::min(q->threads, q->batch)), [&](int64_t) {
    Scratch scratch(*q);
    for (int64_t turn = next++; turn < q->batch; turn = next++) {
      const int64_t i = order[turn];
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
    const std::vector<int64_t> order = by_subject(*q);
    std::atomic<int64_t> next(0);
    spread(threads, [&](int64_t) {
      for (int64_t turn = next++; turn < q->batch; turn = next++) {
        const int64_t i = order[turn];
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
