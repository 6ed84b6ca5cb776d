"""The model card that goes with published weights: what is known for certain, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from lami.configs.schema import Config
    from lami.model import LAMI
    from lami.pose import SeenPoses

_NOT_PUBLIC: dict[str, Any] = {
    "model": True,  # in the weight file, with interpolation and vit
    "interpolation": True,
    "vit": True,
    "avd_training": True,
    "data": {"root"},
    "training": {"output", "init_from", "device", "workers", "wandb"},
    "losses": {"vgg": {"weights"}},
}
"""Paths, and what belongs to one machine or is said elsewhere."""

_CARD = """\
# {name}

A model for LAMI (`pip install lami`): it moves the object of a still image as a driving video shows, through images
that it generates between the two poses. The method is that of *Large Displacement Motion Transfer with Unsupervised
Anytime Interpolation* (Wang and Li, ICML 2025), the networks are those of the Thin-Plate Spline Motion Model.

## Use

```python
import lami

model = lami.LAMI.from_pretrained("{name}")
result = model.transfer(source, driving).prediction  # (B, 3, {height}, {width}) images in [0, 1]
```

or, with the file `model.safetensors`:

```bash
lami animate --checkpoint model.safetensors --source person.jpg --driving dance.mp4 -o result.mp4
```

## Model

| | |
| --- | --- |
| image size (height x width) | {height} x {width} |
| thin-plate splines x points | {splines} x {points} |
{poses}{sizes}

Weights and this configuration are in one file, `model.safetensors`:

```yaml
{configuration}```

## Training

{training}

No scores come with this card; `lami evaluate` measures them on your videos.

## Licence

{license}

## Consent and provenance

What this model makes is synthetic media. Animate only people who agreed to it, say of every result that it is
synthetic, and do not remove such notes. `lami` writes one into the metadata of its files, and with `--label` into the
picture; images taken from the model itself carry none. Nothing checks who is in them.
"""


def model_card(model: LAMI, name: str, license: str | None, training: Config | None) -> str:
    """Markdown with the metadata that the hub reads.

    Args:
        model: what the card is about.
        name: title, and what `from_pretrained` is to be given.
        license: identifier that the hub knows, for instance `mit`; None says that none was stated.
        training: configuration that the weights were trained with; paths are left out. None says that it is not known.
    """
    metadata = {"library_name": "lami", "pipeline_tag": "image-to-video", "tags": ["motion-transfer", "lami"]}
    if license is not None:
        metadata["license"] = license
    height, width = model.config.image_size
    configuration = {
        "model": model.config.model_dump(mode="json"),
        "interpolation": model.interpolation.model_dump(mode="json"),
    }
    parameters = {
        label.replace("_", " "): sum(tensor.numel() for tensor in network.parameters())
        for label, network in model.named_children()
    }
    parameters["all together"] = sum(parameters.values())
    card = _CARD.format(
        name=name,
        height=height,
        width=width,
        splines=model.config.num_splines,
        points=model.config.points_per_spline,
        poses=_poses(model.seen_poses),
        sizes="\n".join(f"| parameters, {label} | {count:,} |" for label, count in parameters.items()),
        configuration=_yaml(configuration),
        training=_training(training),
        license="None was stated: ask the author before you use the weights."
        if license is None
        else f"`{license}`. The data that the model was trained on may have terms of its own.",
    )
    return f"---\n{_yaml(metadata)}---\n\n{card}"


def _poses(seen: SeenPoses | None) -> str:
    if seen is None:
        return ""
    half, most, nearly_all = (f"{seen.percentile(share):.2f}" for share in (0.5, 0.95, 0.99))
    return f"| pose distance of training pairs: half, 95 %, 99 % are below | {half}, {most}, {nearly_all} |\n"


def _training(config: Config | None) -> str:
    if config is None:
        return "The configuration of the training was not given with the weights."
    known = config.model_dump(mode="json", exclude=_NOT_PUBLIC)
    return (
        "Trained by `lami train` with this configuration, on data that the author may describe here:\n\n"
        f"```yaml\n{_yaml(known)}```"
    )


def _yaml(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False)
