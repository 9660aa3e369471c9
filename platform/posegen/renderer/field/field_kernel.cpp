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

// A sample of a ray, and where it lies in its volume
struct Sample {
  int32_t lattice, volume;  // among the image's
  int32_t cell[3];
  float fraction[3];
};

inline int64_t index_of(int64_t volume, const int* cell, int64_t n) {
  return ((volume * n + cell[0]) * n + cell[1]) * n + cell[2];
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

// The volumes that a ray crosses: eight of them are looked at together, so that all is padded to a multiple of eight
struct Segments {
  int count = 0;
  std::vector<int32_t> volume, first, last, place;  // place: of the volume's first cell among the flags
  std::vector<float> start[3], slope[3];            // voxel coordinates at depth 0 and for each metre
  explicit Segments(int64_t volumes) {
    const size_t room = volumes + LANES;
    for (auto* each : {&volume, &first, &last, &place}) each->resize(room);
    for (int d = 0; d < 3; d++) start[d].resize(room), slope[d].resize(room);
  }
  void pad() {  // with what no step of the lattice meets
    for (int j = count; j % LANES; j++) {
      first[j] = INT32_MAX, last[j] = -1, place[j] = 0;
      for (int d = 0; d < 3; d++) start[d][j] = slope[d][j] = 0;
    }
  }
};

// Buffers of one thread
struct Scratch {
  std::vector<int32_t> first, last;  // (K,W) lattice range of each volume along a row of pixels
  std::vector<float> near, far;      // (W)
  std::vector<int32_t> crossing, crossings;  // (W,K) the volumes that each pixel of the row sees, and their number (W)
  Segments segments;
  explicit Scratch(const Problem& q)
      : first(q.volumes * q.width), last(q.volumes * q.width), near(q.width), far(q.width),
        crossing(q.volumes * q.width), crossings(q.width), segments(q.volumes) {}
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

  Corners<typename Cells::Voxel> corners(const Sample& s) const { return cells.corners(row_of[s.volume], s.cell); }

  // Channels of `count` samples, a row each -> their meaning, a lane each. The rows become columns.
  Values meaning(v8* f, const Sample* samples, int count, v8* towards) const {
    float along[3][LANES] = {};
    for (int s = 0; s < count; s++)
      for (int d = 0; d < 3; d++) along[d][s] = light[samples[s].volume * 3 + d];
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
int composite(const View<Cells>& view, const Sample* samples, int count, float length, Gathered& ray) {
  v8 f[LANES], towards[3];
  for (int s = 0; s < count; s++) f[s] = interpolate(view.corners(samples[s]), samples[s].fraction);
  const Values v = view.meaning(f, samples, count, towards);
  float through[LANES], weight[LANES] = {};
  store(through, exp8(-v.sigma * length));
  int s = 0;
  for (; s < count; s++) {
    if (samples[s].lattice != ray.lattice && !(ray.left > view.q.threshold)) break;
    ray.lattice = samples[s].lattice;
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
  for (int y = 0; y < q.height; y++) {
    int begin = width, end = -1;
    std::fill(s.crossings.begin(), s.crossings.end(), 0);
    for (int k = 0; k < volumes; k++) {
      const int32_t* box = boxes + k * 4;
      if (y < box[2] || y > box[3] || box[0] > box[1]) continue;
      begin = std::min(begin, box[0]);
      end = std::max(end, box[1]);
      int32_t *firsts = &s.first[static_cast<int64_t>(k) * width], *lasts = &s.last[static_cast<int64_t>(k) * width];
      slabs(q, view.M + k * 9, view.C + k * 3, q.low + view.row_of[k] * 3, q.high + view.row_of[k] * 3, y, box[0],
            box[1], firsts, lasts, s);
      for (int x = box[0]; x <= box[1]; x++) {
        s.crossing[static_cast<int64_t>(x) * volumes + s.crossings[x]] = k;
        s.crossings[x] += firsts[x] <= lasts[x];
      }
    }
    for (int x = begin; x <= end; x++) {
      int first = INT32_MAX, last = -1;
      segments.count = s.crossings[x];
      if (segments.count == 0) continue;
      const Ray ray = ray_of(q, image, x, y);
      for (int j = 0; j < segments.count; j++) {
        const int k = s.crossing[static_cast<int64_t>(x) * volumes + j];
        const int a = s.first[static_cast<int64_t>(k) * width + x], b = s.last[static_cast<int64_t>(k) * width + x];
        segments.volume[j] = k;
        segments.first[j] = a;
        segments.last[j] = b;
        segments.place[j] = static_cast<int32_t>(view.row_of[k] * n * n * n);
        const float *m = view.M + k * 9, *c = view.C + k * 3;
        for (int d = 0; d < 3; d++) {
          segments.start[d][j] = c[d];
          segments.slope[d][j] = m[3 * d] * ray.u + m[3 * d + 1] * ray.v + m[3 * d + 2];
        }
        first = std::min(first, a);
        last = std::max(last, b);
      }
      segments.pad();
      const float length = q.step * ray.length;
      Gathered gathered;
      Sample waiting[2 * LANES];
      int count = 0, done = 0;
      bool open = true;  // every sample so far was before the light was gone
      const auto take = [&] {  // the first of those that wait
        const int taken = std::min(count, LANES), used = composite(view, waiting, taken, length, gathered);
        if (noted) {
          if (done == 0) noted->rays.push_back({y * width + x, static_cast<int32_t>(noted->samples.size())});
          for (int i = 0; i < used; i++) noted->samples.push_back({waiting[i].lattice, waiting[i].volume});
        }
        done += used;
        count -= taken;
        std::copy(waiting + taken, waiting + taken + count, waiting);
        open = used == taken;
      };
      for (int l = first; l <= last && open && gathered.left > q.threshold; l++) {
        const float depth = (static_cast<float>(l) + ray.phase) * q.step;
        for (int j = 0; j < segments.count; j += LANES) {
          unsigned met = mask_of((load(&segments.first[j]) <= l) & (load(&segments.last[j]) >= l));
          if (!met) continue;
          i8 cell[3];
          v8 g[3];
          for (int d = 0; d < 3; d++) {
            g[d] = load(&segments.start[d][j]) + depth * load(&segments.slope[d][j]);
            cell[d] = to_int(at_most(at_least(g[d], 0.0f), static_cast<float>(n - 2)));
          }
          met &= bits_at(q.occupied, load(&segments.place[j]) + (cell[0] * n + cell[1]) * n + cell[2]);
          if (!met) continue;
          int32_t cells_of[3][LANES];
          float fractions[3][LANES];
          for (int d = 0; d < 3; d++) {
            store(cells_of[d], cell[d]);
            store(fractions[d], g[d] - to_float(cell[d]));
          }
          for (; met; met &= met - 1) {
            const int lane = __builtin_ctz(met);
            Sample& sample = waiting[count++];
            sample.lattice = l;
            sample.volume = segments.volume[j + lane];
            for (int d = 0; d < 3; d++) sample.cell[d] = cells_of[d][lane], sample.fraction[d] = fractions[d][lane];
          }
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
      Sample samples[LANES];
      v4 basis[LANES];
      v8 f[LANES], slope[3][LANES], towards[3];
      for (int s = 0; s < count; s++) {
        Sample& sample = samples[s];
        sample.volume = noted.samples[at + s].volume;
        const float depth = (static_cast<float>(noted.samples[at + s].lattice) + ray.phase) * q.step;
        const float *m = view.M + sample.volume * 9, *c = view.C + sample.volume * 3;
        for (int d = 0; d < 3; d++) {
          const float g = c[d] + depth * (m[3 * d] * ray.u + m[3 * d + 1] * ray.v + m[3 * d + 2]);
          sample.cell[d] = std::min(std::max(static_cast<int>(g), 0), n - 2);
          sample.fraction[d] = g - static_cast<float>(sample.cell[d]);
        }
        basis[s] = v4{1, depth * ray.u, depth * ray.v, depth};
        v8 along[3];
        f[s] = interpolate(view.corners(sample), sample.fraction, along);
        for (int d = 0; d < 3; d++) slope[d][s] = along[d];
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
        VolumeSums& to = sums[samples[s].volume];
        for (int d = 0; d < 3; d++) to.axis[d] += wide(grad_g[d][s] * basis[s]);
        to.light += wide(v4{grad_light[0][s], grad_light[1][s], grad_light[2][s], 0});
      }
      if (!grad_table) continue;
      for (int s = 0; s < count; s++) {
        float* p = grad_table + index_of(view.row_of[samples[s].volume], samples[s].cell, n) * CHANNELS;
        const float* fraction = samples[s].fraction;
        for (int corner = 0; corner < 8; corner++) {
          const int64_t i = corner >> 2, j = corner >> 1 & 1, k = corner & 1;
          const float w = (i ? fraction[0] : 1 - fraction[0]) * (j ? fraction[1] : 1 - fraction[1]) *
                          (k ? fraction[2] : 1 - fraction[2]);
          float* voxel = p + ((i * n + j) * n + k) * CHANNELS;
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
