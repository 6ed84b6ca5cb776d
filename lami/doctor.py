"""What a bug report needs: versions, devices, compilers, weights and backends, found without the network.

Every probe may fail on a broken installation, which is when the report matters most; its error then takes its place.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import lami

Facts = list[tuple[str, str]]

_VARIABLES = ("CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "TORCH_HOME")


def report() -> str:
    """The whole report as text, a section for each subject."""
    sections: dict[str, Callable[[], Facts]] = {
        "versions": _versions,
        "devices": _devices,
        "compilers": _compilers,
        "pretrained weights in the caches": _weights,
        "native libraries": _libraries,
        "backends of lami.ops": _backends,
        "environment": _environment,
    }
    lines = []
    for title, probe in sections.items():
        try:
            facts = probe()
        except Exception as error:  # whatever breaks an import is what the reader must see
            facts = [("failed", f"{type(error).__name__}: {error}")]
        width = max(len(name) for name, _ in facts)
        lines += [title, *(f"  {name:<{width}}  {text}" for name, text in facts), ""]
    return "\n".join(lines).rstrip()


def _versions() -> Facts:
    facts = [("lami", lami.__version__), ("python", f"{platform.python_version()} on {platform.platform()}")]
    facts.append(("torch", _torch_build()))
    for package in ("torchvision", "timm", "triton", "numpy", "safetensors"):
        facts.append((package, _installed(package)))
    opencv = ("opencv-python-headless", "opencv-python", "opencv-contrib-python")
    facts.append(("opencv", next((text for name in opencv if (text := _installed(name)) != _MISSING), _MISSING)))
    facts.append(("av", _av_build()))
    return facts


_MISSING = "not installed"


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return _MISSING


def _torch_build() -> str:
    try:
        import torch
    except Exception as error:
        return f"{_installed('torch')}, but importing it fails: {error}"
    return f"{torch.__version__}, {f'CUDA {torch.version.cuda}' if torch.version.cuda else 'no CUDA'}"


def _av_build() -> str:
    try:
        import av
    except Exception as error:
        return f"{_installed('av')}, but importing it fails: {error}"
    return f"{av.__version__}, FFmpeg {av.ffmpeg_version_info}"


def _devices() -> Facts:
    import torch

    facts = [("cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {platform.machine()}")]
    if not torch.cuda.is_available():
        why = "this torch is built without CUDA" if torch.version.cuda is None else "torch sees no CUDA device"
        facts.append(("gpu", f"none, {why}"))
    if torch.backends.mps.is_available():
        facts.append(("mps", "the GPU of this Mac, where the ops run in PyTorch (not tried yet)"))
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        memory = f"{gpu.total_memory / 2**30:.1f} GiB"
        facts.append((f"cuda:{index}", f"{gpu.name}, compute capability {gpu.major}.{gpu.minor}, {memory}"))
    return facts


def _compilers() -> Facts:
    facts = []
    for name in ("g++", "nvcc"):
        path = shutil.which(name)
        if path is None:
            facts.append((name, "not found"))
            continue
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
        # g++ gives its version in the first line, nvcc in the one with "release".
        said = answer.stdout.strip().splitlines() or ["does not answer"]
        facts.append((name, f"{next((line for line in said if 'release' in line), said[0])} ({path})"))
    return facts


def _weights() -> Facts:
    import torch
    from huggingface_hub import constants

    hub = Path(constants.HF_HUB_CACHE)
    facts = [(str(hub), ", ".join(_hub_models(hub)) or "none")]
    checkpoints = Path(torch.hub.get_dir()) / "checkpoints"
    files = sorted(path.name for path in checkpoints.glob("*") if path.is_file())
    facts.append((str(checkpoints), ", ".join(files) or "none"))
    return facts


def _hub_models(cache: Path) -> list[str]:
    """Model repositories of timm that hold a finished download."""
    from huggingface_hub import scan_cache_dir

    if not cache.is_dir():
        return []
    repositories = [repository for repository in scan_cache_dir(cache).repos if repository.repo_id.startswith("timm/")]
    return sorted(f"{found.repo_id} ({found.size_on_disk_str})" for found in repositories if found.size_on_disk)


def _libraries() -> Facts:
    from lami import _native

    facts = []
    for device_type, name in (("cpu", "lami._C"), ("cuda", "lami._C_cuda")):
        info = _native.build_info(device_type)
        if info is None:
            facts.append((name, _native.native_error(device_type) or "unknown"))
            continue
        cuda = f", CUDA {info['cuda']} for {info['architectures']}" if info["cuda"] else ""
        facts.append((name, f"{info['version']}, {info['compiler']}{cuda}"))
    return facts


def _backends() -> Facts:
    import torch

    ops = importlib.import_module("lami.ops")
    choice = importlib.import_module("lami.ops._backend")
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    functions = [name for name in ops.__all__ if name != ops.use_backend.__name__]
    return [(op, ", ".join(f"{choice.automatic(op, device)} on {device}" for device in devices)) for op in functions]


def _environment() -> Facts:
    return [(name, os.environ.get(name, "not set")) for name in _VARIABLES]
