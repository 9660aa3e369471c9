// One call of the kernel.
#pragma once

#include <cstdint>

extern "C" {

// Mirrored by native.Problem; all pointers are to contiguous arrays.
struct Problem {
  int64_t batch, volumes, resolution, height, width, threads;
  float step, near, threshold;
  const float *M, *c, *light, *shade, *lens;  // (B,K,9) (B,K,3) (B,K,3) (B,2) (B,3)
  const int64_t* volume;                      // (B,K) row of the field's volumes
  const int32_t* boxes;                       // (B,K,4) first and last column, first and last row
  const float *table, *low, *high;            // (V*N^3,8) (V,3) (V,3)
  const uint32_t* occupied;                   // a bit a cell, (V*N^3/32,): as bytes they would fill a second-level cache
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
