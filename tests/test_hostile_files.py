"""Weight files from strangers: whatever their name, nothing in them is executed."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import tiny_config, tiny_model

import lami
from lami import checkpoint
from lami.backbones import create_pretrained
from lami.convert import convert_tpsmm
from lami.errors import LamiError
from lami.training.checkpoints import RunCheckpoints
from lami.training.optimizers import Optimizers


class Payload:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return open, (str(self.path), "w")


def plain_pickle(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content))


def new_format(path: Path, content: object) -> None:
    torch.save(content, path)


def old_format(path: Path, content: object) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def hand_made_archive(path: Path, content: object) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content))
        archive.writestr("archive/version", "3\n")


WRITERS = [plain_pickle, new_format, old_format, hand_made_archive]
SUFFIXES = [".pth.tar", ".pt", ".safetensors"]


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """The file that would exist."""
    return tmp_path / "executed"


def test_the_payload_works(tmp_path: Path, trap: Path) -> None:
    """Read without care it does what it is for, in every form that PyTorch or pickle read."""
    for write in WRITERS[:3]:
        path = tmp_path / "payload"
        write(path, {"kp_detector": Payload(trap)})
        if write is plain_pickle:
            pickle.loads(path.read_bytes())
        else:
            torch.load(path, weights_only=False)
        assert trap.exists()
        trap.unlink()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("write", WRITERS)
def test_models_are_not_executed(
    write: Callable[[Path, object], None], suffix: str, tmp_path: Path, trap: Path
) -> None:
    path = tmp_path / f"model{suffix}"
    write(path, {"kp_detector": Payload(trap), "generator": {}})
    readers: list[Callable[[], object]] = [
        lambda: lami.load(path),
        lambda: convert_tpsmm(path, tmp_path / "converted.safetensors"),
        lambda: create_pretrained("vit_tiny_patch16_224", str(path)),
    ]
    for read in readers:
        with pytest.raises(LamiError) as caught:
            read()
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value).strip()
    assert not trap.exists()
    assert not (tmp_path / "converted.safetensors").exists()


@pytest.mark.parametrize("write", WRITERS)
def test_training_states_are_not_executed(write: Callable[[Path, object], None], tmp_path: Path, trap: Path) -> None:
    config = tiny_config()
    model = tiny_model(config)
    optimizers = Optimizers.create(model, config.training)
    checkpoints = RunCheckpoints(tmp_path / "checkpoints", keep=1)
    path = checkpoints.save(3, model, optimizers)
    write(path.with_name(f"{path.stem}.state.pt"), {"step": 3, "optimizers": Payload(trap)})
    with pytest.raises(LamiError, match="cannot be read"):
        checkpoints.resume(model, optimizers)
    assert not trap.exists()


def test_metadata_are_data(tmp_path: Path, trap: Path) -> None:
    """A safetensors file whose configuration holds Python or YAML tags."""
    from safetensors.torch import load_file, save_file

    path = tmp_path / "model.safetensors"
    checkpoint.save(tiny_model(tiny_config()), path)
    tag = f"!!python/object/apply:builtins.open ['{trap}', 'w']"
    save_file(load_file(path), path, metadata={"lami": tag, "format": "lami-1", "config": tag, "model": tag})
    with pytest.raises(LamiError):
        lami.load(path)
    assert not trap.exists()
