"""Galleries show the examples that the scores speak of: a picture beside the wrong number would mislead without anyone
noticing, so pixels, captions and order are compared with the records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import norm

from infl.records import InputError, ScoredPair
from infl.report.plot import influence_pairs, memorized_gallery
from infl.report.plot import memorization as histogram
from infl.report.plot.galleries import draw_example, ink_for
from infl.report.style import house_style
from infl.report.text import interval, with_error

NAN = float("nan")


def panels(figure) -> list[Any]:
    """All axes, those that lie inside others too."""
    return [inner for ax in figure.axes for inner in (ax, *ax.child_axes)]


def pictures(figure):
    return [(ax.images[0].get_array(), ax.get_xlabel()) for ax in panels(figure) if ax.images]


def test_the_histogram_holds_every_score_once_and_counts_the_missing(memorization, dataset):
    ax = histogram(memorization)
    assert sum(bar.get_height() for bar in ax.containers[0]) == 37
    assert "3 without an estimate not shown" in [text.get_text() for text in ax.texts]


def test_the_number_memorized_is_written_and_its_bound_drawn(memorization, dataset):
    memorization = replace(memorization, se=4 * memorization.se)
    ax = histogram(memorization)
    (bound,) = [line for line in ax.get_lines() if line.get_gid() == "memorized"]
    assert set(np.asarray(bound.get_xdata())) == {0.25}
    beyond = int(np.sum(memorization.value >= 0.25))
    expected = norm.sf(0.25 / memorization.se[3:]).sum()
    legend: Any = ax.get_legend()
    said = [text.get_text() for text in legend.get_texts()]
    assert f"{beyond} of 37 are ≥ 0.25 ({expected:.1f} expected)" in said
    edges = [bar.get_x() for bar in ax.containers[0]]
    assert np.isclose(edges, 0.25).any()


def test_log_odds_have_no_bound_at_a_quarter(memorization, dataset):
    ax = histogram(replace(memorization, outcome="margin"))
    assert not [line for line in ax.get_lines() if line.get_gid() == "memorized"]
    assert "log-odds" in ax.get_xlabel()


def test_counts_that_span_decades_are_on_a_logarithmic_axis(memorization, dataset):
    value = np.where(np.arange(400) < 5, 0.8, 0.01)
    ax = histogram(replace(memorization, value=value, se=value))
    assert ax.get_yscale() == "log"


def test_scores_that_are_all_missing_or_all_equal_are_drawn(memorization, dataset):
    missing = memorization.value * NAN
    unknown = replace(memorization, value=missing, se=missing)
    for ax in (histogram(unknown), memorized_gallery(unknown, dataset)):
        assert not ax.child_axes
        figure: Any = ax.figure
        figure.draw_without_rendering()
    same = np.full(40, 0.3)
    for outcome in ("correct", "margin"):
        equal = replace(memorization, value=same, outcome=outcome)
        bars = histogram(equal).containers[0]
        assert sum(bar.get_height() for bar in bars) == 40
        assert all(bar.get_width() > 0 for bar in bars)


def test_scores_on_the_edges_of_bars_are_kept(memorization, dataset):
    value = np.arange(40) * 0.025 - 0.1
    for lowest in range(20):
        ends = replace(memorization, value=np.where(np.arange(40) < 20, value[lowest], value[39 - lowest]))
        bars = histogram(ends).containers[0]
        assert sum(bar.get_height() for bar in bars) == 40


def test_scores_of_other_data_are_an_error(memorization, dataset):
    with pytest.raises(InputError, match=r"\[40\], got \(39,\)"):
        memorized_gallery(replace(memorization, value=memorization.value[1:]), dataset)


def test_each_pair_shows_its_training_example_then_the_one_it_influences(dataset):
    pairs = [ScoredPair(3, 17, 0.41, 0.03), ScoredPair(5, 52, -0.2, 0.04)]
    figure: Any = influence_pairs(pairs, dataset).figure
    shown = pictures(figure)
    wanted = [dataset.x_train[3], dataset.x_train[17], dataset.x_train[5], dataset.x_held_out[12]]
    assert len(shown) == 4
    for (pixels, _), expected in zip(shown, wanted, strict=True):
        np.testing.assert_array_equal(pixels, expected)
    places = [caption.split("\n")[1] for _, caption in shown]
    assert places == ["training #3", "training #17", "training #5", "held-out #52"]
    labels = [caption.split("\n")[0] for _, caption in shown]
    called = ["label 0", "shirt", "bag [red]"]
    assert labels == [called[dataset.labels[column]] for column in (3, 17, 5, 52)]


def test_arrows_carry_score_and_direction(dataset):
    figure: Any = influence_pairs([ScoredPair(3, 17, 0.41, 0.03), ScoredPair(5, 52, -0.2, 0.04)], dataset).figure
    written = [[text.get_text() for text in ax.texts if text.get_text()] for ax in panels(figure)]
    assert ["0.41 ± 0.03", "helps"] in written
    assert ["−0.20 ± 0.04", "harms"] in written


def test_a_pair_without_a_score_is_left_out_and_counted(dataset):
    figure: Any = influence_pairs([ScoredPair(3, 17, 0.41, 0.03), ScoredPair(5, 52, NAN, NAN)], dataset).figure
    assert len(pictures(figure)) == 2
    assert [text.get_text() for text in figure.axes[0].texts] == ["1 pair without an estimate not shown"]
    assert [text.get_text() for text in influence_pairs([], dataset).texts] == ["no pairs"]


def test_seven_pairs_make_two_blocks_with_pictures_of_one_size(dataset):
    figure: Any = influence_pairs([ScoredPair(k, 40 + k, 0.3, 0.1) for k in range(7)], dataset).figure
    figure.draw_without_rendering()
    assert [caption.split("#")[1] for _, caption in pictures(figure)][::2] == [str(k) for k in range(7)]
    boxes = [ax.get_window_extent() for ax in panels(figure) if ax.images]
    np.testing.assert_allclose([box.width for box in boxes], boxes[0].width, rtol=1e-6)
    assert boxes[8].x0 > boxes[1].x1


def test_intervals_stand_on_the_arrows_of_their_pairs(dataset):
    pairs = [ScoredPair(3, 17, NAN, NAN), ScoredPair(5, 52, -0.2, 0.04)]
    ax = influence_pairs(pairs, dataset, intervals=[(0.1, 0.3), (-0.28, -0.001)])
    assert [t.get_text() for panel in ax.child_axes for t in panel.texts if "[" in t.get_text()] == ["[−0.28, 0.00]"]
    with pytest.raises(InputError, match="each of 2 pairs, got 1"):
        influence_pairs(pairs, dataset, intervals=[(0.1, 0.3)])


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
    scores = replace(memorization, value=np.where(np.arange(40) % 4 == 1, 0.9, 0.1))
    assert rows_of(memorized_gallery(scores, each)) == [[i] for i in range(1, 40, 4)]


def test_a_gallery_of_what_is_not_there_is_an_error(memorization, dataset):
    wrongs: tuple[tuple[dict[str, Any], str], ...] = (
        ({"labels": [3]}, r"0\.\.2, got 3"),
        ({"n_per_class": 0}, "at least 1, got 0"),
    )
    for wrong, said in wrongs:
        with pytest.raises(InputError, match=said):
            memorized_gallery(memorization, dataset, **wrong)


@pytest.mark.parametrize(
    "pair", [ScoredPair(40, 3, 0.1, 0.1), ScoredPair(3, 60, 0.1, 0.1), ScoredPair(-1, 3, 0.1, 0.1)]
)
def test_a_pair_outside_the_data_is_an_error(dataset, pair):
    with pytest.raises(InputError, match=f"{pair.source} -> {pair.target}"):
        influence_pairs([pair], dataset)


RAMP = np.arange(12, dtype=np.float32)


@pytest.mark.parametrize(
    ("example", "span"),
    [
        ((RAMP * 20).reshape(3, 4).astype(np.uint8), (0, 255)),
        ((RAMP / 11).reshape(3, 4), (0, 1)),
        ((RAMP - 4).reshape(3, 4), (-4, 7)),
        ((RAMP / 22).reshape(3, 4, 1), (0, 1)),
        (np.full((3, 4), 3.0), (3, 4)),
    ],
)
def test_grey_images_are_shown_pixel_for_pixel_in_their_own_range(example, span):
    image = draw_example(Figure().add_subplot(), example).images[0]
    np.testing.assert_array_equal(image.get_array(), example.reshape(3, 4))
    assert image.get_clim() == span


def test_colour_images_are_shown_whole_whatever_their_range():
    colours = np.linspace(0, 1, 36, dtype=np.float32).reshape(3, 4, 3)
    for example, expected in [
        (colours, colours),
        (colours * 8 - 3, colours),
        ((colours * 255).astype(np.uint8), (colours * 255).astype(np.uint8)),
    ]:
        image = draw_example(Figure().add_subplot(), example).images[0]
        np.testing.assert_allclose(np.asarray(image.get_array()), expected, atol=1e-6)


def test_examples_that_are_not_images_become_strips_of_their_values():
    few, many = np.array([0.5, -1, 2]), np.linspace(-1, 1, 64).reshape(4, 4, 4)
    ax = draw_example(Figure().add_subplot(), few)
    assert [bar.get_height() for bar in ax.containers[0]] == few.tolist()
    ax = draw_example(Figure().add_subplot(), many)
    assert not ax.images
    np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), many.reshape(-1))


def test_light_strokes_on_a_dark_ground_are_printed_dark_on_light(dataset):
    assert ink_for(dataset) == "gray_r"
    assert ink_for(replace(dataset, x_train=1 - dataset.x_train)) == "gray"
    assert ink_for(replace(dataset, x_train=dataset.x_train.reshape(40, -1))) == "gray"
    with house_style("dark"):
        assert ink_for(dataset) == "gray"


@pytest.mark.parametrize(
    ("value", "se", "text"),
    [
        (0.123, 0.031, "0.12 ± 0.03"),
        (-0.001, 0.01, "0.00 ± 0.01"),
        (0.9904, 0.0041, "0.990 ± 0.004"),
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
        (0.991, 0.9932, "0.991 to 0.993"),
        (0.99601, 0.99702, "0.996 to 0.997"),
        (0.0001, 0.0003, "0.0001 to 0.0003"),
        (0.00001, 0.00003, "0.0000 to 0.0000"),
        (1.0, 1.0, "1.00 to 1.00"),
        (NAN, 0.1, "-"),
    ],
)
def test_an_interval_has_the_digits_that_tell_its_ends_apart(low, high, text):
    assert interval(low, high) == text


def test_examples_that_came_without_pixels_say_so_above_their_scores(memorization, dataset):
    blind = replace(dataset, x_train=np.zeros((40, 0), np.float32), x_held_out=np.zeros((20, 0), np.float32))
    for ax, n_pictures in (
        (memorized_gallery(memorization, blind, n_per_class=3), 9),
        (influence_pairs([ScoredPair(3, 45, 0.4, 0.1)], blind), 2),
    ):
        saying = [ax for ax in panels(ax.figure) if "no pixels" in [text.get_text() for text in ax.texts]]
        assert len(saying) == n_pictures
        assert all("#" in ax.get_xlabel() for ax in saying)
