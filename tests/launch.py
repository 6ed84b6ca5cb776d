"""Several processes, started by torchrun as users start them."""

from __future__ import annotations

import os
import subprocess
import sys

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("TRITON_")} | {
    "OMP_NUM_THREADS": "1"
}


def torchrun(processes: int, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        torchrun_command(processes, *command),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def torchrun_command(processes: int, *command: str) -> list[str]:
    launcher = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, f"--nproc-per-node={processes}", *command]
