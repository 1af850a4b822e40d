"""A notebook is reviewed as a script and read with its outputs: both must hold the same cells, the outputs must be of those
cells, and the script must still run. It runs at a small size, where every call is made and no conclusion is drawn."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
SCRIPTS = sorted(NOTEBOOKS.glob("0*.py"))

nbformat: Any = pytest.importorskip("nbformat")
pytest.importorskip("jupytext")
pytest.importorskip("nbclient")
# Jupyter's own warnings, of event loops and paths, are none of ours.
pytestmark = pytest.mark.filterwarnings("ignore")


def building() -> Any:
    return SimpleNamespace(**runpy.run_path(str(NOTEBOOKS / "build.py")))


def cells(notebook: Any) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.parametrize("name", [script.stem for script in SCRIPTS])
def test_the_notebook_is_the_script_run_from_top_to_bottom(name: str) -> None:
    path = NOTEBOOKS / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert cells(notebook) == cells(building().read_notebook(path.with_suffix(".py")))
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert not [one for one in outputs(notebook) if one.output_type == "error" or one.get("name") == "stderr"]
    assert path.stat().st_size < 1_000_000
    assert str(ROOT) not in path.read_text()
    assert notebook.cells[0].source.splitlines()[0].endswith("?")
    assert notebook.cells[-1].source.startswith("## What to take away")


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_it_runs_at_a_small_size(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFL_SMALL", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore::UserWarning")  # of infl, that so few models do not show enough
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    build = building()
    notebook = build.execute(build.read_notebook(script))
    said = [output for output in outputs(notebook) if output.get("name") == "stderr"]
    assert not said
    pictures = [output for output in outputs(notebook) if "image/png" in output.get("data", {})]
    assert len(pictures) == sum(
        ".figure\n" in cell.source + "\n" for cell in notebook.cells if cell.cell_type == "code"
    )
