"""`lami doctor`."""

from __future__ import annotations

from dataclasses import dataclass

from lami.cli.options import parse


@dataclass
class DoctorOptions:
    pass


def main(arguments: list[str]) -> None:
    parse(DoctorOptions, arguments, "doctor", "Print versions, devices, compilers, weights and backends.")

    from lami.doctor import report

    print(report())
