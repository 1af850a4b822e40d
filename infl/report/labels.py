"""Names beside points: turns points and their names into labels that do not cover each other or the markers.

Greedy: each label tries a fixed set of places around its point and takes the cheapest, a few rounds over, so that an
early label makes room for a later one. A label that still finds no room is left out, and the caller is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text

from infl.records import Array
from infl.report.style import INK, QUIET

_ANGLES = np.deg2rad(np.arange(0, 360, 22.5))
_DISTANCES = (6.0, 10.0, 17.0, 26.0, 37.0, 50.0, 65.0, 82.0)
_LEADER_FROM = 8.0
_MARKER_HALF = 4.0
_ROUNDS = 3
_NO_ROOM = 100.0
_MAX_CHARACTERS = 28


@dataclass(frozen=True)
class _Places:
    """Where one label may go, in pixels: boxes [places, 4] (left, bottom, right, top), leaders [places, points, 2]."""

    boxes: Array
    leaders: Array
    offsets: Array
    distances: Array


def place_labels(
    ax: Axes,
    points: Array,
    names: Sequence[str],
    *,
    avoid_points: Array | None = None,
    avoid_lines: Sequence[Array] = (),
    avoid_texts: Sequence[Text] = (),
    size: float = 6.5,
) -> tuple[list[Annotation], int]:
    """Write each name beside its point, with a thin leader where it had to move away.

    Call it last: limits, scales and all other artists have to be settled, since room is measured in pixels.

    Args:
        ax: axes to write on.
        points: [k, 2] data coordinates.
        names: k names, shown as they are (no TeX), long ones cut in the middle.
        avoid_points: [p, 2] data coordinates of markers that labels may not cover; the points themselves always count.
        avoid_lines: polylines [q, 2] in data coordinates that labels should rather not cross.
        avoid_texts: other texts on the axes that labels may not cover.
        size: font size in points.

    Returns:
        The labels placed, and how many found no room and were left out.
    """
    if len(points) == 0:
        return [], 0
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # a layout engine moves the axes at the first draw, and the pixels with them
    scale = figure.dpi / 72
    anchors = ax.transData.transform(points)
    labels = [_invisible_label(ax, point, name, size) for point, name in zip(points, names, strict=True)]
    places = [_places_around(anchor, _extent(label), scale) for anchor, label in zip(anchors, labels, strict=True)]

    markers = points if avoid_points is None else np.concatenate([points, avoid_points])
    half = _MARKER_HALF * scale
    centres = ax.transData.transform(markers)
    fixed = np.concatenate([centres - half, centres + half], axis=1)
    if avoid_texts:
        fixed = np.concatenate([fixed, [text.get_window_extent().extents for text in avoid_texts]])
    lines = np.concatenate([np.empty((0, 2)), *(_dense(ax.transData.transform(line)) for line in avoid_lines)])
    inside = np.array(ax.get_window_extent().padded(-2 * scale).extents)

    chosen: list[int | None] = [None] * len(labels)
    crowding = (np.linalg.norm(anchors[:, None] - anchors[None], axis=2) < 40 * scale).sum(axis=1)
    base = [_cost(place, fixed, lines, inside) for place in places]
    clash = np.zeros(len(labels))
    for _ in range(_ROUNDS):
        for k in np.argsort(-crowding, kind="stable"):
            others = [(places[o], c) for o, c in enumerate(chosen) if o != k and c is not None]
            taken = np.array([place.boxes[c] for place, c in others]).reshape(-1, 4)
            leaders = np.concatenate([np.empty((0, 2)), *(place.leaders[c] for place, c in others)])
            cost = base[k] + _cost(places[k], taken, leaders)
            chosen[k] = int(np.argmin(cost))
            clash[k] = cost[chosen[k]]

    left_out = 0
    placed = []
    for label, place, c, cost in zip(labels, places, chosen, clash, strict=True):
        assert c is not None
        if cost >= _NO_ROOM:
            label.remove()
            left_out += 1
            continue
        label.set_position(tuple(place.offsets[c]))
        label.set_visible(True)
        if label.arrow_patch is not None:
            label.arrow_patch.set_visible(bool(place.distances[c] > _LEADER_FROM))
        placed.append(label)
    return placed, left_out


def _invisible_label(ax: Axes, point: Array, name: str, size: float) -> Annotation:
    return ax.annotate(
        _shorten(name),
        xy=(float(point[0]), float(point[1])),
        xytext=(0, 0),
        textcoords="offset points",
        ha="center",
        va="center",
        size=size,
        color=INK,
        parse_math=False,
        visible=False,
        zorder=5,
        arrowprops={"arrowstyle": "-", "color": QUIET, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
        path_effects=[withStroke(linewidth=1.8, foreground="white")],
    )


def _shorten(name: str) -> str:
    name = " ".join(name.split())
    if len(name) <= _MAX_CHARACTERS:
        return name
    keep = _MAX_CHARACTERS - 1
    return f"{name[: keep - keep // 3].rstrip()}…{name[-(keep // 3) :].lstrip()}"


def _extent(label: Annotation) -> tuple[float, float]:
    label.set_visible(True)
    # Of the text alone: with its leader an annotation reaches to its point.
    box = super(Annotation, label).get_window_extent()
    label.set_visible(False)
    return box.width, box.height


def _places_around(anchor: Array, extent: tuple[float, float], scale: float) -> _Places:
    half = np.array(extent) / 2 + 0.5 * scale
    distances = np.repeat(_DISTANCES, len(_ANGLES))
    angles = np.tile(_ANGLES, len(_DISTANCES))
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # The corner or side nearest the point stays at the wanted distance, whatever the direction.
    offsets = directions * distances[:, None] * scale + np.sign(directions.round(6)) * half * _lean(directions)
    centres = anchor + offsets
    boxes = np.concatenate([centres - half, centres + half], axis=1)
    steps = np.linspace(0.15, 1, 12)[:, None]
    nearest = np.clip(anchor, boxes[:, :2], boxes[:, 2:])
    leaders = anchor + steps * (nearest - anchor)[:, None]
    return _Places(boxes, leaders, offsets / scale, distances)


def _lean(directions: Array) -> Array:
    return np.minimum(1.0, np.abs(directions) * 1.42)


def _cost(place: _Places, boxes: Array, points: Array, inside: Array | None = None) -> Array:
    """[places]: a place that covers a box, or leaves the axes, costs `_NO_ROOM`; the rest is a matter of looks."""
    cost = np.zeros(len(place.boxes))
    if len(boxes):
        cost += _NO_ROOM * _overlap(place.boxes, boxes).any(axis=1)
        pierced = _within(place.leaders.reshape(-1, 2), boxes).reshape(len(place.boxes), -1)
        cost += 1.5 * pierced.sum(axis=1) * (place.distances > _LEADER_FROM)
    if len(points):
        cost += 0.8 * np.stack([_within(points, box[None]).sum() for box in place.boxes])
    if inside is not None:  # the costs of a place by itself, counted once
        low, high = inside[:2], inside[2:]
        cost += _NO_ROOM * ((place.boxes[:, :2] < low) | (place.boxes[:, 2:] > high)).any(axis=1)
        cost += 0.12 * place.distances
        cost += 0.3 * (place.offsets[:, 0] < -1e-6)
    return cost


def _overlap(a: Array, b: Array) -> Array:
    return (
        (a[:, None, 0] < b[None, :, 2])
        & (a[:, None, 2] > b[None, :, 0])
        & (a[:, None, 1] < b[None, :, 3])
        & (a[:, None, 3] > b[None, :, 1])
    )


def _within(points: Array, boxes: Array) -> Array:
    """[points]: how many of the boxes each point lies in."""
    low, high = boxes[None, :, :2], boxes[None, :, 2:]
    return ((points[:, None] > low) & (points[:, None] < high)).all(axis=2).sum(axis=1)


def _dense(line: Array) -> Array:
    """The polyline as points a few pixels apart."""
    pieces = [
        start + np.linspace(0, 1, max(2, int(np.linalg.norm(end - start) / 4)))[:, None] * (end - start)
        for start, end in zip(line[:-1], line[1:], strict=True)
    ]
    return np.concatenate(pieces) if pieces else np.empty((0, 2))
