"""Private training is DP-SGD as its proof takes it: Poisson samples, clipped gradients, noise of the right size, nothing else.

A guarantee about a mechanism holds for that mechanism alone. So one step is held against a slow loop over examples in NumPy,
noise against its variance, samples against independence, and epsilon against closed forms and integrals that the accountant
does not use. What a left-out example holds must not reach a weight, and what the step divides by must not tell who is left out.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from infl.records import InputError
from infl.training import accounting
from infl.training.algorithm import Algorithm
from infl.training.model import train_model
from infl.training.networks import Network
from infl.training.privacy import Privacy, poisson_sample

N, FEATURES, CLASSES = 40, 6, 3
KEY = jax.random.key(5)
MEMBERS = np.isin(np.arange(N), np.setdiff1d(np.arange(N), [0, 7, 31]))
RANDOM = np.random.RandomState(0)
IMAGES = RANDOM.normal(size=(N + 5, FEATURES)).astype(np.float32) * (1 + np.arange(N + 5) % 4)[:, None]
LABELS = (np.arange(N + 5) % CLASSES).astype(np.int32)
START = {"w": RANDOM.normal(size=(FEATURES, CLASSES)).astype(np.float32), "b": np.zeros(CLASSES, np.float32)}
SOFTMAX = Network(
    init=lambda key, x: jax.tree.map(jnp.asarray, START), apply=lambda params, x: x @ params["w"] + params["b"]
)


def trained(privacy: Privacy | None, **settings: Any) -> Any:
    """Parameters after training; by default one step of a learning rate of 1, so that the step is the gradient."""
    usual = {"optimizer": optax.sgd(1.0), "batch_size": N, "epochs": 1, "network": SOFTMAX}
    algorithm = Algorithm(**usual | settings, privacy=privacy)
    train = jax.jit(partial(train_model, algorithm=algorithm, network=algorithm.build_network(CLASSES)))
    return jax.tree.map(np.asarray, train(KEY, MEMBERS, IMAGES, LABELS).params)


def gradient_by_hand(params: Any, i: Any) -> dict[str, np.ndarray]:
    """Of the cross-entropy of one example, in float64."""
    x, logits = IMAGES[i].astype(float), IMAGES[i] @ params["w"].astype(float) + params["b"]
    p = np.exp(logits - logits.max())
    d_logits = p / p.sum() - np.eye(CLASSES)[LABELS[i]]
    return {"w": np.outer(x, d_logits), "b": d_logits}


def norm(gradient: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(sum((leaf**2).sum() for leaf in gradient.values())))


# One step and many, against slow loops


@pytest.mark.parametrize("clip", [2.0, math.inf])
def test_a_step_is_the_sum_of_clipped_gradients_over_the_size_of_d(clip: float) -> None:
    """Rate 1: every member is in the batch. Some gradients are clipped and some are not."""
    each = [gradient_by_hand(START, i) for i in np.flatnonzero(MEMBERS)]
    factors = [min(1.0, clip / norm(gradient)) for gradient in each]
    if clip == 2:
        assert 5 < sum(factor < 1 for factor in factors) < len(each) - 5
    after = trained(Privacy(clip, 0.0))
    for name in START:
        total = sum(factor * gradient[name] for factor, gradient in zip(factors, each, strict=True))
        np.testing.assert_allclose(after[name], START[name] - total / N, atol=2e-6)  # N, not the 37 members


def test_training_without_clip_and_noise_is_sgd_on_poisson_samples() -> None:
    """Twelve steps of ten of 40; batches are drawn again in the test, by the keys that the module says, and summed by hand."""
    rate, epochs = 0.3, 3
    after = trained(Privacy(math.inf, 0.0), optimizer=optax.sgd(rate), batch_size=10, epochs=epochs)
    params = {name: leaf.astype(float) for name, leaf in START.items()}
    order_key, sizes = jax.random.split(KEY)[1], []
    for step in range(12):
        draw_key = jax.random.fold_in(order_key, step)
        batch = np.flatnonzero(np.asarray(jax.random.bernoulli(draw_key, 1 / 4, (N,))) & MEMBERS)
        each = [gradient_by_hand(params, i) for i in batch]
        params = {name: leaf - rate * sum(g[name] for g in each) / 10 for name, leaf in params.items()}
        sizes.append(len(batch))
    assert len(set(sizes)) > 3
    for name in START:
        np.testing.assert_allclose(after[name], params[name], atol=2e-5)


def test_noise_has_the_variance_that_it_is_said_to_have() -> None:
    """Two steps of a network of 30,000 weights that get no gradient: each is N(0, 2 (sigma C / (q n))^2) afterwards."""
    wide = Network(
        init=lambda key, x: {"w": jnp.zeros((FEATURES, CLASSES)), "unused": jnp.zeros((100, 300))},
        apply=lambda params, x: x @ params["w"],
    )
    clip, sigma = 0.7, 3.0
    after = trained(Privacy(clip, sigma), network=wide, batch_size=N // 2)
    noise = np.ravel(after["unused"]) / (math.sqrt(2) * sigma * clip / (N / 2))
    # The variance of 30,000 standard normal numbers is 1 with a standard error of 0.008.
    assert abs(noise.var() - 1) < 0.035
    assert stats.kstest(noise, "norm").pvalue > 1e-4
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.025


def test_every_member_joins_by_itself() -> None:
    """Counts are Binomial in mean and variance, and two ids join together as often as independent ones do."""
    draw = jax.jit(jax.vmap(partial(poisson_sample, rate=0.3), in_axes=(0, None)))
    ids, counts = draw(jax.random.split(KEY, 4000), MEMBERS)
    joined: Any = np.zeros((4000, N))
    for row, batch, count in zip(joined, np.asarray(ids), np.asarray(counts), strict=True):
        assert len(set(batch[:count])) == count
        assert MEMBERS[batch].all()  # what fills the batch up is a member, too
        row[batch[:count]] = 1
    np.testing.assert_allclose(joined[:, MEMBERS].mean(axis=0), 0.3, atol=4.5 * math.sqrt(0.21 / 4000))
    correlation = np.corrcoef(joined[:, MEMBERS].T)[np.triu_indices(MEMBERS.sum(), 1)]
    assert np.abs(correlation).max() < 5 / math.sqrt(4000)
    # The variance of a sample of 4,000 has a standard error of about its 45th part.
    assert joined.sum(axis=1).var() == pytest.approx(MEMBERS.sum() * 0.21, rel=0.11)


# Left-out examples


def test_left_out_examples_reach_no_weight_and_no_draw_of_the_others() -> None:
    algorithm = Algorithm(SOFTMAX, batch_size=10, epochs=5, privacy=Privacy(1.0, 0.5))
    train = jax.jit(partial(train_model, algorithm=algorithm, network=SOFTMAX))
    before = train(KEY, MEMBERS, IMAGES, LABELS)
    assert before.finite
    for example, reaches in ((0, False), (7, False), (31, False), (N + 2, False), (2, True)):
        changed = np.arange(N + 5) == example
        for pixels in (5.0,) if reaches else (5.0, np.nan):
            after = train(KEY, MEMBERS, np.where(changed[:, None], pixels, IMAGES).astype(np.float32), LABELS)
            same = np.asarray(before.margin == after.margin)[~changed]
            assert (not same.any()) if reaches else same.all(), example
    draws = [
        {int(i) for i in np.asarray(ids)[:count]}
        for ids, count in (poisson_sample(KEY, who, 0.5) for who in (jnp.asarray(MEMBERS), jnp.ones(N, bool)))
    ]
    assert draws[0] == {i for i in draws[1] if MEMBERS[i]}


def test_subsets_of_any_size_take_as_many_steps() -> None:
    """The number of steps, and what sums are divided by, would tell who is left out: an optimizer that counts its steps."""
    counter = optax.GradientTransformation(
        lambda params: jnp.zeros(()), lambda updates, state, params=None: (jax.tree.map(jnp.ones_like, updates), state)
    )
    network = Network(lambda key, x: jnp.zeros(2), lambda params, x: jnp.tile(params, (len(x), 1)))
    algorithm = Algorithm(network, optimizer=counter, batch_size=6, epochs=3, privacy=Privacy())
    rate, steps = algorithm.sampling(N)
    assert (rate, steps) == (6 / 40, 20)
    train = jax.jit(partial(train_model, algorithm=algorithm, network=network))
    for size in (1, 12, N):
        np.testing.assert_array_equal(train(KEY, np.arange(N) < size, IMAGES, LABELS).params, steps)


@pytest.mark.slow
def test_models_side_by_side_are_those_trained_alone() -> None:
    algorithm = Algorithm(SOFTMAX, batch_size=10, epochs=2, privacy=Privacy(1.0, 0.5))
    train = partial(
        train_model, images=jnp.asarray(IMAGES), labels=jnp.asarray(LABELS), algorithm=algorithm, network=SOFTMAX
    )
    keys, masks = jax.random.split(KEY, 3), np.stack([MEMBERS, np.ones(N, bool), np.arange(N) < 11])
    together = jax.jit(jax.vmap(train))(keys, masks)
    for i in range(3):
        alone = jax.jit(train)(keys[i], masks[i])
        np.testing.assert_allclose(together.margin[i], alone.margin, rtol=1e-4, atol=1e-4)


# The accountant, against what it does not use


def gaussian_delta(epsilon: float, mu: float) -> Any:
    """Balle & Wang 2018, theorem 8, for the Gaussian mechanism with sensitivity / deviation mu: exact."""
    return stats.norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * stats.norm.cdf(-mu / 2 - epsilon / mu)


@pytest.mark.parametrize(("sigma", "steps"), [(1.0, 1), (10.0, 400)])
def test_epsilon_without_sampling_is_that_of_one_gaussian_mechanism(sigma: float, steps: int) -> None:
    """Steps of the Gaussian mechanism compose to one with mu = sqrt(steps) / sigma."""
    mu = math.sqrt(steps) / sigma
    found = accounting.epsilon(sigma, sampling_rate=1, steps=steps, delta=1e-5)
    assert gaussian_delta(found, mu) == pytest.approx(1e-5, rel=0.01)
    effect = accounting.largest_effect(sigma, sampling_rate=1, steps=steps)
    assert effect == pytest.approx(2 * stats.norm.cdf(mu / 2) - 1, rel=0.002)


@pytest.mark.parametrize("group", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_one_step_on_a_sample_is_an_integral(group: int) -> None:
    """delta = integral of max(0, P - e^epsilon Q) for the mixture P of how many of the group join and Q = N(0, sigma^2)."""
    sigma, rate = 0.8, 0.2
    weights = stats.binom.pmf(np.arange(group + 1), group, rate)

    x = np.linspace(-8, 14, 400_001)
    p, q = weights @ stats.norm.pdf(x, np.arange(group + 1)[:, None], sigma), stats.norm.pdf(x, 0, sigma)
    epsilon = accounting.epsilon(sigma, sampling_rate=rate, steps=1, delta=1e-3, group=group)
    effect = accounting.largest_effect(sigma, sampling_rate=rate, steps=1, group=group)
    for found, delta in ((epsilon, 1e-3), (0.0, effect)):
        expected = np.maximum(0, p - math.exp(found) * q).sum() * (x[1] - x[0])
        assert delta == pytest.approx(expected, rel=0.01)


def test_epsilon_is_a_little_below_the_bound_by_renyi_divergences() -> None:
    """Mironov et al. 2019, section 3.3, at whole orders, and Canonne et al. 2020, proposition 12: an upper bound."""
    sigma, rate, steps, delta = 1.1, 0.02, 500, 1e-5
    bounds = []
    for order in range(2, 64):
        j = np.arange(order + 1)
        terms = stats.binom.logpmf(j, order, rate) + j * (j - 1) / (2 * sigma**2)
        renyi = steps * np.logaddexp.reduce(terms) / (order - 1)
        bounds.append(renyi + math.log1p(-1 / order) - math.log(delta * order) / (order - 1))
    found = accounting.epsilon(sigma, sampling_rate=rate, steps=steps, delta=delta)
    assert 0.8 * min(bounds) < found < min(bounds)


def test_more_examples_have_less_protection_and_more_noise_gives_more() -> None:
    settings = {"sampling_rate": 0.1, "steps": 20}
    effects = [accounting.largest_effect(2.0, **settings, group=k) for k in (1, 2, 8)]
    assert 0 < effects[0] < effects[1] < effects[2] < 1
    assert effects[1] <= 2 * effects[0] + 1e-6  # total variation obeys the triangle inequality
    assert accounting.epsilon(0.0, **settings, delta=1e-5) == math.inf
    assert accounting.largest_effect(0.0, **settings) == 1
    sigma = accounting.noise_multiplier(2.0, **settings, delta=1e-5)
    assert 1.98 < accounting.epsilon(sigma, **settings, delta=1e-5) <= 2


# Settings


@pytest.mark.parametrize(
    ("make", "telling"),
    [
        (lambda: Privacy(0.0, 1.0), "clip norm above 0"),
        (lambda: Privacy(1.0, -1.0), "noise multiplier of at least 0"),
        (lambda: Privacy(math.inf, 1.0), "finite clip norm"),
        (lambda: Privacy.parse(["clip:1", "sigma:2"]), "expected clip:NORM and noise:MULTIPLIER, got 'sigma:2'"),
        (lambda: Algorithm(privacy=Privacy(), standardize=True), "scale pixels by constants"),
        (lambda: accounting.epsilon(1.0, sampling_rate=0.0, steps=1, delta=0.1), "sampling_rate: expected above 0"),
        (lambda: accounting.epsilon(1.0, sampling_rate=0.1, steps=0, delta=0.1), "steps: expected at least 1"),
        (lambda: accounting.epsilon(1.0, sampling_rate=0.1, steps=1, delta=1.0), "delta: expected above 0"),
        (lambda: accounting.epsilon(-1.0, sampling_rate=0.1, steps=1, delta=0.1), "noise_multiplier"),
        (lambda: accounting.largest_effect(1.0, sampling_rate=0.1, steps=1, group=0), "group: expected at least 1"),
        (lambda: accounting.noise_multiplier(0.0, sampling_rate=0.1, steps=1, delta=0.1), "epsilon: expected a finite"),
    ],
)
def test_a_setting_out_of_its_range_is_named(make: Any, telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        make()
