"""Splines of all motions of a batch at several times."""

from benchmarks.ops import eager, others
from benchmarks.ops.cases import Benchmark, Case, Size, Targets
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
    named={"120 systems": (Size(batch=4, times=3), Targets(forward=5, both=5))},
    uses=("batch", "splines"),
    limits="Each system takes about a microsecond; calling an op and recording its gradient takes several.",
)
