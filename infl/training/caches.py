"""What infl keeps in the user's cache folder: which layout was fastest, and XLA's compiled programs.

Nothing here changes a result: a folder that is missing, damaged or not writable only costs the time to find it out again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import tempfile
import warnings
from pathlib import Path
from typing import Any

from infl.records.files import cache_folder

MAX_LAYOUTS = 500
MAX_PROGRAM_BYTES = 1 << 30


def cached_layout(key: str) -> dict[str, Any] | None:
    """What was kept under this key; None where nothing was, or it cannot be read."""
    kept = _read_layouts().get(key)
    return kept if isinstance(kept, dict) else None


def cache_layout(key: str, layout: dict[str, Any]) -> None:
    """Keep what was found, the 500 last ones; without effect where the folder cannot be written.

    Of what two commands keep at the same moment one may be lost: it is measured again.
    """
    layouts = {name: kept for name, kept in _read_layouts().items() if name != key} | {key: layout}
    text = json.dumps(dict(list(layouts.items())[-MAX_LAYOUTS:]), indent=1)
    with contextlib.suppress(OSError):
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=cache_folder(), prefix="layouts-", delete=False) as file:
            file.write(text)
        os.replace(file.name, cache_folder() / "layouts.json")


def cache_compiled_programs() -> None:
    """Let XLA keep its programs that took a second or more to compile, up to 1 GiB of them, for later processes.

    A setting of the whole process, so it is for the command line; a program of one's own sets JAX's
    `jax_compilation_cache_dir`. Without effect where the user set that, or where the folder cannot be written. Each version
    of JAX and kind of processor has a folder of its own, since a program compiled for one may not run on another. Two commands
    at once may compile the same program twice; that one finds the folder locked or a program half-written is not warned of.
    """
    import jax

    if jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache", UserWarning)
    folder = cache_folder() / "programs" / f"{jax.__version__}-{_processor()}"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        for program in folder.glob("*-cache"):  # a kill left it half-written, and JAX would stumble over it for good
            if not program.with_name(program.name.removesuffix("cache") + "atime").exists():
                program.unlink()
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_compilation_cache_max_size", MAX_PROGRAM_BYTES)  # the least recently used go first


def _read_layouts() -> dict[str, Any]:
    try:
        layouts = json.loads((cache_folder() / "layouts.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return layouts if isinstance(layouts, dict) else {}


def _processor() -> str:
    described = f"{platform.machine()} {platform.processor()}"
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        described += "".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))
    return hashlib.sha256(described.encode()).hexdigest()[:12]
