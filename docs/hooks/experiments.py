"""Brings the experiments' pages and figures, and the changelog, into the site as they are where they live.

An experiment is a folder of experiments/ with a README.md; a new one is in the site without a word here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from links import ROOT, figures_of, place_of
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files

_LOG = get_plugin_logger("experiments")  # a warning ends a strict build


def readmes() -> list[Path]:
    """The page of each experiment, by name."""
    return sorted((ROOT / "experiments").glob("*/README.md"))


def on_config(config: Any) -> Any:
    """List the experiments in the navigation."""
    pages = [{readme.parent.name.replace("_", " "): place_of(readme)} for readme in readmes()]
    for entry in config.nav:
        if isinstance(entry, dict) and "Experiments" in entry:
            entry["Experiments"] = ["experiments/index.md", *pages]
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages, and the figures that they show."""
    for readme in readmes():
        files.append(File.generated(config, str(place_of(readme)), content=readme.read_text()))
        for figure in figures_of(readme):
            if not figure.exists():
                _LOG.warning("%s shows %s, which is not there", readme.relative_to(ROOT), figure.name)
                continue
            files.append(File.generated(config, str(place_of(figure)), abs_src_path=str(figure)))
    files.append(File.generated(config, "experiments/index.md", content=_list_of_questions()))
    files.append(File.generated(config, "changelog.md", content=(ROOT / "CHANGELOG.md").read_text()))
    return files


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
