"""What it takes to repeat a run: configuration, machine, packages, command line and state of the source tree."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lami.configs import dump_config
from lami.configs.schema import Config
from lami.data.files import atomic_path
from lami.environment import describe_machine, installed_packages, uncommitted_changes
from lami.errors import ConfigError
from lami.processes import Processes


def record_start(output: Path, config: Config, step: int, processes: Processes) -> None:
    """Write `config.yaml`, add a line to `environment.jsonl`, and save what is changed but not committed as
    `step-N.patch`.

    Args:
        output: folder of the run.
        step: at which it starts or resumes.
        processes: all that take part.

    Raises:
        ConfigError: the folder cannot be written.
    """
    try:
        _record(output, config, step, processes)
    except OSError as error:
        raise ConfigError(
            f"training.output {output} cannot be written ({error.strerror}); choose another folder, or make room"
        ) from error


def _record(output: Path, config: Config, step: int, processes: Processes) -> None:
    output.mkdir(parents=True, exist_ok=True)
    with atomic_path(output / "config.yaml") as partial:  # commands beside this one read it
        partial.write_text(dump_config(config), encoding="utf-8")
    entry = describe_machine(processes.device)
    entry |= {"date": entry["date"].isoformat(), "step": step, "processes": processes.size, "command": sys.argv}
    changes = uncommitted_changes()
    if changes:
        patch = output / f"step-{step:08d}.patch"
        patch.write_bytes(changes)
        entry["patch"] = patch.name
    entry["packages"] = installed_packages()
    with (output / "environment.jsonl").open("a") as file:
        file.write(json.dumps(entry) + "\n")
