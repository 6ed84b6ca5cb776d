"""Parts as ONNX graphs of standard operators, and the same parts run by ONNX Runtime."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from lami import ops
from lami.errors import ConfigError
from lami.export.parts import Part

OPSET = 18
"""The oldest with all operators needed (resizing with antialiasing), which most runtimes know."""


def check_installed() -> None:
    """Raises ConfigError, with the command to type, unless the packages of `lami[export]` are here."""
    needed = ("onnx", "onnxruntime", "onnxscript")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f'ONNX export needs {", ".join(missing)}; pip install "lami[export]"')


def write_onnx(part: Part, path: Path) -> None:
    """Write a part as one ONNX file, its batch of any size; the ops of lami become plain PyTorch's and then ONNX's."""
    with ops.use_backend("reference"), torch.no_grad():
        program = torch.onnx.export(
            part.trace(),
            input_names=list(part.inputs),
            output_names=list(part.outputs),
            opset_version=OPSET,
            custom_translation_table={torch.ops.aten.linalg_inv_ex.default: _inverse},
            dynamo=True,
            optimize=False,  # that of onnxscript 0.7 makes NaN of the motion graph; runtimes optimise by themselves
            verbose=False,
        )
    assert program is not None
    _name_batch(program.model)
    program.save(path, external_data=False)


def run_onnx(part: Part, path: Path) -> tuple[torch.Tensor, ...]:
    """What ONNX Runtime makes of the part's inputs, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {name: tensor.cpu().numpy() for name, tensor in part.inputs.items()}
    return tuple(torch.from_numpy(output) for output in session.run(list(part.outputs), inputs))


def _name_batch(model: Any) -> None:
    """Call the first axis of all inputs and outputs `batch`; the exporter numbers its symbols."""
    import onnx_ir

    for value in (*model.graph.inputs, *model.graph.outputs):
        value.shape = onnx_ir.Shape(["batch", *list(value.shape)[1:]])


def _inverse(A: Any, check_errors: bool = False) -> tuple[Any, Any]:
    """`torch.linalg.inv_ex` of (..., n, n), n known: ONNX has no such operator.

    Gauss-Jordan elimination with partial pivoting. Rows stay where they are: each column chooses, by a one-hot vector,
    its pivot among the rows that are still free, and at the end the choices put the rows in order.
    """
    from onnx import TensorProto
    from onnxscript import opset18

    op: Any = opset18  # its annotations are those of tensors, here are the values of a graph

    def axis(index: int) -> Any:
        return op.Constant(value_ints=[index])

    n = A.shape[-1]
    identity = [float(row == column) for row in range(n) for column in range(n)]
    identity = op.Reshape(op.Constant(value_floats=identity), op.Constant(value_ints=[n, n]))
    rows = op.Concat(A, op.Expand(identity, op.Shape(A)), axis=-1)
    free = op.Constant(value_floats=[1.0] * n)
    choices = []
    for i in range(n):
        column = op.Slice(rows, axis(i), axis(i + 1), axis(-1))
        size = op.Mul(op.Abs(op.Squeeze(column, axis(-1))), free)
        largest = op.ArgMax(size, axis=-1, keepdims=1)
        choice = op.Cast(op.Equal(largest, op.Constant(value_ints=list(range(n)))), to=TensorProto.FLOAT)
        free = op.Sub(free, choice)
        choices.append(op.Unsqueeze(choice, axis(-2)))
        choice = op.Unsqueeze(choice, axis(-1))
        pivot = op.ReduceSum(op.Mul(rows, choice), axis(-2), keepdims=1)
        pivot = op.Div(pivot, op.Slice(pivot, axis(i), axis(i + 1), axis(-1)))
        rows = op.Sub(rows, op.Mul(op.Sub(column, choice), pivot))
    inverse = op.MatMul(op.Concat(*choices, axis=-2), op.Slice(rows, axis(n), axis(2 * n), axis(-1)))
    unused = op.Cast(op.ReduceSum(free, axis(-1), keepdims=0), to=TensorProto.INT32)  # 0, for success
    return inverse, unused
