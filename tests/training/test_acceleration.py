"""What makes steps fast changes layouts, precision and kernels, not what is computed; the host waits for nothing."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import tiny_config, tiny_model, tiny_pair
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from lami.configs.schema import Config
from lami.errors import ConfigError
from lami.model import LAMI
from lami.models import ContributionDropout
from lami.ops._backend import _Known
from lami.ops._library import registered
from lami.pose import SeenPoses
from lami.training.acceleration import accelerate
from lami.training.optimizers import Optimizers
from lami.training.step import StepState, TrainingStep


def prepared(config: Config) -> TrainingStep:
    step = TrainingStep(tiny_model(config), config.losses)
    accelerate(step, config.training)
    return step


def results(step: TrainingStep, bf16: bool = False) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses and gradients, always with the same random numbers."""
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        losses = step(*tiny_pair(3), StepState())
    torch.stack([loss.float() for loss in losses.values()]).sum().backward()
    return losses, {n: p.grad for n, p in step.model.named_parameters() if p.grad is not None}


def assert_same(found: tuple[dict[str, Tensor], ...], wanted: tuple[dict[str, Tensor], ...]) -> None:
    for name, loss in wanted[0].items():
        torch.testing.assert_close(found[0][name], loss, rtol=1e-4, atol=1e-6)
    assert found[1].keys() == wanted[1].keys()
    largest = max(gradient.norm() for gradient in wanted[1].values())
    for name, gradient in wanted[1].items():
        assert (found[1][name] - gradient).norm() <= 1e-2 * gradient.norm() + 1e-4 * largest, name


@pytest.mark.parametrize("key", ["checkpoint_decoder", "channels_last"])
def test_losses_and_gradients_stay(key: str) -> None:
    plain = prepared(tiny_config({"training.channels_last": False}))
    assert_same(results(prepared(tiny_config({f"training.{key}": True}))), results(plain))


@pytest.mark.slow
def test_compiled_networks_compute_the_same() -> None:
    """With dropout's masks the same; all networks really run compiled."""
    torch._dynamo.reset()
    wanted = results(prepared(tiny_config()))
    step = prepared(tiny_config({"training.compile": True}))
    names = set(step.model.state_dict())
    assert_same(results(step), wanted)
    assert set(step.model.state_dict()) == names  # checkpoints stay what they are
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] >= 6
    assert not counters["graph_break"], dict(counters["graph_break"])


def test_frozen_weights_are_stored_as_autocast_uses_them() -> None:
    step = prepared(tiny_config({"training.precision": "bf16"}))
    assert step.vit is not None
    for network in (step.perceptual, step.vit):
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        assert {layer.weight.dtype for layer in layers} == {torch.bfloat16}
    assert {parameter.dtype for parameter in step.model.parameters()} == {torch.float32}
    # Autocast would have rounded them in the same way.
    exact = TrainingStep(tiny_model(tiny_config()), tiny_config().losses)
    assert exact.vit is not None
    for stored, rounded in zip(step.perceptual.vgg.parameters(), exact.perceptual.vgg.parameters(), strict=True):
        assert torch.equal(stored, rounded.to(stored.dtype))
    exact.perceptual.vgg.to(memory_format=torch.channels_last)  # as ours: another layout is summed in another order
    image = tiny_pair(2)[0]
    with torch.autocast("cpu", torch.bfloat16):
        for ours, theirs in zip(step.perceptual.vgg(image), exact.perceptual.vgg(image), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_graphs_need_a_gpu_and_compiled_networks() -> None:
    with pytest.raises(ConfigError, match=r"training\.cuda_graphs replays compiled networks, set training\.compile"):
        tiny_config({"training.cuda_graphs": True})
    with pytest.raises(ConfigError, match=r"training\.cuda_graphs needs a GPU, and training runs on cpu"):
        prepared(tiny_config({"training.cuda_graphs": True, "training.compile": True}))


# --- the host


class Watch(TorchDispatchMode):
    """Counts what makes a host wait for a GPU."""

    _READS = (
        torch.ops.aten._local_scalar_dense.default,
        torch.ops.aten.nonzero.default,
        torch.ops.aten.masked_select.default,
        torch.ops.aten.equal.default,
        torch.ops.aten._unique2.default,
    )

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in self._READS:
            self.seen[str(func)] += 1
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            other = args[1] if func is torch.ops.aten.copy_.default else args[0]
            if isinstance(result, Tensor) and result.device.type != other.device.type:
                self.seen["copy between host and device"] += 1
        if func is torch.ops.aten.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1]):
            self.seen["index by a mask"] += 1
        return result


def whole_step(step: TrainingStep, optimizers: Optimizers, source: Tensor, driving: Tensor, device: str) -> None:
    """As the training loop takes it."""
    state = StepState(ContributionDropout(0.5))
    optimizers.begin()
    with torch.autocast(device, torch.bfloat16):
        losses = step(source, driving, state)
    total = torch.stack([loss.float() for loss in losses.values()]).sum()
    (total * (1 + 0 * total.detach())).backward()
    optimizers.step(1e-4, True)


SETTINGS: list[dict[str, Any]] = [
    {},
    {"training.checkpoint_decoder": True},
    {"interpolation.selector": "random"},
    {"interpolation.background": "identity", "interpolation.fusion": "occlusion"},
]


@pytest.mark.parametrize("overrides", SETTINGS)
def test_nothing_is_read_back_in_a_step(overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config({"training.precision": "bf16", **overrides})
    step = prepared(config)
    optimizers = Optimizers.create(step.model, config.training)
    source, driving = tiny_pair(2)
    whole_step(step, optimizers, source, driving, "cpu")  # creates the optimisers' state
    # Times on a CPU are checked by their values, on a GPU they are not.
    for op in ("anytime_keypoints", "anytime_motion_features"):
        module = sys.modules[f"lami.ops.{op}"]
        monkeypatch.setattr(module, "check_times", lambda op, times, batch: times.expand(batch, times.shape[-1]))
    with Watch() as watch:
        whole_step(step, optimizers, source, driving, "cpu")
    assert not watch.seen


@pytest.mark.skipif(torch.version.cuda is None, reason="this torch is built without CUDA")
@pytest.mark.parametrize("overrides", SETTINGS)
def test_losses_copy_nothing_between_host_and_device(
    overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU that is pretended: shapes and devices are real, numbers are not. Fused ops run, as on a real one."""
    for op in registered():
        monkeypatch.setitem(_Known.automatic, (op, "cuda"), "native")
    config = tiny_config(overrides)
    step = prepared(config)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        to_gpu(step.model, mode)
        to_gpu(step.perceptual, mode)
        assert step.vit is not None
        to_gpu(step.vit, mode)
        step._times = fake(step._times, mode)
        assert step.model.seen_poses is not None
        step.model.seen_poses = SeenPoses(fake(step.model.seen_poses.counts, mode))
        source, driving = (fake(image, mode) for image in tiny_pair(2))
        with Watch() as watch:  # in fp32 and without a backward pass: these notice that there is no GPU
            losses = step(source, driving, StepState(ContributionDropout(0.5)))
    assert {loss.device.type for loss in losses.values()} == {"cuda"}
    assert step.model.generator.final.weight.device.type == "cuda"
    assert not watch.seen


def fake(tensor: Tensor, mode: FakeTensorMode) -> Tensor:
    with mode:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cuda")


def to_gpu(module: nn.Module, mode: FakeTensorMode) -> None:
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(fake(parameter.data, mode), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = fake(buffer, mode)


@pytest.mark.gpu
@pytest.mark.parametrize("overrides", SETTINGS)
def test_a_gpu_is_never_waited_for(overrides: dict[str, Any], cuda: torch.device) -> None:
    config = tiny_config({"training.precision": "bf16", **overrides})
    step = TrainingStep(tiny_model(config).to(cuda), config.losses)
    accelerate(step, config.training)
    optimizers = Optimizers.create(step.model, config.training)
    source, driving = (image.to(cuda) for image in tiny_pair(2))
    whole_step(step, optimizers, source, driving, "cuda")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        whole_step(step, optimizers, source, driving, "cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_watch_sees_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Callable[[Tensor], object]] = [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).all()),
        lambda x: x[x > 0],
        lambda x: (x > 0).nonzero(),
    ]
    for read in reads:
        with Watch() as watch:
            read(torch.ones(3))
        assert watch.seen
    with FakeTensorMode(), Watch() as watch:
        torch.tensor([0.5, 0.7], device="cuda")
    assert watch.seen["copy between host and device"] == 1


def test_detection_is_one_call_for_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both images are encoded once, VGG sees each real one once for each scale, the ViT every image once."""
    config = tiny_config({"losses.feature_encoder": "shared"})
    step = prepared(config)
    calls: Counter[str] = Counter()
    images: Counter[str] = Counter()

    def count(owner: Any, name: str, label: str) -> None:
        call = getattr(owner, name)

        def counted(image: Tensor, *arguments: Any, **keywords: Any) -> Any:
            calls[label] += 1
            images[label] += len(image)
            return call(image, *arguments, **keywords)

        monkeypatch.setattr(owner, name, counted)

    assert step.vit is not None
    count(step.model.generator, "encode", "encoder")
    count(step.perceptual.vgg, "forward", "VGG")
    count(step.vit, "forward", "ViT")
    count(step.model.dense_motion.down, "forward", "down")
    batch = 2
    step(*tiny_pair(batch), StepState())
    times, scales = len(config.interpolation.times), len(config.losses.scales)
    assert (calls["encoder"], images["encoder"]) == (2, 4 * batch)  # real images, then interpolated ones
    assert images["down"] == 4 * batch
    assert (calls["VGG"], images["VGG"]) == (2 * scales, 4 * batch * scales)
    # Real images, candidates, and the images with gradient: two predictions and two interpolated.
    assert (calls["ViT"], images["ViT"]) == (3, (2 + times + 4) * batch)


def test_model_type_is_kept() -> None:
    assert type(prepared(tiny_config()).model) is LAMI
