"""Executes the notebooks and writes them with their outputs: `python notebooks/build.py [NAME ...]`.

The scripts `*.py` in the percent format are what is edited and reviewed; the `*.ipynb` beside them are made from them here.
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
    for script in sorted(HERE.glob("0*.py")):
        if len(sys.argv) == 1 or script.stem in sys.argv[1:]:
            start = time.perf_counter()
            notebook = execute(notebook_of(script))
            nbformat.write(notebook, script.with_suffix(".ipynb"))
            print(f"{script.stem}: {time.perf_counter() - start:.0f} s")


def notebook_of(script: Path) -> Any:
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


if __name__ == "__main__":
    main()
