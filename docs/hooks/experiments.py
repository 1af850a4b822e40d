"""Brings the experiments' pages and figures, and the changelog, into the site as they are where they live.

An experiment is a folder of experiments/ with a README.md; a new one is in the site without a word here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)\)")


def readmes() -> list[Path]:
    """The page of each experiment, by name."""
    return sorted((ROOT / "experiments").glob("*/README.md"))


def on_config(config: Any) -> Any:
    """List the experiments in the navigation, each by the question it asks."""
    pages = [{readme.parent.name.replace("_", " "): _place(readme)} for readme in readmes()]
    for entry in config.nav:
        if isinstance(entry, dict) and "Experiments" in entry:
            entry["Experiments"] = ["experiments/index.md", *pages]
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages, and the figures that lie beside them."""
    for readme in readmes():
        files.append(File.generated(config, _place(readme), content=_page(readme, files)))
        for figure in sorted([*readme.parent.glob("*.png"), *readme.parent.glob("*.svg")]):
            place = f"experiments/{readme.parent.name}/{figure.name}"
            files.append(File.generated(config, place, abs_src_path=str(figure)))
    files.append(File.generated(config, "experiments/index.md", content=_list_of_questions()))
    files.append(File.generated(config, "changelog.md", content=(ROOT / "CHANGELOG.md").read_text()))
    return files


def _place(readme: Path) -> str:
    return f"experiments/{readme.parent.name}/index.md"


def _page(readme: Path, files: Files) -> str:
    """The README with its links as they are in the site; what the site does not hold is named and not linked."""

    def moved(found: re.Match[str]) -> str:
        image, text, target = found.groups()
        if target.startswith(("http:", "https:")):
            return found[0]
        path = (readme.parent / target).resolve()
        if not path.exists():
            raise FileNotFoundError(f"{readme}: links to {target}, which is not there")
        if path.is_relative_to(ROOT / "docs"):
            return f"{image}[{text}](../../{path.relative_to(ROOT / 'docs')})"
        if path.name == "README.md" and path.parent.parent == ROOT / "experiments":
            return f"[{text}](../{path.parent.name}/index.md)"
        return found[0] if image else f"{text} (`{path.relative_to(ROOT)}`)"

    return _LINK.sub(moved, readme.read_text())


def _list_of_questions() -> str:
    lines = [
        "# Experiments",
        "",
        "Each asks one question of infl on real data, and keeps its raw numbers, seeds, commit and versions beside it",
        "(`results.json`). The same pages lie in the repository as `experiments/NAME/README.md`. What did not come out as",
        "hoped is in them too.",
        "",
    ]
    for readme in readmes():
        question = readme.read_text().partition("\n")[0].lstrip("# ")
        lines.append(f"- [{readme.parent.name.replace('_', ' ')}]({readme.parent.name}/index.md): {question}")
    return "\n".join(lines) + "\n"
