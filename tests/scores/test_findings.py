"""q-values beside scores are those of Benjamini and Hochberg over everything that was tested, found here by sorting."""

from __future__ import annotations

import numpy as np
import pytest

import infl
from infl.records import Array, InputError, Outcomes
from infl.scores.influence import score_pairs
from infl.scores.planning import detectable_influence, findings, q_of_pairs


def sorted_q(p: Array) -> Array:
    """Benjamini and Hochberg by a loop over the sorted p-values."""
    order = np.argsort(p)[::-1]
    q, least = np.empty(len(p)), 1.0
    for rank, index in zip(range(len(p), 0, -1), order, strict=True):
        least = min(least, p[index] * len(p) / rank)
        q[index] = least
    return q


@pytest.fixture(scope="module")
def planted() -> Outcomes:
    """Three hundred models; examples 0 to 3 help held-out 0 to 3, and 0 to 4 are memorized."""
    random = np.random.RandomState(0)
    masks = random.rand(300, 12) < 0.6
    right = np.full((300, 32), 0.7)
    right[:, :5] += np.where(masks[:, :5], 0.25, -0.25)
    right[:, 12:16] += np.where(masks[:, :4], 0.2, -0.2)
    return Outcomes(masks, random.rand(300, 32) < right)


def test_pairs_have_the_q_values_of_the_whole_matrix(planted: Outcomes, monkeypatch: pytest.MonkeyPatch) -> None:
    estimate = infl.influence(planted)
    assert estimate.p is not None
    q = sorted_q(estimate.p.ravel()).reshape(estimate.p.shape)
    monkeypatch.setattr("infl.scores.influence.PAIRS_AT_ONCE", 36)  # in blocks of three columns
    scored = score_pairs(planted, n_pairs=20)
    assert scored.p_values.total == 12 * 20
    for pair in scored.strongest:
        i, j = pair.source, pair.target - 12
        alone = estimate.value[i, j], estimate.se[i, j], estimate.p[i, j]
        assert (pair.value, pair.se, pair.p) == pytest.approx(alone, rel=1e-4)
        assert 0.999 * q[i, j] <= pair.q <= 1.003 * q[i, j]
    found = [(pair.source, pair.target) for pair in scored.strongest if pair.q <= 0.05]
    assert {(i, 12 + i) for i in range(4)} <= set(found)


def test_findings_are_judged_at_what_was_found(planted: Outcomes) -> None:
    memorization, scored = infl.memorization(planted), score_pairs(planted, n_pairs=3)
    found = findings(planted, memorization, scored)
    assert memorization.p is not None
    np.testing.assert_allclose(found.q, sorted_q(memorization.p))
    assert (found.q[:5] < 0.05).all()
    largest = memorization.p[found.q <= 0.05].max()
    assert found.memorization.p_cut == pytest.approx(largest, rel=2e-3)
    assert found.memorization.p_cut > 0.05 / 12
    assert (found.influence.n_tests, found.memorization.n_tests) == (12 * 20, 12)
    strict = findings(planted, memorization, scored, power=0.95, false_discovery_rate=0.01)
    assert strict.influence.typical > found.influence.typical


def test_influence_is_judged_in_the_reading_and_outcome_of_its_pairs(planted: Outcomes) -> None:
    memorization, left_out = infl.memorization(planted), score_pairs(planted, n_pairs=3, protocol="left-out")
    found = findings(planted, memorization, left_out).influence
    cut = left_out.p_values.largest_p(0.05)
    assert found == detectable_influence(planted, protocol="left-out", p_cut=cut)
    assert found.n_tests == 12 * 11
    alone = Outcomes(planted.masks, planted.of("correct")[:, :12] > 0)  # without held-out examples
    scored = score_pairs(alone, n_pairs=3, protocol="left-out")
    assert findings(alone, infl.memorization(alone), scored).influence == found
    both = Outcomes(planted.masks, planted.correct, planted.of("correct") + np.linspace(0, 1, 32))
    margins = score_pairs(both, n_pairs=3, outcome="margin")
    assert findings(both, infl.memorization(both), margins).influence.outcome == "margin"


def test_pairs_of_columns_that_the_outcomes_lack_are_refused(planted: Outcomes) -> None:
    alone = Outcomes(planted.masks, planted.of("correct")[:, :12] > 0)
    with pytest.raises(InputError, match="protocol held-out: these outcomes have no such columns"):
        findings(alone, infl.memorization(alone), score_pairs(planted, n_pairs=3))


def test_q_values_of_two_readings_are_over_both(planted: Outcomes) -> None:
    left_out, held_out = (infl.influence(planted, protocol=protocol) for protocol in ("left-out", "held-out"))
    q = q_of_pairs(left_out, held_out)
    assert q.shape == (12, 32)
    assert np.isnan(np.diagonal(q)).all()
    p = np.concatenate([np.asarray(left_out.p), np.asarray(held_out.p)], axis=1)
    known = np.isfinite(p)
    np.testing.assert_allclose(q[known], sorted_q(p[known]))


def test_scores_without_p_values_are_refused(planted: Outcomes) -> None:
    from dataclasses import replace

    bare = replace(infl.memorization(planted), p=None)
    with pytest.raises(InputError, match="these scores have no p-values"):
        findings(planted, bare, score_pairs(planted, n_pairs=1))
    with pytest.raises(InputError, match="these scores have no p-values"):
        q_of_pairs(bare)
