"""Each metric equals another library's, or a slow loop, and stands beside what it says of oracles against oracles.

An exact method must be given its null, whatever the formula promises; a method that does nothing must not.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from infl.records import ForgetSet, InputError, MetricName, Outcomes
from infl.untraining.comparison import evaluate_models
from infl.untraining.metrics import (
    METRICS,
    attack,
    energy,
    energy_p,
    epsilon,
    forgetting_quality,
    klom,
    ks_fraction,
    measure_metrics,
    shift,
)

N, M, SIZE, K = 30, 20, 6, 32


@pytest.fixture
def sides() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.RandomState(0)
    return rng.randn(16, 5) + np.array([0, 0.5, 1, 2, 3]), rng.randn(16, 5)


def models(mean: np.ndarray, seed: int, n_models: int = K, without: tuple[int, ...] = ()) -> Outcomes:
    masks = np.ones((n_models, N), bool)
    masks[:, list(without)] = False
    margin = mean + np.random.RandomState(seed).randn(n_models, N + M)
    return Outcomes(masks, margin > 0, margin)


def test_an_exact_method_is_given_the_null_of_each_metric_and_doing_nothing_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 18 numbers one may be three errors off; those of doing nothing are two, on S."""
    monkeypatch.setattr("infl.untraining.metrics.N_SPLITS", 10)
    names = cast(list[MetricName], list(METRICS))
    oracle = np.random.RandomState(1).normal(2, 1, N + M)
    oracle[:SIZE], s = -0.5, ForgetSet("s", tuple(range(SIZE)), tuple(range(2 * SIZE)))
    original, full = oracle.copy(), oracle.copy()
    original[:SIZE], full[SIZE : 2 * SIZE] = 3, -1
    nothing, _, exact = evaluate_models(
        s,
        {"exact": models(oracle, 2, 28)},
        original=models(original, 3, 40),
        oracle=models(oracle, 4, without=s.ids),
        full_oracle=models(full, 5, without=s.concept or ()),
        metrics=names,
    )
    for name, metric in exact.metrics.items():  # of as many models in all rows
        assert nothing.metrics[name].null == metric.null
    off = {}
    for name, metric in exact.metrics.items():
        if "concept" not in name:
            off[name] = (
                abs(metric.value.value - metric.null.value) > 3 * np.hypot(metric.value.se, metric.null.se) + 0.01
            )
    assert len(off) >= 16
    assert sum(off.values()) <= 1, off
    assert exact.metrics["energy"].p > 0.01
    assert nothing.metrics["energy"].p == 0.001
    for name, direction in {
        "shift (set)": 1, "ks (set)": 1, "energy": 1, "klom (set)": 1, "tug-of-war": -1, "epsilon": 1, "competition": -1,
        "u-lira auc (set)": 1, "relative": -1, "membership auc": 1,
    }.items():  # fmt: skip
        metric = nothing.metrics[name]
        assert direction * (metric.value.value - metric.null.value) > 2 * (metric.value.se + metric.null.se), name
    of_concept = exact.metrics["u-lira auc (concept)"]
    assert of_concept.value.value > 0.9
    assert of_concept.null.value == pytest.approx(0.5, abs=0.1)


def test_tests_of_distributions_are_those_of_scipy(sides: tuple[np.ndarray, np.ndarray]) -> None:
    u, r = sides
    ties = np.round(u), np.round(r)
    for one, other in ((u, r), ties):
        found = [ks_fraction(np.repeat(one[:, [j]], 9, axis=0), np.repeat(other[:, [j]], 9, axis=0)) for j in range(5)]
        tests: list[Any] = [stats.ks_2samp(np.repeat(one[:, j], 9), np.repeat(other[:, j], 9)) for j in range(5)]
        wanted = [test.pvalue <= 0.05 for test in tests]
        assert found == wanted
    assert shift(u, r) == pytest.approx(np.mean(np.abs(u.mean(axis=0) - r.mean(axis=0)) / r.std(axis=0, ddof=1)))
    one = u[:, [1]], r[:, [1]]
    scaled = [(x - one[1].mean()) / one[1].std(ddof=1) for x in one]
    biased = stats.energy_distance(*(x.ravel() for x in scaled)) ** 2  # with each model beside itself
    within = [np.abs(x - x.T).sum() * (1 / (16 * 15) - 1 / 16**2) for x in scaled]
    assert energy(*one) == pytest.approx(biased - sum(within))

    def statistic(x: np.ndarray, y: np.ndarray) -> float:
        return 2 * np.abs(x[:, None] - y).mean() - sum(np.abs(z[:, None] - z).sum() / 240 for z in (x, y))

    flat = [x.ravel() for x in scaled]
    shuffled: Any = stats.permutation_test(
        flat, statistic, n_resamples=500, alternative="greater", rng=np.random.RandomState(0)
    )
    assert energy_p(*one) == pytest.approx(shuffled.pvalue, abs=0.1)
    bins = np.quantile(one[1], [0.25, 0.5, 0.75])
    p, q = [np.array([(np.digitize(x, bins, right=True) == b).sum() + 0.5 for b in range(4)]) / 18 for x in one]
    assert klom(*one) == pytest.approx((p * np.log(p / q)).sum())


def test_bounds_and_attacks_are_what_a_loop_gives(sides: tuple[np.ndarray, np.ndarray]) -> None:
    u, r = sides
    wanted, quality = [], []
    for j in range(5):
        cuts = sorted([*u[:8, j], *r[:8, j]])
        cut = max(cuts, key=lambda c: abs((u[:8, j] >= c).mean() - (r[:8, j] >= c).mean()))
        bounds = [0.0]
        for side in (1, -1):
            inside = [
                stats.binomtest(int((side * (x[8:, j] - cut) >= (0 if side > 0 else 1e-12)).sum()), 8) for x in (u, r)
            ]
            intervals = [one.proportion_ci(0.95, "exact") for one in inside]
            for a, b in ((0, 1), (1, 0)):
                bounds.append(np.log(max(intervals[a].low - 1e-5, 1e-12) / intervals[b].high))
        wanted.append(max(bounds))
        best = 0.0
        for c in (*u[:, j], *r[:, j]):
            for a, b in ((u, r), (r, u)):
                false, missed = (a[:, j] >= c).mean(), 1 - (b[:, j] >= c).mean()
                if false == missed == 0:
                    best = 50.0
                elif false > 0 and missed > 0 and min(1 - false, 1 - missed) > 1e-5:
                    best = max(best, np.log((1 - 1e-5 - false) / missed), np.log((1 - 1e-5 - missed) / false))
        quality.append(0.0 if best > np.ceil(np.log(15)) else 2.0 ** -np.floor(2 * best))
    assert epsilon(u, r) == pytest.approx(np.mean(wanted))
    assert forgetting_quality(u, r) == pytest.approx(np.mean(quality))
    fits = [[(x[:8, j].mean(), x[:8, j].std(ddof=1)) for j in range(5)] for x in (u, r)]
    scores = [
        stats.norm.logpdf(x, *fits[0][j]) - stats.norm.logpdf(x, *fits[1][j])
        for side in (u, r)
        for j in range(5)
        for x in side[8:, j]
    ]
    assert attack(u, r)["auc"] == pytest.approx(roc_auc_score(np.repeat([1, 0], 40), scores))


def test_what_metrics_need_is_named() -> None:
    s, few, one = ForgetSet("s", (0,)), models(np.zeros(N + M), 0, 8), models(np.zeros(N + M), 0)
    names: list[MetricName] = ["shift"]
    with pytest.raises(InputError, match="at least 16 models"):
        measure_metrics(names, s, few, few, few)
    with pytest.raises(InputError, match="hold no 'margin'"):
        measure_metrics(names, s, Outcomes(one.masks, one.correct), one, one)
    with pytest.raises(InputError, match="expected some of shift, ks"):
        measure_metrics(["auc"], s, one, one, one)  # pyright: ignore[reportArgumentType]
