"""The parts of the response are what they are described as: shrunken terms, a process over subsets.

Each is fitted to values made by its own formula. What a predictor says of a set is the sum of these parts, and a fault in one
would be half made up for by the others, where nobody sees it.
"""

import numpy as np
import pytest

from infl.records import Outcomes
from infl.scores.sufficient_statistics import columns_counted
from infl.untraining.response import _shrink, fit_response
from infl.untraining.support import N_COVARIATES, N_NEIGHBOURS, gather_evidence, prepare_support, scratch_array

N, M = 24, 10


def evidence_of(margin_of, n_models=80, seed=0, noise=0.1, n_of_d=8, init_seeds=None):
    random = np.random.RandomState(seed)
    x, labels = random.randn(N + M, 3).astype(np.float32), np.arange(N + M) % 2
    masks = random.rand(n_models, N) < random.uniform(0.7, 0.97, (n_models, 1))
    masks[np.arange(n_models), random.randint(N, size=n_models)] = False  # none is all of D by chance
    masks[:n_of_d] = True
    margin = (margin_of(masks) + noise * random.randn(n_models, N + M)).astype(np.float32)
    outcomes = Outcomes(masks, margin > 0, margin, init_seeds=init_seeds)
    support = prepare_support(x, labels, n_train=N, n_classes=2)
    return gather_evidence(support, [outcomes])


def level(masks):
    """Every example loses 4 times the fraction of D that is left out."""
    return 2 - 4 * (~masks).mean(axis=1)[:, None] + np.zeros(N + M)


def test_evidence_describes_every_model_and_d_as_support_does():
    """It asks for all at once, and refits nothing for models of D; the first 8 are of D, the others are not."""
    evidence, columns = evidence_of(level), np.arange(N + M)
    for rows in ([0], [7], [8], range(40, 44)):
        masks = evidence.masks[rows]
        margins = evidence.support.surrogate_margins(masks)
        np.testing.assert_allclose(evidence.surrogate[rows], margins, atol=1e-6)
        found = evidence.support.covariates(masks, margins, columns)
        np.testing.assert_allclose(evidence.covariates(columns)[rows], found, atol=1e-5)
    np.testing.assert_allclose(evidence.at_d, evidence.covariates(columns)[0], atol=1e-5)
    np.testing.assert_array_equal(evidence.neighbours, evidence.support.neighbours(columns, N_NEIGHBOURS))


def test_shrinkage_is_between_nothing_and_least_squares():
    """500 examples with slopes N(0, 0.5^2) and noise 1: prior and noise are found, and shrinking beats least squares."""
    random = np.random.RandomState(3)
    n_examples, n_models = 500, 30
    slopes = np.stack([0.5 * random.randn(n_examples), np.zeros(n_examples)], axis=1)
    terms = random.randn(n_examples, n_models, 2)
    y = np.einsum("jtk,jk->jt", terms, slopes) + random.randn(n_examples, n_models)
    gram, moment = np.einsum("jtk,jtl->jkl", terms, terms), np.einsum("jtk,jt->jk", terms, y)
    found, covariance, noise = _shrink(gram, moment, (y**2).sum(axis=1), np.full(n_examples, n_models))
    least_squares = np.linalg.solve(gram, moment[..., None])[..., 0]
    error, error_of_least_squares = (((one - slopes) ** 2).mean(axis=0) for one in (found, least_squares))
    assert (error < error_of_least_squares).all()
    assert error[1] < 0.25 * error_of_least_squares[1]
    np.testing.assert_allclose(np.median(noise), 1, atol=0.1)
    np.testing.assert_allclose(covariance[:, 0, 0].mean(), error[0], rtol=0.2)


def test_examples_with_fewer_models_than_terms_tell_the_priors_too():
    """Left-out examples have few models each. A few with many models, all of level zero, must not speak for the others."""
    random = np.random.RandomState(4)
    level, n_models = random.randn(300), np.full(300, 8)
    level[:3], n_models[:3] = 0, 40
    gram, moment, squares = np.zeros((300, 14, 14)), np.zeros((300, 14)), np.zeros(300)
    for j in range(300):
        terms = np.concatenate([np.ones((n_models[j], 1)), random.randn(n_models[j], 13)], axis=1)
        y = level[j] + 0.3 * random.randn(n_models[j])
        gram[j], moment[j], squares[j] = terms.T @ terms, terms.T @ y, (y**2).sum()
    found, _, _ = _shrink(gram, moment, squares, n_models)
    assert ((found[:, 0] - level) ** 2).mean() < 0.2


@pytest.mark.parametrize("protocol", ["held-out", "trained", "left-out"])
def test_a_response_follows_what_made_the_margins(protocol):
    evidence = evidence_of(level)
    columns = np.arange(N, N + M) if protocol == "held-out" else np.arange(N)
    response = fit_response(evidence, columns, protocol=protocol, use=list(range(N_COVARIATES)))
    expected, variance, _ = response.expect(evidence.masks, evidence.covariates)
    truth = level(evidence.masks)[:, columns] - (2 if response.anchored else 0)
    assert response.anchored == (protocol != "left-out")
    counted = columns_counted(evidence.masks, protocol, columns)
    counted = np.ones(truth.shape, bool) if counted is None else counted
    assert np.sqrt(np.mean((expected - truth)[counted] ** 2)) < 0.1
    assert (variance >= -1e-6).all()
    if response.anchored:
        on_all = evidence.masks.all(axis=1)
        np.testing.assert_allclose(expected[on_all], 0, atol=1e-4)
        np.testing.assert_allclose(response.anchor, evidence.margins(columns)[on_all].mean(axis=0), atol=1e-5)


def test_models_held_out_are_not_looked_at():
    out = np.arange(12, 80, 4)
    columns = np.arange(N, N + M)

    def spoiled(masks):
        return level(masks) + np.where(np.isin(np.arange(80), out), 1000, 0)[:, None]

    one, other = (
        fit_response(evidence_of(margin_of).without(out), columns, protocol="held-out", use=[0, 1])
        for margin_of in (level, spoiled)
    )
    np.testing.assert_allclose(one.coefficients, other.coefficients, atol=1e-3)
    np.testing.assert_allclose(one.pooled.weights, other.pooled.weights, atol=1e-3)
    assert len(one.similarity.left_out) == 80 - 8 - len(out)


@pytest.mark.parametrize("protocol", ["trained", "left-out"])
def test_a_protocol_takes_only_the_models_it_names(protocol):
    """Margins of the other models are made absurd; nothing of them may be seen."""

    def absurd(masks):
        margin = level(masks)
        margin[:, :N] += np.where(masks == (protocol == "trained"), 0, 1e3)
        return margin

    columns = np.arange(N)
    one, other = (
        fit_response(evidence_of(margin_of), columns, protocol=protocol, use=[0, 1]) for margin_of in (level, absurd)
    )
    np.testing.assert_allclose(one.coefficients, other.coefficients, atol=1e-3)
    np.testing.assert_allclose(one.noise, other.noise, rtol=0.05)


def test_residuals_of_a_model_correct_what_is_said_of_its_own_subset_most():
    """Models that left the first five out are 3 lower than any covariate says; a set apart from these is left alone."""

    def lower(masks):
        margin = np.full((len(masks), N + M), 2.0)
        margin[10:20] -= 3
        return margin

    evidence = evidence_of(lower)
    evidence.masks[10:20] = True
    evidence.masks[10:20, :5] = False
    columns = np.arange(N, N + M)
    similar = fit_response(evidence, columns, protocol="held-out", use=[]).similarity
    asked = np.zeros((2, N), bool)
    asked[0, :5], asked[1, 15:20] = True, True
    correction, left = similar.correct(asked)
    # Ten observations with three times as much noise each: 10/13 of it.
    np.testing.assert_allclose(correction[0], -3 * 10 / 13, atol=0.5)
    assert np.abs(correction[1]).mean() < 0.3
    assert left[0] < 0.3 < 0.8 < left[1]
    assert ((left >= 0) & (left <= 1)).all()


def test_models_that_have_nothing_in_common_say_nothing_of_each_other():
    evidence = evidence_of(level, noise=1.0)
    evidence.masks[10:20] = True
    evidence.masks[10:20, :5] = False
    similar = fit_response(evidence, np.arange(N, N + M), protocol="held-out", use=[]).similarity
    asked = np.zeros((1, N), bool)
    asked[0, :5] = True
    correction, left = similar.correct(asked)
    assert np.abs(correction).mean() < 0.2  # ten models of noise one have a mean of 0.3
    assert left[0] > 0.5


def test_what_an_init_seed_does_on_d_is_taken_off():
    """Margins of two models with one init seed share 0.8 of a deviation of 2; what is left is noise of 0.1."""
    random = np.random.RandomState(6)
    seeds = np.concatenate([np.arange(8), np.arange(72) % 8])
    by_seed = 2 * random.randn(8, N + M)
    share = np.where(np.arange(80) < 8, 1.0, 0.8)[:, None]

    def margin_of(masks):
        return level(masks) + share * by_seed[seeds]

    known, unknown = (evidence_of(margin_of, init_seeds=given) for given in (seeds, None))
    columns = np.arange(N, N + M)
    np.testing.assert_array_equal(known.partners, np.where(np.arange(80) < 8, -1, seeds))
    assert (unknown.partners == -1).all()
    margins = known.margins(columns)
    expected = (margins[:8] - margins[:8].mean(axis=0))[seeds[8:]]
    np.testing.assert_allclose(known.by_init_seed(margins)[8:], expected, atol=1e-5)
    assert (known.by_init_seed(margins)[:8] == 0).all()
    with_, without = (fit_response(evidence, columns, protocol="held-out", use=[0, 1]) for evidence in (known, unknown))
    assert with_.coefficients[:, -1].mean() == pytest.approx(0.8, abs=0.1)
    assert with_.noise.mean() < 0.3 < 1 < without.noise.mean()
    half = (np.arange(N) < N // 2)[None]
    margins = known.support.surrogate_margins(half)
    errors = [
        np.abs(fit.expect(half, lambda c: known.support.covariates(half, margins[:, c], c)).value - -2.0).mean()
        for fit in (with_, without)
    ]
    assert errors[0] < errors[1]


def test_large_arrays_are_on_disk_and_as_good(monkeypatch):
    monkeypatch.setattr("infl.untraining.support.MAX_IN_MEMORY", 10)
    array = scratch_array((4, 5), np.float32)
    assert isinstance(array, np.memmap)
    array[:] = 3
    assert array.sum() == 60
    columns = np.arange(N, N + M)
    on_disk = fit_response(evidence_of(level), columns, protocol="held-out", use=[0, 1])
    monkeypatch.undo()
    in_memory = fit_response(evidence_of(level), columns, protocol="held-out", use=[0, 1])
    np.testing.assert_allclose(on_disk.coefficients, in_memory.coefficients, atol=1e-6)


@pytest.mark.parametrize("protocol", ["held-out", "trained", "left-out"])
def test_columns_in_chunks_are_fitted_as_all_at_once(protocol, monkeypatch):
    """Examples that differ in level and slope: a chunk that took another's anchor or covariates would show."""
    random = np.random.RandomState(6)
    base, slope = random.uniform(-2, 4, N + M), random.uniform(0, 8, N + M)

    def different(masks):
        return base - slope * (~masks).mean(axis=1)[:, None]

    columns = np.arange(N, N + M) if protocol == "held-out" else np.arange(N)
    whole = fit_response(evidence_of(different), columns, protocol=protocol, use=[0, 1, 7])
    monkeypatch.setattr("infl.untraining.support.CHUNK", 3)
    parts = fit_response(evidence_of(different), columns, protocol=protocol, use=[0, 1, 7])
    for name in ("anchor", "coefficients", "covariance", "noise", "at_d", "neighbours"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=0.02, atol=0.01, err_msg=name)
    one, other = (response.similarity.residuals.astype(float) for response in (whole, parts))
    np.testing.assert_allclose(one, other, atol=0.05)
