"""Galleries show the examples that the scores speak of: a picture beside the wrong number would mislead without anyone
noticing, so pixels, captions and order are compared with the records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from infl.records import ScoredPair
from infl.report.plot import influence_pairs, memorized_gallery
from infl.report.plot.galleries import draw_example, ink_for
from infl.report.style import house_style
from infl.report.text import interval, with_error

NAN = float("nan")


def panels(figure) -> list[Any]:
    """All axes, those that lie inside others too."""
    return [inner for ax in figure.axes for inner in (ax, *ax.child_axes)]


def pictures(figure):
    return [(ax.images[0].get_array(), ax.get_xlabel()) for ax in panels(figure) if ax.images]


def test_each_pair_shows_its_examples_with_score_and_direction_and_an_unknown_one_is_counted(dataset):
    pairs = [ScoredPair(3, 17, 0.41, 0.03), ScoredPair(5, 52, -0.2, 0.04), ScoredPair(6, 53, NAN, NAN)]
    ax: Any = influence_pairs(pairs, dataset, intervals=[(0.35, 0.47), (-0.28, -0.001), (0.1, 0.2)])
    shown = pictures(ax.figure)
    wanted = [dataset.x_train[3], dataset.x_train[17], dataset.x_train[5], dataset.x_held_out[12]]
    for (pixels, _), expected in zip(shown, wanted, strict=True):
        np.testing.assert_array_equal(pixels, expected)
    captions = [caption.split("\n")[:2] for _, caption in shown]
    called = [("label 0", "shirt", "bag [red]")[dataset.labels[column]] for column in (3, 17, 5, 52)]
    places = ["training #3", "training #17", "training #5", "held-out #52"]
    assert captions == [list(one) for one in zip(called, places, strict=True)]
    written = [[text.get_text() for text in panel.texts if text.get_text()] for panel in panels(ax.figure)]
    assert ["0.41 ± 0.03", "[0.35, 0.47]", "helps"] in [sorted(one) for one in written]
    assert ["[−0.28, 0.00]", "harms", "−0.20 ± 0.04"] in [sorted(one) for one in written]
    assert [text.get_text() for text in ax.texts] == ["1 pair without an estimate not shown"]
    assert [text.get_text() for text in influence_pairs([], dataset).texts] == ["no pairs"]


def rows_of(ax) -> list[list[int]]:
    """Ids of the pictures of each row, from their places on paper."""
    ax.figure.draw_without_rendering()
    rows: dict[float, list[tuple[float, int]]] = {}
    for picture in ax.child_axes:
        box = picture.get_window_extent()
        rows.setdefault(round(box.y0), []).append((box.x0, int(picture.get_xlabel().split("\n")[0][1:])))
    return [[i for _, i in sorted(rows[y])] for y in sorted(rows, reverse=True)]


def test_the_gallery_has_a_class_a_row_and_its_most_memorized_examples_first(memorization, dataset):
    ax = memorized_gallery(memorization, dataset, n_per_class=4)
    wanted = []
    for label in range(3):
        known = [i for i in range(3, 40) if dataset.y_train[i] == label]  # 0 to 2 have no score
        wanted.append(sorted(known, key=lambda i: -memorization.value[i])[:4])
    assert rows_of(ax) == wanted
    for picture in ax.child_axes:
        i = int(picture.get_xlabel().split("\n")[0][1:])
        np.testing.assert_array_equal(picture.images[0].get_array(), dataset.x_train[i])
        assert picture.get_xlabel().endswith(f"{memorization.value[i]:.2f} ± {memorization.se[i]:.2f}")
    beside = [text.get_text() for text in ax.texts]
    assert beside[::2] == ["label 0", "shirt", "bag [red]"]
    for label, said in enumerate(beside[1::2]):
        scores = [memorization.value[i] for i in range(3, 40) if dataset.y_train[i] == label]
        assert said == f"{sum(s >= 0.25 for s in scores)} of {len(scores)}\n≥ 0.25"


def test_the_gallery_shows_the_classes_asked_for_or_the_ten_most_memorized(memorization, dataset):
    ax = memorized_gallery(memorization, dataset, n_per_class=2, labels=[2, 0])
    assert [dataset.y_train[row[0]] for row in rows_of(ax)] == [2, 0]
    assert "2 of 3 classes" in ax.get_title(loc="left")
    each = replace(dataset, y_train=np.arange(40, dtype=np.int32), class_names=tuple(f"class {k}" for k in range(40)))
    scores = replace(memorization, value=np.where(np.arange(40) % 4 == 1, 0.9, 0.1), se=np.full(40, 0.1))
    assert rows_of(memorized_gallery(scores, each)) == [[i] for i in range(1, 40, 4)]


def test_examples_are_drawn_by_all_of_their_values():
    """Grey pixel for pixel in their own range, colours whole whatever their range, and what is no image as a strip."""

    def drawn(example) -> Any:
        return draw_example(Figure().add_subplot(), example)

    ramp = np.arange(12, dtype=np.float32).reshape(3, 4)
    greys: list[tuple[Any, tuple[float, float]]] = [
        ((ramp * 20).astype(np.uint8), (0, 255)),
        (ramp[..., None] / 22, (0, 1)),
        (ramp - 4, (-4, 7)),
        (np.full((3, 4), 3.0), (3, 4)),
    ]
    for example, span in greys:
        image = drawn(example).images[0]
        np.testing.assert_array_equal(image.get_array(), example.reshape(3, 4))
        assert image.get_clim() == span
    colours = np.linspace(0, 1, 36, dtype=np.float32).reshape(3, 4, 3)
    for example in (colours, colours * 8 - 3):
        np.testing.assert_allclose(np.asarray(drawn(example).images[0].get_array()), colours, atol=1e-6)
    few, many = np.array([0.5, -1, 2]), np.linspace(-1, 1, 64).reshape(4, 4, 4)
    assert [bar.get_height() for bar in drawn(few).containers[0]] == few.tolist()
    np.testing.assert_array_equal(drawn(many).get_lines()[0].get_ydata(), many.reshape(-1))


def test_light_strokes_on_a_dark_ground_are_printed_dark_on_light(dataset):
    assert ink_for(dataset) == "gray_r"
    assert ink_for(replace(dataset, x_train=1 - dataset.x_train)) == "gray"
    assert ink_for(replace(dataset, x_train=dataset.x_train.reshape(40, -1))) == "gray"
    with house_style("dark"):
        assert ink_for(dataset) == "gray"


def test_examples_that_came_without_pixels_say_so_above_their_scores(memorization, dataset):
    blind = replace(dataset, x_train=np.zeros((40, 0), np.float32), x_held_out=np.zeros((20, 0), np.float32))
    for ax, n_pictures in (
        (memorized_gallery(memorization, blind, n_per_class=3), 9),
        (influence_pairs([ScoredPair(3, 45, 0.4, 0.1)], blind), 2),
    ):
        saying = [ax for ax in panels(ax.figure) if "no pixels" in [text.get_text() for text in ax.texts]]
        assert len(saying) == n_pictures
        assert all("#" in ax.get_xlabel() for ax in saying)


@pytest.mark.parametrize(
    ("value", "se", "text"),
    [
        (0.123, 0.031, "0.12 ± 0.03"),
        (-0.001, 0.01, "0.00 ± 0.01"),
        (0.9996, 0.0005, "1.000 ± 0.001"),
        (0.00004, 0.0004, "0.000 ± <0.001"),
        (1.0, 0.0, "1.00 ± 0.00"),
        (0.4, NAN, "0.40 ± -"),
        (NAN, 0.1, "-"),
    ],
)
def test_a_number_is_written_with_its_error(value, se, text):
    assert with_error(value, se) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (-0.001, 0.25, "0.00 to 0.25"),
        (0.99601, 0.99702, "0.996 to 0.997"),
        (0.00001, 0.00003, "0.0000 to 0.0000"),
        (1.0, 1.0, "1.00 to 1.00"),
        (NAN, 0.1, "-"),
    ],
)
def test_an_interval_has_the_digits_that_tell_its_ends_apart(low, high, text):
    assert interval(low, high) == text
