"""Every import inside infl runs along an arrow of the design, and only `training` knows the training libraries.

A reader may then open any one folder and understand it without the others, scores can be computed where no flax is
installed, and the order of the stages is written in one place. The imports are read from the source and not from what
happens to be loaded, so an import inside a function or for type checkers counts as well.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import infl

HOUSE = Path(infl.__file__).parent
LAYERS = {path.stem for path in HOUSE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
ROOT = "infl"  # the package itself, through which everything can be reached
EVERYTHING = LAYERS | {ROOT}

MAY_IMPORT = {
    "records": set(),
    "caching": set(),
    "reading": {"records"},
    "data": {"records", "reading"},
    "training": {"records", "reading", "caching"},
    "store": {"records", "reading", "caching"},
    "surrogate": {"records"},
    "scores": {"records", "surrogate"},
    "untraining": {"records", "reading", "scores", "surrogate"},
    "report": {"records"},
    "engines": {"records"},
    "provenance": {ROOT},  # whose version it names
    "opening": {"records", "provenance", "store", "surrogate", "training"},
    "drawing": {"records", "training"},
    "trainers": {"records", "training", "engines"},
    "jobs": {"records", "drawing", "provenance", "store", "trainers", "training", "report"},
    "weights": {"records", "drawing", "jobs", "opening", "report", "store", "training"},
    "repairing": {"records", "drawing", "jobs", "opening", "store", "trainers", "training"},
    "pilot": {"records", "training", "untraining"},
    "planning": {"records", "opening", "pilot", "scores", "store", "training"},
    "target": {"records", "scores", "store"},
    "kept": {"records", "scores", "store", "report"},
    "matrix": {"records", "scores", "store", "report"},
    "pipeline": EVERYTHING,
    "reporting": {"records", "kept", "pipeline", "scores", "store", "untraining", "report"},
    # They turn options into the settings records of data and training, and print what the pipeline gave. `store` and
    # `pipeline` they reach through the package alone, but for the name of a type.
    "commands": {ROOT, "records", "data", "training", "engines", "store", "report", "printing"},
    "printing": {ROOT, "records", "store", "report"},
    "__main__": {ROOT, "records", "commands"},
    "__init__": EVERYTHING,
}
TRAINING_LIBRARIES = {"flax", "optax", "orbax"}


def imported(source: str, package: str) -> Iterator[str]:
    """Dotted names that the source of a module of `package` imports, wherever it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            # `from infl import records` imports a layer, `from infl import train` the package.
            yield from (f"{module}.{alias.name}" if module == ROOT else module for alias in node.names)


def violations(source: str, layer: str, package: str = ROOT) -> list[str]:
    """What a module of this layer imports and may not."""
    found = []
    for name in imported(source, package):
        top, _, rest = name.partition(".")
        if top == ROOT:
            target = rest.split(".")[0] if rest.split(".")[0] in MAY_IMPORT else ROOT
            if target != layer and target not in MAY_IMPORT[layer]:
                found.append(name)
        elif top in TRAINING_LIBRARIES and layer != "training":
            found.append(name)
    return found


MODULES = {str(path.relative_to(HOUSE)): path for path in sorted(HOUSE.rglob("*.py"))}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_layer_may(module: str) -> None:
    path = MODULES[module]
    layer = path.relative_to(HOUSE).parts[0].removesuffix(".py")
    package = ".".join((ROOT, *path.relative_to(HOUSE).parts[:-1]))
    assert violations(path.read_text(), layer, package) == []


def test_every_layer_has_its_rule() -> None:
    assert set(MAY_IMPORT) == LAYERS


@pytest.mark.parametrize(
    ("layer", "source", "found"),
    [
        ("data", "import infl.training.subsets", ["infl.training.subsets"]),
        ("scores", "from infl.store import Run", ["infl.store"]),
        ("scores", "from infl import store", ["infl.store"]),
        ("scores", "from infl import train", ["infl.train"]),
        ("report", "import infl", ["infl"]),
        ("records", "def f():\n    from infl.scores import influence", ["infl.scores"]),
        ("store", "if TYPE_CHECKING:\n    from infl.training.algorithm import Algorithm", ["infl.training.algorithm"]),
        ("untraining", "class A:\n    import infl.pipeline as p", ["infl.pipeline"]),
        ("untraining", "from infl.scores.contrasts import Sums\nfrom infl.store import Run", ["infl.store"]),
        ("engines", "try:\n    from infl.training import ensemble\nexcept ImportError: ...", ["infl.training"]),
        ("scores", "import optax, numpy", ["optax"]),
        ("jobs", "from infl.pipeline import train", ["infl.pipeline"]),
        ("pipeline", "from flax import nnx", ["flax"]),
        ("__main__", "from infl.scores.influence import influence", ["infl.scores.influence"]),
        ("training", "import optax\nfrom flax import nnx\nfrom infl.records import Array", []),
        ("pipeline", "import infl\nfrom infl.report.progress import track", []),
        ("data", "from infl.data.arrays import from_arrays", []),
        ("data", "import inflate\nimport numpy", []),
    ],
)
def test_the_check_sees_an_import_wherever_it_stands(layer: str, source: str, found: list[str]) -> None:
    assert violations(source, layer) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from ..store import Run", ["infl.store"]),
        ("from .. import store", ["infl.store"]),
        ("from .arrays import subset", []),
        ("from . import arrays", []),
    ],
)
def test_the_check_sees_relative_imports(source: str, found: list[str]) -> None:
    assert violations(source, "data", "infl.data") == found
