"""Tables hold the numbers of the records and fit a terminal: a line that wraps at 80 or 100 columns, or a cell cut
short, loses what the table is for."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from infl.records import ConceptGap, Detectable, Quantity, ScoredPair, Thresholds
from infl.report.tables import memorization_table, pairs_table, verdict_table
from infl.report.text import concept_gap

NAN = float("nan")


def printed(table, width=100) -> list[str]:
    console = Console(width=width, record=True, force_terminal=False, file=io.StringIO())
    console.print(table)
    return [line.rstrip() for line in console.export_text().splitlines()]


def row(lines, start) -> str:
    (found,) = [line for line in lines if line.startswith(start)]
    return " ".join(found.split())


def test_a_prediction_alone_shows_all_it_was_decided_by(make_verdict):
    verdicts = [make_verdict("flipped", 0.93, -0.12), make_verdict("b", 0.4, 9.25, size=1200)]
    assert printed(verdict_table(verdicts))[0].split()[-4:] == ["cross", "harm", "others", "models"]
    lines = printed(verdict_table(verdicts, width=120), 120)
    assert lines[0].split() == ["set", "size", "regime", "p", "self", "cross", "harm", "gain", "others", "models"]
    assert (
        row(lines, "flipped") == "flipped 3 local 0.91 0.93 ± 0.02 -0.12 ± 0.05 0.30 ± 0.04 0.20 ± 0.03 balanced 2,048"
    )
    assert row(lines, "b ").startswith("b 1,200 local 0.91 0.40 ± 0.02 9.25 ± 0.05")
    assert lines[-1] == "thresholds: self 0.1, cross 0.1 (net), effect 0.1, probability 0.8"


def test_measured_stands_below_predicted_and_is_marked(make_verdict):
    predicted = [make_verdict(name, 0.93, 0.1) for name in ("same", "other", "open", "alone")]
    measured = [
        make_verdict("same", 0.81, 0.2),
        make_verdict("other", 0.5, 0.3, regime="spreading"),
        make_verdict("open", 0.5, 0.3, regime="undetermined"),
        make_verdict("extra", 0.02, 0.0, regime="no-op"),
    ]
    lines = printed(verdict_table(predicted, measured))
    below = {name: " ".join(lines[k + 1].split()) for k, line in enumerate(lines[:-1]) for name in line.split()[:1]}
    assert row(lines, "same").startswith("same 3 predicted local 0.91 0.93 ± 0.02 0.10 ± 0.05")
    assert below["same"].startswith("measured = local 0.91 0.81 ± 0.02 0.20 ± 0.05")
    assert below["other"].startswith("measured x spreading")
    assert below["open"].startswith("measured undetermined")
    assert row(lines, "alone").startswith("alone 3 predicted local")
    assert row(lines, "extra").startswith("extra 3 measured no-op")


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("both", [False, True])
def test_no_line_is_too_long_and_no_cell_is_cut(make_verdict, width, both):
    names = [
        "random 20",
        "neighbours of 412",
        "cluster 12: slanted sevens without a bar",
        "oneverylongwordwithoutanyspace",
    ]
    verdicts = [
        make_verdict(name, -0.1 * k, 12.34, regime="undetermined", se=(0.004, 1.5), size=10**k)
        for k, name in enumerate(names)
    ]
    lines = printed(verdict_table(verdicts, verdicts if both else [], width=width), width)
    assert max(map(len, lines)) <= width
    assert sum(line.count("undetermined ") for line in lines) == 4 * (1 + both)
    assert sum(line.count("12.34 ± 1.50") for line in lines) == 4 * (1 + both)
    text = "".join("".join(lines).split())
    assert not any("…" in line for line in lines)
    assert "random20" in text


def test_names_are_not_taken_for_markup(make_verdict, dataset):
    assert row(printed(verdict_table([make_verdict("[red]a[/red]", 0.4, 0.2)])), "[red]a[/red]")
    column = int(np.flatnonzero(dataset.labels == 2)[0])
    lines = printed(pairs_table([ScoredPair(column, column, 0.1, 0.1)], dataset, title="run [bold]"))
    assert lines[0] == "run [bold]"
    assert lines[3].count("bag [red]") == 2


def test_the_memorization_table_lists_the_highest_scores_with_counts(memorization, dataset):
    lines = printed(memorization_table(memorization, dataset, 4))
    best = np.argsort(-np.nan_to_num(memorization.value, nan=-np.inf))[:4]
    rows = [" ".join(line.split()) for line in lines[3:7]]
    for text, i in zip(rows, best, strict=True):
        name = ("label 0", "shirt", "bag [red]")[dataset.y_train[i]]
        score = f"{memorization.value[i]:.2f} ± {memorization.se[i]:.2f}"
        assert text == f"{i} {dataset.train_ids[i]} {name} {score} 1,434 614"
    assert " ".join(lines[7:]) == "3 not ranked: fewer than two models with or without them, so no error"
    assert max(map(len, printed(memorization_table(memorization, dataset), 80))) <= 80


def test_the_pairs_table_tells_training_from_held_out(dataset):
    lines = printed(pairs_table([ScoredPair(3, 17, 0.41, 0.03), ScoredPair(5, 52, NAN, NAN)], dataset))
    called = [("label 0", "shirt", "bag [red]")[y] for y in dataset.labels]
    assert row(lines, "#3 ") == f"#3 {called[3]} training #17 {called[17]} 0.41 ± 0.03"
    assert row(lines, "#5 ") == f"#5 {called[5]} held-out #52 {called[52]} -"


def detectable(**changed) -> Detectable:
    return replace(Detectable(0.1249, 0.31, 797_000, 1e-7, 0.8, 0.05, "correct"), **changed)


def test_tables_say_q_and_the_smallest_effect_they_could_find(memorization, dataset):
    q = np.linspace(0, 0.04, len(memorization.value))
    lines = printed(memorization_table(memorization, dataset, 3, q=q, detectable=detectable(n_tests=40)), 80)
    best = np.argsort(-np.nan_to_num(memorization.value, nan=-np.inf))[:3]
    assert lines[1].split()[-5:] == ["q", "trained", "on", "it", "not"]
    for line, i in zip(lines[3:6], best, strict=True):
        assert line.split()[-3] == f"{q[i]:.2g}"
    said = " ".join(" ".join(lines[6:]).split())
    assert "smallest memorization detectable: 0.12 at median noise, at worst 0.31" in said
    assert "(power 0.8, false discovery rate 0.05 over 40 examples)" in said
    assert max(map(len, lines)) <= 80

    pairs = [ScoredPair(3, 17, 0.41, 0.03, 1e-9, 2e-5), ScoredPair(5, 52, NAN, NAN)]
    lines = printed(pairs_table(pairs, dataset, detectable=detectable()), 80)
    assert row(lines, "#3 ").endswith("0.41 ± 0.03 2e-05")
    assert row(lines, "#5 ").endswith("- -")
    assert "over 797,000 pairs)" in " ".join(lines)
    assert max(map(len, lines)) <= 80


def test_what_cannot_be_detected_is_said(dataset):
    def said(one: Detectable) -> str:
        return " ".join(" ".join(printed(pairs_table([], dataset, detectable=one))).split())

    assert "smallest influence detectable: none, too few models (power" in said(detectable(typical=NAN, worst=NAN))
    assert "0.12 at median noise, at worst none (power" in said(detectable(worst=NAN))
    assert "0.12 at median noise (power" in said(detectable(worst=NAN, outcome="margin"))


def test_harm_and_gain_go_first_where_there_is_no_room_but_not_where_harm_decides(make_verdict):
    verdicts = [make_verdict("a", 0.4, 0.55)]
    assert "harm" not in printed(verdict_table(verdicts, verdicts, width=80))[0]
    assert "harm" in printed(verdict_table(verdicts, verdicts, width=120), 120)[0]
    verdicts = [make_verdict("a", 0.4, 0.55, harm=0.77, thresholds=Thresholds(cross="harm"))]
    lines = printed(verdict_table(verdicts, verdicts, width=80), 80)
    assert "0.77 ± 0.04" in row(lines, "a ")
    assert "0.55" not in row(lines, "a ")
    assert "cross 0.1 (harm)" in " ".join(lines)


def test_what_is_unknown_is_a_dash(make_verdict):
    unknown = dict.fromkeys(("no-op", "local", "spreading", "indirect"), NAN)
    verdict = make_verdict("a", NAN, 0.2, se=(NAN, NAN), probability=unknown, regime="undetermined")
    assert row(printed(verdict_table([verdict])), "a ").startswith("a 3 undetermined - - 0.20 ± -")
    assert "no forget sets" in printed(verdict_table([]))


def test_a_part_of_a_concept_that_takes_nothing_has_no_sign():
    gap = ConceptGap(n_full=40, n_held_out=12, part=-0.001, whole=0.3, value=Quantity(0.301, 0.02))
    assert concept_gap(gap) == (
        "takes 0.00 from the 12 held-out examples of its concept, all 40 would take 0.30: a gap of 0.30 ± 0.02"
    )
