"""Makes the page and the figures of an experiment from its results.json, so that no number in them is typed.

    python experiments/readme.py fraction

A folder's `README.md.jinja` is its page with Jinja expressions for the numbers, over the keys of results.json; tables are
loops over rows. Its figures are drawn by `draw(results, folder)` in `figure.py`. Beyond Jinja's own, templates have

    {{ [0.123, 0.01] | show }}          0.12 ± 0.01, a value and its standard error; of a number alone 0.12
    {{ [0.123, 0.01] | show(".1%") }}   12.3 ± 1.0%, any format of Python; nothing where the value is None
    {{ worlds | each("n", ",") }}       1,000 (digits), 600 (fashion): what lies at a path in every data set
    {{ [0.1, 0.2] | mean_and_error }}   the pair that `show` shows
    {{ machine }}                       processor, cores, version of JAX and commit
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import textwrap
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from record import mean_and_error

EXPERIMENTS = Path(__file__).parent
TEMPLATE = "README.md.jinja"
WIDTH = 128
WITHOUT_TRAINING = ("faults", "store")  # what they measure does not depend on how batches are cut
OLDER_BATCHES = (
    "*Measured when an epoch over k members took ceil(k / batch size) steps; batches are cut otherwise now "
    "([steps](../steps/README.md)), and numbers will differ a little until this is run again.*"
)


REGIMES = re.compile("no-op|spreading|the regime of")
BY_NET = "*Regimes on this page were decided by net cross (`--thresholds.cross net`), which was the default then.*"


def main() -> None:
    """Write the page and the figures of the experiment that is named."""
    folder = EXPERIMENTS / sys.argv[1]
    results = json.loads((folder / "results.json").read_text())
    (folder / "README.md").write_text(render(results, folder))
    if (folder / "figure.py").exists():
        sys.path.insert(0, str(folder))
        importlib.import_module("figure").draw(results, folder)


def render(results: dict[str, Any], folder: Path) -> str:
    """The page of the experiment in the folder, paragraphs broken at 128 characters."""
    jinja = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.do"])
    jinja.filters |= {"show": show, "each": each, "mean_and_error": mean_and_error}
    machine = (
        f"{results['processor']}, {results['cores']} cores, jax {results['versions']['jax']}, "
        f"commit `{results['commit'][:7]}`"
    )
    page = jinja.from_string((folder / TEMPLATE).read_text()).render(**results, machine=machine)
    notes = [BY_NET] if "regimes" not in results and REGIMES.search(page) else []
    notes += [OLDER_BATCHES] if "batches" not in results and folder.name not in WITHOUT_TRAINING else []
    title, _, rest = page.strip("\n").partition("\n\n")
    page = "\n\n".join([title, *notes, rest])
    return "\n\n".join(map(_fill, re.split(r"\n{2,}", page.strip("\n")))) + "\n"


def show(quantity: Any, form: str = ".2f") -> str:
    """A number, or a value and its standard error, in one of Python's formats; never -0.00."""
    value, error = quantity if isinstance(quantity, list | tuple) else (quantity, None)
    if value is None:
        return ""
    rounded = re.sub(r"^([+-]?)", r"\1z", form) if form[-1] in "f%" else form
    if error is None:
        return format(value, rounded)
    return f"{format(value, rounded).rstrip('%')} ± {format(error, form.lstrip('+'))}"


def each(worlds: Mapping[str, Any], path: str = "", form: str = ".2f") -> str:
    """What lies at a path (keys between slashes) in every data set, one after another."""

    def at(part: Any, key: str) -> Any:
        return part[int(key)] if isinstance(part, list) else part[key]

    found = {name: reduce(at, filter(None, path.split("/")), world) for name, world in worlds.items()}
    return ", ".join(f"{show(quantity, form)} ({name})" for name, quantity in found.items())


def _fill(block: str) -> str:
    """Breaks the lines of paragraphs and list items; leaves headings, tables, figures and commands as they are."""
    if block.startswith(("#", "|", "!", "    ")):
        return block
    items = re.split(r"\n(?=- )", block)
    return "\n".join(_fill_item(" ".join(item.split())) for item in items)


def _fill_item(text: str) -> str:
    glued = text.replace(" - ", "\0-\0")  # a line that begins with a dash would be a list item
    indent = "  " if text.startswith("- ") else ""
    lines = textwrap.fill(glued, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return lines.replace("\0", " ")


if __name__ == "__main__":
    main()
