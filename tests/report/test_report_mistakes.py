"""A figure, table or file that its arguments do not allow is refused by name, before anything is drawn or written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infl.records import Dataset, Effects, Estimate, ForgetSet, InputError, ScoredPair, Thresholds
from infl.report import plot
from infl.report.exchange import write_feldman_zhang, write_table
from infl.report.page import SetContent, render_page, write_page
from infl.report.style import house_style
from infl.report.tables import pairs_table, verdict_table

N, M = 20, 30


def estimate(*shape: int, outcome: Any = "correct") -> Estimate:
    value = np.full(shape, 0.1)
    return Estimate(value, value, value, value, "own", outcome)


def effects(n_columns: int = N + M) -> Effects:
    nothing = np.zeros((0, n_columns))
    return Effects(ForgetSet("a", (0,)), N, np.zeros(n_columns), np.zeros(n_columns), nothing, "made up", 100)


def drawn_in(theme: Any) -> None:
    with house_style(theme):
        pass


def test_what_is_missing_doubled_or_does_not_fit_is_named(
    make_verdict: Any, make_page_content: Any, dataset: Dataset, memorization: Estimate, tmp_path: Path
) -> None:
    one, two = make_verdict("a", 0.4, 0.2), make_verdict("b", 0.4, 0.2)
    odd = replace(two, thresholds=Thresholds(cross_influence=0.2))
    pair = ScoredPair(3, 17, 0.4, 0.1)
    content = make_page_content(sets=[*make_page_content().sets, SetContent(odd, None)])
    # One example of each of two, of six such groups.
    groups = [(ForgetSet(str(k), (2 * k,), (2 * k, 2 * k + 1))) for k in range(6)]
    doses = [replace(one, forget_set=group) for group in groups]
    nowhere = tmp_path / "none"
    mistakes: list[tuple[Callable[[], Any], str]] = [
        (lambda: plot.regime_map([one], [odd]), r"cross 0\.1 .*cross 0\.2"),
        (lambda: verdict_table([one, odd]), "one set of thresholds"),
        (lambda: plot.reliability([one], [odd]), "thresholds"),
        (lambda: render_page(content), "one set of thresholds"),
        (lambda: plot.regime_map([one, one]), "predicted: expected each forget set once, got 'a' twice"),
        (lambda: plot.regime_map([], [one, one]), "measured: expected each forget set once, got 'a' twice"),
        (lambda: plot.reliability([effects()] * 2, []), "predicted: expected each forget set once"),
        (lambda: plot.reliability([effects()], [effects(N + M + 1)]), r"same data.*\(20, 50\), \(20, 51\)"),
        (lambda: plot.reliability([effects()], [one]), "effects on both sides, or verdicts on both"),
        (lambda: plot.dose_response([one]), "'a'.*take_fraction"),
        (lambda: plot.dose_response(doses), "at most 5 groups in one figure, got 6"),
        (lambda: plot.error_curve({0: estimate(4)}), "at least 1"),
        (lambda: plot.error_curve({10: estimate(4)}, planned={10: 0.0}), "errors above 0"),
        (lambda: plot.error_curve({1: estimate(4), 2: estimate(4, outcome="margin")}), "all of correct or all of marg"),
        (lambda: plot.class_influence(estimate(2, 3)), r"\[c, c\], got \(2, 3\)"),
        (lambda: plot.class_influence(estimate(2, 2), ("a",)), "2 names, one a class, got 1"),
        (lambda: plot.memorization(estimate(4, 10)), r"\[n\], got \(4, 10\)"),
        (lambda: plot.memorized_gallery(estimate(39), dataset), r"\[40\], got \(39,\)"),
        (lambda: plot.memorized_gallery(memorization, dataset, labels=[3]), r"0\.\.2, got 3"),
        (lambda: plot.memorized_gallery(memorization, dataset, n_per_class=0), "at least 1, got 0"),
        (lambda: plot.influence_pairs([pair, pair], dataset, intervals=[(0.1, 0.3)]), "each of 2 pairs, got 1"),
        (lambda: plot.influence_pairs([replace(pair, source=40)], dataset), "40 -> 17"),
        (lambda: plot.influence_pairs([replace(pair, source=-1)], dataset), "-1 -> 17"),
        (lambda: pairs_table([replace(pair, target=60)], dataset), "3 -> 60"),
        (lambda: plot.save(plot.regime_map([]), tmp_path / "map.doc"), r"png.*got 'map\.doc'"),
        (lambda: drawn_in("sepia"), "light or dark, got 'sepia'"),
        (lambda: write_page(make_page_content(), nowhere / "page.html"), "cannot be written"),
        (lambda: write_table(nowhere / "top.csv"), "cannot be written: No such file or directory"),
        (lambda: write_table(nowhere / "top.parquet"), "cannot be written: No such file or directory"),
        (lambda: write_feldman_zhang(nowhere / "fz.npz", estimate(40), [], dataset), "cannot be written"),
    ]
    for call, said in mistakes:
        with pytest.raises(InputError, match=said):
            call()
    assert list(tmp_path.iterdir()) == []
