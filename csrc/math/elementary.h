// Logarithm and exponential that a compiler can vectorise: branch-free, without tables, no fast-math.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace lami {

// ln(x) of a normal positive x, +inf or NaN; within 1 ulp with fused multiply-add, 2 ulp without.
LAMI_HD float natural_log(float x) {
#if defined(__CUDA_ARCH__)
  return logf(x);
#else
  // x = 2^k m with m in [2/3, 4/3), ln(x) = k ln(2) + log1p(m - 1).
  const int32_t bits = std::bit_cast<int32_t>(x);
  const int32_t exponent = (bits - 0x3f2aaaab) & static_cast<int32_t>(0xff800000);
  const float f = std::bit_cast<float>(bits - exponent) - 1.0f;
  const float k = static_cast<float>(exponent) * 0x1.0p-23f;
  const float s = f * f;
  float r = -0.130310059f * f + 0.140869141f;
  const float t = -0.121483512f * f + 0.139814854f;
  r = r * s + t;
  r = r * f - 0.166846126f;
  r = r * f + 0.200120345f;
  r = r * f - 0.249996200f;
  r = r * f + 0.333331972f;
  r = r * f - 0.5f;
  r = r * s + f;
  r = k * 0.693147182f + r;
  return x < INFINITY ? r : x;
#endif
}

LAMI_HD double natural_log(double x) { return ::log(x); }

// exp(x) for any x up to 88 (larger ones saturate there); within 1 ulp, subnormal results included.
LAMI_HD float exponential(float x) {
#if defined(__CUDA_ARCH__)
  return expf(x);
#else
  x = x < -104.0f ? -104.0f : x;
  x = x > 88.0f ? 88.0f : x;
  // x = k ln(2) + r with |r| <= ln(2) / 2; adding 1.5 * 2^23 rounds to an integer held in the low bits.
  const float shifted = x * 1.44269504f + 12582912.0f;
  const int32_t k = std::bit_cast<int32_t>(shifted) - 0x4b400000;
  const float rounded = shifted - 12582912.0f;
  float r = x - rounded * 0.693359375f;
  r = r - rounded * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * r) * r + r + 1.0f;
  // 2^k in two factors, so that subnormal results need no branch.
  const int32_t half = k >> 1;
  return p * std::bit_cast<float>((half + 127) << 23) * std::bit_cast<float>((k - half + 127) << 23);
#endif
}

LAMI_HD double exponential(double x) { return ::exp(x); }

}  // namespace lami
