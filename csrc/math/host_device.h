// LAMI_HD marks arithmetic that the CPU and the CUDA library share.
//
// LAMI_UNROLL keeps small arrays with constant indices in the registers of a GPU; on the CPU the compiler decides.
// Always inlined: on the CPU so that row functions cloned for several instruction sets vectorise what they call.
#pragma once

#if defined(__CUDACC__)
#define LAMI_HD __host__ __device__ __forceinline__
#elif defined(_MSC_VER)
#define LAMI_HD __forceinline
#else
#define LAMI_HD inline __attribute__((always_inline))
#endif

#if defined(__CUDA_ARCH__)
#define LAMI_UNROLL _Pragma("unroll")
#else
#define LAMI_UNROLL
#endif
