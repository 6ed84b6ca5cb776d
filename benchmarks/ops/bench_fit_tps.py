"""Splines of all motions of a batch at several times."""

from benchmarks.ops import eager, others
from benchmarks.ops.cases import Aim, Benchmark, Case, Size
from benchmarks.ops.inputs import Inputs
from lami import ops


def setup(size: Size, inputs: Inputs) -> Case:
    per_time = Size(batch=size.batch * size.times, splines=size.splines, points=size.points)
    keypoints = inputs.keypoints(per_time)
    return Case(
        keypoints,
        ops.fit_tps,
        eager.fit_tps,
        lambda: {
            "torch.linalg.solve": others.linalg_fit_tps(*keypoints),
            "kornia": others.kornia_fit_tps(*keypoints),
        },
    )


BENCHMARK = Benchmark(
    "fit_tps",
    setup,
    cpu={"120 systems": Aim(Size(batch=4, times=3), forward={"eager": 5}, both={"eager": 5})},
    cuda={
        "840 systems": Aim(Size(batch=28, times=3), forward={"torch.linalg.solve": 10}, both={"torch.linalg.solve": 10})
    },
    uses=("batch", "splines"),
    limits="Each system takes about a microsecond; calling an op and recording its gradient takes several.",
)
