"""A mask depends on (design, seed, model id) alone, and the subsets are as random as their design says.

Alone: machines draw masks apart from each other, a killed run draws them again and a longer one draws more; if any of
these changed a mask, outcomes would be booked on the wrong examples. As random: every estimate compares the models that
an example is in with those it is not in, and takes its error from the claim that all else differs by chance only. A design
that favours an example, or puts two together too often, would turn up later as influence between them. Only `grouped`
puts examples together, those of its groups and no others, and favours none of them either.

The expectations are counts: a model of a subset of size s holds an example with probability s/n and a pair of them with
s(s-1)/(n(n-1)), whatever the design but `grouped`, since each single model is a uniform draw given its size. Models of one
period are drawn together, so errors are taken over periods. Numbers of models and bounds were fixed beforehand: |z| < 4.5
fails for one in 147,000 comparisons by chance.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from infl.records import Array, Groups, InputError
from infl.training.subsets import WHOLE_GROUP, Design, draw_masks, parse_fraction

N = 40


def groups(*tables: Array) -> Groups:
    return Groups(tuple(f"resolution {k}" for k in range(len(tables))), np.stack(tables).astype(np.int32))


IDS = np.arange(N)
GROUPS = groups(IDS % 4, IDS // 5, np.where(IDS % 3 == 0, IDS // 12, -1))
RANDOM = [
    Design("grouped", (0.4, 0.7), groups=GROUPS),
    Design("grouped", 0.6, groups=groups(IDS % 4), grouped_share=0.3),
    Design("uniform", 0.7),
    Design("uniform", (0.3, 0.9)),
    Design("balanced", 0.7),
    Design("balanced", 1 / 3),
    Design("paired", 0.5),
]
FIXED = [Design("full"), Design("leave-out", left_out=(3, 0, 7))]
SHARES = [(0.7, 7, 10), (1 / 3, 1, 3), (0.5, 1, 2), (0.05, 1, 20)]


def name(design: Design) -> str:
    return f"{design.kind} {design.fraction}"


def draw(design: Design, models: list[int] | range, *, n_train: int = N, seed: int = 0) -> Array:
    return draw_masks(design, models, n_train=n_train, seed=seed)


# One model, one mask


@pytest.mark.parametrize("design", RANDOM + FIXED, ids=name)
def test_a_mask_does_not_depend_on_which_others_are_drawn(design: Design) -> None:
    """Nor on how many there will be: extending a run keeps the masks it has, by a design that is read from its manifest."""
    masks = draw(design, range(50))
    read = design if design in FIXED else Design.from_dict(json.loads(json.dumps(design.to_dict())), design.groups)
    for models in ([5], [19, 0, 7], [7, 7, 6], list(range(20))):
        np.testing.assert_array_equal(draw(read, models), masks[models])


@pytest.mark.parametrize("design", RANDOM, ids=name)
def test_each_seed_and_each_model_has_a_mask_of_its_own(design: Design) -> None:
    seeds = [0, 1, 2, -1, -2, 2**32, 2**63, 2**63 + 1, 2**64 - 3]
    masks = np.concatenate([draw(design, range(20), seed=seed) for seed in seeds])
    if design.kind == "grouped":  # models that leave out the same group alone have the same mask
        assert len(np.unique(masks, axis=0)) > 10 * len(seeds)
        masks = masks.reshape(len(seeds), -1)
    assert len(np.unique(masks, axis=0)) == len(masks)


def test_designs_do_not_share_their_random_numbers() -> None:
    halves = np.concatenate([draw(Design(kind, 0.5), range(20)) for kind in ("uniform", "balanced", "paired")])
    assert len(np.unique(halves, axis=0)) == 60


def test_masks_stay_the_same_across_versions() -> None:
    """Pinned: a run begun with one version of infl and NumPy is continued with another."""
    bits = draw(Design("uniform", 0.5), [0], n_train=16)[0].astype(int)
    assert "".join(map(str, bits)) == "1100001001110110"
    grouped = Design("grouped", (0.5, 0.9), groups=groups(np.arange(16) % 4, np.arange(16) // 8))
    masks = ["".join(map(str, mask.astype(int))) for mask in draw(grouped, range(4), n_train=16)]
    assert masks == ["1001101110111011", "0000000011111111", "0111011101110111", "1111111100000000"]


# Sizes


@pytest.mark.parametrize(
    ("fraction", "n_train", "size"),
    [(0.7, 100, 70), (0.3, 7, 2), (0.3, 9, 3), (0.001, 10, 1), (0.999, 10, 9), (0.5, 2, 1)],
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


@pytest.mark.parametrize("n_train", [20, 41, 59, 60])
@pytest.mark.parametrize(("fraction", "n_in", "period"), SHARES)
def test_balanced_designs_give_every_example_its_exact_share_in_subsets_of_the_documented_sizes(
    fraction: float, n_in: int, period: int, n_train: int
) -> None:
    design = Design("balanced", fraction)
    assert design.period == period
    masks = draw(design, range(50), n_train=n_train)
    for start in range(0, 50 - period + 1, period):
        assert (masks[start : start + period].sum(axis=0) == n_in).all()
    sizes = masks.sum(axis=1)
    assert (np.abs(sizes - round(n_train * n_in / period)) <= n_train % period).all()
    assert 0 < sizes.min() <= sizes.max() < n_train


@pytest.mark.parametrize("n_train", [2, 17])
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
    (Design("balanced", 0.7), 43),
    (Design("balanced", 0.25), 42),
    (Design("paired", 0.5), 41),
]


def check_z_scores(deviation: Array, period: int) -> None:
    """Columns of deviations from their expectation, [models, k], sum to zero within the scatter of sums over periods."""
    by_period = deviation.reshape(-1, period, deviation.shape[1]).sum(axis=1)
    z = by_period.sum(axis=0) / np.sqrt(len(by_period) * (by_period**2).mean())
    assert np.abs(z).max() < 4.5
    assert abs((z**2).mean() - 1) < 4.5 * np.sqrt(2 / len(z))


@pytest.mark.parametrize(("design", "n_train"), DRAWN)
def test_no_example_and_no_pair_of_examples_is_favoured(design: Design, n_train: int) -> None:
    """Pairs in products of deviations, which leave out what each example of a pair does on its own."""
    masks = draw(design, range(N_MODELS), n_train=n_train)
    share = masks.mean(axis=1, keepdims=True)
    if design.period == 1:  # the others give every example its exact share: see above
        check_z_scores(masks - share, 1)
    first, second = np.triu_indices(n_train, 1)
    together = (masks[:, first] - share) * (masks[:, second] - share)
    check_z_scores(together + share * (1 - share) / (n_train - 1), design.period)


# Groups left out together


def sizes_left_out(masks: Array, table: Array) -> Array:
    """How many members of each group each model leaves out, [models, groups]."""
    return np.stack([(~masks[:, table == group]).sum(axis=1) for group in range(table.max() + 1)], axis=1)


TABLES = {
    "classes and clusters": [IDS % 4, IDS // 5, IDS % 20],
    "two classes, larger than may be left out": [IDS % 2],
    "one example a group": [IDS],
    "a few examples are in a group": [np.where(IDS < 6, IDS // 2, -1)],
    "very unequal": [np.minimum(IDS // 2, 3)],
}


@pytest.mark.parametrize("fraction", [(0.7, 0.97), (0.7, 0.7), (0.99, 0.99), (0.01, 0.01)])
@pytest.mark.parametrize("tables", TABLES.values(), ids=TABLES)
def test_grouped_subsets_have_sizes_within_the_range(tables: list[Array], fraction: tuple[float, float]) -> None:
    """Above its upper end only where a model leaves out part of a group and nothing else."""
    masks = draw(Design("grouped", fraction, groups=groups(*tables)), range(400))
    alone = np.array([any(len(set(table[~mask])) == 1 and table[~mask][0] >= 0 for table in tables) for mask in masks])
    low, high = (min(max(round(share * N), 1), N - 1) for share in fraction)
    sizes = masks.sum(axis=1)
    assert low <= sizes.min() <= sizes.max() <= N - 1
    assert sizes[~alone].max(initial=low) <= high
    if fraction[0] == fraction[1]:
        assert sizes.max() == high
    if high - low == 11:
        assert {low, high} <= set(sizes.tolist())


def test_groups_are_left_out_whole_in_the_expected_share_of_models_and_once_a_round() -> None:
    """Subsets that leave out as many examples as a group has can leave out one group whole, and no other with it.

    It is the first one: by a chance of its own, or since its random share of 8 examples rounds to all of them.
    """
    n_train, size, n_models = 80, 8, 4000
    table = np.random.default_rng(1).permutation(n_train) % 10
    masks = draw(Design("grouped", 0.9, groups=groups(table)), range(n_models), n_train=n_train)
    whole = sizes_left_out(masks, table) == size
    expected = WHOLE_GROUP + (1 - WHOLE_GROUP) * 0.5 / size
    assert whole.sum() / n_models == pytest.approx(expected, abs=4.5 * np.sqrt(expected * (1 - expected) / n_models))
    assert whole.sum(axis=1).max() == 1
    by_round = whole.reshape(-1, 10, 10).sum(axis=1)
    assert by_round.max() == 1
    error = np.sqrt(expected * (1 - expected) / len(by_round))
    np.testing.assert_allclose(by_round.mean(axis=0), expected, atol=4.5 * error)


def test_what_is_left_out_of_a_group_in_part_is_a_random_part() -> None:
    """Of a group, single members are as likely to be left out as others, and so are pairs of members."""
    table = np.arange(80) // 16
    masks = draw(Design("grouped", 0.9, groups=groups(table)), range(6000), n_train=80)
    for group in range(5):
        members = masks[:, table == group]
        in_part = members[(~members).sum(axis=1) > 0]
        check_z_scores(in_part - in_part.mean(axis=1, keepdims=True), 1)


def test_members_of_a_group_are_left_out_together_and_others_are_not() -> None:
    """By chance and with subsets of all sizes, any two examples would be left out together a little too often."""
    n_models = 2000
    masks = draw(Design("grouped", (0.7, 0.97), groups=groups(IDS % 8, IDS // 10)), range(n_models))
    out = (~masks).astype(float)
    together = out.T @ out / n_models
    apart = out.mean(axis=0)[:, None] * out.mean(axis=0)[None, :]
    first, second = np.triu_indices(N, 1)
    grouped = (first % 8 == second % 8) | (first // 10 == second // 10)
    excess = (together - apart)[first, second]
    assert excess[grouped].min() > 0.01
    assert excess[~grouped].max() < 0


@pytest.mark.parametrize(
    "tables",
    [[IDS % 4, IDS // 5, IDS % 20], [IDS % 2], [IDS]],
    ids=["several resolutions", "two classes", "one example a group"],
)
def test_no_example_of_groups_of_one_size_is_favoured(tables: list[Array]) -> None:
    n_models = 4000
    share = draw(Design("grouped", (0.7, 0.97), groups=groups(*tables)), range(n_models)).mean(axis=0)
    mean = share.mean()
    assert 0.7 < mean < 0.97
    assert np.abs(share - mean).max() < 4.5 * np.sqrt(mean * (1 - mean) / n_models)


def test_examples_in_no_group_are_left_out_one_by_one() -> None:
    n_models, free = 4000, IDS >= 30
    masks = draw(Design("grouped", (0.7, 0.97), groups=groups(np.where(free, -1, IDS % 5))), range(n_models))
    share = masks.mean(axis=0)
    assert 0.7 < share[~free].mean() < share[free].mean() < 0.98
    pairs = np.corrcoef((~masks[:, free]).astype(float).T)[np.triu_indices(10, 1)]
    assert np.abs(pairs).max() < 0.2


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 1.0])
def test_a_grouped_run_is_uniform_and_grouped_models_by_its_share(share: float) -> None:
    design = Design("grouped", (0.7, 0.9), groups=GROUPS, grouped_share=share)
    for n_models in (1, 2, 3, 7, 10, 200):
        parts = design.parts(n_models)
        assert {name: part for name, (part, _) in parts.items()} == {
            "design": Design("uniform", (0.7, 0.9)),
            "grouped": design,
        }
        assert sum(n for _, n in parts.values()) == n_models
        assert abs(parts["grouped"][1] - share * n_models) <= 0.5
        more = design.parts(n_models + 1)  # extending a run takes no model away
        assert all(more[name][1] >= n for name, (_, n) in parts.items())
    assert Design("balanced", 0.7).parts(30) == {"design": (Design("balanced", 0.7), 30)}


# Bad input


@pytest.mark.parametrize(
    ("settings", "telling"),
    [
        ({"kind": "uniform", "fraction": 0.0}, "above 0 and below 1"),
        ({"kind": "uniform", "fraction": float("nan")}, "got nan"),
        ({"kind": "uniform", "fraction": (0.9, 0.7)}, r"LOW:HIGH\), got \(0.9, 0.7\)"),
        ({"kind": "uniform", "fraction": (0.7, float("nan"))}, "above 0 and below 1"),
        ({"kind": "balanced", "fraction": (0.7, 0.9)}, "use design uniform"),
        ({"kind": "balanced", "fraction": 0.683}, "nearest: 13/19 = 0.684211"),
        ({"kind": "paired", "fraction": (0.4, 0.6)}, "must be 0.5"),
        ({"kind": "random"}, "expected one of uniform, balanced, paired, grouped, full, leave-out; got 'random'"),
        (
            {"kind": "grouped", "grouped_share": 0.0},
            "grouped_share: expected a fraction above 0 and at most 1, got 0.0",
        ),
        ({"kind": "grouped", "grouped_share": 1.01}, "grouped_share: .*got 1.01"),
        ({"kind": "uniform", "groups": GROUPS}, "design uniform takes no groups; use design grouped"),
    ],
)
def test_a_design_that_cannot_be_is_named(settings: dict, telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        Design(**settings)


@pytest.mark.parametrize(
    ("design", "n_train", "telling"),
    [
        (Design("uniform", 0.7), 1, "at least 2 training examples, got 1"),
        (Design("balanced", 0.7), 9, "7/10 needs n >= 10 training examples, got 9"),
        (Design("grouped", 0.7), 5, "design grouped: name the groups to leave out, or let infl.train find them"),
        (Design("grouped", 0.7, groups=GROUPS), 41, "groups: expected one entry for each of 41 .*, got 40"),
        (Design("leave-out", left_out=(0, 5)), 5, r"ids \[5\] are not in D \(0..4\)"),
        (Design("leave-out", left_out=(0, 1, 2)), 3, "nothing is left to train on"),
    ],
)
def test_a_data_set_that_does_not_fit_the_design_is_named(design: Design, n_train: int, telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        draw(design, [0], n_train=n_train)


@pytest.mark.parametrize(("text", "fraction"), [("0.7", 0.7), ("0.7:0.97", (0.7, 0.97)), (" .5 ", 0.5), ("1e-1", 0.1)])
def test_fractions_are_read(text: str, fraction: float | tuple[float, float]) -> None:
    assert parse_fraction(text) == fraction


@pytest.mark.parametrize("text", ["", "0.7:", "half", "0.7-0.9", "0.5:0.6:0.7"])
def test_a_fraction_that_is_none_is_named(text: str) -> None:
    with pytest.raises(InputError, match=f"a range such as 0.7:0.97, got {text!r}"):
        parse_fraction(text)
