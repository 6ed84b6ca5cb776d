"""Tables of a run, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.ops.growth import LINEAR, PARAMETERS, Growth, growths
from benchmarks.ops.results import CaseResult, Pass, Run, Side


def section(run: Run, source: str) -> str:
    """What the README tells of a run, whose file is `source`: where it ran, the important cases, growth, and misses."""
    stem = Path(source).with_suffix("")
    named = [case for case in run.cases if case.named]
    swept = [case for case in run.cases if not case.named]
    missed = [(case, each) for case in run.cases for each in case.passes if each.missed]
    parts = [f"### {run.gpu or run.device}", where(run, source)]
    if named:
        parts += ["Cases with targets of their own (others: not slower than eager):", _named(named)]
    if swept:
        parts += ["Other sizes, times faster than eager as lowest, median and highest:", _ranges(swept)]
    parts += [f"![Times faster than eager, by size]({stem}.png)"]
    if found := growths(run):
        parts += [_growth(found, stem)]
    total = sum(len(case.passes) for case in run.cases)
    parts += [_missed(run, missed) if missed else f"All {total} measurements reach their target."]
    if run.left_out:
        parts += ["Left out:", _left_out(run)]
    if run.missing:
        parts += ["Not measured: " + "; ".join(f"{side} ({reason})" for side, reason in run.missing.items()) + "."]
    return "\n\n".join(parts)


def everything(run: Run, source: str) -> str:
    """All cases, passes and implementations, one a line."""
    head = ["op", "case", "pass", "side", "ms (p20 to p80)", "ours faster", "MB moved", "of a copy", "peak MB"]
    rows = []
    for case in run.cases:
        for each in case.passes:
            copy = each.sides.get("copy")
            for name, side in each.sides.items():
                ratio = "" if name == "fused" else f"{side.median_ms / each.fused.median_ms:.2f}x"
                of_copy = f"{100 * copy.median_ms / side.median_ms:.0f} %" if copy else "-"
                row = [f"`{case.op}`", case.case, each.name, "ours" if name == "fused" else name, milliseconds(side)]
                rows.append([*row, ratio, f"{each.bytes_moved / 1e6:.2f}", of_copy, f"{side.peak_bytes / 1e6:.2f}"])
    return "\n\n".join([f"# {run.gpu or run.device}", where(run, source), table(head, rows)]) + "\n"


def where(run: Run, source: str) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items() if version != "none")
    clocks = ", ".join(f"{part} {mhz:.0f} MHz" for part, mhz in run.clocks_mhz.items())
    return (
        f"{run.processor}, {run.cores} cores, {run.threads} used"
        + (f"; {clocks}" if clocks else "")
        + (f"; driver {run.driver}" if run.driver else "")
        + f"; {versions}; commit {run.commit[:8]}{' with changes' if run.dirty else ''}; {run.date:%Y-%m-%d}; load "
        + f"average {run.load} at the start. Numbers: [{Path(source).name}]({source})."
    )


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def milliseconds(side: Side) -> str:
    low, middle, high = (f"{ms:.{2 if ms < 10 else 0}f}" for ms in (side.p20_ms, side.median_ms, side.p80_ms))
    return f"{middle} ({low} to {high})"


def _faster(each: Pass, side: str) -> str:
    ratio, wanted = each.faster(side), each.wanted.get(side, 1.0)
    if ratio is None:
        return "-"
    text = f"{ratio:.1f}x" + (f" (wanted {wanted:g}x)" if wanted != 1 else "")
    return f"**{text}**" if ratio < wanted else text


def _of_copy(each: Pass) -> str:
    part, wanted = each.faster("copy"), each.wanted.get("copy")
    if part is None:
        return "-"
    text = f"{100 * part:.0f} %" + (f" (wanted {100 * wanted:.0f} %)" if wanted is not None else "")
    return f"**{text}**" if "copy" in each.missed else text


def _memory(each: Pass) -> str:
    wanted = each.wanted_memory
    text = f"{100 * each.memory:.0f} %" + (f" (wanted {100 * wanted:.0f} %)" if wanted is not None else "")
    return f"**{text}**" if "memory" in each.missed else text


def _host(each: Pass) -> str:
    if each.fused.host_us is None:
        return "-"
    wanted = each.wanted_host_us
    text = f"{each.fused.host_us:.0f}" + (f" (wanted {wanted:.0f})" if wanted is not None else "")
    return f"**{text}**" if "host" in each.missed else text


def _named(cases: list[CaseResult]) -> str:
    passes = [each for case in cases for each in case.passes]
    others = [name for name in dict.fromkeys(name for each in passes for name in each.sides) if name not in _OWN]
    copied = any("copy" in each.sides for each in passes)
    launched = any(each.fused.host_us is not None for each in passes)
    head = [
        "op",
        "case",
        "pass",
        "ours, ms (p20 to p80)",
        "eager",
        "times faster",
        *(f"than {name}" for name in others),
    ]
    head += [*(["of a copy's bandwidth"] if copied else []), *(["us of the CPU"] if launched else [])]
    head += ["MB moved", "peak memory of eager's"]
    rows = []
    for case in cases:
        for each in case.passes:
            row = [f"`{case.op}`", case.case, each.name, milliseconds(each.fused), milliseconds(each.eager)]
            row += [_faster(each, name) for name in ("eager", *others)]
            row += [*([_of_copy(each)] if copied else []), *([_host(each)] if launched else [])]
            rows.append([*row, f"{each.bytes_moved / 1e6:.1f}", _memory(each)])
    return table(head, rows)


_OWN = ("fused", "eager", "copy")


def _ranges(cases: list[CaseResult]) -> str:
    rows = []
    names = [each.name for each in cases[0].passes]
    for op in sorted({case.op for case in cases}):
        mine = [case for case in cases if case.op == op]
        columns = []
        for index in range(len(names)):
            ratios = sorted(case.passes[index].ratio for case in mine)
            columns.append(f"{ratios[0]:.1f}x, {ratios[len(ratios) // 2]:.1f}x, {ratios[-1]:.1f}x")
        memory = sorted(case.passes[-1].memory for case in mine)
        columns.append(f"{100 * memory[0]:.0f} to {100 * memory[-1]:.0f} %")
        rows.append([f"`{op}`", str(len(mine)), *columns])
    return table(["op", "sizes", *names, "peak memory of eager's"], rows)


def _growth(found: list[Growth], stem: Path) -> str:
    """Exponents of ours, and of others in brackets."""

    def cell(each: Growth | None, what: str) -> str:
        if each is None:
            return "-"
        exponents = {side: each.exponent(costs) for side, costs in getattr(each, what).items()}
        ours, *others = ("-" if exponent is None else f"{exponent:.2f}" for exponent in exponents.values())
        beside = f"({', '.join(others)})"
        return f"**{ours}** {beside}" if (exponents["fused"] or 0) > LINEAR else f"{ours} {beside}"

    parameters = [name for name in PARAMETERS if any(each.parameter == name for each in found)]
    head = ["op", *(f"{what}, {PARAMETERS[name]}" for name in parameters for what in ("time", "memory"))]
    by_key = {(each.op, each.parameter): each for each in found}
    rows = [
        [f"`{op}`", *(cell(by_key.get((op, name)), what) for name in parameters for what in ("time", "memory"))]
        for op in dict.fromkeys(each.op for each in found)
    ]
    said = (
        "Growth: exponents of time and peak memory, fitted by least squares to the upper half of the sizes of the last "
        "pass: ours, and in brackets eager's and, of time, that of copying as many bytes as have to move, which grows "
        f"faster than they do where they outgrow the caches. Above {LINEAR}, more than proportional, ours is bold."
    )
    plots = f"Growth of [time]({stem}-time.png) and [memory]({stem}-memory.png) by size."
    return "\n\n".join([said, table(head, rows), plots])


def _missed(run: Run, missed: list[tuple[CaseResult, Pass]]) -> str:
    """Named cases one a line; of the sizes around the base, which are many, a line for each pass."""
    lines = ["Below their target, and what limits them:", ""]
    for op in sorted({case.op for case, _ in missed}):
        lines.append(f"- `{op}`: {run.limits[op]}")
        mine = [(case, each) for case, each in missed if case.op == op]
        for case, each in mine:
            if case.named:
                lines.append(f"  - {case.case}, {each.name}: {', '.join(_told(each, what) for what in each.missed)}")
        swept = [(case, each) for case, each in mine if not case.named]
        for name in dict.fromkeys(each.name for _, each in swept):
            ratios = [each.ratio for _, each in swept if each.name == name]
            low, high = (f"{ratio:.1f}x" for ratio in (min(ratios), max(ratios)))
            values = _values(case.case for case, each in swept if each.name == name)
            lines.append(f"  - {name}: **{low if low == high else f'{low} to {high}'}** at {values}")
    return "\n".join(lines)


def _values(cases: Iterable[str]) -> str:
    """Names of cases, those that differ in the value of a parameter in one: `times 1, 5, 9; base`."""
    found: dict[str, list[str]] = {}
    for case in cases:
        parameter, _, value = case.rpartition(" ")
        if parameter in PARAMETERS:
            found.setdefault(parameter, []).append(value)
        else:
            found.setdefault(case, [])
    return "; ".join(f"{name} {', '.join(values)}" if values else name for name, values in found.items())


def _told(each: Pass, missed: str) -> str:
    """A target that was missed."""
    if missed == "copy":
        return f"{_of_copy(each)} of a copy's bandwidth"
    if missed == "memory":
        return f"{_memory(each)} of eager's memory"
    if missed == "host":
        return f"{_host(each)} us of the CPU"
    return _faster(each, missed) + ("" if missed == "eager" else f" of {missed}")


def _left_out(run: Run) -> str:
    lines = []
    for reason in dict.fromkeys(each.reason for each in run.left_out):
        ops: dict[str, list[str]] = {}
        for each in run.left_out:
            if each.reason == reason:
                ops.setdefault(each.op, []).append(each.case)
        same: dict[str, list[str]] = {}
        for op in sorted(ops):
            same.setdefault(_values(ops[op]), []).append(f"`{op}`")
        where_left = ". ".join(f"{', '.join(names)}: {values}" for values, names in same.items())
        lines.append(f"- {reason[0].upper()}{reason[1:]}: {where_left}.")
    return "\n".join(lines)
