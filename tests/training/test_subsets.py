"""A mask depends on (design, seed, model id) alone, and the subsets are as random as their design says.

Alone: machines draw masks apart from each other, a killed run draws them again and a longer one draws more; if any of
these changed a mask, outcomes would be booked on the wrong examples. As random: every estimate compares the models that
an example is in with those it is not in, and takes its error from the claim that all else differs by chance only. A design
that favours an example, or puts two together too often, would turn up later as influence between them.

The expectations are counts: a model of a subset of size s holds an example with probability s/n and a pair of them with
s(s-1)/(n(n-1)), whatever the design, since each single model is a uniform draw given its size. Models of one period are
drawn together, so errors are taken over periods. Numbers of models and bounds were fixed beforehand: |z| < 4.5 fails for
one in 147,000 comparisons by chance.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from infl.records import Array, InputError
from infl.training.subsets import Design, draw_masks, parse_fraction

RANDOM = [
    Design("uniform", 0.7),
    Design("uniform", (0.3, 0.9)),
    Design("balanced", 0.7),
    Design("balanced", 1 / 3),
    Design("paired", 0.5),
]
FIXED = [Design("full"), Design("leave-out", left_out=(3, 0, 7))]
SHARES = [(0.7, 7, 10), (1 / 3, 1, 3), (0.5, 1, 2), (0.85, 17, 20), (0.05, 1, 20)]
N = 40


def name(design: Design) -> str:
    return f"{design.kind} {design.fraction}"


def draw(design: Design, models: list[int] | range, *, n_train: int = N, seed: int = 0) -> Array:
    return draw_masks(design, models, n_train=n_train, seed=seed)


# One model, one mask


@pytest.mark.parametrize("models", [[5], [19, 0, 7], [7, 7, 6], list(range(20))[::-1]])
@pytest.mark.parametrize("design", RANDOM + FIXED, ids=name)
def test_a_mask_does_not_depend_on_which_others_are_drawn(design: Design, models: list[int]) -> None:
    np.testing.assert_array_equal(draw(design, models), draw(design, range(20))[models])


@pytest.mark.parametrize("design", RANDOM, ids=name)
def test_extending_a_run_keeps_the_masks_it_has(design: Design) -> None:
    np.testing.assert_array_equal(draw(design, range(50))[:20], draw(design, range(20)))


@pytest.mark.parametrize("design", RANDOM, ids=name)
def test_each_seed_and_each_model_has_a_mask_of_its_own(design: Design) -> None:
    seeds = [0, 1, 2, -1, -2, 2**32, 2**63, 2**63 + 1, 2**64 - 3]
    masks = np.concatenate([draw(design, range(20), seed=seed) for seed in seeds])
    assert len(np.unique(masks, axis=0)) == 20 * len(seeds)


def test_designs_do_not_share_their_random_numbers() -> None:
    halves = np.concatenate([draw(Design(kind, 0.5), range(20)) for kind in ("uniform", "balanced", "paired")])
    assert len(np.unique(halves, axis=0)) == 60


def test_masks_stay_the_same_across_versions() -> None:
    """Pinned: a run begun with one version of infl and NumPy is continued with another."""
    bits = draw(Design("uniform", 0.5), [0], n_train=16)[0].astype(int)
    assert "".join(map(str, bits)) == "1100001001110110"


@pytest.mark.parametrize("design", RANDOM, ids=name)
def test_a_design_read_from_a_manifest_draws_the_same_masks(design: Design) -> None:
    read = Design.from_description(json.loads(json.dumps(design.describe())))
    assert read == design
    np.testing.assert_array_equal(draw(read, range(20)), draw(design, range(20)))


# Sizes


@pytest.mark.parametrize(
    ("fraction", "n_train", "size"),
    [
        (0.7, 100, 70),
        (0.5, 16, 8),
        (0.3, 7, 2),
        (0.3, 9, 3),
        (0.683, 1000, 683),
        (0.001, 10, 1),
        (0.999, 10, 9),
        (0.5, 2, 1),
    ],
)
def test_uniform_subsets_have_the_rounded_share_but_are_neither_empty_nor_all(
    fraction: float, n_train: int, size: int
) -> None:
    assert (draw(Design("uniform", fraction), range(50), n_train=n_train).sum(axis=1) == size).all()


def test_sizes_of_a_range_are_spread_evenly_over_it() -> None:
    n_models, low, high = 3000, 30, 90
    sizes = draw(Design("uniform", (0.3, 0.9)), range(n_models), n_train=100).sum(axis=1)
    assert low <= sizes.min() <= sizes.max() <= high
    expected = np.full(high - low + 1, n_models / (high - low))
    expected[[0, -1]] /= 2  # half as many shares round to an end
    observed = np.bincount(sizes - low, minlength=len(expected))
    chi_square, degrees = ((observed - expected) ** 2 / expected).sum(), len(expected) - 1
    assert abs(chi_square - degrees) < 4.5 * np.sqrt(2 * degrees)


@pytest.mark.parametrize("n_train", [20, 60, 101])
@pytest.mark.parametrize(("fraction", "n_in", "period"), SHARES)
def test_balanced_designs_give_every_example_its_exact_share(
    fraction: float, n_in: int, period: int, n_train: int
) -> None:
    assert Design("balanced", fraction).period == period
    masks = draw(Design("balanced", fraction), range(20), n_train=n_train)
    extended = draw(Design("balanced", fraction), range(50), n_train=n_train)
    for drawn in (masks, extended):
        for start in range(0, len(drawn) - period + 1, period):
            assert (drawn[start : start + period].sum(axis=0) == n_in).all()


@pytest.mark.parametrize("n_train", [20, 40, 41, 55, 59])
@pytest.mark.parametrize(("fraction", "n_in", "period"), SHARES)
def test_balanced_subsets_have_the_documented_sizes(fraction: float, n_in: int, period: int, n_train: int) -> None:
    sizes = draw(Design("balanced", fraction), range(60), n_train=n_train).sum(axis=1)
    assert (np.abs(sizes - round(n_train * n_in / period)) <= n_train % period).all()
    assert 0 < sizes.min() <= sizes.max() < n_train


@pytest.mark.parametrize("n_train", [2, 16, 17])
def test_paired_models_train_on_complementary_halves(n_train: int) -> None:
    masks = draw(Design("paired", 0.5), range(20), n_train=n_train)
    np.testing.assert_array_equal(masks[0::2], ~masks[1::2])
    assert set(masks.sum(axis=1)) == {n_train // 2, n_train - n_train // 2}
    assert Design("paired", 0.5).period == 2


def test_full_trains_on_all_and_leave_out_on_all_but_the_set() -> None:
    assert draw(Design("full"), range(3), n_train=5).tolist() == [[True] * 5] * 3
    left_out = draw(Design("leave-out", left_out=(3, 0)), range(2), n_train=5)
    assert left_out.tolist() == [[False, True, True, False, True]] * 2


# Randomness


N_MODELS = 2000
DRAWN = [
    (Design("uniform", 0.7), 40),
    (Design("uniform", (0.3, 0.9)), 40),
    (Design("balanced", 0.7), 40),
    (Design("balanced", 0.7), 43),
    (Design("balanced", 0.25), 42),
    (Design("paired", 0.5), 40),
    (Design("paired", 0.5), 41),
]


def check_z_scores(deviation: Array, period: int) -> None:
    """Columns of deviations from their expectation, [models, k], sum to zero within the scatter of sums over periods."""
    by_period = deviation.reshape(-1, period, deviation.shape[1]).sum(axis=1)
    z = by_period.sum(axis=0) / np.sqrt(len(by_period) * (by_period**2).mean())
    assert np.abs(z).max() < 4.5
    assert abs((z**2).mean() - 1) < 4.5 * np.sqrt(2 / len(z))


@pytest.mark.parametrize(("design", "n_train"), DRAWN[:2])
def test_no_example_is_favoured(design: Design, n_train: int) -> None:
    """Balanced and paired designs give every example its exact share: see above."""
    masks = draw(design, range(N_MODELS), n_train=n_train)
    check_z_scores(masks - masks.mean(axis=1, keepdims=True), design.period)


@pytest.mark.parametrize(("design", "n_train"), DRAWN)
def test_no_pair_of_examples_is_favoured(design: Design, n_train: int) -> None:
    """In products of deviations, which leave out what each example of a pair does on its own."""
    masks = draw(design, range(N_MODELS), n_train=n_train)
    share = masks.mean(axis=1, keepdims=True)
    first, second = np.triu_indices(n_train, 1)
    together = (masks[:, first] - share) * (masks[:, second] - share)
    check_z_scores(together + share * (1 - share) / (n_train - 1), design.period)


@pytest.mark.parametrize(("fraction", "n_in", "period"), SHARES[:3])
def test_balanced_patterns_of_two_examples_are_nearly_independent(fraction: float, n_in: int, period: int) -> None:
    """Within a period, two independent patterns of n_in ones meet in a hypergeometric number of models.

    Only examples of one group of `period` are tied to each other, 4.5% of the pairs at most.
    """
    n_train, n_periods = 200, 40
    masks = draw(Design("balanced", fraction), range(n_periods * period), n_train=n_train)
    by_period = masks.reshape(n_periods, period, n_train).astype(float)
    meetings = np.einsum("pti,ptj->pij", by_period, by_period)[:, *np.triu_indices(n_train, 1)]
    mean = n_in**2 / period
    variance = mean * (1 - n_in / period) * (period - n_in) / (period - 1)
    assert ((meetings - mean) ** 2).mean() == pytest.approx(variance, rel=0.05)


# Bad input


@pytest.mark.parametrize(
    ("settings", "telling"),
    [
        ({"kind": "uniform", "fraction": 0.0}, "above 0 and below 1"),
        ({"kind": "uniform", "fraction": 1.0}, "above 0 and below 1"),
        ({"kind": "uniform", "fraction": 1.5}, "got 1.5"),
        ({"kind": "uniform", "fraction": -0.1}, "got -0.1"),
        ({"kind": "uniform", "fraction": float("nan")}, "got nan"),
        ({"kind": "uniform", "fraction": (0.9, 0.7)}, r"LOW:HIGH\), got \(0.9, 0.7\)"),
        ({"kind": "uniform", "fraction": (0.0, 0.7)}, "above 0 and below 1"),
        ({"kind": "uniform", "fraction": (0.7, 1.0)}, "above 0 and below 1"),
        ({"kind": "uniform", "fraction": (0.7, float("nan"))}, "above 0 and below 1"),
        ({"kind": "balanced", "fraction": (0.7, 0.9)}, "use design uniform"),
        ({"kind": "balanced", "fraction": 0.683}, "nearest: 13/19 = 0.684211"),
        ({"kind": "balanced", "fraction": 0.01}, "nearest: 1/20 = 0.05"),
        ({"kind": "balanced", "fraction": 0.99}, "nearest: 19/20 = 0.95"),
        ({"kind": "paired", "fraction": 0.7}, "must be 0.5, got 0.7"),
        ({"kind": "paired", "fraction": (0.4, 0.6)}, "must be 0.5"),
        ({"kind": "random"}, "expected one of uniform, balanced, paired, full, leave-out; got 'random'"),
    ],
)
def test_a_design_that_cannot_be_is_named(settings: dict, telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        Design(**settings)


@pytest.mark.parametrize(
    ("design", "n_train", "telling"),
    [
        (Design("uniform", 0.7), 1, "at least 2 training examples, got 1"),
        (Design("paired", 0.5), 1, "at least 2 training examples, got 1"),
        (Design("balanced", 0.7), 9, "7/10 needs n >= 10 training examples, got 9"),
        (Design("leave-out", left_out=(0, 5)), 5, r"ids \[5\] are not in D \(0..4\)"),
        (Design("leave-out", left_out=(-1,)), 5, r"ids \[-1\] are not in D"),
        (Design("leave-out", left_out=(0, 1, 2)), 3, "nothing is left to train on"),
    ],
)
def test_a_data_set_that_does_not_fit_the_design_is_named(design: Design, n_train: int, telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        draw(design, [0], n_train=n_train)


@pytest.mark.parametrize(("text", "fraction"), [("0.7", 0.7), ("0.7:0.97", (0.7, 0.97)), (" .5 ", 0.5), ("1e-1", 0.1)])
def test_fractions_are_read(text: str, fraction: float | tuple[float, float]) -> None:
    assert parse_fraction(text) == fraction


@pytest.mark.parametrize("text", ["", ":", "0.7:", ":0.9", "half", "0.7-0.9", "0.5:0.6:0.7", "70%", "0,7"])
def test_a_fraction_that_is_none_is_named(text: str) -> None:
    with pytest.raises(InputError, match=f"a range such as 0.7:0.97, got {text!r}"):
        parse_fraction(text)
