"""Adjusted influence is unbiased where it says so, its errors are true, and it never sees an effect that is not there."""

import numpy as np
import pytest
from scipy.special import ndtr

from infl.records import Outcomes
from infl.scores.adjustment import adjusted_influence, remainder, soften
from infl.scores.shrinkage import Prior, shrink

N, T = 40, 400
HELD_OUT = slice(N, N + 3)


def planted(seed, *, n_models=T, misses=0.3):
    """Margins linear in who was in training, of a covariate that knows most of it, and both influences.

    Margins: base + M w + noise. Covariate: M v with v near w. Subsets are halves, so that contrasts are of w less the mean of
    the others' w.
    """
    rng = np.random.RandomState(seed)
    masks = np.argsort(rng.rand(n_models, N), axis=1) < N // 2
    fixed = np.random.RandomState(99)
    w = fixed.randn(N, 3) * 0.3
    v = 2 * (w + misses * 0.3 * fixed.randn(N, 3))
    noise = rng.randn(n_models, 3)
    margins = np.array([0.0, 1.0, 2.0]) + (masks - 0.5) @ w + noise
    return masks, margins, masks @ v, w, v


def outcomes_of(masks, margins):
    return Outcomes(masks, margin=np.c_[np.zeros((len(masks), N)), margins])


def influence_on_probability(w):
    """Closed form: margins given i in or out are normal but for the finite number of examples; i's shift is w less others'."""
    shift = (w - w.mean(axis=0)) * N / (N - 1)
    # Sampling N/2 of N without replacement: variance N/4 * S^2, of which i's share is what the shift explains.
    spread = np.sqrt(1 + N / 4 * w.var(axis=0, ddof=1) - shift**2 / 4)
    base = np.array([0.0, 1.0, 2.0])
    return ndtr((base + shift / 2) / spread) - ndtr((base - shift / 2) / spread)


def estimate(seed, **options):
    masks, margins, covariate, _, v = planted(seed)
    return adjusted_influence(
        outcomes_of(masks, margins), columns=HELD_OUT, covariate=covariate, covariate_influence=v, **options
    )


def test_it_is_right_on_average_in_a_linear_world_and_its_error_is_the_scatter():
    truth, repeats = influence_on_probability(planted(0)[3]), [estimate(seed) for seed in range(60)]
    values, errors = np.stack([r.value for r in repeats]), np.stack([r.se for r in repeats])
    z = (values.mean(axis=0) - truth) / (values.std(axis=0, ddof=1) / np.sqrt(len(values)))
    assert np.abs(z).max() < 4.5  # 120 of them
    assert 0.7 < z.std() < 1.4
    assert (errors**2).mean() == pytest.approx(values.var(axis=0, ddof=1).mean(), rel=0.06)
    assert 0.93 < (np.abs(values - truth) < 1.96 * errors).mean() < 0.97


def test_each_step_lowers_the_error_as_far_as_theory_says():
    """Softening: p(1-p) against phi^2; the covariate: the share of variance that it leaves."""
    masks, margins, covariate, w, v = planted(0, n_models=4000)
    outcomes = outcomes_of(masks, margins)
    soft = adjusted_influence(outcomes, columns=HELD_OUT, width=20)  # so wide that it is the margin itself
    both = adjusted_influence(outcomes, columns=HELD_OUT, width=20, covariate=covariate, covariate_influence=v)
    spread = np.sqrt(1 + N / 4 * w.var(axis=0, ddof=1))
    center = np.array([0.0, 1.0, 2.0]) / spread
    density = np.exp(-(center**2) / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(soft.se.mean(axis=0), 2 * density / np.sqrt(4000), rtol=0.1)
    centred = masks - 0.5
    explained = np.array([np.corrcoef(covariate[:, j], centred @ w[:, j])[0, 1] ** 2 for j in range(3)])
    signal = (spread**2 - 1) / spread**2
    np.testing.assert_allclose(both.se.mean(axis=0) / soft.se.mean(axis=0), np.sqrt(1 - explained * signal), rtol=0.02)


def test_subsets_shuffled_against_outcomes_have_no_influence():
    """Where nobody influences anybody, and the covariate claims that all do, z is standard normal."""
    z = []
    for seed in range(40):
        masks, margins, covariate, _, v = planted(seed)
        shuffled = np.random.RandomState(seed).permutation(margins)
        null = adjusted_influence(
            outcomes_of(masks, shuffled), columns=HELD_OUT, covariate=covariate, covariate_influence=v
        )
        z.append(null.value / null.se)
        assert null.p is not None
        np.testing.assert_allclose(null.p, 2 * ndtr(-np.abs(z[-1])))
    z = np.stack(z)
    assert abs(z.mean()) < 0.05  # contrasts of a column add up to zero
    assert z.std() == pytest.approx(1, abs=0.05)
    assert (np.abs(z) > 1.96).mean() == pytest.approx(0.05, abs=0.012)


def test_errors_know_that_complementary_halves_disagree():
    """What the others teach is present in one half and absent in the other: a pair tells less than two independent models."""
    fixed = np.random.RandomState(0).randn(N, 3) * 0.3
    values, errors = [], []
    for seed in range(60):
        rng = np.random.RandomState(seed)
        half = np.argsort(rng.rand(T // 2, N), axis=1) < N // 2
        masks = np.stack([half, ~half], axis=1).reshape(T, N)
        margins = np.c_[np.zeros((T, N)), (masks - 0.5) @ fixed + rng.randn(T, 3)]
        got = adjusted_influence(Outcomes(masks, margin=margins, strata=np.arange(T) // 2), columns=HELD_OUT)
        values.append(got.value)
        errors.append(got.se)
    assert np.square(errors).mean() == pytest.approx(np.var(values, axis=0, ddof=1).mean(), rel=0.06)


def test_soft_outcomes_keep_what_a_small_shift_does_to_the_probability():
    rng = np.random.RandomState(0)
    assert np.isfinite(soften(np.array([[400.0, -400.0], [401.0, -401.0]]))).all()
    for mean in (-1.0, 0.0, 1.5):
        z = (mean + 2 * rng.randn(200_000))[:, None]
        for width in (0.5, 1.0, 2.0):
            u = soften(np.r_[z - 0.05, z + 0.05], width)
            moved = u[len(z) :].mean() - u[: len(z)].mean()
            assert moved == pytest.approx(ndtr((mean + 0.05) / 2) - ndtr((mean - 0.05) / 2), rel=0.02)


def test_a_narrow_width_gives_the_plain_difference_in_means():
    masks, margins, *_ = planted(3)
    narrow = adjusted_influence(outcomes_of(masks, margins), columns=HELD_OUT, width=1e-5)
    right = margins > 0
    plain = np.array([right[masks[:, i]].mean(axis=0) - right[~masks[:, i]].mean(axis=0) for i in range(N)])
    np.testing.assert_allclose(narrow.value, plain, atol=2e-3)


def test_the_remainder_equals_a_slow_loop():
    rng = np.random.RandomState(0)
    y, x, counted = rng.randn(23, 4), rng.randn(23, 4), rng.rand(23, 4) < 0.7
    fast = remainder(y, x, counted=counted, n_folds=5)
    starts = [0, 4, 9, 13, 18, 23]
    for j in range(4):
        slopes = np.empty(23)
        for low, high in zip(starts, starts[1:], strict=False):
            other = counted[:, j].copy()
            other[low:high] = False
            slopes[low:high] = np.polyfit(x[other, j], y[other, j], 1)[0]
        loop = y[:, j] - slopes * (x[:, j] - x[counted[:, j], j].mean())
        np.testing.assert_allclose(fast.values[:, j] - loop, (fast.values[:, j] - loop)[0], atol=1e-12)
        assert fast.slope[j] == pytest.approx(slopes[counted[:, j]].mean())


def test_the_left_out_reading_is_that_of_the_models_without_the_column():
    rng = np.random.RandomState(1)
    masks = np.argsort(rng.rand(300, 12), axis=1) < 6
    margins, covariate, worth = rng.randn(300, 12), rng.randn(300, 12), rng.randn(12, 12)
    columns = np.array([3, 7])
    got = adjusted_influence(
        Outcomes(masks, margin=margins),
        columns=columns,
        covariate=covariate[:, columns],
        covariate_influence=worth[:, columns],
        protocol="left-out",
        n_folds=2,
    )
    for k, j in enumerate(columns):
        without = ~masks[:, j]
        # Two folds: keep the border between them where it is, in the middle of all models.
        first = np.arange(300)[without] < 150
        u, f = soften(margins[without, j : j + 1])[:, 0], covariate[without, j]
        slopes = np.where(first, np.polyfit(f[~first], u[~first], 1)[0], np.polyfit(f[first], u[first], 1)[0])
        rest, others = u - slopes * (f - f.mean()), np.delete(np.arange(12), j)
        for i in others:
            inside = masks[without, i]
            value = rest[inside].mean() - rest[~inside].mean() + slopes.mean() * (worth[i, j] - worth[others, j].mean())
            assert got.value[i, k] == pytest.approx(value, abs=1e-6)
        assert np.isnan(got.value[j, k])
        assert np.isnan(got.se[j, k])


def test_a_covariate_or_a_column_that_does_not_vary_changes_nothing():
    masks, margins, _, _, v = planted(5)
    margins[:, 1] = 4.0
    without = adjusted_influence(outcomes_of(masks, margins), columns=HELD_OUT)
    constant = np.full((T, 3), 7.0)
    with_ = adjusted_influence(outcomes_of(masks, margins), columns=HELD_OUT, covariate=constant, covariate_influence=v)
    np.testing.assert_allclose(with_.value, without.value, atol=1e-6)
    assert (without.value[:, 1] == 0).all()
    assert without.p is not None
    assert (without.p[:, 1] == 1).all()


def test_columns_that_all_models_are_sure_of_show_no_sign():
    """Their softened outcomes differ by less than a float32 of size 1 can tell: by luck alone, and with no error above 0."""
    masks, margins, *_ = planted(0)
    sure = adjusted_influence(outcomes_of(masks, 0.2 * margins + [60.0, 9.0, -20.0]), columns=HELD_OUT)
    assert np.abs(sure.value).max() < 1e-6
    assert (sure.se > 1e-8).all()
    assert sure.p is not None
    assert sure.p.min() > 0.05
    prior = Prior(np.array([0.0, 0.1]), np.array([[0.9, 0.1]]), 0.0, np.array([]))
    assert shrink(sure, prior).sign_rate.min() > 0.5
