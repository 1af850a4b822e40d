"""Where infl keeps what it could find out or fetch again: one folder of the user's."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$INFL_CACHE_DIR`, else `infl` in `$XDG_CACHE_HOME` or in `~/.cache`."""
    if own := os.environ.get("INFL_CACHE_DIR"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "infl"
