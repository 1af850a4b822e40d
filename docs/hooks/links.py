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
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Called for each page before it is rendered."""
    return moved(markdown, page.file.src_uri)


def moved(markdown: str, place: str) -> str:
    """The text of the page at `place` of the site, with its links as they are there."""

    def one(found: re.Match[str]) -> str:
        image, text, target, anchor = found.groups()
        path = (source_of(place).parent / target).resolve()
        if "://" in target or not path.exists() or place_of(path) == posixpath.join(posixpath.dirname(place), target):
            return found[0]
        if there := place_of(path):
            return f"{image}[{text}]({posixpath.relpath(there, posixpath.dirname(place) or '.')}{anchor or ''})"
        named = path.relative_to(ROOT)
        return text if str(named) in text else f"{text} (`{named}`)"

    return _LINK.sub(one, markdown)


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
    """The pictures in the folder of an experiment that its page shows."""
    text = readme.read_text()
    named = [found[3] for found in _LINK.finditer(text)] + re.findall(r'src(?:set)?="([^"]+)"', text)
    paths = {(readme.parent / name).resolve() for name in named if "://" not in name}
    return sorted(path for path in paths if path.suffix in IMAGES and path.is_relative_to(readme.parent))
