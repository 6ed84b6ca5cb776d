"""Everything that needs a GPU, in one folder of results: build, tests, compute-sanitizer, benchmarks.

    python benchmarks/gpu.py                  on a machine with a GPU; `make gpu` does the same
    python benchmarks/gpu.py --cpu-rehearsal  the same steps without what needs a GPU, to try the script itself

Each step's output goes to `<step>.log` in `benchmarks/results/<device>/<version>/gpu-<date>/`, what became of it to
`summary.json`; a step that fails does not stop the next, except the build. Exit code 0 if all passed, 1 if one failed
or could not run, 2 without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import lami  # noqa: E402  # found through the line above
from benchmarks.ops.machine import describe  # noqa: E402  # found through the line above
from lami.environment import device_name  # noqa: E402


@dataclass(frozen=True)
class Step:
    """A command. Without its program, if it needs one beyond Python, it cannot run, which counts as failure."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    program: str | None = None


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def steps(folder: Path, rehearsal: bool) -> list[Step]:
    """What is run, in order."""
    device = "cpu" if rehearsal else "cuda"
    tests = python("-m", "pytest", "-p", "no:cacheprovider", "-q", f"--junitxml={folder / 'tests.xml'}")
    bench = python("-m", "benchmarks.ops", "--device", device, "--output", str(folder.parent / "ops"))
    # Frozen networks cost the same with random weights, and generated figures need no files.
    random = ["--vit.weights", "random", "--losses.vgg.weights", "random"]
    figures = ["--data.root", "null", "--data.synthetic", "{num_clips: 8}", "--data.id-sampling", "false"]
    train = python("-m", "lami", "bench", "train")
    build = Step("build", python("setup.py", "build_ext", "--inplace"), {"LAMI_BUILD": "1"})
    if rehearsal:
        little = ["--quick", "--ops", "fit_tps", "keypoint_heatmaps"]
        build = Step("build", build.command, {**build.environment, "LAMI_BUILD_CUDA": "0"})
        short = [
            "actions",
            *random,
            *figures,
            "--training.device",
            "cpu",
            "--training.batch-size",
            "2",
            "--rounds",
            "1",
        ]
        return [
            build,
            Step("tests", [*tests, "tests/gpu", "-m", ""]),
            Step("benchmarks", [*bench, *little]),
            Step("training", [*train, *short, "-o", str(folder / "training")]),
        ]
    # One small launch of every kernel; without the caching allocator each tensor has bounds of its own.
    every_kernel = python("-m", "pytest", "-p", "no:cacheprovider", "-q", "-m", "gpu", "tests/gpu/test_every_kernel.py")
    plain = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "CUDA_LAUNCH_BLOCKING": "1"}
    sanitizers = [
        Step(
            tool,
            ["compute-sanitizer", f"--tool={tool}", "--error-exitcode=1", "--target-processes=all", *every_kernel],
            plain,
            program="compute-sanitizer",
        )
        for tool in ("memcheck", "racecheck")
    ]
    options = {
        "training": [],
        "training-compiled": ["--training.compile", "true"],
        "training-graphs": ["--training.compile", "true", "--training.cuda-graphs", "true"],
        "training-checkpointed": ["--training.checkpoint-decoder", "true"],
    }
    training = [
        Step(name, [*train, "taichi", *random, *figures, *chosen, "-o", str(folder / name)])
        for name, chosen in options.items()
    ]
    return [build, Step("tests", [*tests, "-m", "gpu or not slow"]), *sanitizers, Step("benchmarks", bench), *training]


def run(step: Step, log: Path) -> dict[str, object]:
    """Outcome (`passed`, `failed` or why it could not run) and seconds."""
    if step.program is not None and shutil.which(step.program) is None:
        return {"outcome": f"{step.program} was not found; install the CUDA toolkit", "seconds": 0}
    start = time.perf_counter()
    with log.open("w") as output:
        code = subprocess.run(
            step.command, cwd=ROOT, env={**os.environ, **step.environment}, stdout=output, stderr=subprocess.STDOUT
        ).returncode
    outcome = "passed" if code == 0 else "failed"
    return {"outcome": outcome, "exit_code": code, "seconds": round(time.perf_counter() - start, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description="Build, tests, compute-sanitizer and benchmarks on a GPU.")
    parser.add_argument("--cpu-rehearsal", action="store_true", help="the steps that need no GPU, to try this script")
    parser.add_argument("--output", type=Path, help="folder of the results; benchmarks/results/<device>/<version>")
    options = parser.parse_args()
    if not options.cpu_rehearsal and not torch.cuda.is_available():
        print(
            "This needs a CUDA GPU that PyTorch can use; --cpu-rehearsal runs the steps that do not.", file=sys.stderr
        )
        return 2
    device = torch.device("cpu" if options.cpu_rehearsal else "cuda")
    results = options.output or ROOT / "benchmarks" / "results" / device_name(device) / lami.__version__
    folder = results.resolve() / f"gpu-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True)
    summary: dict[str, object] = {"rehearsal": options.cpu_rehearsal, **describe(device)}
    outcomes: dict[str, dict[str, object]] = {}
    for step in steps(folder, options.cpu_rehearsal):
        print(f"{step.name}: {folder / step.name}.log", flush=True)
        outcomes[step.name] = run(step, folder / f"{step.name}.log")
        print(f"  {outcomes[step.name]['outcome']}, {outcomes[step.name]['seconds']} s", flush=True)
        text = json.dumps({**summary, "steps": outcomes}, indent=1, default=str)
        (folder / "summary.json").write_text(text + "\n")
        if step.name == "build" and outcomes["build"]["outcome"] != "passed":
            break
    return int(any(outcome["outcome"] != "passed" for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
