"""Builds the native libraries of `lami.ops`; everything else about the package is in pyproject.toml.

`lami._C` holds the CPU kernels and `lami._C_cuda` the CUDA ones, so that the first loads into a torch without CUDA.
Both use torch's stable ABI only: one build serves every torch from 2.11 on. Both are optional: where they cannot be
built, the package installs without them, after one warning.

    python setup.py build_ext --inplace                                   # into lami/, for work on the sources
    python setup.py build_ext --build-temp build/objects --build-lib build/libraries    # elsewhere: leaves lami/ alone
    LAMI_NATIVE_DIR=build/libraries/lami pytest                            # and uses what was built there

Environment:
    LAMI_BUILD            0 builds nothing, 1 makes every failure an error
    LAMI_BUILD_CUDA       0 leaves the CUDA library out
    LAMI_WERROR           1 makes warnings errors
    LAMI_SANITIZE         1 builds the CPU library alone, for AddressSanitizer and UndefinedBehaviorSanitizer, which
                          whoever loads it has to preload (tests/csrc/test_fuzz.py)
    CUDA_HOME             the CUDA toolkit; otherwise that of the nvcc on PATH, if there is one
    TORCH_CUDA_ARCH_LIST  architectures to compile for
    MAX_JOBS              compilers that run at the same time
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
import warnings
from pathlib import Path
from typing import Any

from setuptools import Extension, setup

ROOT = Path(__file__).resolve().parent
OLDEST_TORCH = "0x020b000000000000"
"""2.11: what newer versions added to the stable ABI is hidden, or the libraries would not load there."""
DEFAULT_ARCHITECTURES = "8.0;8.9;9.0;12.0+PTX"

REQUIRED = os.environ.get("LAMI_BUILD") == "1"
# Not the one that GCC 12 gives about every std::optional<Tensor>.
WARNINGS = ["-Wall", "-Wextra", "-Wno-maybe-uninitialized"]
if os.environ.get("LAMI_WERROR") == "1":
    WARNINGS.append("-Werror")
SANITIZERS: list[str] = []
if os.environ.get("LAMI_SANITIZE") == "1":
    undefined = "undefined,float-cast-overflow"
    SANITIZERS = [f"-fsanitize=address,{undefined}", f"-fno-sanitize-recover={undefined}"]


def give_up(what: str, reason: object) -> None:
    """The package works without its libraries, only slower: an error only where they were asked for."""
    message = f"lami is installed without its {what}: {reason}"
    if REQUIRED:
        raise SystemExit(f"{message} (LAMI_BUILD=1 makes this an error)")
    warnings.warn(message, stacklevel=2)


def find_cuda_home() -> str | None:
    """The toolkit's folder. nvcc itself says where it is: what is on PATH may be a link or a script that calls it."""
    if home := os.environ.get("CUDA_HOME"):
        return home
    if (nvcc := shutil.which("nvcc")) is None:
        return None
    plan = subprocess.run([nvcc, "--dryrun", "-x", "cu", "-c", os.devnull], capture_output=True, text=True, check=False)
    binaries = re.search(r"^#\$ _HERE_=(.+)$", plan.stderr, re.MULTILINE)
    return str(Path(binaries[1]).parent) if binaries else None


def sources(*patterns: str) -> list[str]:
    """Relative to this folder, as source distributions want them."""
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))


def extension(name: str, files: list[str], libraries: list[str], folders: list[str], flags: list[str]) -> Extension:
    """One shared library: module.cpp gives it an importable name, loading it registers the ops in `files`."""
    import pybind11
    import torch

    torch_root = Path(torch.__file__).parent
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    # Not this project's headers: no warnings about them.
    headers = [pybind11.get_include(), str(torch_root / "include"), *(f"{folder}/include" for folder in folders)]
    mode = ["-O3"]
    if SANITIZERS:  # Python's own flags let signed integers wrap
        mode = ["-O1", "-g1", "-fno-omit-frame-pointer", "-fno-wrapv", "-D_GLIBCXX_ASSERTIONS", *SANITIZERS]
    common = [*mode, "-std=c++20", f"-DTORCH_TARGET_VERSION={OLDEST_TORCH}", *flags]
    common += [part for folder in headers for part in ("-isystem", folder)]
    # For quoted includes alone: csrc/math.h must not stand in for the system's.
    own = f"-iquote{ROOT / 'csrc'}"
    host = [own, "-g0", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd", *WARNINGS]
    device = [f"-Xcompiler={','.join([own, *WARNINGS])}", "-Xptxas=-warn-spills", "--expt-relaxed-constexpr"]
    return Extension(
        name,
        files,
        libraries=libraries,
        library_dirs=[str(torch_root / "lib"), *(f"{folder}/lib64" for folder in folders)],
        define_macros=[("LAMI_VERSION", f'"{version}"')],
        extra_link_args=SANITIZERS,
        extra_compile_args={"cxx": [*host, *common], "nvcc": [*device, *common]},  # type: ignore[arg-type]  # torch's form
        depends=sources("csrc/**/*.h", "csrc/**/*.cuh"),
        optional=not REQUIRED,
        language="c++",
    )


def cuda_extension(files: list[str]) -> Extension | None:
    """The CUDA library, or None where it is not wanted or nothing can build it; no GPU is needed, nor looked for."""
    import torch

    if os.environ.get("LAMI_BUILD_CUDA") == "0" or SANITIZERS or torch.version.cuda is None or not files:
        return None
    home = find_cuda_home()
    if home is None:
        give_up(
            "CUDA kernels", "nvcc was not found; install the CUDA toolkit or set CUDA_HOME, or set LAMI_BUILD_CUDA=0"
        )
        return None
    answer = subprocess.run([f"{home}/bin/nvcc", "--version"], capture_output=True, text=True, check=False).stdout
    release = re.search(r"release (\d+\.\d+)", answer)
    found = release[1] if release else "unknown"
    if found.split(".")[0] != torch.version.cuda.split(".")[0]:
        reason = f"nvcc in {home} is of CUDA {found}, torch of CUDA {torch.version.cuda}; the major versions must agree"
        give_up("CUDA kernels", reason)
        return None
    os.environ["CUDA_HOME"] = home  # where torch's build looks
    architectures = os.environ.setdefault("TORCH_CUDA_ARCH_LIST", DEFAULT_ARCHITECTURES)
    return extension(
        "lami._C_cuda",
        [*files, "csrc/module.cpp"],
        ["c10", "torch_cpu", "torch_cuda", "cudart"],
        [home],
        ["-DUSE_CUDA", f'-DLAMI_CUDA="{found}"', f'-DLAMI_ARCHITECTURES="{architectures}"'],
    )


def native() -> dict[str, Any]:
    """Arguments of `setup` that build what can be built here."""
    if os.environ.get("LAMI_BUILD") == "0":
        return {}
    try:
        import pybind11  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        give_up("native libraries", f"building them needs torch, ninja and pybind11, and {error}")
        return {}

    cpu = extension("lami._C", [*sources("csrc/cpu/*.cpp"), "csrc/module.cpp"], ["c10", "torch_cpu"], [], [])
    cuda = cuda_extension(sources("csrc/cuda/*.cu"))
    # Only now: it reads CUDA_HOME when it is imported.
    from torch.utils.cpp_extension import BuildExtension

    class Build(BuildExtension):
        """torch's compiler driver (ninja, nvcc), with failures that need not stop the installation."""

        def build_extensions(self) -> None:
            try:
                super().build_extensions()
            except Exception as error:
                give_up("native libraries", error)

        def build_extension(self, ext: Extension) -> None:
            everything = self.build_temp
            self.build_temp = os.path.join(everything, ext.name)  # module.cpp is compiled for each
            try:
                super().build_extension(ext)
            except Exception as error:
                give_up(ext.name, error)
            finally:
                self.build_temp = everything

    return {"ext_modules": [ext for ext in (cpu, cuda) if ext is not None], "cmdclass": {"build_ext": Build}}


setup(**native())
