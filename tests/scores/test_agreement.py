"""Two sets of scores agree as SciPy says, with errors that are as large as the scatter over samples of examples.

A correlation between scores is read as "these two estimators find the same", so it must be that of other code, be 1 of a thing
with itself and 0 of shuffled scores, and carry the error that another sample of examples would show. Pairs that share a source
or a target are not independent: their error must be that of crossed samples.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

import infl
from infl.records import Agreement, Array
from infl.scores.agreement import measure_agreement

Z = 4.0  # standard errors within which a number counts as the truth


def measure(
    a: Array, b: Array, se: Array | float = math.nan, *, source: Array | None = None, target: Array | None = None
) -> Agreement:
    errors, ids = np.broadcast_to(np.asarray(se, float), a.shape), np.arange(len(a))
    source, target = (ids if given is None else given for given in (source, target))
    return measure_agreement(a, b, errors, errors, source=source, target=target)


def related(n: int, seed: int, *, ties: bool = False) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    a = random.normal(size=n)
    b = 0.6 * a + 0.8 * random.normal(size=n)
    return (np.round(a), np.round(b)) if ties else (a, b)


@pytest.mark.parametrize("ties", [False, True])
def test_correlations_are_those_of_scipy_and_differences_those_of_a_line_of_numpy(ties: bool) -> None:
    a, b = related(300, 0, ties=ties)
    found = measure(a, b)
    assert found.spearman.value == pytest.approx(scipy.stats.spearmanr(a, b)[0])
    assert found.pearson.value == pytest.approx(scipy.stats.pearsonr(a, b)[0])
    assert found.difference.value == pytest.approx((a - b).mean())
    assert found.rms.value == pytest.approx(np.sqrt(((a - b) ** 2).mean()))
    assert math.isnan(found.explained.value)
    assert found.pearson.se == pytest.approx(
        (1 - found.pearson.value**2) / math.sqrt(300), rel=0.25
    )  # Fisher, normal data
    assert found.difference.se == pytest.approx(scipy.stats.sem(a - b), rel=0.25)


def test_a_score_agrees_with_itself_also_as_float32_and_shuffled_not_at_all() -> None:
    random = np.random.default_rng(1)
    a = random.choice(np.arange(12) / 11, 400)
    for same in (a, a.astype(np.float32)):
        found = measure(a, same, 0.1)
        assert (found.spearman.value, found.pearson.value) == pytest.approx((1, 1))
        assert found.explained.value == 1
        assert all(
            one.se >= 1 / 400 for one in (found.spearman, found.pearson, found.difference, found.rms, found.explained)
        )
    shuffled = measure(a, random.permutation(a))
    for one in (shuffled.spearman, shuffled.pearson, shuffled.difference):
        assert abs(one.value) < Z * one.se
        assert one.se < 0.1


def test_errors_explain_what_they_bring_and_no_more() -> None:
    """Noise of known size explains all of a difference; a real difference of the same variance leaves half of it."""
    random, n = np.random.default_rng(2), 4000
    truth, se = random.normal(size=n), random.uniform(0.05, 0.3, n)
    a, b = (truth + se * random.normal(size=n) for _ in range(2))
    noise = measure(a, b, se).explained
    assert noise.value > 1 - Z * noise.se
    real = random.normal(scale=math.sqrt(2 * (se**2).mean()), size=n)
    half = measure(a, b + real, se).explained
    assert abs(half.value - 0.5) < Z * half.se
    assert half.se < 0.03


def test_errors_of_pairs_are_those_of_samples_of_sources_and_of_targets() -> None:
    """Sources and targets both carry an effect; the scatter over fresh samples of both is the error."""
    values, errors = [], []
    for seed in range(60):
        random = np.random.default_rng(seed)
        d = random.normal(size=(25, 1)) + random.normal(size=40) + 0.5 * random.normal(size=(25, 40))
        source, target = (grid.ravel() for grid in np.indices(d.shape))
        found = measure(d.ravel(), np.zeros(d.size), source=source, target=target + 100)
        values.append(found.difference.value)
        errors.append(found.difference.se)
    assert np.std(values) == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=0.3)


def test_what_cannot_be_told_is_nan_and_no_scores_are_a_mistake() -> None:
    for a, b in ((np.arange(2.0), np.arange(2.0)), (np.ones(9), np.arange(9.0))):
        found = measure(a, b)
        assert math.isnan(found.spearman.value)
        assert math.isnan(found.pearson.se)
        assert math.isfinite(found.rms.value + found.rms.se)
    with pytest.raises(infl.InputError, match="at least one example"):
        measure(np.empty(0), np.empty(0))
