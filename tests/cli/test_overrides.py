"""Splitting `--section.key value` from the other arguments."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lami.cli.overrides import split_overrides
from lami.errors import ConfigError


@pytest.mark.parametrize(
    ("arguments", "others", "overrides"),
    [
        (["taichi", "--resume"], ["taichi", "--resume"], {}),
        (["taichi", "--a.b", "1", "--resume"], ["taichi", "--resume"], {"a.b": 1}),
        (["--a.b-c=2", "taichi"], ["taichi"], {"a.b_c": 2}),
        (["--a.b", "0.3", "0.5", "-o", "out"], ["-o", "out"], {"a.b": [0.3, 0.5]}),
        (["--a.b=[64,64]"], [], {"a.b": [64, 64]}),
        (["--a.b", "null", "--a.c", "None", "--a.d", "none"], [], {"a.b": None, "a.c": None, "a.d": "none"}),
        (["--a.b", "-1", "--a.c", "true"], [], {"a.b": -1, "a.c": True}),
        (["--a.b=x=y"], [], {"a.b": "x=y"}),
        (["-o", "folder.name/file.mp4"], ["-o", "folder.name/file.mp4"], {}),
    ],
)
def test_split(arguments: list[str], others: list[str], overrides: dict[str, Any]) -> None:
    assert split_overrides(arguments) == (others, overrides)


def test_value_missing() -> None:
    with pytest.raises(ConfigError, match=r"--a\.b needs a value"):
        split_overrides(["--a.b", "--c.d", "1"])


@pytest.mark.parametrize("value", ["[1", "2020-13-45"])
def test_value_unreadable(value: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot read the value '{re.escape(value)}' of a\\.b"):
        split_overrides([f"--a.b={value}"])


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.lists(st.integers(), max_size=3)))
def test_any_yaml_value_survives(value: Any) -> None:
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
    assert split_overrides([f"--a.b={text}"]) == ([], {"a.b": value})
