// The importable face of a library. Loading it runs the registrations of the other files; it has nothing to do with torch.
#include <pybind11/pybind11.h>

#ifndef LAMI_CUDA
#define LAMI_CUDA ""
#define LAMI_ARCHITECTURES ""
#endif

#define LAMI_TEXT(x) LAMI_QUOTED(x)
#define LAMI_QUOTED(x) #x

#if defined(__clang__)
#define LAMI_COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define LAMI_COMPILER "gcc " __VERSION__
#else
#define LAMI_COMPILER "unknown"
#endif

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  module.def(
      "build_info",
      [] {
        pybind11::dict info;
        info["version"] = LAMI_VERSION;
        info["compiler"] = LAMI_COMPILER;
        info["torch_target"] = LAMI_TEXT(TORCH_TARGET_VERSION);
        info["cuda"] = LAMI_CUDA;
        info["architectures"] = LAMI_ARCHITECTURES;
        return info;
      },
      "How this library was built; empty strings where CUDA took no part.");
}
