"""Random hostile calls of every native CPU op, forward and backward; `make sanitize` runs them under sanitizers.

    PYTHONPATH=.:tests python tests/csrc/fuzz.py --calls 10000 --trace     exit code 1 if a call misbehaved
    PYTHONPATH=.:tests python tests/csrc/fuzz.py --first 4711 --calls 1    that call again

A call is a case of ops/cases.py (sizes, strides, dtypes, layouts, options) with values that are NaN, infinite, huge,
denormal or degenerate, made from a seed alone. It goes through `lami.ops` with autograd, straight to `torch.ops.lami`
with several samples a source, or there with an argument that does not fit. What is asked of it: no crash, results of
the promised shapes and dtypes, finite where the ops promise that, the same bits in a second run with another number of
threads and memory filled with NaN, and for arguments that do not fit an exception at worst.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from ops.cases import BUILDERS, DTYPES, SIDES, Case, Inputs, lay_out
from ops.samples import random_like
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from lami import ops
from lami.ops import _library

HOSTILE = (math.nan, math.inf, -math.inf, 1e30, -1e30, 3e38, 1e4, -1e4, 1e-45, -1e-42, 0.0, -0.0, 1.0, -1.0)
TAME = 8.0
"""Values up to this cannot make a result overflow, at these sizes and in fp32."""
OUTPUTS = {"fit_tps": ("theta", "weights"), "blend_flow": ("flow", "contributions"), "tps_warp": ("warped", "flow")}
FITTING = ("fit_tps", "blend_flow", "tps_warp", "motion_features", "anytime_motion_features")
"""Their splines may be singular."""
SHARED = ("features", "source", "image", "input")
"""Arguments with images that several samples may read; features of a pyramid are features.0, features.1, ..."""


@dataclass
class Hostile(Inputs):
    """Draws from a generator of its own rather than hypothesis, which is slower and keeps to kinder values."""

    rng: random.Random
    spoilt: float
    """Share of the values that are replaced, in tensors that are spoilt."""

    @classmethod
    def of_seed(cls, seed: int) -> Hostile:
        rng = random.Random(seed)
        features = rng.choice(DTYPES)
        coordinates = rng.choice((features, torch.float32, torch.float64))
        spoilt = rng.choice((0.0, 0.0, 0.02, 0.3, 1.0))
        return cls(_no_draw, features, coordinates, max(SIDES), rng, spoilt)

    def sides(self, count: int) -> tuple[int, ...]:
        sides = [self.rng.choice(SIDES) for _ in range(count)]
        if self.rng.random() < 0.02:  # longer than a block of pixels, but thin
            sides[-1], sides[:-1] = 1031, [min(side, 2) for side in sides[:-1]]
        return tuple(sides)

    def integer(self, low: int, high: int) -> int:
        return self.rng.randint(low, high)

    def one_of(self, *choices: Any) -> Any:
        return self.rng.choice(choices)

    def coordinate(self, *shape: int, bound: float = 0.8) -> Tensor:
        far = self.rng.choice((1.0, 1.0, 1.0, 1e3, 1e7))
        return self._tensor(shape, self.coordinates, -bound * far, bound * far)

    def background(self, *leading: int) -> Tensor:
        return lay_out(self.spoil(super().background(*leading).clone()), self._layout())

    def keep(self, b: int, motions: int) -> dict[str, Any]:
        options = super().keep(b, motions)
        if options and self.rng.random() < 0.2:
            options["keep"] = torch.zeros_like(options["keep"])  # drops every motion
        return options

    def spoil(self, values: Tensor) -> Tensor:
        """With hostile values here and there, in place."""
        if self.spoilt and self.rng.random() < 0.5:
            hostile = torch.tensor(HOSTILE, dtype=values.dtype)[torch.randint(len(HOSTILE), values.shape)]
            where = torch.rand(values.shape) < self.spoilt
            values.copy_(torch.where(where, hostile, values))
        if values.ndim > 2 and values.shape[-1] == 2 and values.shape[-2] > 1 and self.rng.random() < 0.1:
            # Control points that coincide, lie on a line, or come in pairs.
            degenerate = (values[..., :1, :], values[..., :, :1], values[..., [0, 0, *range(2, values.shape[-2])], :])
            values.copy_(self.rng.choice(degenerate).expand_as(values).clone())
        return values

    def _tensor(self, shape: tuple[int, ...], dtype: torch.dtype, low: float, high: float) -> Tensor:
        return lay_out(self.spoil(random_like(shape, self._seed(), low, high).to(dtype)), self._layout())

    def _seed(self) -> int:
        return self.rng.getrandbits(31)


def _no_draw(strategy: st.SearchStrategy[Any]) -> Any:
    raise AssertionError("every draw is overridden")


class MisbehaviorError(Exception):
    """What a call did wrong."""


def sampled(case: Case) -> list[Tensor]:
    """Images and their masks: what the values of samples are made of."""
    return [tensor for name, tensor in case.tensors.items() if name.split(".")[0] in (*SHARED, "mask", "masks")]


def tame(tensors: list[Tensor]) -> bool:
    return all(bool((tensor.abs() <= TAME).all()) for tensor in tensors)


# --- through lami.ops, with autograd


def call_public(x: Hostile, case: Case) -> list[Tensor]:
    """Results, then the gradients of some of the inputs for hostile gradients of the results."""
    if "times" in case.tensors:  # lami.ops looks at them
        case.tensors["times"] = case.tensors["times"].nan_to_num().clamp(0.1, 0.9)
    leaves = {name: tensor.detach().requires_grad_(x.one_of(True, False)) for name, tensor in case.tensors.items()}
    results = case.run(leaves)
    wanted = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    reached = [result for result in results if result.requires_grad]
    check_finite(case, [result.detach() for result in results])
    if not wanted or not reached:
        return results
    upstream = upstream_of(x, reached)
    gradients = torch.autograd.grad(reached, list(wanted.values()), upstream, allow_unused=True)
    for (name, leaf), gradient in zip(wanted.items(), gradients, strict=True):
        if gradient is not None and (gradient.shape != leaf.shape or gradient.dtype != leaf.dtype):
            raise MisbehaviorError(
                f"gradient of {name} {tuple(leaf.shape)} is {gradient.dtype} {tuple(gradient.shape)}"
            )
    if tame(upstream):
        check_finite_gradients(case, dict(zip(wanted, gradients, strict=True)))
    return [result.detach() for result in results] + [gradient for gradient in gradients if gradient is not None]


def upstream_of(x: Hostile, results: list[Tensor]) -> list[Tensor]:
    """Gradients of the results, some of them hostile."""
    return [lay_out(x.spoil(random_like(tuple(y.shape), x._seed()).to(y.dtype)), x._layout()) for y in results]


def check_finite(case: Case, results: list[Tensor]) -> None:
    """Samples of tame features are finite, whatever says where they are taken; everything is, of tame inputs."""
    images = sampled(case)
    promised = results if tame(list(case.tensors.values())) and case.op not in FITTING else []
    if images and tame(images):
        if case.op == "tps_warp":
            promised = results[:1]
        elif case.op.endswith("motion_features"):
            heatmaps = math.prod(case.tensors["kp_driving"].shape[1:3]) + 1
            promised = [results[0].narrow(-3, heatmaps, results[0].shape[-3] - heatmaps)]
        else:
            promised = results
    if not all(bool(result.isfinite().all()) for result in promised):
        raise MisbehaviorError("a result that should be finite is not")


def check_finite_gradients(case: Case, gradients: dict[str, Tensor | None]) -> None:
    """The same of gradients; sums over an image may overflow half precision, but do not become NaN."""
    images = sampled(case)
    if not images or not tame(images):
        return
    for name, gradient in gradients.items():
        if gradient is None or (case.op in FITTING and name not in SHARED):
            continue
        half = torch.finfo(gradient.dtype).bits == 16
        if bool(gradient.isnan().any() if half else not gradient.isfinite().all()):
            raise MisbehaviorError(f"the gradient of {name} should be finite and is not")


# --- straight to torch.ops.lami


def arguments_of(x: Hostile, case: Case) -> dict[str, Any]:
    """Arguments of the forward op by name; up to three samples read each image, where the op has that."""
    values: dict[str, Any] = {"variance": 0.01, "regularization": 0.01, "padding_mode": "zeros", "align_corners": True}
    values |= {"mask": None, "background": None, "keep": None, "masks": [], **case.options, **case.tensors}
    values["corrected"] = case.options.get("dropout") == "corrected"
    values["height"], values["width"] = case.options.get("size", (0, 0))
    for name in [name for name in values if "." in name]:
        group, _, index = name.partition(".")
        values[group] = [*(values.get(group) or [])[: int(index)], values.pop(name)]
    if case.op in ("warp", "motion_features"):
        times = x.integer(1, 3)
        for name in ("flow", "mask", "kp_driving", "kp_source", "background"):
            if isinstance(values.get(name), Tensor):
                values[name] = lay_out(values[name].repeat(times, *[1] * (values[name].ndim - 1)), x._layout())
    if (background := values["background"]) is not None and case.op.startswith("anytime") and background.ndim == 3:
        values["background"] = background[:, None].expand(-1, values["times"].shape[1], 3, 3)
    return values


def call_directly(x: Hostile, case: Case, misfit: bool) -> list[Tensor]:
    """Results of the op and of its backward op; with `misfit`, an argument of one of them fits no more."""
    forward = getattr(torch.ops.lami, case.op).default
    backward = getattr(torch.ops.lami, f"{case.op}_backward").default
    values = arguments_of(x, case)
    spoil_backward = x.one_of(True, False)
    if misfit and not spoil_backward:
        change_one(x, forward, values)
    results = run_op(forward, values)

    names = OUTPUTS.get(case.op, ("result",))
    upstream = upstream_of(x, results)
    values |= dict(zip(names, results, strict=False)) if case.op in OUTPUTS else {}
    values |= {f"grad_{name}": grad for name, grad in zip(names, upstream, strict=False)}
    values |= {"grads": upstream, "grad": upstream[0] if upstream else None}
    flags = [argument.name for argument in backward._schema.arguments if argument.name.startswith("needs_")]
    values |= {name: x.one_of(True, False) for name in [*flags, "deterministic"]}
    if misfit and spoil_backward:
        change_one(x, backward, values)
    return results + run_op(backward, values)


def run_op(op: Any, values: dict[str, Any]) -> list[Tensor]:
    """Results of an op, lists among them flattened, after comparing them with those of its fake kernel."""
    arguments = [values[argument.name] for argument in op._schema.arguments]
    results = tree_leaves(op(*arguments))
    promised = tree_leaves(op(*tree_map_only(Tensor, lambda tensor: tensor.to("meta"), arguments)))
    if [(y.shape, y.dtype) for y in results] != [(y.shape, y.dtype) for y in promised]:
        raise MisbehaviorError(f"{op} gives {[(tuple(y.shape), y.dtype) for y in results]} instead of {promised}")
    return results


def change_one(x: Hostile, op: Any, values: dict[str, Any]) -> None:
    names = [argument.name for argument in op._schema.arguments]
    name = x.one_of(*(name for name in names if isinstance(values[name], Tensor | list)))
    value = values[name]
    if isinstance(value, Tensor):
        values[name] = misfitting(x, value)
    elif not value or x.one_of(True, False):
        values[name] = [*value, *value][: x.integer(0, 2 * len(value))]
    else:
        i = x.integer(0, len(value) - 1)
        values[name] = [*value[:i], misfitting(x, value[i]), *value[i + 1 :]]


def misfitting(x: Hostile, tensor: Tensor) -> Tensor:
    """Another rank, size, order of axes, dtype, or nothing at all."""
    changes: list[Callable[[Tensor], Tensor]] = [
        lambda t: t.to(x.one_of(*DTYPES, torch.int64, torch.bool)),
        lambda t: t[None],
        lambda t: t.flatten(),
        lambda t: t.new_empty((0,)),
        lambda t: torch.zeros((), dtype=t.dtype),
        lambda t: t.movedim(0, -1) if t.ndim else t,
    ]
    if tensor.ndim and tensor.numel():
        axis = x.integer(0, tensor.ndim - 1)
        changes += [
            lambda t: t.narrow(axis, 0, x.integer(0, t.shape[axis] - 1)),
            lambda t: torch.cat([t, t], axis),
            lambda t: t.select(axis, 0),
        ]
    return x.one_of(*changes)(tensor)


# --- one call, and many


def call(seed: int) -> str:
    """Makes the call of a seed; what it was.

    Raises:
        MisbehaviorError: it did something else than the ops promise.
    """

    def once() -> tuple[str, list[Tensor]]:
        torch.manual_seed(seed)
        x = Hostile.of_seed(seed)
        case = BUILDERS[x.one_of(*BUILDERS)](x)
        way = x.one_of("public", "direct", "misfit")
        what = f"{way} {case!r}"
        try:
            return what, call_public(x, case) if way == "public" else call_directly(x, case, way == "misfit")
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            if way == "misfit":
                return what, []
            raise MisbehaviorError(f"{what} raised {type(error).__name__}: {error}") from error
        except MisbehaviorError as error:
            if way == "misfit":
                return what, []
            raise MisbehaviorError(f"{what}: {error}") from error

    with threads(1):
        what, first = once()
    with threads(2), new_memory_is_nan():
        _, second = once()
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        if a.dtype != b.dtype or not torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0)):
            raise MisbehaviorError(f"{what}: tensor {i} differs between two runs")
    return what


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def new_memory_is_nan() -> Iterator[None]:
    """As PyTorch does for deterministic algorithms: a result that is never written shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def fuzz(first: int, calls: int, trace: bool = False) -> list[str]:
    """What misbehaved among the calls of the seeds from `first` on, each with its seed.

    With `trace` each call is announced: if the process dies, the last line says where.
    """
    faults = []
    with ops.use_backend("native"):
        for seed in range(first, first + calls):
            if trace:
                print(seed, flush=True)
            try:
                what = call(seed)
                if calls == 1:
                    print(what)
            except MisbehaviorError as error:
                faults.append(f"seed {seed}: {error}")
                print(faults[-1], file=sys.stderr, flush=True)
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description="Random hostile calls of the native CPU ops.")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first call")
    parser.add_argument("--trace", action="store_true", help="print each seed before its call")
    options = parser.parse_args()
    assert set(BUILDERS) == set(_library.registered()), "every op has a builder"
    faults = fuzz(options.first, options.calls, options.trace)
    print(f"{options.calls} calls, {len(faults)} misbehaved")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
