"""Made-up records of the sizes and ranges that real runs give, for the tests of what is drawn and printed from them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from infl.records import Dataset, Estimate, ForgetSet, Quantity, Regime, Thresholds, Verdict

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
            thresholds=thresholds or Thresholds(),
            source="support",
            n_models=2048,
            hurt_most=(7, 44),
            hurt_most_effects=(0.41, 0.32),
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
    return Estimate(value, se, n_in, 2048 - n_in, reading="own", outcome="correct")
