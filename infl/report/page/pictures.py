"""Turns examples into small PNG pictures, each in the page once however often it is shown.

A picture is a CSS class with the PNG as its background, so that the same example in a gallery, a table and three cards costs
its bytes once, with and without JavaScript. Large images are scaled down; examples that are no images become bars.
"""

from __future__ import annotations

import base64
import io
import math

import numpy as np
from PIL import Image

from infl.records import Array, Dataset
from infl.report.plot.galleries import ink_for, is_image, span
from infl.report.text import example_of

MAX_PICTURE_BYTES = 9_000_000  # of all pictures of a page, encoded
LARGEST_SIDE = 64  # pixels; what is larger is scaled down
SIDES = (44, 64, 84)  # CSS pixels at which the page shows pictures, about
_BARS, _BAR_HEIGHT = 32, 32
_SAMPLE = 64


class Pictures:
    """Pictures of the examples of a dataset, gathered while a page is laid out.

    Grey images with light strokes on a dark ground come with both turned, as on paper; `turned` tells the page, which turns
    them back in its dark theme.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._uris: dict[int, str] = {}
        self.available = dataset.has_pixels and not dataset.has_texts
        self.turned = dataset.has_pixels and ink_for(dataset) == "gray_r"
        self._span = span(dataset.x_train) if dataset.has_pixels else (0.0, 1.0)

    def class_of(self, column: int) -> str:
        """CSS class of the picture of an example; empty where the dataset has no pixels, or documents."""
        if not self.available:
            return ""
        if column not in self._uris:
            self._uris[column] = self._encode(column)
        return f"x{column}"

    def affordable(self, n_slots: int, *, most: int) -> int:
        """Pictures that each of some slots may show, of `most`, without more than `MAX_PICTURE_BYTES` in all; at least 1.

        Takes every picture to be a new one, of the mean size of a sample.
        """
        if not self.available or not n_slots:
            return most
        sample = np.unique(np.linspace(0, self._dataset.n_train - 1, _SAMPLE).astype(int))
        each = sum(len(self._encode(int(i))) for i in sample) / len(sample)
        left = MAX_PICTURE_BYTES - sum(map(len, self._uris.values()))
        return max(1, min(most, int(left / each / n_slots)))

    def css(self) -> str:
        """One rule a picture, and the sides at which all are shown: whole multiples of their pixels where there is room."""
        shape = self._dataset.x_train.shape[1:3] if is_image(self._dataset.x_train[0]) else (_BAR_HEIGHT,)
        pixels = min(LARGEST_SIDE, max(shape))
        sides = "".join(f"--side-{about}:{pixels * max(1, round(about / pixels))}px;" for about in SIDES)
        rules = (f".x{column}{{background-image:url({uri})}}" for column, uri in sorted(self._uris.items()))
        return f":root{{{sides}}}\n" + "\n".join(rules)

    def _encode(self, column: int) -> str:
        file = io.BytesIO()
        self._picture(example_of(self._dataset, column)).save(file, "PNG", optimize=True)
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"

    def _picture(self, example: Array) -> Image.Image:
        if not is_image(example):
            return Image.fromarray(_bars(example.reshape(-1).astype(np.float64)))
        low, high = self._span
        shades = np.nan_to_num((example.astype(np.float64) - low) / (high - low), nan=1.0, posinf=1.0, neginf=0.0)
        pixels = np.rint(255 * np.clip(1 - shades if self.turned else shades, 0, 1)).astype(np.uint8)
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2:] == (1,) else pixels)
        picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS, reducing_gap=None)
        return picture


def _bars(values: Array) -> Array:
    """A strip of bars from zero, [height, width] in greys; neighbours are averaged where there are many values."""
    finite = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    means = np.array([part.mean() for part in np.array_split(finite, min(_BARS, len(finite)))])
    low, high = min(means.min(), 0.0), max(means.max(), 0.0)
    reach = high - low or 1.0
    zero, tops = high / reach * (_BAR_HEIGHT - 1), (high - means) / reach * (_BAR_HEIGHT - 1)
    rows = np.arange(_BAR_HEIGHT)[:, None]
    inked = (rows >= np.floor(np.minimum(tops, zero))) & (rows <= np.ceil(np.maximum(tops, zero)))
    width = math.ceil(_BARS / len(means))
    strip = np.full((_BAR_HEIGHT, len(means), width), 255, np.uint8)
    strip[inked] = 60
    if width > 2:
        strip[:, :, -1] = 255
    return strip.reshape(_BAR_HEIGHT, -1)
