"""Names beside points: turns points and their names into labels that do not cover each other or the markers.

Greedy: each label tries a fixed set of places around its point and takes the cheapest, a few rounds over, so that an
early label makes room for a later one. A label that still finds no room is left out, and the caller is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text

from infl.records import Array
from infl.report.style import current_theme

_ANGLES = np.deg2rad(np.arange(0, 360, 22.5))
_DISTANCES = (6.0, 10.0, 17.0, 26.0, 37.0, 50.0, 65.0, 82.0)
_LEADER_FROM = 8.0
_MARKER_HALF = 4.0
_ROUNDS = 3
_NO_ROOM = 100.0
_MAX_CHARACTERS = 28


@dataclass(frozen=True)
class _Places:
    """Where one label may go: everything has one row per place.

    Attributes:
        boxes: [places, 4] left, bottom, right, top, in pixels.
        leaders: [places, steps, 2] from the point to the box, in pixels.
        offsets: [places, 2] of the label's centre from its point, in points.
        distances: [places] of the box from the point, in points.
        nearest: [places, 2] where on the box the leader ends, as a share of its width and height.
    """

    boxes: Array
    leaders: Array
    offsets: Array
    distances: Array
    nearest: Array


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
    names = [_shorten(name) for name in names]
    extents = [_extent(ax, name, size) for name in names]
    places = [_places_around(anchor, extent, scale) for anchor, extent in zip(anchors, extents, strict=True)]

    markers = points if avoid_points is None else np.concatenate([points, avoid_points])
    half = _MARKER_HALF * scale
    centres = ax.transData.transform(markers)
    fixed = np.concatenate([centres - half, centres + half], axis=1)
    if avoid_texts:
        fixed = np.concatenate([fixed, [text.get_window_extent().extents for text in avoid_texts]])
    lines = np.concatenate([np.empty((0, 2)), *(_dense(ax.transData.transform(line)) for line in avoid_lines)])
    inside = np.array(ax.get_window_extent().padded(-2 * scale).extents)

    chosen: list[int | None] = [None] * len(names)
    crowding = (np.linalg.norm(anchors[:, None] - anchors[None], axis=2) < 40 * scale).sum(axis=1)
    alone = [_place_costs(place, fixed, lines, inside) for place in places]
    for _ in range(_ROUNDS):
        for k in np.argsort(-crowding, kind="stable"):
            others = [(places[o], c) for o, c in enumerate(chosen) if o != k and c is not None]
            taken = np.array([place.boxes[c] for place, c in others]).reshape(-1, 4)
            leaders = np.concatenate([np.empty((0, 2)), *(place.leaders[c] for place, c in others)])
            cost = _add_clashes(alone[k].copy(), places[k], taken, leaders)
            best = int(np.argmin(cost))
            chosen[k] = best if cost[best] < _NO_ROOM else None

    placed = [
        _write(ax, point, name, place, c, size)
        for point, name, place, c in zip(points, names, places, chosen, strict=True)
        if c is not None
    ]
    return placed, len(names) - len(placed)


def _write(ax: Axes, point: Array, name: str, place: _Places, c: int, size: float) -> Annotation:
    leader = {
        "arrowstyle": "-",
        "color": current_theme().quiet,
        "linewidth": 0.5,
        "patchA": None,
        "shrinkA": 0,
        "shrinkB": 3,
        "relpos": tuple(place.nearest[c]),
    }
    return ax.annotate(
        name,
        xy=(float(point[0]), float(point[1])),
        xytext=tuple(place.offsets[c]),
        textcoords="offset points",
        arrowprops=leader if place.distances[c] > _LEADER_FROM else None,
        path_effects=[withStroke(linewidth=1.8, foreground=current_theme().ground)],
        zorder=5,
        **_text_style(size),
    )


def _text_style(size: float) -> dict[str, Any]:
    return {"ha": "center", "va": "center", "size": size, "color": current_theme().ink, "parse_math": False}


def _shorten(name: str) -> str:
    name = " ".join(name.split())
    if len(name) <= _MAX_CHARACTERS:
        return name
    keep = _MAX_CHARACTERS - 1
    return f"{name[: keep - keep // 3].rstrip()}…{name[-(keep // 3) :].lstrip()}"


def _extent(ax: Axes, name: str, size: float) -> tuple[float, float]:
    text = ax.text(0, 0, name, **_text_style(size))
    box = text.get_window_extent()
    text.remove()
    return box.width, box.height


def _places_around(anchor: Array, extent: tuple[float, float], scale: float) -> _Places:
    half = np.array(extent) / 2 + 0.5 * scale
    distances = np.repeat(_DISTANCES, len(_ANGLES))
    angles = np.tile(_ANGLES, len(_DISTANCES))
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # Beside the point the label is centred on it, towards the diagonals it is the corner that comes nearest.
    towards_corner = np.clip(1.42 * directions, -1, 1)
    offsets = directions * distances[:, None] * scale + towards_corner * half
    centres = anchor + offsets
    boxes = np.concatenate([centres - half, centres + half], axis=1)
    steps = np.linspace(0.15, 1, 10)[:, None]
    nearest = np.clip(anchor, boxes[:, :2], boxes[:, 2:])
    leaders = anchor + steps * (nearest - anchor)[:, None]
    return _Places(boxes, leaders, offsets / scale, distances, (nearest - boxes[:, :2]) / (2 * half))


def _place_costs(place: _Places, fixed: Array, lines: Array, inside: Array) -> Array:
    """[places]: what each place costs by itself, before other labels are there."""
    low, high = inside[:2], inside[2:]
    outside = ((place.boxes[:, :2] < low) | (place.boxes[:, 2:] > high)).any(axis=1)
    reach = np.concatenate([place.boxes[:, :2].min(axis=0), place.boxes[:, 2:].max(axis=0)])[None]
    fixed, lines = fixed[_overlap(fixed, reach)[:, 0]], lines[_within(lines, reach) > 0]
    cost = _NO_ROOM * outside + 0.12 * place.distances + 0.3 * (place.offsets[:, 0] < -1e-6)
    return _add_clashes(cost, place, fixed, lines)


def _add_clashes(cost: Array, place: _Places, boxes: Array, points: Array) -> Array:
    """A place that covers a box costs `_NO_ROOM`; covering a line, or a leader through a box, only looks bad."""
    if len(boxes):
        cost = cost + _NO_ROOM * _overlap(place.boxes, boxes).any(axis=1)
    free = np.flatnonzero(cost < _NO_ROOM)
    if len(boxes) and len(free):
        pierced = _within(place.leaders[free].reshape(-1, 2), boxes).reshape(len(free), -1)
        cost[free] += 1.5 * pierced.sum(axis=1) * (place.distances[free] > _LEADER_FROM)
    if len(points) and len(free):
        cost[free] += 1.2 * _within(points, place.boxes[free], per_box=True)
    return cost


def _overlap(a: Array, b: Array) -> Array:
    return (
        (a[:, None, 0] < b[None, :, 2])
        & (a[:, None, 2] > b[None, :, 0])
        & (a[:, None, 1] < b[None, :, 3])
        & (a[:, None, 3] > b[None, :, 1])
    )


def _within(points: Array, boxes: Array, *, per_box: bool = False) -> Array:
    """[points]: how many of the boxes each point lies in; or [boxes]: how many points lie in each."""
    low, high = boxes[None, :, :2], boxes[None, :, 2:]
    return ((points[:, None] > low) & (points[:, None] < high)).all(axis=2).sum(axis=0 if per_box else 1)


def _dense(line: Array) -> Array:
    """The polyline as points a few pixels apart."""
    pieces = [
        start + np.linspace(0, 1, max(2, int(np.linalg.norm(end - start) / 6)))[:, None] * (end - start)
        for start, end in zip(line[:-1], line[1:], strict=True)
    ]
    return np.concatenate(pieces) if pieces else np.empty((0, 2))
