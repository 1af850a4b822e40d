"""How every figure of the experiments begins and ends: infl's style, a title, a small PNG."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

import infl
from infl.report.plot.canvas import new_figure


@contextmanager
def picture(
    path: Path, width: float, height: float, title: str = "", *, dpi: int = 100, n_colors: int = 64
) -> Iterator[tuple[Any, Any]]:
    """An empty figure of so many inches and the theme of its colours; written to the path when the block ends.

    Lines and text in a few colours need no more than n_colors, and a third of the bytes.
    """
    with infl.plot.house_style() as theme:
        figure = new_figure(width, height)
        yield figure, theme
        if title:
            figure.suptitle(title, x=0.01, ha="left")
        figure.savefig(path, dpi=dpi)
    Image.open(path).quantize(n_colors).save(path, optimize=True)
