"""Lets pages link to files of the repository as they lie there, so that a link is good on the site and in the repository.

What the site has under another address is linked there; what it does not hold is named and not linked.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
IMAGES = (".png", ".svg", ".jpg", ".webp")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?(\s+\"[^\"]*\")?\)")
_SOURCE = re.compile(r"""\b(src(?:set)?=)(["'])([^"']+)\2""")  # of an HTML image


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Called for each page before it is rendered."""
    return moved(markdown, page.file.src_uri)


def moved(markdown: str, place: str) -> str:
    """The text of the page at `place` of the site, with its links as they are there."""

    def one(found: re.Match[str]) -> str:
        image, text, target, anchor, title = found.groups()
        path = (source_of(place).parent / target).resolve()
        if "://" in target or not path.exists():
            return found[0]
        if there := _address(path, place):
            return f"{image}[{text}]({there}{anchor or ''}{title or ''})"
        named = path.relative_to(ROOT)
        return text if str(named) in text else f"{text} (`{named}`)"

    def source(found: re.Match[str]) -> str:
        path = (source_of(place).parent / found[3]).resolve()
        there = _address(path, place) if "://" not in found[3] and path.exists() else None
        return f"{found[1]}{found[2]}{there or found[3]}{found[2]}"

    return _SOURCE.sub(source, _LINK.sub(one, markdown))


def _address(path: Path, place: str) -> str | None:
    """Of a file, or of the page of an experiment's folder, as seen from the page at `place`."""
    readme = path / "README.md"
    there = place_of(readme if readme.exists() else path)
    return posixpath.relpath(there, posixpath.dirname(place) or ".") if there else None


def source_of(place: str) -> Path:
    """The file of the repository that the page at `place` of the site is made from."""
    if place.startswith("experiments/"):
        return ROOT / posixpath.dirname(place) / "README.md"
    return ROOT / "CHANGELOG.md" if place == "changelog.md" else ROOT / "docs" / place


def place_of(path: Path) -> str | None:
    """Where the site has a file of the repository; None where it does not."""
    parts = path.relative_to(ROOT).parts
    if parts[0] == "docs":
        return "/".join(parts[1:])
    if parts == ("CHANGELOG.md",):
        return "changelog.md"
    if parts[0] == "experiments" and parts[2:] == ("README.md",):
        return f"experiments/{parts[1]}/index.md"
    return "/".join(parts) if parts[0] == "experiments" and path.suffix in IMAGES else None


def figures_of(readme: Path) -> list[Path]:
    """The pictures in the folder of an experiment that its page shows, whether they are there or not."""
    text = readme.read_text()
    named = [found[3] for pattern in (_LINK, _SOURCE) for found in pattern.finditer(text)]
    paths = {(readme.parent / name).resolve() for name in named if "://" not in name}
    return sorted(path for path in paths if path.suffix in IMAGES and path.is_relative_to(readme.parent))
