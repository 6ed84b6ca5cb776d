"""The configuration: one schema for YAML files, the command line and checkpoint metadata.

Unknown keys are errors. Each field is documented where it stands; where the paper leaves a choice open, the comment
says so and the default is ours; U numbers refer to docs/choices.md.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Time = Annotated[float, Field(gt=0.0, lt=1.0)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=0.0)]


def _as_size(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value


Size = Annotated[tuple[int, int], BeforeValidator(_as_size)]
"""(height, width) in pixels; a single integer means a square."""


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, int | float) else value


OneOrMore = BeforeValidator(_as_tuple)
"""For tuples of numbers: a single number is a tuple of one."""


Selector = Literal["eq4", "fixed", "random"]
"""How one of the candidate times is chosen: Eq. 4, a fixed one, or at random."""


Fusion = Literal["none", "occlusion", "mean"]
"""What the second stage sees: the interpolated image alone (V1), or it and the source together (V2, U25)."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True)


class BackboneConfig(Section):
    """A ResNet-like network from timm, without pretrained weights (TPSMM trains it from scratch)."""

    name: str = "resnet18"
    """timm model name."""
    args: dict[str, Any] = {}
    """Further arguments of `timm.create_model`, for instance `{channels: [16, 32, 64, 128]}`."""


class DenseMotionConfig(Section):
    block_channels: int = Field(64, ge=1)
    max_channels: int = Field(1024, ge=1)
    num_blocks: int = Field(5, ge=1)
    """Halvings inside the hourglass."""
    scale_factor: float = 0.25
    """Size of the flow relative to the image: 1, 0.5, 0.25, ..."""
    multi_mask: bool = True
    """One occlusion map for each generator level; otherwise one map, resized."""


class GeneratorConfig(Section):
    block_channels: int = Field(64, ge=1)
    max_channels: int = Field(512, ge=1)
    num_down_blocks: int = Field(3, ge=1)


class AVDConfig(Section):
    identity_width: int = Field(128, ge=1)
    pose_width: int = Field(128, ge=1)


class ModelConfig(Section):
    image_size: Size = (256, 256)
    """Size the model is trained at; both sides must be multiples of `lami.models.size_multiple`."""
    num_splines: int = Field(10, ge=1)
    """K, thin-plate splines."""
    points_per_spline: int = Field(5, ge=3, le=16)
    """N, keypoints of each spline."""
    detector: BackboneConfig = BackboneConfig()
    background: BackboneConfig | None = BackboneConfig()
    """Backbone of the background predictor; null for data without camera motion."""
    dense_motion: DenseMotionConfig = DenseMotionConfig()
    generator: GeneratorConfig = GeneratorConfig()
    avd: AVDConfig | None = None
    """The animation-via-disentanglement network; filled in by `lami train-avd`."""
    antialias: Literal["reference", "corrected"] = "reference"
    """`reference` decimates as TPSMM does (dark borders, drift of up to 3 pixels); `corrected` pads by replication and
    samples where the flow grid says."""


class ViTConfig(Section):
    """Vision transformer of the time selector and of the appearance and structure losses (open in the paper, U14)."""

    name: str = "vit_base_patch8_224.dino"
    """timm model name."""
    weights: str = "pretrained"
    """`pretrained` (downloaded once by timm), a file path, or `random` (for tests and offline runs)."""
    input_size: int = Field(224, ge=8)
    """Images are resized to this square before the transformer."""
    args: dict[str, Any] = {}
    """Further arguments of `timm.create_model`."""


class VGGConfig(Section):
    """Network of the perceptual loss."""

    name: str = "vgg19"
    weights: str = "pretrained"
    """`pretrained`, a file path, or `random`."""


class InterpolationConfig(Section):
    """Images between source and driving pose (Eq. 1 to 4)."""

    enabled: bool = True
    """Off gives the single-stage TPSMM."""
    times: Annotated[tuple[Time, ...], OneOrMore] = Field((0.3, 0.5, 0.7), min_length=1)
    """Candidate times, 0 at the source and 1 at the driving pose."""
    selector: Selector = "eq4"
    """How one time is chosen: Eq. 4, always `fixed_time`, or at random."""
    fixed_time: Time = 0.5
    background: Literal["consistent", "identity", "full", "repredict"] = "consistent"
    """Background transform of the interpolated image (open in the paper, U1)."""
    keypoints: Literal["reuse", "redetect"] = "reuse"
    """Source keypoints of the second stage: the interpolated ones, or detected again on the image (U2)."""
    fusion: Fusion = "none"
    """Second stage from the interpolated image alone (V1), or from it and the source together (V2, U25)."""
    skip_below: float = Field(0.0, ge=0.0)
    """Go straight from source to driving when the mean keypoint distance is smaller (U27); 0 never skips."""


class LossConfig(Section):
    """Weights of Eq. 9 and of the TPSMM regularisers; 0 switches a loss off and skips its work."""

    vgg: VGGConfig = VGGConfig()
    bidirectional: bool = True
    """Train source -> driving and driving -> source together (Eq. 5)."""
    reconstruction: Weight = 10.0
    """Eq. 5, perceptual, on each of four scales and five layers."""
    scales: Annotated[tuple[float, ...], OneOrMore] = (1.0, 0.5, 0.25, 0.125)
    feature: Weight = 10.0
    """Eq. 6, encoder features of the two interpolated images."""
    feature_encoder: Literal["frozen", "shared"] = "frozen"
    """Stop the gradient of Eq. 6 at the encoder's weights, or reuse the encoding of the second stage (U10)."""
    appearance: Weight = 10.0
    """Eq. 7, ViT class token."""
    structure: Weight = 10.0
    """Eq. 8, self-similarity of ViT keys."""
    vit_reduction: Literal["mse", "norm"] = "mse"
    """Mean square as in Splice, or the unsquared norms as printed (U11)."""
    equivariance: Weight = 10.0
    warp: Weight = 10.0
    background: Weight = 10.0
    pixel: Weight = 0.0
    """Mean absolute pixel difference; not in the paper, useful with `random` VGG weights."""
    keypoints: Weight = 0.0
    """Mean absolute distance to true control points, which only `data.synthetic` has; not in the paper."""
    detach_interpolated: bool = False
    """Stop the gradient of the second stage at the interpolated image (U6)."""


class DropoutConfig(Section):
    """Contribution dropout: probability min(epoch / increase_epochs * maximum + start, maximum)."""

    start: Probability = 0.0
    maximum: Probability = 0.7
    increase_epochs: float = Field(10, gt=0)
    until_epoch: float = Field(35, ge=0)
    mode: Literal["corrected", "reference"] = "corrected"
    """`reference` lets the flow collapse when the winning map is dropped, as TPSMM does."""


class TrainingConfig(Section):
    output: str = "runs/lami"
    """Folder of checkpoints, logs and panels."""
    init_from: str | None = None
    """Weights to start from (safetensors); null starts from scratch."""
    seed: int = Field(0, ge=0)
    device: str = "auto"
    epochs: int = Field(100, ge=1)
    max_steps: int | None = Field(None, ge=1)
    """Stop after this many steps; null runs all epochs."""
    batch_size: int = Field(8, ge=1)
    accumulate: int = Field(1, ge=1)
    """Batches summed before each optimiser step."""
    learning_rate: float = Field(1e-4, gt=0)
    milestones: Annotated[tuple[int, ...], OneOrMore] = (70, 90)
    """Epochs after which the learning rate is multiplied by `gamma`."""
    gamma: float = Field(0.1, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: Weight = 1e-4
    clip: float = Field(10.0, gt=0)
    """Largest gradient (infinity norm) of the detector, the dense motion network and the background predictor."""
    background_start_epoch: int = Field(0, ge=0)
    interpolation_start_epoch: int = Field(0, ge=0)
    """Single-stage training before this epoch (open in the paper, U20)."""
    dropout: DropoutConfig = DropoutConfig()
    selector: Selector | None = None
    """Selector while training; null is `interpolation.selector`. The others make one candidate only (U5)."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """`bf16` runs the networks under autocast and keeps frozen ones in bf16; splines, grids and losses stay in fp32."""
    channels_last: bool = True
    """Images and weights with channels innermost (NHWC), what matrix units of CPUs and GPUs read directly."""
    fused_adam: bool = True
    """One kernel for all updates of the optimiser."""
    compile: bool = False
    """Compile the networks with `torch.compile`, the fused ops inside: minutes at the start, faster steps after."""
    cuda_graphs: bool = False
    """Replay the compiled networks as CUDA graphs; needs `compile` and a GPU."""
    checkpoint_decoder: bool = False
    """Recompute the generator's decoder in the backward pass instead of keeping its activations."""
    workers: int = Field(4, ge=0)
    log_every: int = Field(50, ge=1)
    """Steps between scalars."""
    panel_every: int = Field(500, ge=1)
    """Steps between visual panels."""
    checkpoint_every: int = Field(1000, ge=1)
    """Steps between checkpoints; one is also written at the end."""
    checkpoint_minutes: float | None = Field(30.0, gt=0)
    """Write one as well when the last is older than this; null goes by steps alone."""
    keep_checkpoints: int = Field(3, ge=1)
    """Newest checkpoints to keep."""
    keep_best: int = Field(1, ge=0)
    """Checkpoints to keep besides, those with the lowest image losses (reconstruction and pixel) on the way to them."""
    wandb: str | None = None
    """Project of Weights & Biases to show the run in (extra `lami[wandb]`); TensorBoard is always written."""

    @model_validator(mode="after")
    def _graphs_of_compiled(self) -> TrainingConfig:
        if self.cuda_graphs and not self.compile:
            raise ValueError("training.cuda_graphs replays compiled networks, set training.compile too")
        return self


class JitterConfig(Section):
    brightness: Weight = 0.0
    contrast: Weight = 0.0
    saturation: Weight = 0.0
    hue: float = Field(0.0, ge=0.0, le=0.5)


class AugmentationConfig(Section):
    horizontal_flip: Probability = 0.0
    time_flip: Probability = 0.0
    """Probability of exchanging source and driving frame."""
    rotation: float = Field(0.0, ge=0.0, le=180.0)
    """Largest rotation in degrees."""
    resize: tuple[float, float] | None = None
    """Range of a random scale, for instance (0.9, 1.1)."""
    crop: Size | None = None
    """Random crop (height, width) after the resize."""
    jitter: JitterConfig = JitterConfig()


ANNOTATED_SHAPE = (10, 5)
"""Splines and points of each that synthetic figures have true control points for."""


class SyntheticConfig(Section):
    """Articulated figures made on the fly, see `lami.data.synthetic`."""

    num_clips: int = Field(2000, ge=1)
    num_test_clips: int = Field(20, ge=1)
    num_frames: int = Field(32, ge=1)
    camera_motion: float = Field(0.0, ge=0.0)
    """Strength of the camera's drift, zoom and roll; 0 is a fixed camera."""


class DataConfig(Section):
    root: str | None = None
    """Folder of videos, frame folders or strips, with `train` and `test` inside or split automatically, or a packed
    one."""
    synthetic: SyntheticConfig | None = None
    """Use generated figures instead of `root`."""
    frame_shape: Size | None = None
    """(height, width) of each frame of a strip image; needed only where images hold several frames side by side."""
    repeats: int = Field(1, ge=1)
    """Pairs drawn from each clip in an epoch."""
    overfit: int | None = Field(None, ge=1)
    """Draw the first this many pairs again and again, which a sound setup learns by heart; null draws ever new ones."""
    id_sampling: bool = False
    """Draw identities (the part of the name before `#`) instead of clips."""
    test_fraction: float = Field(0.2, gt=0.0, lt=1.0)
    """Share of clips held out when there is no train/test layout."""
    augmentation: AugmentationConfig = AugmentationConfig()

    @model_validator(mode="after")
    def _one_origin(self) -> DataConfig:
        if self.root is not None and self.synthetic is not None:
            raise ValueError("data.root and data.synthetic exclude each other, remove one")
        return self


class AVDTrainingConfig(Section):
    """Training of the AVD network on frozen keypoints."""

    epochs: int = Field(100, ge=1)
    repeats: int = Field(150, ge=1)
    max_steps: int | None = Field(None, ge=1)
    batch_size: int = Field(256, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    milestones: Annotated[tuple[int, ...], OneOrMore] = (70, 90)
    gamma: float = Field(0.1, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
    scale_range: tuple[float, float] = (0.75, 1.25)
    """Random scale of the driving keypoints, drawn for each axis."""


class Config(Section):
    model: ModelConfig = ModelConfig()
    interpolation: InterpolationConfig = InterpolationConfig()
    vit: ViTConfig = ViTConfig()
    losses: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    data: DataConfig = DataConfig()
    avd_training: AVDTrainingConfig = AVDTrainingConfig()

    @model_validator(mode="after")
    def _keypoints_known(self) -> Config:
        if self.losses.keypoints == 0:
            return self
        if self.data.synthetic is None or self.data.augmentation != AugmentationConfig():
            raise ValueError(
                "losses.keypoints needs true control points, set data.synthetic and leave out data.augmentation"
            )
        if (self.model.num_splines, self.model.points_per_spline) != ANNOTATED_SHAPE:
            raise ValueError(
                "losses.keypoints needs the splines of synthetic figures, set model.num_splines to "
                f"{ANNOTATED_SHAPE[0]} and model.points_per_spline to {ANNOTATED_SHAPE[1]}"
            )
        return self
