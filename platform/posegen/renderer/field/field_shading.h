// Density and colour of samples: what their channels are activated to.
#pragma once

#include "field_vector.h"

namespace {

constexpr float DENSITY_SCALE = 10.0f;
constexpr float NORMAL_FLOOR = 1e-4f;

// What the eight channels of eight samples mean: a lane is a sample
struct Values {
  v8 sigma, rise;  // density, and its derivative to its channel in units of DENSITY_SCALE
  v8 albedo[3], ambient_share, normal[3], inverse_length, cosine, brightness;
};

inline v8 logistic(v8 x) { return 1.0f / (1.0f + exp8(-x)); }

// light: towards it, in each sample's volume
inline Values activate(const v8* f, const v8* light, const float* shade) {
  Values v;
  const v8 e = exp8(-magnitude(f[0])), far = 1.0f / (1.0f + e);
  v.sigma = DENSITY_SCALE * (at_least(f[0], 0.0f) + log1p_unit(e));
  v.rise = f[0] > 0.0f ? far : e * far;
  for (int d = 0; d < 3; d++) v.albedo[d] = logistic(f[1 + d]);
  v.ambient_share = logistic(f[7]);
  v.inverse_length = 1.0f / sqrt8(f[4] * f[4] + f[5] * f[5] + f[6] * f[6] + NORMAL_FLOOR);
  for (int d = 0; d < 3; d++) v.normal[d] = f[4 + d] * v.inverse_length;
  v.cosine = v.normal[0] * light[0] + v.normal[1] * light[1] + v.normal[2] * light[2];
  v.brightness = shade[0] * v.ambient_share + shade[1] * at_least(v.cosine, 0.0f);
  return v;
}

}  // namespace
