"""Made-up records of the sizes and ranges that real runs give, for the tests of what is drawn and printed from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from infl.records import (
    Dataset,
    Detectable,
    Estimate,
    ForgetSet,
    Quantity,
    Regime,
    ScoredPair,
    Thresholds,
    Verdict,
)
from infl.report.page import HarmedExample, PageContent, ScoreContent, SetContent

N_TRAIN, N_HELD_OUT = 40, 20


@pytest.fixture
def make_verdict() -> Callable[..., Verdict]:
    """A verdict at (self, cross), with any other field replaced."""

    def make(
        name: str,
        self_influence: float,
        cross_influence: float,
        *,
        se: tuple[float, float] = (0.02, 0.05),
        regime: Regime = "local",
        probability: dict[str, float] | None = None,
        harm: float = 0.3,
        gain: float = 0.2,
        thresholds: Thresholds | None = None,
        models_needed: int | None = None,
        note: str = "",
        size: int = 3,
    ) -> Verdict:
        return Verdict(
            forget_set=ForgetSet(name, tuple(range(size))),
            regime=regime,
            probability=probability or {"no-op": 0.02, "local": 0.91, "spreading": 0.06, "indirect": 0.01},
            self_influence=Quantity(self_influence, se[0]),
            cross_influence=Quantity(cross_influence, se[1]),
            harm=Quantity(harm, 0.04),
            gain=Quantity(gain, 0.03),
            thresholds=thresholds or Thresholds(cross="net"),
            source="support",
            n_models=2048,
            most_harmed=(7, 44),
            most_harmed_effects=(0.41, 0.32),
            models_needed=models_needed,
            note=note,
        )

    return make


@pytest.fixture
def dataset() -> Dataset:
    """Forty training and twenty held-out images of 6 x 5 pixels, no two alike: light strokes on a dark ground."""
    rng = np.random.default_rng(0)
    images = np.zeros((N_TRAIN + N_HELD_OUT, 6, 5), np.float32)
    images[:, 1:-1, 1:-1] = rng.random((N_TRAIN + N_HELD_OUT, 4, 3))
    labels = rng.integers(0, 3, N_TRAIN + N_HELD_OUT).astype(np.int32)
    places = rng.permutation(1000)[: N_TRAIN + N_HELD_OUT]
    return Dataset(
        name="made up",
        x_train=images[:N_TRAIN],
        y_train=labels[:N_TRAIN],
        x_held_out=images[N_TRAIN:],
        y_held_out=labels[N_TRAIN:],
        train_ids=places[:N_TRAIN],
        held_out_ids=places[N_TRAIN:],
        class_names=("0", "shirt", "bag [red]"),
    )


@pytest.fixture
def memorization() -> Estimate:
    """Scores of the forty training examples; the first three could not be estimated."""
    rng = np.random.default_rng(1)
    value = rng.uniform(-0.05, 0.9, N_TRAIN)
    se = rng.uniform(0.02, 0.06, N_TRAIN)
    value[:3] = se[:3] = np.nan
    n_in = np.full(N_TRAIN, 1434)
    return Estimate(value, se, n_in, 2048 - n_in, protocol="own", outcome="correct")


HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "' onmouseover='alert(3)' x='",
    "</style><style>*{display:none}</style>",
    "{{ 7*7 }}{% raw %}",
    "javascript:alert(4)//https://example.org",
    "<!-- </title></details></table> ]]>&lt;b&gt;&amp;",
    "\u202egnp.exe \x00 & <svg/onload=alert(5)>",
)
SET_NAMES = ("ten", "a class", "copies", "rare", "cluster", "only predicted", "only measured", "unknown")


@pytest.fixture
def hostile_names() -> tuple[str, ...]:
    """Names of sets that try to be more than text."""
    return HOSTILE


@pytest.fixture
def make_page_content(
    make_verdict: Callable[..., Verdict], dataset: Dataset, memorization: Estimate
) -> Callable[..., PageContent]:
    """What a page shows of eight forget sets: of all regimes, predicted, measured or both, one without an estimate."""

    def make(names: tuple[str, ...] = SET_NAMES, data: Dataset = dataset, **replaced: Any) -> PageContent:
        places = [(0.9, 0.7), (0.02, 0.01), (0.8, 0.0), (0.05, 0.4), (0.3, 3.2), (0.1, 0.1), (0.99, -0.2), (0.5, 0.5)]
        regimes: list[Regime] = [
            "spreading",
            "no-op",
            "local",
            "indirect",
            "spreading",
            "undetermined",
            "local",
            "no-op",
        ]
        sets = []
        for k, (name, (x, y), regime) in enumerate(zip(names, places, regimes, strict=True)):
            predicted = make_verdict(name, x, y, regime=regime, size=k + 1)
            measured = replace(
                make_verdict(name, x + 0.03, y + 0.05, regime=regime, size=k + 1), source="retrained", n_models=32
            )
            if k == 7:
                measured = replace(measured, self_influence=Quantity(np.nan, np.nan))
                predicted = replace(predicted, cross_influence=Quantity(np.nan, np.nan))
            both = (None if k == 6 else predicted, None if k == 5 else measured)
            harmed = [HarmedExample(44, both[0] and Quantity(0.41, 0.1), both[1] and Quantity(0.52, 0.07))]
            sets.append(SetContent(*both, harmed))
        smallest = Detectable(0.21, 0.4, 40, 0.01, 0.8, 0.05, "correct")
        scores = ScoreContent(
            n_models=2048,
            memorization=memorization,
            interval=(memorization.value - 0.08, memorization.value + 0.07),
            q=np.where(np.isnan(memorization.value), np.nan, 0.031),
            pairs=[ScoredPair(4, 45, 0.75, 0.05, 1e-14, 1e-13), ScoredPair(5, 46, -0.25, 0.04, 1e-4, 0.02)],
            pair_intervals=[(0.63, 0.84), (-0.33, -0.17)],
            smallest_memorization=smallest,
            smallest_influence=smallest,
        )
        description = {
            "dataset": {"fingerprint": "f" * 64},
            "algorithm": {"network": {"name": "mlp", "hidden": [256]}, "optimizer": "sgd"},
            "design": {"kind": "grouped", "fraction": [0.7, 0.97], "grouped_share": 0.5},
            "seed": 0,
            "infl": "0.1.0",
            "devices": ["cpu:cpu", "cpu:cpu"],
            "collections": {
                "design": {"complete": 2048, "missing": 0, "diverged": [3], "seconds": 61.5},
                "without-0": {"complete": 32, "missing": 0, "diverged": [], "seconds": 2.5},
            },
            "sessions": [{"date": "2026-11-22T10:00:00+00:00"}],
        }
        return PageContent(**{"description": description, "dataset": data, "scores": scores, "sets": sets, **replaced})

    return make
