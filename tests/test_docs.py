"""The documentation: its code runs, its relative links lead somewhere, its pages name all that is public."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "benchmarks").rglob("*.md"),
    *(ROOT / ".github").rglob("*.md"),
]
_FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def code_of(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def anchors_of(page: Path) -> set[str]:
    """Those that headings get, on GitHub and in the site alike."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", page.read_text()), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_FENCED.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors_of(target)):
            broken.append(link)
    assert broken == []


def test_the_code_of_the_ops_page_runs_in_order() -> None:
    blocks = code_of(ROOT / "docs" / "ops.md", "python")
    assert len(blocks) > 6
    torch.manual_seed(0)
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/ops.md", "exec"), namespace)


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "api").glob("*.md")), ids=lambda page: page.stem)
def test_api_pages_name_all_that_is_public(page: Path) -> None:
    shown = re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE)
    module = page.read_text().splitlines()[0].strip("#` ")
    public = set(importlib.import_module(module).__all__) - {"__version__", "ops"}
    if module not in shown:
        assert {name.rpartition(".")[2] for name in shown} == public


def test_figures_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs" / "images" / "method").glob("*.png")}
    assert len(sizes) >= 6
    assert max(sizes.values()) < 250_000


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_staging_keeps_the_places_of_files(build: ModuleType, tmp_path: Path) -> None:
    build.stage(tmp_path)
    for name in ("README.md", "docs/method.md", "docs/images/method/splines.png", "benchmarks/README.md", "LICENSE"):
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes()


def test_what_pages_load_from_elsewhere_is_found(build: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "good.html").write_text(
        '<a href="https://example.org">follow</a><img src="a.png"><link rel="canonical" href="https://example.org/x">'
    )
    assert build.loaded_from_elsewhere(tmp_path) == []
    (tmp_path / "bad.html").write_text(
        '<script async src="https://a.org/x.js"></script><link rel="stylesheet" href="//b.org/x.css">'
    )
    (tmp_path / "bad.css").write_text('@font-face{src:url("https://c.org/x.woff")}')
    assert build.loaded_from_elsewhere(tmp_path) == [
        "bad.html loads https://a.org/x.js",
        "bad.html loads //b.org/x.css",
        "bad.css loads https://c.org/x.woff",
    ]
