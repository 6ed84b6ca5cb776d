"""ONNX graphs compute what the model computes, and an example without PyTorch animates with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small import small_model
from torch import Tensor, nn

from lami.data import read_image, to_tensor, to_uint8, write_image
from lami.export import Part, export, folder
from lami.export.onnx_graphs import OPSET, run_onnx, write_onnx
from lami.model import LAMI

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "onnx_animate.py"


class _Inverse(nn.Module):
    def forward(self, matrices: Tensor) -> Tensor:
        return torch.linalg.inv_ex(matrices)[0]


def test_inverse_of_matrices_that_need_pivoting(tmp_path: Path) -> None:
    matrices = torch.randn(7, 3, 8, 8)
    matrices[:4] -= torch.diag_embed(matrices[:4].diagonal(dim1=-2, dim2=-1))  # zeros on the diagonal
    matrices[5:] = torch.eye(8)[torch.randperm(8)] * 1e-3
    write_onnx(Part("inverse", _Inverse(), {"matrices": matrices[:2]}, ("inverse",)), tmp_path / "inverse.onnx")
    part = Part("inverse", _Inverse(), {"matrices": matrices}, ("inverse",))
    [inverse] = run_onnx(part, tmp_path / "inverse.onnx")
    identity = (inverse.double() @ matrices.double() - torch.eye(8)).abs().amax(dim=(-2, -1))
    wanted = (part.run()[0].double() @ matrices.double() - torch.eye(8)).abs().amax(dim=(-2, -1))
    assert (identity <= 10 * wanted + 1e-5).all()


def _predict(model: LAMI, source: Tensor, frames: list[Tensor], stages: int) -> list[np.ndarray]:
    """What the example should make, by the model itself."""
    kp_source, kp_first = model.detect_keypoints(source), model.detect_keypoints(frames[0])
    encoded, images = model.encode(source), []
    for frame in frames:
        target = kp_source + model.detect_keypoints(frame) - kp_first
        if stages == 1:
            result = model.transfer_directly(encoded, kp_source, target)
        else:
            candidates = model.candidates(encoded, kp_source, target)
            result = model.complete(encoded, kp_source, target, candidates, candidates.best())
        images.append(to_uint8(result.prediction)[0])
    return images


@pytest.mark.slow
@pytest.mark.parametrize("selector", ["eq4", "fixed"])
def test_example_makes_what_the_model_makes(selector: str, tmp_path: Path) -> None:
    """Tracing takes half a minute on an idle core."""
    model = small_model(selector=selector, times=(0.2, 0.5, 0.8), fixed_time=0.4)
    assert model.background_predictor is not None
    nn.init.normal_(model.background_predictor.bg_encoder.get_classifier().weight, std=0.1)
    graphs = tmp_path / "graphs"
    report = export(model, graphs, onnx=True)
    assert max(max(part.files.values()) for part in report.parts.values()) < folder.TOLERANCE
    assert json.loads((graphs / "export.json").read_text())["opset"] == OPSET
    assert ("class_token" in report.parts) == (selector == "eq4")
    for name, part in report.parts.items():
        graph = onnx.load(graphs / f"{name}.onnx")
        onnx.checker.check_model(graph)
        assert {entry.domain for entry in graph.opset_import} <= {""}
        assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
        assert [value.name for value in graph.graph.output] == list(part.outputs)

    names = ["source", "frame-0001", "frame-0002", "frame-0003"]
    for name in names:
        write_image(tmp_path / f"{name}.png", np.random.randint(0, 256, (64, 64, 3), np.uint8))
    pictures = [to_tensor(read_image(tmp_path / f"{name}.png"))[None] for name in names]
    for stages in (1, 2):
        without = "import runpy, sys; sys.modules.update(torch=None, lami=None); runpy.run_path(sys.argv.pop(1))"
        files = [tmp_path / "source.png", tmp_path / "frame-%04d.png", tmp_path / f"made{stages}-%04d.png"]
        command = [sys.executable, "-c", without, EXAMPLE, graphs, *files, "--stages", stages]
        subprocess.run(list(map(str, command)), check=True, timeout=300)
        with torch.no_grad():
            wanted = _predict(model, pictures[0], pictures[1:], stages)
        made = [read_image(path).astype(int) for path in sorted(tmp_path.glob(f"made{stages}-*.png"))]
        assert len(made) == len(wanted)
        assert np.abs(np.stack(made) - np.stack(wanted)).max() <= 1
