"""The folder of an export: what is in it, what it refuses, and that it appears whole or not at all."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small import small_model
from torch import Tensor

from lami import checkpoint
from lami.cli.main import main
from lami.errors import ConfigError
from lami.export import Part, export, folder, onnx_graphs, torch_packages


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    """Replaces tracing, which takes seconds, by what can be compared in no time; returns what makes it go wrong."""
    wrong: list[float] = []

    def write(part: Part, path: Path) -> None:
        torch.save(part.outputs, path)

    def run(part: Part, path: Path) -> tuple[Tensor, ...]:
        assert tuple(torch.load(path)) == part.outputs
        return tuple(output + sum(wrong) for output in part.run())

    monkeypatch.setattr(torch_packages, "write_package", write)
    monkeypatch.setattr(torch_packages, "run_package", run)
    return lambda: wrong.append(float("nan") if wrong else 1e-3)


def _listing(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def test_report(small: object, tmp_path: Path) -> None:
    model = small_model(background=False, times=(0.3, 0.6))
    export(model, tmp_path / "new" / "parts", packages=True)
    report = json.loads((tmp_path / "new" / "parts" / "export.json").read_text())
    assert report["image_size"] == [64, 64]
    assert report["interpolation"]["times"] == [0.3, 0.6]
    assert report["opset"] is None
    assert set(report["parts"]) == {"detector", "motion", "generator", "class_token"}
    assert report["parts"]["detector"] == {
        "inputs": {"image": ["batch", 3, 64, 64]},
        "outputs": {"keypoints": ["batch", 4, 5, 2]},
        "files": {"detector.pt2": 0.0},
    }
    assert _listing(tmp_path / "new" / "parts") == {
        "export.json", "detector.pt2", "motion.pt2", "generator.pt2", "class_token.pt2"
    }  # fmt: skip
    assert _listing(tmp_path / "new") == {"parts"}


def test_difference_leaves_nothing(small: Callable[[], object], tmp_path: Path) -> None:
    model = small_model(background=False, selector="fixed")
    for message in (r"detector\.pt2 differs from the model by 1\.0e-03, more than 1e-04", "by inf"):
        small()
        with pytest.raises(ConfigError, match=message):
            export(model, tmp_path / "parts", packages=True)
        assert not _listing(tmp_path)


def test_earlier_export_is_replaced_and_nothing_else(small: Callable[[], object], tmp_path: Path) -> None:
    output = tmp_path / "parts"
    output.mkdir()
    export(small_model(), output, packages=True)
    assert "background.pt2" in _listing(output)
    export(small_model(background=False, selector="fixed"), output, packages=True)
    before = {"export.json", "detector.pt2", "motion.pt2", "generator.pt2"}
    assert _listing(output) == before
    small()
    with pytest.raises(ConfigError, match="differs from the model"):
        export(small_model(), output, packages=True)
    assert _listing(output) == before
    (output / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"notes\.txt is not part of an earlier export, choose a new or empty"):
        export(small_model(), output, packages=True)
    assert _listing(output) == before | {"notes.txt"}


@pytest.mark.parametrize("text", [None, "[]", "{", '{"parts": 1}', '{"parts": {"detector": {}}}'])
def test_folders_of_others(text: str | None, small: object, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "export.json").write_text(text)
    (tmp_path / "detector.pt2").write_text("mine")
    with pytest.raises(ConfigError, match="is not part of an earlier export"):
        export(small_model(), tmp_path, packages=True)
    assert (tmp_path / "detector.pt2").read_text() == "mine"


def test_folder_that_cannot_be(small: object, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is not a folder"):
        export(small_model(), tmp_path / "file", packages=True)
    with pytest.raises(ConfigError, match="cannot be written"):
        export(small_model(), tmp_path / "file" / "parts", packages=True)


def test_links_and_the_folder_one_is_in(small: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "link").symlink_to("parts")
    export(small_model(background=False), tmp_path / "link", packages=True)
    assert (tmp_path / "link").is_symlink()
    assert "class_token.pt2" in _listing(tmp_path / "parts")
    monkeypatch.chdir(tmp_path / "parts")
    export(small_model(background=False, selector="fixed"), ".", packages=True)
    assert "class_token.pt2" not in _listing(tmp_path / "parts")
    assert _listing(tmp_path) == {"parts", "link"}


def test_a_mounted_disk_is_refused_at_once(small: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path)
    with pytest.raises(ConfigError, match="is where a disk is mounted"):
        export(small_model(), tmp_path, packages=True)


def test_earlier_export_survives_a_failure_to_replace_it(
    small: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "parts"
    export(small_model(background=False), output, packages=True)
    before = _listing(output)
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if target == output and path.name == output.name:
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(ConfigError, match="cannot be written"):
        export(small_model(background=False, selector="fixed"), output, packages=True)
    assert _listing(output) == before
    assert _listing(tmp_path) == {"parts"}


def test_missing_extra_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'needs onnx, onnxruntime, onnxscript; pip install "lami\[export\]"'):
        export(small_model(), tmp_path / "graphs", onnx=True)
    assert not _listing(tmp_path)


def test_graphs_are_made_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graphs, "check_installed", lambda: None)
    with pytest.raises(ConfigError, match="the model is on meta; load it there"):
        export(small_model().to("meta"), tmp_path / "graphs", onnx=True)


def test_command(small: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "model.safetensors"
    checkpoint.save(small_model(), weights)
    main(["export", str(weights), "-o", str(tmp_path / "parts"), "--torch", "--selector", "fixed"])
    assert _listing(tmp_path / "parts") == {
        "export.json", "detector.pt2", "motion.pt2", "generator.pt2", "background.pt2"
    }  # fmt: skip
    for arguments, message in (
        ([str(weights), "-o", str(tmp_path / "none")], "say what to export: --onnx, --torch or both"),
        (["none.safetensors", "--torch", "-o", str(tmp_path / "none")], "no weight file at none.safetensors"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["export", *arguments])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_packages_load_elsewhere_with_the_ops_inside(tmp_path: Path) -> None:
    """Tracing takes most of a minute on a busy core."""
    model = small_model(background=False, selector="fixed")
    report = export(model, tmp_path / "parts", packages=True)
    assert max(max(part.files.values()) for part in report.parts.values()) < folder.TOLERANCE
    code = (
        "import sys, torch, lami.ops; graph = torch.export.load(sys.argv[1]); "
        "print(sorted({str(node.target) for node in graph.graph.nodes if str(node.target).startswith('lami')})); "
        "kp = torch.rand(5, 4, 5, 2); "
        "print(graph.module()(torch.rand(5, 3, 64, 64), kp, kp, torch.eye(3).expand(5, 3, 3))[0].shape)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "parts" / "motion.pt2")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    ops_inside, shape = answer.stdout.splitlines()
    assert shape == "torch.Size([5, 16, 16, 2])"
    from lami.ops import _backend

    if _backend.automatic("blend_flow", "cpu") == "native":
        assert ops_inside == "['lami.blend_flow.default', 'lami.motion_features.default']"
