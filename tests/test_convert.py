"""Import of TPSMM checkpoints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import golden
import pytest
import torch
from small import small_model
from torch import Tensor

from lami import checkpoint
from lami.configs.schema import AVDConfig, DenseMotionConfig, GeneratorConfig, ModelConfig
from lami.convert import convert_tpsmm, copy_weights, infer_config
from lami.errors import CheckpointError, ConfigError, DataError
from lami.model import LAMI

MINI = ModelConfig(
    num_splines=4,
    dense_motion=DenseMotionConfig(block_channels=16, max_channels=64, num_blocks=3),
    generator=GeneratorConfig(block_channels=16, max_channels=64),
)

Checkpoint = dict[str, Any]

TPSMM_NAMES = {
    "kp_detector": "keypoint_detector",
    "dense_motion_network": "dense_motion",
    "inpainting_network": "generator",
    "bg_predictor": "background_predictor",
    "avd_network": "avd",
}


def zeros(networks: golden.Shapes, prefix: str = "") -> Checkpoint:
    """A checkpoint of these shapes, all zero: expanded scalars, which take no room in a file."""
    return {
        network: {
            f"{prefix}{name}": torch.zeros((), dtype=torch.int64 if "num_batches" in name else torch.float32).expand(
                shape
            )
            for name, shape in parameters.items()
        }
        for network, parameters in networks.items()
    }


@pytest.fixture(scope="module")
def mini() -> Checkpoint:
    return zeros(golden.shapes("mini64"))


@pytest.fixture(scope="module")
def mini_file(mini: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tpsmm") / "mini.pth.tar"
    torch.save(mini, path)
    return path


def flat_meta(networks: golden.Shapes) -> dict[str, Tensor]:
    return {
        f"{network}.{name}": torch.empty(shape, device="meta")
        for network, parameters in networks.items()
        for name, shape in parameters.items()
    }


def tpsmm_shapes(config: ModelConfig) -> dict[str, Tensor]:
    """Tensors that TPSMM would save for a configuration."""
    with torch.device("meta"):
        model = LAMI(config)
    return {
        f"{network}.{name}": tensor
        for network, attribute in TPSMM_NAMES.items()
        if getattr(model, attribute) is not None
        for name, tensor in getattr(model, attribute).state_dict().items()
    }


def convert(content: object, folder: Path) -> LAMI:
    path = folder / "in.pth.tar"
    torch.save(content, path)
    return convert_tpsmm(path, folder / "out.safetensors")


@pytest.mark.parametrize("name", ["taichi-256", "vox-256", "ted-384", "mgif-256"])
def test_published_configurations_are_inferred(name: str) -> None:
    tensors = flat_meta(golden.published_shapes()[name])
    config = infer_config(tensors, Path("x.pth.tar"))
    assert config == (
        ModelConfig(avd=AVDConfig(), background=None) if name == "mgif-256" else ModelConfig(avd=AVDConfig())
    )
    wanted = {key: tensor.shape for key, tensor in tpsmm_shapes(config).items()}
    assert wanted == {key: tensor.shape for key, tensor in tensors.items()}


@pytest.mark.parametrize(
    "config",
    [
        MINI,
        MINI.model_copy(
            update={"points_per_spline": 3, "background": None, "avd": AVDConfig(identity_width=7, pose_width=9)}
        ),
        ModelConfig(num_splines=1, points_per_spline=16),
        ModelConfig(dense_motion=DenseMotionConfig(multi_mask=False)),
        ModelConfig(dense_motion=DenseMotionConfig(scale_factor=1, num_blocks=4, multi_mask=False)),
        ModelConfig(dense_motion=DenseMotionConfig(scale_factor=0.5, block_channels=8, max_channels=40)),
        ModelConfig(dense_motion=DenseMotionConfig(scale_factor=0.125, num_blocks=2, max_channels=256)),
        ModelConfig(generator=GeneratorConfig(block_channels=8, max_channels=8, num_down_blocks=4)),
    ],
)
def test_configurations_are_inferred_from_their_shapes(config: ModelConfig) -> None:
    assert infer_config(tpsmm_shapes(config), Path("x.pth.tar"), config.image_size) == config


def test_unreached_maximum_width_still_reproduces_the_shapes() -> None:
    config = ModelConfig(generator=GeneratorConfig(block_channels=16, max_channels=512))
    inferred = infer_config(tpsmm_shapes(config), Path("x.pth.tar"))
    assert inferred.generator == GeneratorConfig(block_channels=16, max_channels=128)
    assert {k: v.shape for k, v in tpsmm_shapes(inferred).items()} == {
        k: v.shape for k, v in tpsmm_shapes(config).items()
    }


def test_image_size_defaults_to_what_the_networks_take() -> None:
    config = ModelConfig(image_size=512, dense_motion=DenseMotionConfig(num_blocks=7, max_channels=128))
    tensors = tpsmm_shapes(config)
    assert infer_config(tensors, Path("x.pth.tar")).image_size == (512, 512)
    assert infer_config(tensors, Path("x.pth.tar"), 1024).image_size == (1024, 1024)
    assert infer_config(tensors, Path("x.pth.tar"), (512, 1024)).image_size == (512, 1024)


def test_converted_file_reproduces_the_reference(tmp_path: Path) -> None:
    path, output = tmp_path / "mini.pth.tar", tmp_path / "new folder" / "mini.safetensors"
    networks = golden.checkpoint(golden.shapes("mini64"))
    torch.save({**networks, "epoch": 99, "optimizer": {"state": {}, "param_groups": []}}, path)
    before = path.read_bytes()
    returned = convert_tpsmm(path, output, image_size=64)
    assert path.read_bytes() == before
    assert os.listdir(output.parent) == [output.name]
    model = checkpoint.load(output, "cpu")
    assert model.config == returned.config == MINI.model_copy(update={"image_size": (64, 64)})
    assert not model.training
    assert not returned.training

    wanted = golden.arrays("mini64")
    source, driving = golden.image("mini64", "source"), golden.image("mini64", "driving")
    kp_source, kp_driving = (wanted[f"kp_{role}_used"].unflatten(1, (4, 5)) for role in ("source", "driving"))
    for m in (model, returned):
        with torch.no_grad():
            background = m.predict_background(source, driving)
            motion = m.predict_motion(source, kp_driving, kp_source, background)
            generated = m.generate(source, motion)
        torch.testing.assert_close(background, wanted["bg_param"], atol=2e-5, rtol=0)
        torch.testing.assert_close(motion.flow, wanted["deformation"], atol=2e-5, rtol=0)
        torch.testing.assert_close(generated.prediction[..., ::4, ::4], wanted["prediction"], atol=2e-5, rtol=0)


def test_full_size_checkpoint_with_avd_and_parallel_prefixes(tmp_path: Path) -> None:
    content = zeros(golden.published_shapes()["ted-384"], prefix="module.")
    content["avd_network"]["module.decoder.9.bias"] = torch.arange(100.0)
    torch.save(content, tmp_path / "ted.pth.tar")
    model = convert_tpsmm(tmp_path / "ted.pth.tar", tmp_path / "ted.safetensors", image_size=384)
    (tmp_path / "ted.safetensors").unlink()
    assert model.config == ModelConfig(image_size=384, avd=AVDConfig())
    keypoints = torch.zeros(1, 10, 5, 2)
    with torch.no_grad():
        assert model.avd is not None
        torch.testing.assert_close(model.avd(keypoints, keypoints).flatten(), torch.arange(100.0))


def test_optional_networks_may_be_missing(mini: Checkpoint, tmp_path: Path) -> None:
    model = convert({key: value for key, value in mini.items() if key != "bg_predictor"}, tmp_path)
    assert model.background_predictor is None
    assert model.avd is None
    assert checkpoint.load(tmp_path / "out.safetensors", "cpu").config == model.config


@pytest.mark.parametrize("network", ["kp_detector", "dense_motion_network", "inpainting_network"])
def test_missing_network_is_named(mini: Checkpoint, tmp_path: Path, network: str) -> None:
    with pytest.raises(CheckpointError, match=f"lacks the network {network}"):
        convert({key: value for key, value in mini.items() if key != network}, tmp_path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weight file at"):
        convert_tpsmm(tmp_path / "none.pth.tar", tmp_path / "out.safetensors")


def test_lfs_pointer(tmp_path: Path) -> None:
    path = tmp_path / "vox.pth.tar"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(CheckpointError, match="Git LFS pointer"):
        convert_tpsmm(path, tmp_path / "out.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_truncated_file(mini_file: Path, tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.pth.tar"
    content = mini_file.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="truncated or not a torch file"):
        convert_tpsmm(path, tmp_path / "out.safetensors")


def test_text_file(tmp_path: Path) -> None:
    path = tmp_path / "page.pth.tar"
    path.write_text("<html>quota exceeded</html>")
    with pytest.raises(CheckpointError, match="torch file"):
        convert_tpsmm(path, tmp_path / "out.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "it holds a list, not networks"),
        ({"state_dict": {}}, "lacks the network kp_detector"),
        ({"kp_detector": torch.zeros(3)}, "kp_detector is not a dictionary of tensors"),
        ({"kp_detector": {"fc": 3}}, "kp_detector is not a dictionary of tensors"),
    ],
)
def test_other_contents(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        convert(content, tmp_path)


@pytest.mark.parametrize(
    ("network", "name", "shape"),
    [
        ("kp_detector", "fg_encoder.fc.weight", (41, 512)),
        ("kp_detector", "fg_encoder.fc.weight", (136, 512)),
        ("kp_detector", "fg_encoder.layer1.0.conv1.weight", (64, 64, 1, 1)),
        ("kp_detector", "fg_encoder.fc.weight", None),
        ("kp_detector", "fg_encoder.extra.weight", (1,)),
        ("dense_motion_network", "maps.weight", (1, 52, 7, 7)),
        ("dense_motion_network", "maps.weight", ()),
        ("dense_motion_network", "maps.weight", None),
        ("dense_motion_network", "maps.bias", (6,)),
        ("dense_motion_network", "down.weight", (3, 1, 12, 12)),
        ("dense_motion_network", "down.weight", (3, 1, 9, 9)),
        ("dense_motion_network", "down.weight", None),
        ("dense_motion_network", "hourglass.encoder.down_blocks.0.conv.weight", (32, 37, 3, 3)),
        ("dense_motion_network", "hourglass.decoder.up_blocks.2.conv.weight", None),
        ("inpainting_network", "down_blocks.2.conv.weight", (0, 64, 3, 3)),
        ("inpainting_network", "resblock.3.conv2.weight", (64, 64, 3, 3)),
        ("bg_predictor", "bg_encoder.conv1.weight", (64, 3, 7, 7)),
    ],
)
def test_misfit_names_the_tensor(
    mini: Checkpoint, tmp_path: Path, network: str, name: str, shape: tuple[int, ...] | None
) -> None:
    state = dict(mini[network])
    if shape is None:
        del state[name]
    else:
        state[name] = torch.zeros(shape)
    named = (
        r"dense_motion_network\.up"
        if name == "down.weight" and shape is None
        else f"{network}.{name}".replace(".", r"\.")
    )
    with pytest.raises(CheckpointError, match=named) as caught:
        convert({**mini, network: state}, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()


def test_image_size_must_fit_the_networks(mini_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="multiples of 32, got 100 x 100"):
        convert_tpsmm(mini_file, tmp_path / "out.safetensors", image_size=100)
    assert list(tmp_path.iterdir()) == []


def test_output_must_be_another_safetensors_file(mini_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"named \.safetensors"):
        convert_tpsmm(mini_file, tmp_path / "out.pth.tar")
    path = tmp_path / "same.safetensors"
    path.write_bytes(b"precious")
    with pytest.raises(DataError, match="is an input"):
        convert_tpsmm(path, path)
    assert path.read_bytes() == b"precious"


def test_interrupted_write_leaves_nothing(mini_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tensors: object, filename: Path, metadata: object) -> None:
        filename.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(CheckpointError, match=r"cannot be written \(disk full\)"):
        convert_tpsmm(mini_file, tmp_path / "out.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_copy_in_half_precision(tmp_path: Path) -> None:
    model = small_model()
    checkpoint.save(model, tmp_path / "model.safetensors")
    copy_weights(tmp_path / "model.safetensors", tmp_path / "half.safetensors", torch.float16)
    sizes = [(tmp_path / name).stat().st_size for name in ("model.safetensors", "half.safetensors")]
    assert sizes[1] < 0.6 * sizes[0]
    copied = checkpoint.load(tmp_path / "half.safetensors", device="cpu").state_dict()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(copied[name], tensor, rtol=1e-3, atol=1e-6)  # fp16 has 11 bits, smallest step 6e-8
    with pytest.raises(DataError, match="is an input"):
        copy_weights(tmp_path / "half.safetensors", tmp_path / "half.safetensors")
