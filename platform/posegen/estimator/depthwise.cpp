// Depthwise convolution of pictures whose channels lie side by side (NHWC, float32), and its derivatives.
//
// An image is gone through once, row by row, as memory likes it. What is read is copied into lines of sixteen channels
// a pixel, with the padding's zeros at both ends, so that loops over taps have no borders. Outputs are sums over such
// lines, and so are the input's derivatives: every stride-th pixel meets the same taps, in reverse.
//
// Images are spread over threads. The filters' derivatives are kept for each image and added up in order, so results do
// not depend on the number of threads.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

// Mirrored by `Problem` in depthwise.py. A pointer may be null: there is no bias, a derivative is not wanted.
struct Problem {
  int64_t batch, channels, height, width, out_height, out_width;
  int64_t kernel_height, kernel_width, stride_y, stride_x, top, left, threads;
  float low, high;                       // bounds of the outputs; not a number: none
  const float *x, *weight, *bias;        // (B,H,W,C), (C,KH,KW), (C,)
  float* out;                            // (B,OH,OW,C)
  const float* grad_out;                 // as `out`
  float *grad_x, *grad_weight, *grad_bias;
};

namespace {

typedef float v8 __attribute__((vector_size(32), aligned(4), may_alias));

constexpr int64_t BLOCK = 16;  // channels: two registers
constexpr int MAX_KERNEL = 7;
constexpr int TILE = 4;  // pixels at once: enough sums that none waits for its last term

inline v8 fill(float x) { return v8{x, x, x, x, x, x, x, x}; }
inline v8 load(const float* p) { return *reinterpret_cast<const v8*>(p); }
inline void store(float* p, v8 x) { *reinterpret_cast<v8*>(p) = x; }
inline void store(float* p, v8 x, int64_t count) {  // the first of them
  if (count >= 8) return store(p, x);
  for (int64_t i = 0; i < count; i++) p[i] = x[i];
}

inline v8 bounded(v8 x, float low, float high) {  // what is not a number stays so
  x = x < low ? fill(low) : x;
  return x > high ? fill(high) : x;
}

// A row of pixels into a line for each block of channels, `step` floats apart. With `out`: where that is at a bound, 0
void read(const Problem& p, float* to, int64_t step, const float* from, int64_t count, const float* out = nullptr) {
  const v8 zero = {};
  for (int64_t i = 0; i < count; i++, from += p.channels, to += BLOCK)
    for (int64_t c = 0; c < p.channels; c += 8) {
      float* at = to + c / BLOCK * step + c % BLOCK;
      if (c + 8 <= p.channels) {
        v8 x = load(from + c);
        if (out) {
          const v8 y = load(out + i * p.channels + c);
          x = y <= p.low ? zero : x;
          x = y >= p.high ? zero : x;
        }
        store(at, x);
      } else {
        for (int64_t k = 0; k < p.channels - c; k++) {
          const float y = out ? out[i * p.channels + c + k] : NAN;
          at[k] = y <= p.low || y >= p.high ? 0 : from[c + k];
        }
      }
    }
}

// A line of outputs: sums over lines of inputs and their taps
struct Sums {
  const float *lines[MAX_KERNEL], *taps[MAX_KERNEL];
  int rows = 0;
  int64_t step;        // pixels of a line of inputs from one output to the next
  const float* start;  // null: zeros
  float low, high;
  float* out;
  int64_t out_step, count, channels;

  void add(const float* line, const float* its_taps) {
    lines[rows] = line;
    taps[rows++] = its_taps;
  }
};

template <int Q, int T>
inline void write_pixels(const Sums& s, int64_t first) {
  v8 sum[T][2];
  for (int t = 0; t < T; t++) {
    sum[t][0] = s.start ? load(s.start) : v8{};
    sum[t][1] = s.start ? load(s.start + 8) : v8{};
  }
  for (int i = 0; i < s.rows; i++) {
    const float *from = s.lines[i] + first * s.step * BLOCK, *taps = s.taps[i];
    for (int q = 0; q < Q; q++) {
      const v8 a = load(taps + q * BLOCK), b = load(taps + q * BLOCK + 8);
      for (int t = 0; t < T; t++) {
        const float* p = from + (t * s.step + q) * BLOCK;
        sum[t][0] += load(p) * a;
        sum[t][1] += load(p + 8) * b;
      }
    }
  }
  for (int t = 0; t < T; t++) {
    float* to = s.out + (first + t) * s.out_step;
    const v8 a = bounded(sum[t][0], s.low, s.high), b = bounded(sum[t][1], s.low, s.high);
    store(to, a, s.channels);
    store(to + 8, b, s.channels - 8);
  }
}

template <int Q>
void write_line(const Sums& s) {
  int64_t i = 0;
  for (; i + TILE <= s.count; i += TILE) write_pixels<Q, TILE>(s, i);
  for (; i < s.count; i++) write_pixels<Q, 1>(s, i);
}

using Write = void (*)(const Sums&);
constexpr Write WRITE[MAX_KERNEL + 1] = {write_line<1>, write_line<1>, write_line<2>, write_line<3>,
                                         write_line<4>, write_line<5>, write_line<6>, write_line<7>};  // by taps a line

// Adds the derivatives of Q taps that lie on a line of inputs
template <int Q>
void add_moments(const float* line, int64_t step, const float* grad, int64_t count, float* to) {
  v8 sum[Q][2] = {};
  for (int64_t i = 0; i < count; i++, line += step * BLOCK, grad += BLOCK) {
    const v8 a = load(grad), b = load(grad + 8);
    for (int q = 0; q < Q; q++) {
      sum[q][0] += load(line + q * BLOCK) * a;
      sum[q][1] += load(line + q * BLOCK + 8) * b;
    }
  }
  for (int q = 0; q < Q; q++, to += BLOCK) {
    store(to, load(to) + sum[q][0]);
    store(to + 8, load(to + 8) + sum[q][1]);
  }
}

using Moments = void (*)(const float*, int64_t, const float*, int64_t, float*);
constexpr Moments MOMENTS[MAX_KERNEL + 1] = {add_moments<1>, add_moments<1>, add_moments<2>, add_moments<3>,
                                             add_moments<4>, add_moments<5>, add_moments<6>, add_moments<7>};

void add_pixels(const float* line, int64_t count, float* to) {
  v8 a = {}, b = {};
  for (int64_t i = 0; i < count; i++) {
    a += load(line + i * BLOCK);
    b += load(line + i * BLOCK + 8);
  }
  store(to, load(to) + a);
  store(to + 8, load(to + 8) + b);
}

inline int64_t divided_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t blocks_of(const Problem& p) { return divided_up(p.channels, BLOCK); }

// How many taps a pixel of column remainder r modulo the stride meets: every stride-th
inline int64_t taps_of(const Problem& p, int64_t r) {
  return divided_up(std::max<int64_t>(0, p.kernel_width - r), p.stride_x);
}

// Filters block by block (KH,KW,16); `turned`: each row by remainder, and each remainder's taps in reverse
std::vector<float> packed(const Problem& p, bool turned) {
  const int64_t size = p.kernel_height * p.kernel_width;
  std::vector<float> taps(blocks_of(p) * size * BLOCK);
  std::vector<int64_t> order;
  for (int64_t r = 0; r < p.stride_x; r++)
    for (int64_t q = taps_of(p, r); q-- > 0;) order.push_back(r + q * p.stride_x);
  for (int64_t c = 0; c < p.channels; c++)
    for (int64_t k = 0; k < size; k++) {
      const int64_t column = k % p.kernel_width, from = turned ? k - column + order[column] : k;
      taps[(c / BLOCK * size + k) * BLOCK + c % BLOCK] = p.weight[c * size + from];
    }
  return taps;
}

// The lines of the last few rows, a line for each block
class Lines {
 public:
  Lines(const Problem& p, int64_t row_count, int64_t pixels)
      : rows(row_count), blocks(blocks_of(p)), length(pixels), floats(rows * blocks * length * BLOCK) {}
  float* at(int64_t row) { return &floats[row % rows * blocks * step()]; }  // of the first block
  int64_t step() const { return length * BLOCK; }

  const int64_t rows, blocks, length;

 private:
  std::vector<float> floats;
};

// A row of outputs, block by block from the first one's line; lines are `line_step` floats apart
void write_row(const Problem& p, Sums s, int64_t taps, int64_t line_step) {
  const Write write = WRITE[std::max<int64_t>(1, taps)];
  for (int64_t block = 0; block < blocks_of(p); block++, s.out += BLOCK) {
    s.channels = std::min(BLOCK, p.channels - block * BLOCK);
    write(s);
    for (int i = 0; i < s.rows; i++) {
      s.lines[i] += line_step;
      s.taps[i] += p.kernel_height * p.kernel_width * BLOCK;
    }
    if (s.start) s.start += BLOCK;
  }
}

// Lines of the input that a row of outputs meets
class Window {
 public:
  explicit Window(const Problem& problem)
      : p(problem), lines(p, p.kernel_height, (p.out_width - 1) * p.stride_x + p.kernel_width) {}

  void begin() { next = 0; }

  void move_to(int64_t image, int64_t out_row) {
    const int64_t first = std::min(p.left, lines.length), last = std::min(lines.length, p.left + p.width);
    for (; next < out_row * p.stride_y + p.kernel_height; next++) {
      const int64_t y = next - p.top;
      if (y < 0 || y >= p.height)
        std::fill_n(lines.at(next), lines.blocks * lines.step(), 0.0f);
      else
        read(p, lines.at(next) + first * BLOCK, lines.step(),
             p.x + (image * p.height + y) * p.width * p.channels, last - first);
    }
  }

  const float* line(int64_t out_row, int64_t k) { return lines.at(out_row * p.stride_y + k); }
  int64_t step() const { return lines.step(); }

 private:
  const Problem& p;
  Lines lines;
  int64_t next = 0;
};

struct Forward {
  explicit Forward(const Problem& problem) : p(problem), taps(packed(p, false)), bias(blocks_of(p) * BLOCK) {
    if (p.bias) std::copy_n(p.bias, p.channels, bias.begin());
  }

  struct Worker {
    explicit Worker(const Forward& forward) : p(forward.p), all(forward), window(p) {}

    void run(int64_t image) {
      window.begin();
      for (int64_t row = 0; row < p.out_height; row++) {
        window.move_to(image, row);
        Sums s;
        for (int64_t k = 0; k < p.kernel_height; k++)
          s.add(window.line(row, k), &all.taps[k * p.kernel_width * BLOCK]);
        s.step = p.stride_x;
        s.start = all.bias.data();
        s.low = p.low;
        s.high = p.high;
        s.out = p.out + (image * p.out_height + row) * p.out_width * p.channels;
        s.out_step = p.channels;
        s.count = p.out_width;
        write_row(p, s, p.kernel_width, window.step());
      }
    }

    const Problem& p;
    const Forward& all;
    Window window;
  };

  const Problem& p;
  std::vector<float> taps, bias;
};

struct Backward {
  explicit Backward(const Problem& problem)
      : p(problem), turned(packed(p, true)), size((p.kernel_height * p.kernel_width + 1) * BLOCK),
        moments(p.batch * blocks_of(p) * size) {}

  struct Worker {
    explicit Worker(Backward& backward)
        : p(backward.p), all(backward), window(p), before(taps_of(p, 0) - 1),
          grads(p, divided_up(p.kernel_height, p.stride_y),
                before + std::max(p.out_width, (p.width - 1 + p.left) / p.stride_x + 1)) {}

    void run(int64_t image) {
      window.begin();
      int64_t y = 0;  // the input's next row whose derivatives are not written
      for (int64_t row = 0; row < p.out_height; row++) {
        const int64_t at = (image * p.out_height + row) * p.out_width * p.channels;
        read(p, grad(row), grads.step(), p.grad_out + at, p.out_width, p.out ? p.out + at : nullptr);
        if (p.grad_weight) window.move_to(image, row);
        if (p.grad_weight || p.grad_bias) find_moments(image, row);
        const int64_t end = row + 1 < p.out_height ? (row + 1) * p.stride_y - p.top : p.height;
        for (; p.grad_x && y < std::min(end, p.height); y++) write_grad_x(image, y);
      }
    }

    float* grad(int64_t row) { return grads.at(row) + before * BLOCK; }

    void find_moments(int64_t image, int64_t row) {
      const float *line = grad(row), *lines[MAX_KERNEL];
      for (int64_t k = 0; k < p.kernel_height; k++) lines[k] = window.line(row, k);
      float* to = &all.moments[image * blocks_of(p) * all.size];
      for (int64_t block = 0; block < blocks_of(p); block++, line += grads.step(), to += all.size) {
        for (int64_t k = 0; p.grad_weight && k < p.kernel_height; k++)
          MOMENTS[p.kernel_width](lines[k] + block * window.step(), p.stride_x, line, p.out_width,
                                  to + k * p.kernel_width * BLOCK);
        if (p.grad_bias) add_pixels(line, p.out_width, to + all.size - BLOCK);
      }
    }

    void write_grad_x(int64_t image, int64_t y) {
      float* line = p.grad_x + (image * p.height + y) * p.width * p.channels;
      int64_t column = 0;  // of the turned taps
      for (int64_t r = 0; r < p.stride_x; r++) {
        const int64_t taps = taps_of(p, r), first = divided_up(p.left - r, p.stride_x);  // the first output they meet
        const int64_t x = first * p.stride_x + r - p.left;
        Sums s;
        for (int64_t k = (y + p.top) % p.stride_y; taps > 0 && k < p.kernel_height; k += p.stride_y) {
          const int64_t row = (y + p.top - k) / p.stride_y;
          if (y + p.top >= k && row < p.out_height)
            s.add(grad(row) + (first - taps + 1) * BLOCK, &all.turned[(k * p.kernel_width + column) * BLOCK]);
        }
        s.step = 1;
        s.start = nullptr;
        s.low = s.high = NAN;
        s.out = line + x * p.channels;
        s.out_step = p.stride_x * p.channels;
        s.count = x < p.width ? (p.width - 1 - x) / p.stride_x + 1 : 0;
        write_row(p, s, taps, grads.step());
        column += taps;
      }
    }

    const Problem& p;
    Backward& all;
    Window window;
    const int64_t before;  // pixels of zeros before a line's first derivative
    Lines grads;
  };

  void finish() const {  // the bias's moments lie behind the filter's
    const int64_t kernel = p.kernel_height * p.kernel_width, all = blocks_of(p) * size;
    std::vector<double> sums(all);
    for (int64_t image = 0; image < p.batch; image++)
      for (int64_t i = 0; i < all; i++) sums[i] += moments[image * all + i];
    for (int64_t c = 0; c < p.channels; c++) {
      const double* of_channel = &sums[c / BLOCK * size + c % BLOCK];
      for (int64_t k = 0; p.grad_weight && k < kernel; k++)
        p.grad_weight[c * kernel + k] = static_cast<float>(of_channel[k * BLOCK]);
      if (p.grad_bias) p.grad_bias[c] = static_cast<float>(of_channel[kernel * BLOCK]);
    }
  }

  const Problem& p;
  std::vector<float> turned;
  const int64_t size;  // floats of a block's moments
  std::vector<float> moments;
};

template <typename Pass>
void work(Pass& pass) {
  const Problem& p = pass.p;
  std::atomic<int64_t> next(0);
  const auto run = [&] {
    typename Pass::Worker worker(pass);
    for (int64_t image = next++; image < p.batch; image = next++) worker.run(image);
  };
  std::vector<std::thread> others;
  for (int64_t t = 1; t < std::min(p.threads, p.batch); t++) others.emplace_back(run);
  run();
  for (auto& other : others) other.join();
}

}  // namespace

extern "C" {

int64_t posegen_problem_size() { return sizeof(Problem); }

void posegen_forward(const Problem* p) {
  Forward pass(*p);
  work(pass);
}

// `out` is null where outputs have no bounds.
void posegen_backward(const Problem* p) {
  Backward pass(*p);
  work(pass);
  pass.finish();
}

}  // extern "C"
