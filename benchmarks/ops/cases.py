"""What a benchmark consists of: sizes, and the functions to compare on the same arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from benchmarks.ops.inputs import Inputs

FORWARD, BACKWARD, BOTH = PASSES = ("forward", "backward", "forward + backward")


@dataclass(frozen=True)
class Size:
    """Sizes of the inputs; an op uses those that it has.

    Attributes:
        side: height and width of images or features.
        flow: height and width of a flow that is resized to them.
    """

    batch: int = 4
    side: int = 64
    flow: int = 64
    channels: int = 3
    times: int = 3
    splines: int = 10
    points: int = 5

    def at(self, parameter: str, value: int) -> Size:
        """This size with another value of one parameter; the flow keeps its proportion to the side."""
        changed = replace(self, **{parameter: value})
        return replace(changed, flow=value * self.flow // self.side) if parameter == "side" else changed


@dataclass(frozen=True)
class Aim:
    """A case that is measured because something is wanted of it; of other cases, only to be no slower than eager.

    Attributes:
        forward, both: times faster than other sides, by their names; 0.85 times a `copy` is 85 % of its bandwidth.
        memory: peak memory, as a part of eager's.
        host_us: microseconds until a forward call returns, on a GPU, which still works then.
    """

    size: Size = Size()
    forward: Mapping[str, float] = field(default_factory=dict)
    both: Mapping[str, float] = field(default_factory=dict)
    memory: float | None = None
    host_us: float | None = None
    dtype: str = "float32"
    channels_last: bool = False


@dataclass(frozen=True)
class Other:
    """An implementation beside ours and eager PyTorch.

    Attributes:
        arguments: in the form that it wants, prepared before time is taken.
        differs: in what it computes something else; where it is empty, its results are checked.
        differentiable: whether it has a backward pass.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    differs: str = ""
    differentiable: bool = True


@dataclass(frozen=True)
class Case:
    """Arguments, those with `requires_grad` being differentiated, and the functions to call with them.

    A list among the arguments is a list of tensors. `others` gives, by name, an implementation or why it is missing; it
    may import large packages.
    """

    arguments: tuple[Any, ...]
    fused: Callable[..., Any]
    eager: Callable[..., Any]
    others: Callable[[], dict[str, Other | str]] = dict

    def tensors(self) -> list[Tensor]:
        return flat(self.arguments)

    def bytes_moved(self, results: list[Tensor], name: str) -> int:
        """What any implementation of a pass has to read and write, each tensor once.

        Forwards arguments in and results out; backwards arguments and gradients of results in, and gradients of those
        arguments that want one out.
        """
        arguments, outputs = nbytes(self.tensors()), nbytes(results)
        gradients = nbytes([tensor for tensor in self.tensors() if tensor.requires_grad])
        forward, backward = arguments + outputs, arguments + outputs + gradients
        return {FORWARD: forward, BACKWARD: backward, BOTH: forward + backward}[name]


@dataclass(frozen=True)
class Benchmark:
    """The cases of an op.

    Attributes:
        setup: makes the one case that checks of agreement, time and memory share.
        cpu, cuda: cases with targets of their own on such a device, by name.
        base: the size around which one parameter at a time is varied.
        uses: the parameters that change anything.
        limits: what keeps the op from being faster, to be told where a target is missed.
        op: whose backend runs, where the name is no op's.
    """

    name: str
    setup: Callable[[Size, Inputs], Case]
    limits: str
    uses: tuple[str, ...]
    base: Size = Size()
    cpu: Mapping[str, Aim] = field(default_factory=dict)
    cuda: Mapping[str, Aim] = field(default_factory=dict)
    op: str | None = None


def flat(values: Any) -> list[Tensor]:
    """The tensors in an argument list or a result, in order."""
    if isinstance(values, Tensor):
        return [values]
    return [tensor for value in values for tensor in flat(value)] if isinstance(values, list | tuple) else []


def nbytes(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
