"""VGG and ViT features against the modules of timm that they are read from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from lami.backbones import VGGFeatures, ViTFeatures, create_pretrained
from lami.configs.schema import VGGConfig, ViTConfig
from lami.errors import ConfigError

TINY_VIT = ViTConfig(name="vit_tiny_patch16_224", weights="random", input_size=32, args={"patch_size": 8})
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def normalized(image: Tensor) -> Tensor:
    return (image - MEAN[:, None, None]) / STD[:, None, None]


@pytest.fixture(scope="module")
def vgg() -> VGGFeatures:
    return VGGFeatures(VGGConfig(weights="random"))


@pytest.fixture(scope="module")
def vit() -> ViTFeatures:
    return ViTFeatures(TINY_VIT)


def test_vgg_is_read_after_the_first_relu_of_each_stage(vgg: VGGFeatures) -> None:
    layers = create_pretrained("vgg19", "random").features  # random weights are the same every time
    image = torch.rand(2, 3, 48, 32)
    x, wanted = normalized(image), []
    for index, layer in enumerate(layers):
        x = layer(x)
        if index in (1, 6, 11, 20, 29):  # torchvision's relu1_1, relu2_1, relu3_1, relu4_1, relu5_1
            assert isinstance(layer, nn.ReLU)
            wanted.append(x.clone())
    features = vgg(image)
    assert [tuple(f.shape[1:]) for f in features] == [
        (64, 48, 32),
        (128, 24, 16),
        (256, 12, 8),
        (512, 6, 4),
        (512, 3, 2),
    ]
    for ours, theirs in zip(features, wanted, strict=True):
        assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_vgg_features_are_not_overwritten(vgg: VGGFeatures) -> None:
    image = torch.rand(1, 3, 32, 32)
    first = vgg.slices[0](vgg.normalize(image))
    assert_close(vgg(image)[0], first, atol=0, rtol=0)


def test_vit_class_token_and_keys(vit: ViTFeatures) -> None:
    images = torch.rand(2, 3, 32, 32)
    last, dim = vit.vit.blocks[-1], vit.vit.embed_dim
    seen: dict[str, Tensor] = {}
    handles = [
        last.attn.qkv.register_forward_hook(lambda module, inputs, output: seen.update(qkv=output)),
        last.register_forward_hook(lambda module, inputs, output: seen.update(tokens=output)),
    ]
    final = vit.vit.forward_features(normalized(images))
    for handle in handles:
        handle.remove()

    output = vit(images)
    assert output.cls.shape == (2, dim)
    assert output.keys.shape == (2, 1 + 4 * 4, dim)
    assert_close(output.keys, seen["qkv"][..., dim : 2 * dim])
    assert_close(output.cls, seen["tokens"][:, 0])
    assert_close(vit.vit.norm(output.cls), final[:, 0])
    assert (output.cls - final[:, 0]).abs().max() > 1e-2  # the class token is taken before the final norm
    # The keys of all heads side by side are what attention computes with.
    heads = last.attn.num_heads
    keys = seen["qkv"].unflatten(-1, (3, heads, dim // heads))[:, :, 1].flatten(2)
    assert_close(output.keys, keys)
    assert not last.attn.qkv._forward_hooks


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (20, 20)])
def test_vit_takes_images_of_any_size(vit: ViTFeatures, size: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *size)
    resized = nn.functional.interpolate(image, (32, 32), mode="bilinear", antialias=max(size) > 32)
    assert_close(vit(image).cls, vit(resized).cls)


def test_vit_must_have_a_class_token() -> None:
    with pytest.raises(ConfigError, match="must be a vision transformer with a class token, 'resnet18' is not"):
        ViTFeatures(ViTConfig(name="resnet18", weights="random"))


@pytest.mark.parametrize("network", ["vgg", "vit"])
def test_weights_are_frozen_and_gradients_reach_the_image(network: str, request: pytest.FixtureRequest) -> None:
    module = request.getfixturevalue(network)
    assert not any(parameter.requires_grad for parameter in module.parameters())
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    output = module(image)
    outputs = output if network == "vgg" else [output.cls, output.keys]
    for tensor in outputs:
        gradient = torch.autograd.grad(tensor.square().sum(), image, retain_graph=True)[0]
        assert gradient.isfinite().all()
        assert gradient.any()


@pytest.mark.parametrize("network", ["vgg", "vit"])
def test_features_are_deterministic_and_in_eval_mode(network: str, request: pytest.FixtureRequest) -> None:
    module = request.getfixturevalue(network)
    image = torch.rand(2, 3, 32, 32)
    outputs = [module(image) if network == "vgg" else [module(image).cls] for _ in range(2)]
    for first, second in zip(*outputs, strict=True):
        assert torch.equal(first, second)
