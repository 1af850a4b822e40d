"""With what software a run is made and its models are trained, for its manifest and its journal."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import infl


def software() -> dict[str, Any]:
    """Versions, as JSON: `infl`, and under `versions` Python and the packages on which numbers depend."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    versions = {"python": platform.python_version(), **{package: version(package) for package in packages}}
    return {"infl": infl.__version__, "versions": versions}
