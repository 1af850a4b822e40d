"""The graph of facts shows what is found and nothing else: its lines end at the names of the two facts, as wide as the pair."""

from __future__ import annotations

from typing import Any

import pytest

import infl
from infl.data.facts import from_facts
from infl.records import InputError, ScoredPair
from infl.report.plot import derivations

FACTS = from_facts(
    [("Ada", "born", "Arles"), ("Arles", "river", "Rhone"), ("Bob", "born", "Bonn")],
    [("Ada", "river", "Rhone"), ("Bob", "river", "Rhone")],
)


def test_lines_join_what_is_found() -> None:
    found = [
        ScoredPair(0, 3, 0.9, 0.1, q=0.001),
        ScoredPair(1, 3, 0.5, 0.1, q=0.01),
        ScoredPair(1, 4, -0.2, 0.1, q=0.05),
    ]
    ax: Any = derivations([*found, ScoredPair(2, 4, 0.9, 0.1, q=0.06)], FACTS)
    at = {text.get_text(): float(text.get_position()[1]) for text in ax.texts}
    assert set(at) == {"Ada, born, Arles", "Arles, river, Rhone", "Ada, river, Rhone", "Bob, river, Rhone"}
    ends = [tuple(map(float, line.get_ydata())) for line in ax.get_lines()]
    names = [("Ada, born, Arles", "Ada, river, Rhone"), ("Arles, river, Rhone", "Ada, river, Rhone")]
    assert ends == [(at[left], at[right]) for left, right in [*names, ("Arles, river, Rhone", "Bob, river, Rhone")]]
    assert at["Ada, born, Arles"] < at["Arles, river, Rhone"]  # which leads further down too
    widths = [line.get_linewidth() for line in ax.get_lines()]
    assert widths == sorted(widths, reverse=True)
    assert len({line.get_color() for line in ax.get_lines()}) == 2
    assert ax.get_title("left").startswith("3 influences found at q ≤ 0.05")
    assert not derivations([], FACTS).get_lines()


def test_other_data_are_refused() -> None:
    with pytest.raises(InputError, match="derivations: expected facts"):
        derivations([], infl.load("digits", n_train=100, n_held_out=10))
