// Code compiled for several vector instruction sets, of which the processor's best runs.
#pragma once

#define LAMI_INLINE inline __attribute__((always_inline))

namespace lami {

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)

namespace detail {

template <typename Function>
__attribute__((target("arch=x86-64-v4,prefer-vector-width=512"), flatten)) void run_v4(const Function& f) {
  f();
}
template <typename Function>
__attribute__((target("arch=x86-64-v3"), flatten)) void run_v3(const Function& f) {
  f();
}

}  // namespace detail

// f(), with everything it calls inlined and vectorised for this processor. Unlike target_clones this takes templates and
// lambdas, and needs no resolver, so that sanitizers work.
template <typename Function>
void simd(const Function& f) {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    detail::run_v4(f);
  } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    detail::run_v3(f);
  } else {
    f();
  }
}

#else

template <typename Function>
void simd(const Function& f) {
  f();
}

#endif

}  // namespace lami
