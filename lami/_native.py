"""The native libraries: `lami._C` with the CPU kernels and `lami._C_cuda` with the CUDA ones, both optional.

Importing one registers its implementations of `torch.ops.lami.*`; the ops themselves are defined in `lami.ops`.
Why a library is missing is kept, to be told when somebody asks for it.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

import torch  # before the libraries: they find torch's own through it

_MODULES = {"cpu": "_C", "cuda": "_C_cuda"}
_FOLDER = "LAMI_NATIVE_DIR"
"""Environment variable naming a folder whose libraries replace the installed ones, such as builds with sanitizers."""


def build_info(device_type: str) -> dict[str, str] | None:
    """How the library for "cpu" or "cuda" was built: version, compiler, torch_target, cuda, architectures.

    None where it cannot be loaded; see `native_error`.
    """
    library = _load(device_type)
    return library.build_info() if isinstance(library, ModuleType) else None


def native_error(device_type: str) -> str | None:
    """Load the library for "cpu" or "cuda" tensors; why that is impossible, in a sentence, or None if it is there."""
    if device_type not in _MODULES:
        return f"lami has no native kernels for {device_type} tensors"
    library = _load(device_type)
    return library if isinstance(library, str) else None


@functools.cache
def _load(device_type: str) -> ModuleType | str:
    """The library, or why there is none."""
    name = _MODULES[device_type]
    kernels = "CUDA kernels" if device_type == "cuda" else "CPU kernels"
    folder = os.environ.get(_FOLDER)
    path = _find(name, Path(folder) if folder else Path(__file__).parent)
    if path is None:
        if device_type == "cuda" and torch.version.cuda is None:
            return (
                "lami's CUDA kernels are not built, since this torch has no CUDA: install one that has, then lami again"
            )
        needs = "a C++ compiler and nvcc" if device_type == "cuda" else "a C++ compiler"
        where = f" in {folder} ({_FOLDER})" if folder else ""
        return (
            f"lami's {kernels} are not built{where}: install {needs}, then lami again (LAMI_BUILD=1 shows what fails)"
        )
    try:
        return _import(f"lami.{name}", path)
    except Exception as error:
        return f"lami's {kernels} in {path} cannot be loaded: {error}"


def _find(name: str, folder: Path) -> Path | None:
    candidates = (folder / f"{name}{suffix}" for suffix in EXTENSION_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _import(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no extension module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[name] = module
    return module
