"""Reading configurations: presets, files, `extends`, overrides, and what errors say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from lami.configs import Config, config_names, dump_config, load_config
from lami.errors import ConfigError
from lami.models.size import check_image_size

ROOT = Path(__file__).parents[2]
PRESETS = ("actions", "fashion", "mgif", "nemo", "paper_literal", "taichi", "ted", "vox")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_presets_are_listed() -> None:
    assert set(PRESETS) <= set(config_names())


@pytest.mark.parametrize("name", config_names())
def test_presets_work_at_their_size(name: str) -> None:
    config = load_config(name)
    check_image_size(config.model, *config.model.image_size)
    assert (config.model.background is None) == (config.losses.background == 0.0) or name == "paper_literal"


@pytest.mark.parametrize("name", ["taichi", "fashion", "nemo", "ted"])
def test_settings_stated_in_the_paper(name: str) -> None:
    config = load_config(name)
    assert config.model.image_size == (256, 256)
    assert config.interpolation.times == (0.3, 0.5, 0.7)
    assert config.losses.bidirectional
    weights = config.losses
    assert {weights.reconstruction, weights.feature, weights.appearance, weights.structure} == {10.0}
    training = config.training
    assert (training.epochs, training.learning_rate, training.milestones, training.gamma) == (100, 1e-4, (70, 90), 0.1)


@pytest.mark.parametrize(
    ("name", "start", "maximum", "background_start", "repeats", "identities"),
    [
        ("taichi", 0.0, 0.7, 0, 150, True),
        ("vox", 0.1, 0.3, 10, 75, True),
        ("ted", 0.0, 0.5, 0, 150, True),
        ("mgif", 0.2, 0.5, 0, 50, False),
    ],
)
def test_schedules_of_tpsmm(
    name: str, start: float, maximum: float, background_start: int, repeats: int, identities: bool
) -> None:
    config = load_config(name)
    dropout = config.training.dropout
    assert (dropout.start, dropout.maximum, dropout.increase_epochs, dropout.until_epoch) == (start, maximum, 10, 35)
    assert config.training.background_start_epoch == background_start
    assert (config.data.repeats, config.data.id_sampling) == (repeats, identities)


def test_paper_literal_drops_the_regularisers() -> None:
    config = load_config("paper_literal")
    assert (config.losses.equivariance, config.losses.warp, config.losses.background) == (0, 0, 0)
    assert config.losses.vit_reduction == "norm"
    assert config.training.dropout.mode == "reference"
    assert config.data == load_config("taichi").data


def test_top_level_folder_shows_the_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert load_config("configs/taichi.yaml") == load_config("taichi")


def test_no_name_gives_the_defaults() -> None:
    assert load_config(None) == Config()


def test_overrides_nested_and_dotted(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.yaml", "training: {seed: 1, epochs: 3}\n")
    config = load_config(path, {"training.seed": 2, "model": {"image_size": 128}, "model.num_splines": 4})
    assert (config.training.seed, config.training.epochs) == (2, 3)
    assert (config.model.image_size, config.model.num_splines) == ((128, 128), 4)


def test_extends_lays_a_file_over_another(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "extends: mgif\ntraining: {seed: 7, epochs: 5}\n")
    path = write(tmp_path / "top.yaml", "extends: base.yaml\ntraining: {epochs: 6}\n")
    config = load_config(path)
    assert (config.training.seed, config.training.epochs) == (7, 6)
    assert config.model.background is None
    assert config.data == load_config("mgif").data


def test_extends_in_a_circle(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "extends: b.yaml\n")
    write(tmp_path / "b.yaml", "extends: a.yaml\n")
    with pytest.raises(ConfigError, match="extends itself"):
        load_config(tmp_path / "a.yaml")


def test_dump_reads_back(tmp_path: Path) -> None:
    config = load_config("actions", {"training.max_steps": 3})
    assert load_config(write(tmp_path / "dump.yaml", dump_config(config))) == config


def test_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path / "empty.yaml", "# nothing\n")) == Config()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"training.learnin_rate": 1}, "unknown key training.learnin_rate, did you mean training.learning_rate?"),
        ({"trainin.seed": 1}, "unknown key trainin, did you mean training?"),
        ({"model.learning_rate": 1}, "unknown key model.learning_rate, did you mean training.learning_rate?"),
        ({"model.background.nam": "x"}, "unknown key model.background.nam, did you mean model.background.name?"),
        ({"model.avd.q": 1}, "unknown key model.avd.q, the keys of model.avd are identity_width, pose_width"),
        ({"training.learning_rate": -1}, "training.learning_rate should be greater than 0, not -1"),
        ({"training.precision": "fp16"}, "training.precision should be 'fp32' or 'bf16', not 'fp16'"),
        ({"interpolation.times": "early"}, "interpolation.times should be a list such as [1, 2], not 'early'"),
        ({"interpolation.times": 2}, "interpolation.times[0] should be less than 1, not 2"),
        ({"interpolation.times": [0.5, 2]}, "interpolation.times[1] should be less than 1, not 2"),
        ({"model.image_size": [3]}, "model.image_size[1] is missing, the list [3] is too short"),
        ({"model": 3}, "model is a section with keys of its own, it cannot be 3"),
        ({"losses.keypoints": 1}, "losses.keypoints needs true control points, set data.synthetic and leave out"),
        ({"data.synthetic": {}}, "data.root and data.synthetic exclude each other, remove one"),
        ({"training.seed": "x", "training.epochs": 0}, "(and 1 more wrong)"),
    ],
)
def test_errors_name_key_and_remedy(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("taichi", overrides)
    assert str(caught.value).startswith("configuration taichi: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keypoints_need_the_splines_that_have_true_ones() -> None:
    with pytest.raises(ConfigError, match=r"splines of synthetic figures, set model\.num_splines to 10"):
        load_config("demo", {"model.num_splines": 4})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {seed: 1\n", "not valid YAML"),
        ("- 1\n- 2\n", "should hold keys and values, not a list"),
        ("extends: [a, b]\n", "should be the name of one preset"),
        ("extends: nothing_here\n", "the presets are actions"),
        ("model: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"bad\.yaml|nothing_here") as caught:
        load_config(write(tmp_path / "bad.yaml", text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_names_the_nearest_preset() -> None:
    with pytest.raises(ConfigError, match=r"the presets are .*, did you mean taichi\?"):
        load_config("somewhere/taich.yaml")


def test_examples_of_the_training_guide(tmp_path: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "training.md").read_text(), re.DOTALL)
    trial, real = (load_config(write(tmp_path / "mine.yaml", example)) for example in examples)
    assert (trial.data.root, trial.data.frame_shape, trial.training.output) == ("packed", None, "runs/mine")
    assert trial.model == load_config("actions").model
    assert (real.data.root, real.training.output) == ("packed", "runs/real")
    assert real.data.augmentation == load_config("vox").data.augmentation


def test_presets_are_plain_yaml() -> None:
    for name in config_names():
        text = (ROOT / "lami" / "configs" / f"{name}.yaml").read_text()
        assert isinstance(yaml.safe_load(text), dict)
