"""Build the documentation site: `python docs/build.py`, or `make docs`. Warnings are errors.

Pages are staged with the files that they link to, each where it is in the repository: so the same relative links work
there and in the site. The built pages must not load anything from elsewhere; links to follow may lead anywhere.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGE = ROOT / "build" / "docs"
SITE = ROOT / "site"
STAGED = (
    "README.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
    "benchmarks/README.md",
    "benchmarks/results",
    "docs",
    "examples",
    "lami/configs",
)

_LOADED = re.compile(
    r"""<(?:script|img|iframe|video|audio|source|embed)\b[^>]*\bsrc=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preload|preconnect|icon|modulepreload))[^>]*"""
    r"""\bhref=["']?((?:https?:)?//[^"'\s>]+)""",
    re.IGNORECASE,
)
_LOADED_BY_STYLES = re.compile(r"""(?:@import\s+|url\()\s*["']?((?:https?:)?//[^"')\s]+)""", re.IGNORECASE)


def stage(target: Path = STAGE) -> None:
    """Copy pages and what they link to."""
    shutil.rmtree(target, ignore_errors=True)
    for name in STAGED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target / name)


def loaded_from_elsewhere(site: Path) -> list[str]:
    """Pages, scripts' tags and styles of a built site that would make a browser ask another server."""
    found = []
    for pattern, suffix in ((_LOADED, "html"), (_LOADED_BY_STYLES, "css")):
        for path in sorted(site.rglob(f"*.{suffix}")):
            for groups in pattern.findall(path.read_text(encoding="utf-8")):
                address = groups if isinstance(groups, str) else "".join(groups)
                found.append(f"{path.relative_to(site)} loads {address}")
    return found


def main() -> int:
    zensical = Path(sys.executable).parent / "zensical"
    if not zensical.is_file():
        print("the documentation needs pip install 'lami[docs]'", file=sys.stderr)
        return 1
    stage()
    shutil.rmtree(SITE, ignore_errors=True)
    command = [zensical, "build", "--strict", "--clean"]
    built = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    print(built.stdout, end="")
    # griffe reads docstrings, and its warnings do not reach --strict.
    if built.returncode or re.search(r"^griffe: ", built.stdout, re.MULTILINE):
        return built.returncode or 1
    if found := loaded_from_elsewhere(SITE):
        print("\n".join(found), file=sys.stderr)
        return 1
    print(f"see {SITE / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
