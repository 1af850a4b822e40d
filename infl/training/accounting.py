"""How private training with `infl.Privacy` is: epsilon and delta, and the noise that a wanted epsilon takes.

Neighbours here are data sets of which one has an example (or `group` of them) that the other lacks: add or remove, the
relation between A(D) and A(D\\S). Both are trained with the same public settings: q = sampling rate, steps, clip norm, and
the size n of D that the sum of gradients is divided by.

(epsilon, delta)-differential privacy (Dwork & Roth 2014, definition 2.4): for every event E of the trained weights,

    P[A(D) in E] <= e^epsilon P[A(D\\S) in E] + delta,    and the same with D and D\\S swapped

It holds for one model, all of whose weights may be seen, at every step. It does not hold for the choice of settings (learning
rate, clip norm, epochs) where that was made by trying them on the same data, nor for n itself, nor for scores and effects of
infl, which rest on many models of the same data, nor for models that share a key: they share their noise. Random bits are
JAX's, not those of a cryptographic generator, and noise has the gaps of floating point: usual in research, not what is
proved.

The numbers come from `dp_accounting`, by numerical composition of privacy loss distributions with all rounding to the side of
less privacy (Koskela et al. 2020; Doroshenko et al. 2022). It takes the extra `privacy`: pip install 'infl[privacy]'.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import optimize, stats

from infl.records import InputError

WIDEST_INTERVAL = 1e-3  # of privacy losses, which are rounded up to a multiple; 1 / steps where there are many steps
MIN_WEIGHT = 1e-15  # of a number of members of a group in one batch; the rest is counted as the next larger one
MIN_NOISE, MAX_NOISE = 0.2, 1000


def epsilon(noise_multiplier: float, *, sampling_rate: float, steps: int, delta: float, group: int = 1) -> float:
    """The least epsilon with which training is (epsilon, delta)-differentially private; infinite without noise.

    One step is the Gaussian mechanism on a Poisson sample (Abadi et al. 2016; Mironov et al. 2019; Zhu et al. 2022): its
    worst pair of outputs is N(0, sigma^2) and (1 - q) N(0, sigma^2) + q N(1, sigma^2). Where `group` examples are in one data
    set and not in the other, as many of them as a Binomial(group, q) says join the batch, and the second is the mixture of
    the N(j, sigma^2) with its probabilities (Ganesh 2024). Steps compose. Larger groups have larger epsilon, about in
    proportion: protection of one example is not protection of a class.

    Args:
        noise_multiplier: Sigma, as in `infl.Privacy`.
        sampling_rate, steps: Q and all steps of the training; `infl.Algorithm.sampling(n)`.
        delta: Below 1; usually well below 1 / n, since a mechanism that publishes each example with probability delta
            has it.

    Raises:
        InputError: for a number out of its range, or where `dp_accounting` is not installed.

    Examples:
        >>> round(epsilon(1.0, sampling_rate=0.05, steps=400, delta=1e-5), 1)
        6.7
    """
    _check(noise_multiplier, sampling_rate, steps, group)
    if not 0 < delta < 1:
        raise InputError(f"delta: expected above 0 and below 1, got {delta}")
    if not noise_multiplier:
        return math.inf
    return float(_losses(noise_multiplier, sampling_rate, steps, group).get_epsilon_for_delta(delta))


def noise_multiplier(epsilon: float, *, sampling_rate: float, steps: int, delta: float) -> float:
    """The least noise multiplier, to a thousandth, whose training has at most this epsilon; see `epsilon`.

    Raises:
        InputError: for a number out of its range, or an epsilon for which 1,000 is too little.

    Examples:
        >>> sigma = noise_multiplier(3.0, sampling_rate=0.05, steps=200, delta=1e-5)
        >>> round(sigma, 2), round(epsilon(sigma, sampling_rate=0.05, steps=200, delta=1e-5), 2)
        (1.29, 3.0)
    """
    if not 0 < epsilon < math.inf:
        raise InputError(f"epsilon: expected a finite number above 0, got {epsilon}")
    _check(1.0, sampling_rate, steps, 1)

    def excess(log_sigma: float) -> float:
        return _epsilon(math.exp(log_sigma), sampling_rate=sampling_rate, steps=steps, delta=delta) - epsilon

    # The less noise, the longer an evaluation takes: the search comes from above.
    low = high = 0.0
    while excess(high) > 0:
        low, high = high, high + math.log(2)
        if high > math.log(MAX_NOISE):
            raise InputError(f"epsilon: {epsilon} would take a noise multiplier above {MAX_NOISE}; take fewer steps")
    while low == high or excess(low) <= 0:
        low, high = low - math.log(1.5), low
        if low < math.log(MIN_NOISE):
            return MIN_NOISE
    root = optimize.root_scalar(excess, bracket=(low, high), xtol=2e-4).root
    sigma = math.ceil(1000 * math.exp(root)) / 1000
    while excess(math.log(sigma)) > 0:
        sigma += 0.001
    return sigma


def largest_effect(noise_multiplier: float, *, sampling_rate: float, steps: int, group: int = 1) -> float:
    """What the effect of untraining `group` examples on any example can at most be, whatever data and network: 0 to 1.

    The total variation distance between the two worst outputs of `epsilon`, which is delta at epsilon = 0. An effect is the
    difference of two probabilities of one event, D_j(S) = P_A(D)[correct_j] - P_A(D\\S)[correct_j], and no event tells A(D)
    from A(D\\S) better than that. self(S), a mean of effects, has the same bound. Cross(S), a sum over all other examples in
    units of |S|, has none worth the name: n + m effects, each as small as this, may add up to many examples.

    Raises:
        InputError: for a number out of its range, or where `dp_accounting` is not installed.

    Examples:
        >>> round(largest_effect(2.0, sampling_rate=1.0, steps=1), 3)  # 2 Phi(1 / 4) - 1
        0.197
    """
    _check(noise_multiplier, sampling_rate, steps, group)
    if not noise_multiplier:
        return 1.0
    return min(1.0, float(_losses(noise_multiplier, sampling_rate, steps, group).get_delta_for_epsilon(0.0)))


_epsilon = epsilon  # under a name that its namesake, the argument, does not hide


@lru_cache(maxsize=8)  # epsilon and the largest effect are asked of the same
def _losses(sigma: float, rate: float, steps: int, group: int) -> Any:
    """The distribution of the privacy loss of all steps together."""
    try:
        from dp_accounting.pld import privacy_loss_distribution as distributions
    except ImportError:
        raise InputError("privacy accounting takes dp_accounting: pip install 'infl[privacy]'") from None
    interval = min(WIDEST_INTERVAL, 1 / steps)
    if group == 1:
        one = distributions.from_gaussian_mechanism(sigma, sampling_prob=rate, value_discretization_interval=interval)
    else:
        counts, weights = _group_in_a_batch(group, rate)
        one = distributions.from_mixture_gaussian_mechanism(
            sigma, counts, weights, value_discretization_interval=interval * math.sqrt(group)
        )
    return one.self_compose(steps)


def _group_in_a_batch(group: int, rate: float) -> tuple[list[float], list[float]]:
    """How many of a group join a batch, and how probable that is; improbable small numbers count as the next larger."""
    counts = np.arange(group + 1)
    weights = stats.binom.pmf(counts, group, rate)
    kept = weights >= MIN_WEIGHT
    top = int(counts[kept][-1])
    weights[top] += weights[top + 1 :].sum()
    kept[top + 1 :] = False
    return [float(count) for count in counts[kept]], list(weights[kept] / weights[kept].sum())


def _check(noise_multiplier: float, sampling_rate: float, steps: int, group: int) -> None:
    if not 0 <= noise_multiplier < math.inf:
        raise InputError(f"noise_multiplier: expected a finite number of at least 0, got {noise_multiplier}")
    if not 0 < sampling_rate <= 1:
        raise InputError(f"sampling_rate: expected above 0 and at most 1, got {sampling_rate}")
    for name, value in (("steps", steps), ("group", group)):
        if value < 1:
            raise InputError(f"{name}: expected at least 1, got {value}")
