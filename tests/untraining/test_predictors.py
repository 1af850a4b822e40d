"""Predictors find what they are told to find in worlds written down as formulas, and nothing in a world without effects.

The world of copies is the one sums fail on: a cluster's examples are right as long as one near copy of them is trained on. No
single copy matters; all together are everything. In the null world margins do not depend on the subset at all. Neither asks
anything of a network, so what is tested is the predictor alone; and what must not matter (the order of the models, how they are
split into collections, the other sets of a call) is tested on the same worlds.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from infl.records import ForgetSet, Groups, InputError, Outcomes
from infl.training.subsets import Design, draw_masks
from infl.untraining.distribution import margin_distribution
from infl.untraining.effects import fit_predictor
from infl.untraining.regimes import judge

COPIES, CLUSTERS, HELD_OUT = 5, 12, 3  # examples of D in a cluster, clusters, held-out examples in a cluster
N, M = COPIES * CLUSTERS, HELD_OUT * CLUSTERS
CLUSTER = np.concatenate([np.repeat(np.arange(CLUSTERS), COPIES), np.repeat(np.arange(CLUSTERS), HELD_OUT)])
LABELS = CLUSTER % 2
RANGE = (0.7, 0.97)
NOISE = 0.5
ALL, HALF, ONE = ForgetSet("all", tuple(range(COPIES))), ForgetSet("half", (0, 1)), ForgetSet("one", (7,))
IN_CLUSTER = N + np.flatnonzero(CLUSTER[N:] == 0)  # held-out examples that ALL and HALF could hurt
ELSEWHERE = np.flatnonzero(CLUSTER != 0)


def images(cluster=CLUSTER):
    """Clusters on a circle, of either class in turn: neighbours are of the other class."""
    angle = 2 * np.pi * np.arange(CLUSTERS) / CLUSTERS
    centres = 3 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return (centres[cluster] + 0.1 * np.random.RandomState(0).randn(N + M, 2)).astype(np.float32)


def documents():
    """Texts of eight tokens, the same in a cluster but for the last, of which others hold none."""
    texts = 1 + np.arange(8 * CLUSTERS).reshape(CLUSTERS, 8)[CLUSTER]
    texts[:, -1] = 8 * CLUSTERS + 1 + np.arange(N + M)
    return texts.astype(np.int32)


def masks_of(n_uniform, n_grouped, seed=0):
    groups = Groups(("clusters", "pairs"), np.stack([CLUSTER[:N], CLUSTER[:N] // 2]).astype(np.int32))
    designs = ((Design("uniform", RANGE), n_uniform), (Design("grouped", RANGE, groups=groups), n_grouped))
    return [draw_masks(design, range(n_models), n_train=N, seed=seed) for design, n_models in designs]


def copies(masks, seed):
    """Margin 3 while another copy is trained on, -3 without; 4 where an example is trained on itself."""
    left = np.stack([masks[:, CLUSTER[:N] == cluster].sum(axis=1) for cluster in range(CLUSTERS)], axis=1)[:, CLUSTER]
    left[:, :N] -= masks
    margin = np.where(left > 0, 3.0, -3.0)
    margin[:, :N] = np.where(masks, 4.0, margin[:, :N])
    margin += NOISE * np.random.RandomState(seed).randn(*margin.shape)
    return Outcomes(masks, margin > 0, margin)


def shares_of_copies(masks, seed):
    """The same of documents: 90% of the tokens while another copy is trained on, 20% without, 95% of an example itself.

    Margins are three times the probits of these shares, and vary by themselves.
    """
    rng, right = np.random.RandomState(seed), copies(masks, seed).of("correct")
    level = np.where(right > 0, 1.28, -0.84)
    level[:, :N] = np.where(masks, 1.64, level[:, :N])
    shares, margin = ndtr(level + 0.1 * rng.randn(*level.shape)), 3 * level + NOISE * rng.randn(*level.shape)
    return Outcomes(masks, shares, margin, n_tokens=np.full(N + M, 40))


def nothing(masks, seed):
    base = np.random.RandomState(99).uniform(-1.5, 3, N + M)
    margin = base + np.random.RandomState(seed).randn(len(masks), N + M)
    return Outcomes(masks, margin > 0, margin)


def outcomes_of(world, n_models, seed=0):
    """Of uniform and of grouped models."""
    return [world(masks, 10 * seed + number) for number, masks in enumerate(masks_of(*n_models, seed=seed))]


def fit(
    world: Callable[..., Outcomes] = copies,
    name: Any = "combined",
    n_models: tuple[int, int] = (120, 120),
    *,
    seed: int = 0,
    sources: Any = None,
    n_references: int = 40,
    texts: bool = False,
    shown: Any = None,
    features: Any = None,
    proxy: Any = None,
    of_margins: bool = False,
) -> Any:
    sources = outcomes_of(world, n_models, seed) if sources is None else sources
    reference = world(np.ones((n_references, N), bool), 10 * seed + 9)
    examples, n_tokens = (documents(), 8 * CLUSTERS + N + M + 1) if texts else (images(), 0)
    examples = examples if shown is None else shown
    return fit_predictor(
        name,
        sources=sources,
        reference=reference,
        images=examples,
        labels=0 * LABELS if texts else LABELS,
        n_classes=1 if texts else 2,
        n_tokens=n_tokens,
        features=features,
        proxy=proxy,
        of_margins=of_margins,
    )


def predict(predictor: Any, *sets: ForgetSet) -> list[Any]:
    return list(predictor(sets))


@pytest.fixture(scope="module")
def combined():
    return fit()


def assert_alike(one, other, atol):
    for a, b in zip(one, other, strict=True):
        assert a.forget_set == b.forget_set
        np.testing.assert_allclose(a.effect, b.effect, atol=atol)
        np.testing.assert_allclose(a.se, b.se, atol=atol)
        np.testing.assert_allclose(a.covariance, b.covariance, atol=atol)


@pytest.mark.parametrize("name", ["combined", pytest.param("support", marks=pytest.mark.slow)])
def test_copies_left_out_together_are_seen_to_spread(name, combined):
    predictor = combined if name == "combined" else fit(name=name)
    all_of_them, half, one = predict(predictor, ALL, HALF, ONE)
    assert (all_of_them.effect[IN_CLUSTER] > 0.9).all()
    assert (all_of_them.effect[list(ALL.ids)] > 0.9).all()
    assert np.abs(all_of_them.effect[ELSEWHERE]).mean() < 0.02
    assert judge(all_of_them).regime == "spreading"
    assert (one.source, one.n_models, one.n_train, one.replicates.shape) == (name, 240, N, (0, N + M))
    for some in (half, one):
        assert np.abs(some.effect).max() < 0.1
        assert judge(some).regime == "no-op"


@pytest.mark.parametrize("told_by", ["features", "pixels"])
def test_features_of_networks_are_looked_at_where_they_tell_more_than_pixels(told_by):
    """The other of the two is noise, which says of nothing that it is a copy."""
    noise = np.random.RandomState(1).randn(N + M, 2).astype(np.float32)
    shown, features = (noise, images()) if told_by == "features" else (images(), noise)
    (found,) = predict(fit(n_models=(30, 30), shown=shown, features=features), ALL)
    assert found.source == ("combined with network features" if told_by == "features" else "combined")
    assert found.effect[IN_CLUSTER].mean() > 0.5


@pytest.mark.parametrize(("name", "texts"), [("combined", False), ("surrogate", True), ("additive-shrunk", True)])
def test_shares_are_predicted_by_their_probits(name, texts):
    """Without all copies the others lose 90% - 20%, the copies themselves 95% - 20%; errors are those of shares."""
    all_of_them, one = predict(fit(shares_of_copies, name, texts=texts), ALL, ONE)
    if name == "additive-shrunk":  # looks at no texts, and cannot know that copies cover for each other
        assert all_of_them.effect[IN_CLUSTER].mean() < 0.5
        return
    assert all_of_them.effect[IN_CLUSTER].mean() == pytest.approx(0.7, abs=0.07)
    assert all_of_them.effect[list(ALL.ids)].mean() == pytest.approx(0.75, abs=0.07)
    assert np.abs(all_of_them.effect[ELSEWHERE]).mean() < 0.02
    assert np.abs(one.effect).max() < 0.1
    verdicts = judge(all_of_them), judge(one)
    assert [verdict.regime for verdict in verdicts] == ["spreading", "no-op"]
    assert verdicts[1].self_influence.se < 0.05


def test_margins_of_documents_are_those_of_models_that_left_them_out():
    predictor, (left_out, one) = fit(shares_of_copies, "surrogate", texts=True, of_margins=True), (ALL.ids, ONE.ids)
    margins, changed = predictor.margins(np.array(left_out)), [*left_out, *IN_CLUSTER]
    assert margins[changed].mean() == pytest.approx(3 * -0.84, abs=0.3)
    for ids, others in ((left_out, ELSEWHERE), (one, np.setdiff1d(np.arange(N + M), one))):
        level = np.where(others < N, 3 * 1.64, 3 * 1.28)
        assert np.abs(predictor.margins(np.array(ids))[others] - level).mean() < 0.15
    assert predictor.margins(np.array(one))[one].mean() == pytest.approx(3 * 1.28, abs=0.3)


def test_cross_is_the_drop_of_population_accuracy(combined):
    """Three of 36 held-out examples are lost, which stand for five of 60: one for each of the five forgotten."""
    verdict = judge(predict(combined, ALL)[0])
    assert verdict.cross_influence.value == pytest.approx(1, abs=0.1)
    assert verdict.self_influence.value == pytest.approx(1, abs=0.05)
    assert verdict.harm.value == pytest.approx(1, abs=0.1)
    assert set(verdict.most_harmed[:HELD_OUT]) == set(IN_CLUSTER)


def smaller_margins(masks, seed):
    """The world of copies as another network has it."""
    outcomes = copies(masks, seed)
    return Outcomes(masks, outcomes.correct, 0.5 * outcomes.of("margin"))


@pytest.mark.parametrize("with_proxy", [False, True])
def test_a_proxy_shows_what_sixteen_models_do_not(with_proxy, combined):
    """Pixels say nothing here: without a proxy what others lose stays unseen, and an example left out is one of all that were.

    Without their own the models are wrong on 41% of these, whose copies are gone too; this one's copies stay, and it is right.
    """
    pixels = np.random.RandomState(1).randn(N + M, 2).astype(np.float32)
    proxy = combined if with_proxy else None
    sources = outcomes_of(smaller_margins, (8, 8))
    wrong = np.concatenate([1 - some.of("correct")[:, :N][~some.masks] for some in sources])  # where they left out
    all_of_them, one = predict(fit(smaller_margins, sources=sources, shown=pixels, proxy=proxy), ALL, ONE)
    assert all_of_them.source == ("combined with proxy" if with_proxy else "combined")
    others = np.setdiff1d(np.arange(N + M), ONE.ids)
    assert np.abs(one.effect[others]).max() < 0.1
    (itself,) = one.effect[list(ONE.ids)]
    assert itself == (pytest.approx(0, abs=0.1) if with_proxy else pytest.approx(wrong.mean(), abs=0.15))
    assert (all_of_them.effect[IN_CLUSTER] > 0.9).all() == with_proxy
    assert (all_of_them.effect[IN_CLUSTER] < 0.5).all() != with_proxy


def test_a_proxy_that_knows_nothing_does_no_harm():
    all_of_them, one = predict(fit(n_models=(8, 8), proxy=fit(nothing, n_models=(8, 8))), ALL, ONE)
    assert (all_of_them.effect[IN_CLUSTER] > 0.9).all()
    assert np.abs(one.effect).max() < 0.1


def crowds(masks, seed, cluster=CLUSTER):
    """Margin 6 times the fraction of an example's cluster that is trained on."""
    left = np.stack([masks[:, cluster[:N] == one].mean(axis=1) for one in range(CLUSTERS)], axis=1)
    margin = 6 * left[:, cluster] + NOISE * np.random.RandomState(seed).randn(len(masks), N + M)
    return Outcomes(masks, margin > 0, margin)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_proxy_is_left_out_with_a_warning_where_its_examples_are_mixed_up(mixed, recwarn):
    """Within classes, so that it still knows what fraction of a class is left."""
    cluster = CLUSTER.copy()
    for label in (0, 1) if mixed else ():
        members = np.flatnonzero(LABELS[:N] == label)
        cluster[members] = cluster[np.random.RandomState(0).permutation(members)]
    proxy = fit(partial(crowds, cluster=cluster), shown=images(cluster))
    all_of_them = predict(fit(crowds, n_models=(8, 8), proxy=proxy, seed=1), ALL)[0]
    assert all_of_them.source == ("surrogate" if mixed else "combined with proxy")
    said = [str(one.message) for one in recwarn if "does not carry over" in str(one.message)]
    assert ["16 models of subsets" in one for one in said] == [True] * mixed


def test_sums_over_single_examples_see_far_less():
    effects = predict(fit(name="additive"), ALL)[0]
    assert effects.effect[IN_CLUSTER].mean() < 0.3


@pytest.mark.slow
def test_shrunk_sums_are_finite_and_quiet_on_a_harmless_set():
    everything, half = predict(fit(name="additive-shrunk"), ALL, HALF)
    assert np.isfinite(everything.effect).all()
    assert np.isfinite(everything.se).all()
    assert np.abs(half.effect[N:]).max() < 0.1


CLASS = ForgetSet("class", tuple(int(i) for i in np.flatnonzero(LABELS[:N] == 0)))


@pytest.mark.slow
def test_a_whole_class_is_predicted_to_be_lost(combined):
    """No model left out even half of it; the refit knows what becomes of held-out examples when their class is gone.

    How far off it may be nobody knows, since no model was trained on so few examples: the verdict does not decide.
    """
    effects = predict(combined, CLASS)[0]
    assert effects.effect[N:][LABELS[N:] == 0].mean() > 0.8
    assert effects.effect[N:][LABELS[N:] == 1].mean() < 0.2
    assert effects.covered < 0.5 < predict(combined, ALL)[0].covered
    for predicted in (effects, predict(fit(name="surrogate"), CLASS)[0]):
        verdict = judge(predicted)
        assert verdict.regime == "undetermined"
        assert np.isnan(verdict.self_influence.se)


def test_a_set_larger_than_what_any_model_left_out_is_undetermined(combined):
    """Half as many examples as the models that trained on least are in range; one more than these left out is not."""
    most = int((~np.concatenate(masks_of(120, 120, seed=0))).sum(axis=1).max())
    within, beyond = (ForgetSet("many", tuple(range(size))) for size in (most // 2, most + 1))
    inside, outside = (judge(predict(combined, one)[0]) for one in (within, beyond))
    assert np.isfinite(inside.self_influence.se)
    assert outside.regime == "undetermined"
    assert np.isnan(list(outside.probability.values())).all()
    assert "more examples than any model left out: infl verify" in (outside.note or "")


def test_no_effect_is_beyond_what_can_be_lost_or_gained():
    margins = np.random.RandomState(0).randn(40, 3) + [6.0, 3.0, 0.0]
    distribution = margin_distribution(margins)
    right = distribution.probability(np.zeros(3))
    for drop in (-3.0, 0.0, 3.0):
        effect, _ = distribution.effect(np.full(3, drop), np.full(3, 9.0))
        assert (effect >= right - 1 - 1e-9).all()
        assert (effect <= right + 1e-9).all()


@pytest.mark.slow
def test_a_null_world_has_no_effects():
    """Two fits, five sets each: no set is said to matter, effects average nothing, and errors cover what is left."""
    most = min(int((~np.concatenate(masks_of(80, 80, seed))).sum(axis=1).max()) for seed in range(2))
    sets = [
        ForgetSet(str(size), tuple(sorted(int(i) for i in np.random.RandomState(size).permutation(N)[:size])))
        for size in (1, 6, 12, most)
    ]
    means, z = [], []
    for seed in range(2):
        for effects in fit(nothing, n_models=(80, 80), seed=seed)([ALL, *sets]):
            others = np.setdiff1d(np.arange(N + M), effects.forget_set.ids)
            assert (np.abs(effects.effect[others]) < 4 * effects.se[others] + 0.02).all()
            means.append(effects.effect[others].mean())
            verdict = judge(effects)
            if len(effects.forget_set) > 1:  # levels of a single member are noisier than their errors say
                assert verdict.regime in ("no-op", "undetermined")
            z.append(verdict.cross_influence.value / verdict.cross_influence.se)
    assert np.abs(means).max() < 0.03
    assert np.abs(np.mean(means)) < 0.01
    assert np.abs(z).max() < 3


@pytest.mark.slow
def test_neither_collections_nor_the_order_of_the_models_matter():
    """Another order samples other pairs for the pooled function only where there are more than it takes."""
    outcomes: Any = copies(np.concatenate(masks_of(60, 60)), 0)
    order = np.random.RandomState(1).permutation(120)

    def rows(some: Any) -> Outcomes:
        return Outcomes(outcomes.masks[some], outcomes.correct[some], outcomes.margin[some])

    sources = [outcomes], [rows(part) for part in np.array_split(np.arange(120), 3)], [rows(order)]
    whole, parts, turned = (predict(fit(sources=source), ALL, HALF, ONE) for source in sources)
    assert_alike(whole, parts, atol=1e-4)
    for one, other in zip(whole, turned, strict=True):
        np.testing.assert_allclose(one.effect, other.effect, atol=0.05)
        assert judge(one).regime == judge(other).regime


def test_sets_do_not_depend_on_the_other_sets_of_the_call(combined, monkeypatch):
    alone = [predict(combined, one)[0] for one in (HALF, ONE, ALL, ONE, HALF)]
    monkeypatch.setattr("infl.untraining.effects.SETS_AT_ONCE", 2)
    monkeypatch.setattr("infl.untraining.support.CHUNK", 17)  # nor on how many columns are read at once
    assert_alike(predict(combined, HALF, ONE, ALL, ONE, HALF), alone, atol=1e-4)


def test_errors_of_the_sums_hold_those_of_their_parts(monkeypatch):
    """Without misfit of the sums themselves: held-out examples weigh n/m, retained ones one, members nothing."""
    predictor = fit(nothing, n_models=(8, 8))  # the fewest that will do
    monkeypatch.setattr("infl.untraining.effects.shared_variance", lambda per_effect, gross: 0.0)
    effects = predict(predictor, HALF)[0]
    members, weights = list(HALF.ids), np.where(np.arange(N + M) < N, 1.0, N / M)
    weights[members] = 0
    assert effects.covariance[0, 0] == pytest.approx((effects.se[members] ** 2).sum() / 4)
    assert effects.covariance[1, 1] == pytest.approx((weights**2 * effects.se**2).sum() / 4)


def test_too_few_models_and_unknown_names_are_refused():
    with pytest.raises(InputError, match="at least 16 models"):
        fit(n_models=(4, 3))
    with pytest.raises(InputError, match="none were given"):
        fit(sources=[])
    with pytest.raises(InputError, match="expected one of combined"):
        fit(name="guess")
    with pytest.raises(InputError, match="--n-references"):
        fit(n_references=0)
