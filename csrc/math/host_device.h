// LAMI_HD marks arithmetic that the CPU and the CUDA library share.
//
// Always inlined: on the CPU so that row functions cloned for several instruction sets vectorise what they call.
#pragma once

#if defined(__CUDACC__)
#define LAMI_HD __host__ __device__ __forceinline__
#elif defined(_MSC_VER)
#define LAMI_HD __forceinline
#else
#define LAMI_HD inline __attribute__((always_inline))
#endif
