"""Tables in benchmarks/README.md and a plot, from the latest run on each device: `python -m benchmarks.ops.report`."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.ops.results import FOLDER, ROOT, CaseResult, Pass, Run, Side

README = ROOT / "benchmarks" / "README.md"
BEGIN, END = "<!-- begin: made by python -m benchmarks.ops.report -->", "<!-- end -->"


def latest(folder: Path) -> list[Path]:
    """The newest file of each device; names begin with the date."""
    return [max(ops.glob("*.json")) for ops in sorted(folder.glob("*/ops")) if any(ops.glob("*.json"))]


def tables(run: Run, source: str) -> str:
    """Markdown of a run: where it ran, cases with targets of their own, the sweep, and what misses its target."""
    named = [case for case in run.cases if case.named]
    swept = [case for case in run.cases if not case.named]
    missed = [(case, each) for case in run.cases for each in case.passes if each.missed]
    parts = [f"### {run.gpu or run.device}", _where(run, source)]
    if named:
        parts += ["Cases with targets of their own (others: not slower than eager):", _named_table(named)]
    if swept:
        parts += ["Sweep over sizes, times faster than eager as lowest, median and highest:", _sweep_table(swept)]
    parts += [f"![Times faster than eager, by size]({Path(source).with_suffix('.png')})"] if swept else []
    total = sum(len(case.passes) for case in run.cases)
    parts += [_missed(run, missed) if missed else f"All {total} measurements reach their target."]
    if run.left_out:
        cases = "; ".join(f"{case.op}, {case.case}" for case in run.left_out)
        parts += [f"Left out, since eager PyTorch would need more memory than was allowed: {cases}."]
    return "\n\n".join(parts)


def _where(run: Run, source: str) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items() if version != "none")
    return (
        f"{run.processor}, {run.cores} cores, {run.threads} used; {run.dtype}; {versions}; commit {run.commit[:8]}"
        f"{' with changes' if run.dirty else ''}; {run.date:%Y-%m-%d}; load average {run.load} at the start"
        + (f"; a copy moves {run.bandwidth_gb_s:.0f} GB/s" if run.bandwidth_gb_s else "")
        + f". Numbers: [{Path(source).name}]({source})."
    )


def _side(side: Side) -> str:
    used = "" if side.bandwidth_percent is None else f", {side.bandwidth_percent:.0f} % of bandwidth"
    return f"{side.median_ms:.{2 if side.median_ms < 10 else 0}f} ms{used}"


def _ratio(each: Pass) -> str:
    text = f"{each.ratio:.1f}x" + (f" (wanted {each.target:g}x)" if each.target != 1 else "")
    return f"**{text}**" if each.ratio < each.target else text


def _memory(each: Pass) -> str:
    text = f"{100 * each.memory:.0f} %"
    if each.memory_target is None:
        return text
    text += f" (wanted {100 * each.memory_target:.0f} %)"
    return f"**{text}**" if each.memory > each.memory_target else text


def _named_table(cases: list[CaseResult]) -> str:
    compiled = any(each.compiled for case in cases for each in case.passes)
    head = ["op", "case", "pass", "fused", "eager", *(["torch.compile"] if compiled else [])]
    head += ["times faster", "peak memory of eager's"]
    rows = [head, ["---"] * len(head)]
    for case in cases:
        for each in case.passes:
            row = [f"`{case.op}`", case.case, each.name, _side(each.fused), _side(each.eager)]
            row += [_side(each.compiled) if each.compiled else "-"] if compiled else []
            rows.append([*row, _ratio(each), _memory(each)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _sweep_table(cases: list[CaseResult]) -> str:
    rows = ["| op | sizes | forward | forward + backward | peak memory of eager's |", "| --- | --- | --- | --- | --- |"]
    for op in dict.fromkeys(case.op for case in cases):
        mine = [case for case in cases if case.op == op]
        columns = []
        for index in (0, 1):
            ratios = sorted(case.passes[index].ratio for case in mine)
            columns.append(f"{ratios[0]:.1f}x, {ratios[len(ratios) // 2]:.1f}x, {ratios[-1]:.1f}x")
        memory = sorted(case.passes[1].memory for case in mine)
        columns.append(f"{100 * memory[0]:.0f} to {100 * memory[-1]:.0f} %")
        rows.append(f"| `{op}` | {len(mine)} | {' | '.join(columns)} |")
    return "\n".join(rows)


def _missed(run: Run, missed: list[tuple[CaseResult, Pass]]) -> str:
    lines = ["Below their target, and what limits them:", ""]
    for op in dict.fromkeys(case.op for case, _ in missed):
        lines.append(f"- `{op}`: {run.limits[op]}")
        for case, each in missed:
            if case.op == op:
                memory = f", {_memory(each)} of the memory" if each.memory_target is not None else ""
                lines.append(f"  - {case.case}, {each.name}: {_ratio(each)}{memory}")
    return "\n".join(lines)


def plot(run: Run, path: Path) -> bool:
    """Times faster than eager against pixels in a batch, a panel for each op; False without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    cases = [case for case in run.cases if not case.named]
    ops = list(dict.fromkeys(case.op for case in cases))
    columns = min(4, len(ops))
    lines = -(-len(ops) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.4 * lines), layout="constrained")
    panels = list(figure.subplots(lines, columns, sharex=True, squeeze=False).flat)
    for panel, op in zip(panels, ops, strict=False):
        for index, name in enumerate(("forward", "forward + backward")):
            points = sorted(
                (case.size["batch"] * case.size["side"] ** 2, case.passes[index].ratio)
                for case in cases
                if case.op == op
            )
            panel.plot(*zip(*points, strict=True), marker=".", linestyle="", label=name)
        panel.axhline(1, color="grey", linewidth=0.8)
        panel.set(xscale="log", yscale="log", title=op)
    for panel in panels[len(ops) :]:
        panel.set_axis_off()
    figure.axes[0].legend(fontsize="small")
    figure.supxlabel("pixels of a batch")
    figure.supylabel("times faster than eager")
    figure.savefig(path, dpi=110)
    return True


def main() -> int:
    """Rewrite the part of the README between the marks."""
    sections = []
    for path in latest(FOLDER):
        run = Run.model_validate_json(path.read_text())
        if any(not case.named for case in run.cases) and not plot(run, path.with_suffix(".png")):
            print("no plot: it needs matplotlib (pip install 'lami[bench]')", file=sys.stderr)
        sections.append(tables(run, path.relative_to(README.parent).as_posix()))
    text = README.read_text()
    head, rest = text.split(BEGIN)
    tail = rest.split(END, maxsplit=1)[1]
    README.write_text(f"{head}{BEGIN}\n\n" + "\n\n".join([*sections, END]) + tail)
    return 0


if __name__ == "__main__":
    sys.exit(main())
