"""Executes the notebooks and writes them with their outputs: `python notebooks/build.py [--text] [NAME ...]`.

The scripts `*.py` in the percent format are what is edited and reviewed; the `*.ipynb` beside them are made from them here.
With `--text` nothing runs: text is taken over from the scripts, outputs are kept, and changed code is refused.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import jupytext
import nbclient
import nbformat

HERE = Path(__file__).parent


def main() -> None:
    """Build those named, or all."""
    names = [word for word in sys.argv[1:] if word != "--text"]
    for script in sorted(HERE.glob("0*.py")):
        if not names or script.stem in names:
            start = time.perf_counter()
            path = script.with_suffix(".ipynb")
            notebook = read_notebook(script)
            built = copy_outputs(nbformat.read(path, 4), notebook) if "--text" in sys.argv else execute(notebook)
            nbformat.write(built, path)
            print(f"{script.stem}: {time.perf_counter() - start:.0f} s")


def read_notebook(script: Path) -> Any:
    """The notebook that a script stands for, without outputs; ids of its cells follow from their order."""
    notebook: Any = jupytext.read(script)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        cell["metadata"] = {}
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def execute(notebook: Any) -> Any:
    """With outputs, run from the repository's root by this interpreter."""
    client = nbclient.NotebookClient(
        notebook,
        timeout=1200,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": HERE.parent}},
    )
    metadata = dict(notebook.metadata)
    client.execute()
    notebook.metadata = metadata
    return notebook


def copy_outputs(executed: Any, notebook: Any) -> Any:
    """The notebook with the outputs of another whose code is the same."""
    done, cells = ([cell for cell in one.cells if cell.cell_type == "code"] for one in (executed, notebook))
    if [cell.source for cell in done] != [cell.source for cell in cells]:
        sys.exit("--text: the code has changed since the notebook was executed; build it without --text")
    for cell, old in zip(cells, done, strict=True):
        cell.outputs, cell.execution_count = old.outputs, old.execution_count
    return notebook


if __name__ == "__main__":
    main()
