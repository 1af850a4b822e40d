"""A world where A(D\\S) is known: the exact method untrains, and what only looks like forgetting is caught.

Ridge regression of the label, sign(x) for the class, whose loss has a random linear term b as in certified removal (Guo 2020):

    theta = H^-1 (X'y - b), H = X'X + lambda I;    without S: theta + H_(D\\S)^-1 X_S' (X_S theta - y_S)

so that models differ by seed and what S contributed can be taken back exactly. S are examples with flipped labels, and the rest
of D overrules some. Popular metrics alone are content with some of the cheats; the distance is with none.
"""

from __future__ import annotations

import numpy as np
import pytest

from infl.records import Evaluation, ForgetSet, MetricName, Outcomes
from infl.untraining.comparison import evaluate_models

N, M, SIZE, DIMENSIONS, K, RIDGE = 120, 100, 12, 30, 32, 3.0
S = ForgetSet("flipped", tuple(range(SIZE)))


class World:
    """Inputs, labels and models of D and of D\\S."""

    def __init__(self) -> None:
        rng = np.random.RandomState(0)
        self.x = rng.randn(N + M, DIMENSIONS)
        self.x[:SIZE] *= np.linspace(0.5, 1.7, SIZE)[:, None]
        self.y = np.sign(self.x @ rng.randn(DIMENSIONS) + rng.randn(N + M))
        self.y[:SIZE] *= -1
        self.x[:SIZE] += 0.2 * self.y[:SIZE, None] * rng.randn(DIMENSIONS)
        self.keep = np.arange(N) >= SIZE

    def train(self, keep: np.ndarray, noise: np.ndarray) -> np.ndarray:
        x, y = self.x[:N][keep], self.y[:N][keep]
        return np.linalg.solve(x.T @ x + RIDGE * np.eye(DIMENSIONS), (x.T @ y)[:, None] - noise.T).T

    def outcomes(self, theta: np.ndarray, keep: np.ndarray) -> Outcomes:
        margin = 4 * (theta @ self.x.T) * self.y
        return Outcomes(np.broadcast_to(keep, (len(theta), N)), margin > 0, margin)

    def remove(self, theta: np.ndarray) -> np.ndarray:
        """One Newton step: exact for a quadratic loss."""
        x, y, kept = self.x[:SIZE], self.y[:SIZE], self.x[SIZE:N]
        hessian = kept.T @ kept + RIDGE * np.eye(DIMENSIONS)
        return theta + np.linalg.solve(hessian, x.T @ (x @ theta.T - y[:, None])).T


@pytest.fixture(scope="module")
def evaluated() -> dict[str, Evaluation]:
    """The exact method beside four cheats, each of which begins with the originals."""
    world, rng = World(), np.random.RandomState(1)
    everything, noise = np.ones(N, bool), 4 * rng.randn(3, K, DIMENSIONS)
    original, oracle = world.train(everything, noise[0]), world.train(world.keep, noise[1])
    models, right = world.outcomes(original, everything), world.outcomes(oracle, world.keep)
    assert models.margin is not None
    assert right.correct is not None
    constant, guess, relabelled = (models.margin.copy() for _ in range(3))
    constant[:, :SIZE] = right.of("margin")[:, :SIZE].mean()
    accuracy = right.correct[:, :SIZE].mean()
    order = np.argsort(models.margin[:, :SIZE], axis=1)  # as many of S right as the oracle has, but not the same
    guess[np.arange(K)[:, None], order] = np.where(np.arange(SIZE) < round(accuracy * SIZE), 1.0, -1.0)
    relabelled[:, :SIZE] = -np.abs(relabelled[:, :SIZE])
    noisy = models.margin + 8 * rng.randn(*models.margin.shape)
    cheats = {"constant margin": constant, "right number": guess, "relabelled": relabelled, "noise": noisy}
    given = {"exact": world.outcomes(world.remove(original), everything)}
    given |= {name: Outcomes(models.masks, margin > 0, margin) for name, margin in cheats.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("infl.untraining.metrics.N_SPLITS", 6)
        names: list[MetricName] = ["tug-of-war", "membership", "epsilon"]
        found = evaluate_models(S, given, original=models, oracle=right, metrics=names)
    return {one.method: one for one in found}


def test_the_removal_is_exact() -> None:
    world, noise = World(), np.random.RandomState(2).randn(3, DIMENSIONS)
    removed = world.remove(world.train(np.ones(N, bool), noise))
    np.testing.assert_allclose(removed, world.train(world.keep, noise), atol=1e-10)


def test_the_exact_method_untrains_and_each_cheat_is_caught(evaluated: dict[str, Evaluation]) -> None:
    assert evaluated["nothing"].verdict == "neither: too little"
    exact = evaluated["exact"]
    assert exact.judgement == "untrains"
    assert exact.effect.regime == exact.retrained.regime
    for name in ("constant margin", "right number", "relabelled", "noise"):
        assert evaluated[name].judgement == "neither", (name, evaluated[name].to_oracle)


@pytest.mark.parametrize(
    ("metric", "cheat", "off"),
    [("membership auc", "nothing", 0.05), ("epsilon", "noise", 0.05), ("tug-of-war", "right number", 0.1)],
)
def test_single_metrics_are_content_with_what_the_distance_catches(
    evaluated: dict[str, Evaluation], metric: str, cheat: str, off: float
) -> None:
    """Each lies near its null, where the distance is as far as that of doing nothing, or farther."""
    one = evaluated[cheat].metrics[metric]
    assert abs(one.value.value - one.null.value) < off
    assert evaluated[cheat].to_oracle.value.value >= evaluated["nothing"].to_oracle.value.value > 0.1
