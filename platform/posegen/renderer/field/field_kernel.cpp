// March, interpolation, shading, compositing and their derivatives for bone volumes, fused: one pass over the rays.
// The same mathematics as field.py, march.py, appearance.py and composite.py, which are the reference.
//
// A voxel is eight floats, one vector register. A ray's samples come in order, eight at a time (field_march.h), are
// read one by one and shaded together, a lane each. A few rays are on their way at once: while voxels of one are
// fetched, the others are drawn. The forward pass notes the samples it composited (lattice index and volume); the
// backward pass visits those again, eight by eight.
//
// Images are spread over threads; each image is computed by one thread in a fixed order, so results do not depend on
// the number of threads (the table's derivative, summed over threads in order, depends on their number only).

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <numeric>
#include <thread>
#include <vector>
#include "field_march.h"
#include "field_problem.h"
#include "field_shading.h"
#include "field_voxels.h"

namespace {

constexpr int RAYS = 4;  // of an image that are drawn in turn

struct Noted {  // a composited sample
  int32_t lattice;
  int32_t volume;
};

struct NotedRay {
  int32_t pixel;
  int32_t start, count;  // of its samples
};

struct Image {
  std::vector<Noted> samples;
  std::vector<NotedRay> rays;
};

struct Record {
  std::vector<Image> images;
};

// Channels of samples, a row each -> their meaning, a lane each. The rows become columns.
template <typename Cells>
Values meaning(const View<Cells>& view, const Samples<Cells>& samples, v8* f, v8* towards) {
  for (int d = 0; d < 3; d++) towards[d] = values_at(view.light + d, load(samples.volume) * 3);
  for (int s = samples.count; s < LANES; s++) f[s] = fill(0.0f);
  transpose(f);
  for (int i = 0; i < CHANNELS; i++) f[i] = f[i] * view.scale[i] + view.low[i];
  return activate(f, towards, view.shade);
}

// A ray, and what it has gathered on its way
template <typename Cells>
struct Gathering : Walk<Cells> {
  float left = 1;        // light
  bool open = true;      // every sample so far came before the light was gone
  bool waiting = false;  // for samples that were found
  int32_t lattice = -1;  // of the last sample
  v8 sum[4];
  bool wanted = false;  // whether each sample is noted
  std::vector<Noted> noted;

  void begin(Row& row, const View<Cells>& view, int column, int y) {
    Walk<Cells>::begin(row, view, column, y);
    left = 1, open = true, waiting = false, lattice = -1;
    for (int d = 0; d < 4; d++) sum[d] = fill(0.0f);
    noted.clear();
  }

  // Looks for the next samples. Returns false where the ray ends.
  bool go_on(const View<Cells>& view) {
    waiting = open && this->search(view, left > view.q.threshold);
    return waiting;
  }

  // The samples that were found, in order, until the light is gone: it is asked for at each step of the lattice
  void composite(const View<Cells>& view) {
    const Samples<Cells>& samples = this->samples;
    v8 f[LANES], towards[3];
    for (int s = 0; s < samples.count; s++) f[s] = interpolate(samples.corners(s));
    const Values v = meaning(view, samples, f, towards);
    float through[LANES], weight[LANES] = {};
    store(through, exp8(-v.sigma * (view.q.step * this->ray.length)));
    const float threshold = view.q.threshold;
    int s = 0;
    for (; s < samples.count; s++) {
      if ((samples.lattice[s] != lattice) & !(left > threshold)) break;
      lattice = samples.lattice[s];
      weight[s] = left * (1 - through[s]);
      left *= through[s];
    }
    const v8 share = load(weight);
    for (int d = 0; d < 3; d++) sum[d] += share * v.albedo[d] * v.brightness;
    sum[3] += share;
    open = s == samples.count;
    for (int i = 0; wanted && i < s; i++) noted.push_back({samples.lattice[i], samples.volume[i]});
  }
};

// Buffers of one thread
template <typename Cells>
struct Scratch {
  Row row;
  Gathering<Cells> rays[RAYS];  // that are on their way at the same time
  explicit Scratch(const Problem& q) : row(q) {}
};

template <typename Cells>
void forward_image(const View<Cells>& view, Image* noted, Scratch<Cells>& s) {
  const Problem& q = view.q;
  const int width = static_cast<int>(q.width);
  float* const out = q.out + view.image * q.height * q.width * 4;
  for (int y = 0; y < q.height; y++) {
    s.row.fill_in(view, y);
    int next = s.row.begin;  // column
    const size_t first = noted ? noted->rays.size() : 0;
    const auto end = [&](const Gathering<Cells>& ray) {
      if (ray.lattice < 0) return;  // nothing was met
      const int pixel = y * width + ray.x;
      for (int d = 0; d < 4; d++) out[pixel * 4 + d] = sum(ray.sum[d]);
      if (!noted) return;
      const auto at = static_cast<int32_t>(noted->samples.size()), count = static_cast<int32_t>(ray.noted.size());
      noted->rays.push_back({pixel, at, count});
      noted->samples.insert(noted->samples.end(), ray.noted.begin(), ray.noted.end());
    };
    // Puts a ray on its way that finds something. Returns false where the row ends.
    const auto start = [&](Gathering<Cells>& ray) {
      for (; next <= s.row.end; next++) {
        if (!s.row.count(next)) continue;
        ray.begin(s.row, view, next, y);
        if (ray.go_on(view)) return next++, true;
      }
      return false;
    };
    int going = 0;
    for (auto& ray : s.rays) {
      ray.wanted = noted != nullptr;
      going += start(ray);
    }
    while (going) {
      for (auto& ray : s.rays) {
        if (!ray.waiting) continue;
        ray.composite(view);
        if (ray.go_on(view)) continue;
        end(ray);
        going -= !start(ray);
      }
    }
    if (!noted) continue;
    std::sort(noted->rays.begin() + first, noted->rays.end(),
              [](const NotedRay& a, const NotedRay& b) { return a.pixel < b.pixel; });
  }
}

// Sums over an image, for each of its volumes
struct alignas(32) VolumeSums {
  d4 axis[3];  // of each axis of M and c: to c, and to the three of M
  d4 light;
};

inline d4 wide(v4 x) { return __builtin_convertvector(x, d4); }

// Up to eight samples of a ray that were composited
template <typename Cells>
struct Batch {
  const NotedRay* of;
  int at;  // the first of the ray's
  Ray ray;
  v8 depth;
  Samples<Cells> samples;
};

// All batches of an image in order. Voxels are asked for when a batch is found: the one before is worked on meanwhile.
template <typename Cells>
class Batches {
 public:
  Batches(const View<Cells>& view, const Image& noted) : view(view), noted(noted) {}

  bool next(Batch<Cells>& to) {  // false after the last one
    const Problem& q = view.q;
    const int width = static_cast<int>(q.width);
    while (ray < noted.rays.size() && (at >= noted.rays[ray].count || !wanted(noted.rays[ray]))) ray++, at = 0;
    if (ray == noted.rays.size()) return false;
    const NotedRay& of = noted.rays[ray];
    to.of = &of;
    to.at = at;
    to.ray = ray_of(q, view.image, of.pixel % width, of.pixel / width);
    Samples<Cells>& samples = to.samples;
    samples.count = std::min(LANES, of.count - at);
    for (int s = 0; s < LANES; s++) {  // the last one stands for those that are missing
      const Noted& sample = noted.samples[of.start + at + std::min(s, samples.count - 1)];
      samples.lattice[s] = sample.lattice;
      samples.volume[s] = sample.volume;
    }
    const i8 volume = load(samples.volume);
    to.depth = (to_float(load(samples.lattice)) + to.ray.phase) * q.step;
    v8 g[3];
    for (int d = 0; d < 3; d++) {
      const float* m = view.M + 3 * d;
      const v8 slope = per_metre(values_at(m, volume * 9), values_at(m + 1, volume * 9), values_at(m + 2, volume * 9),
                                 fill(to.ray.u), to.ray.v);
      g[d] = fused(to.depth, slope, values_at(view.C + d, volume * 3));
    }
    samples.place(view, g);
    at += samples.count;
    return true;
  }

 private:
  const View<Cells>& view;
  const Image& noted;
  size_t ray = 0;
  int at = 0;

  bool wanted(const NotedRay& of) const {
    const float* go = view.q.grad_out + (view.image * view.q.height * view.q.width + of.pixel) * 4;
    return go[0] != 0 || go[1] != 0 || go[2] != 0 || go[3] != 0;
  }
};

template <typename Cells>
void backward_image(const View<Cells>& view, const Image& noted, float* grad_table) {
  const Problem& q = view.q;
  const int64_t image = view.image;
  const int volumes = static_cast<int>(q.volumes);
  const float *shade = view.shade, *lens = q.lens + image * 3;
  std::vector<VolumeSums> sums(volumes, VolumeSums{});
  double sum_shade[2] = {0, 0}, sum_lens[3] = {0, 0, 0};
  Batches<Cells> batches(view, noted);
  Batch<Cells> now_and_next[2];
  // of a ray: the light that is left, what the samples behind add to the loss, and its sums
  float left = 1, behind = 0;
  v8 grad_length = fill(0.0f), grad_ambient = fill(0.0f), grad_diffuse = fill(0.0f);
  bool more = batches.next(now_and_next[0]);
  for (int turn = 0; more; turn ^= 1) {
    const Batch<Cells>& batch = now_and_next[turn];
    more = batches.next(now_and_next[turn ^ 1]);
    const Ray& ray = batch.ray;
    const Samples<Cells>& samples = batch.samples;
    const int count = samples.count;
    const int64_t pixel = image * q.height * q.width + batch.of->pixel;
    const float *go = q.grad_out + pixel * 4, *total = q.out + pixel * 4;
    const float length = q.step * ray.length;
    if (batch.at == 0) {
      left = 1, behind = 0;
      for (int d = 0; d < 4; d++) behind += go[d] * total[d];
      grad_length = grad_ambient = grad_diffuse = fill(0.0f);
    }
    v4 basis[LANES];
    v8 f[LANES], slope[3][LANES], towards[3];
    for (int s = 0; s < count; s++) {
      v8 rise[3];
      basis[s] = v4{1, batch.depth[s] * ray.u, batch.depth[s] * ray.v, batch.depth[s]};
      f[s] = interpolate(samples.corners(s), rise);
      for (int d = 0; d < 3; d++) slope[d][s] = rise[d];
    }
    const Values v = meaning(view, samples, f, towards);

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
    for (int s = 0; s < LANES; s++)
      for (int d = 0; d < 3; d++) slope[d][s] = s < count ? slope[d][s] * (grad_f[s] * scale) : fill(0.0f);
    for (int d = 0; d < 3; d++) store(grad_g[d], row_sums(slope[d]));
    for (int s = 0; s < count; s++) {
      VolumeSums& to = sums[samples.volume[s]];
      for (int d = 0; d < 3; d++) to.axis[d] += wide(grad_g[d][s] * basis[s]);
      to.light += wide(v4{grad_light[0][s], grad_light[1][s], grad_light[2][s], 0});
    }
    for (int s = 0; grad_table && s < count; s++) {
      const auto at = samples.corners(s);
      for (int corner = 0; corner < 8; corner++) {
        const int i = corner >> 2, j = corner >> 1 & 1, k = corner & 1;
        const float w = (i ? at.fx : 1 - at.fx) * (j ? at.fy : 1 - at.fy) * (k ? at.fz : 1 - at.fz);
        float* voxel = grad_table + (at.of(i, j, k) - view.cells.table);
        store(voxel, load(voxel) + grad_f[s] * w);
      }
    }
    if (batch.at + count < batch.of->count) continue;
    sum_shade[0] += sum(grad_ambient);
    sum_shade[1] += sum(grad_diffuse);
    const float du = ray.u - lens[1], dv = ray.v - lens[2], stretch = sum(grad_length) * q.step / ray.length;
    sum_lens[0] += stretch * 0.5f * (du * du + dv * dv);
    sum_lens[1] -= stretch * lens[0] * du;
    sum_lens[2] -= stretch * lens[0] * dv;
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
    with_cells(*q, [&](const auto& cells) {
      Scratch<std::decay_t<decltype(cells)>> scratch(*q);
      for (int64_t turn = next++; turn < q->batch; turn = next++) {
        const int64_t i = order[turn];
        forward_image(View(*q, cells, i), record ? &record->images[i] : nullptr, scratch);
      }
    });
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
        with_cells(*q, [&](const auto& cells) { backward_image(View(*q, cells, i), noted.images[i], nullptr); });
      }
    });
    return;
  }
  spread(threads, [&](int64_t t) {  // a fixed share each, so that the sums are always the same
    const Grid<float> cells(q->table, q->resolution);
    for (int64_t i = t; i < q->batch; i += threads)
      backward_image(View(*q, cells, i), noted.images[i], q->grad_table + t * q->table_size);
  });
}

int64_t posegen_samples(const void* record) {
  int64_t count = 0;
  for (const Image& image : static_cast<const Record*>(record)->images) count += image.samples.size();
  return count;
}

void posegen_free(void* record) { delete static_cast<Record*>(record); }
}
