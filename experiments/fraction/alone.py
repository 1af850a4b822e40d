"""Compares scores at each fraction, and extrapolated to all of D, with what retraining D without one example says.

Examples were drawn from bands of memorization by a pilot of other models, as many of each; means over D weigh each by how many
of D its band holds. Errors are over the seeds and models of the examples drawn, and where they say so over the draw too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from analysis import MEMORIZED
from worlds import BANDS, Trained

import infl

LINE_FROM = 0.5  # fractions from here on carry the line that is drawn on to 1


def compare(trained: Trained) -> dict[str, Any]:
    """By fraction: mean score, its ratio to leave-one-out, the distance from it; and the bands' means."""
    ids = np.array(list(trained.band_of))
    band, population = np.array([trained.band_of[i] for i in ids]), np.array(trained.population, float)
    drawn = np.bincount(band, minlength=len(population))
    weights = population[band] / drawn[band]
    weights = weights / weights.sum()
    loo = np.array([trained.alone[i].mean() for i in ids])
    loo_se = np.array([paired_error(trained.alone[i]) for i in ids])
    estimates = {r: infl.memorization(of) for r, of in trained.by_fraction.items()}
    value = {str(r): one.value[ids] for r, one in estimates.items()}
    error = {str(r): one.se[ids] for r, one in estimates.items()}
    value["line to 1"], error["line to 1"] = extrapolate(value, error)
    columns = {**{name: (value[name], error[name]) for name in value}, "leave-one-out": (loo, loo_se)}
    rows = {}
    for name, (of, se) in columns.items():
        difference, noise = of - loo, se**2 + loo_se**2
        rows[name] = {
            "mean over D": weighted(of, se, weights),
            "over leave-one-out": ratio(of, loo, weights, band),
            "mean less leave-one-out": [weights @ difference, stratified_error(difference, weights, band)],
            "distance without noise": np.sqrt(max(0.0, (difference**2 - noise).mean())),
            "share at 0.25 and more": [
                weights @ (of >= MEMORIZED),
                stratified_error((of >= MEMORIZED) * 1.0, weights, band),
            ],
            "by band": [weighted(of[band == k], se[band == k], share(band == k)) for k in range(len(population))],
        }
    return {
        "bands": [list(edges) for edges in zip(BANDS[:-1], BANDS[1:], strict=True)],
        "population": trained.population,
        "drawn": drawn.tolist(),
        "rows": rows,
        "examples": [
            {"example": int(i), "band": int(k), **{name: [of[j], se[j]] for name, (of, se) in columns.items()}}
            for j, (i, k) in enumerate(zip(ids, band, strict=True))
        ],
    }


def extrapolate(value: dict[str, np.ndarray], error: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Scores at r = 1 on the least-squares line through those at 0.5 to 0.9, with errors."""
    fractions = [float(r) for r in value if float(r) >= LINE_FROM]
    design = np.stack([np.ones(len(fractions)), np.array(fractions) - 1], axis=1)
    at_one = np.linalg.pinv(design)[0]
    values, errors = (np.array([of[str(r)] for r in fractions]) for of in (value, error))
    return at_one @ values, np.sqrt(at_one**2 @ errors**2)


def paired_error(by_seed: np.ndarray) -> float:
    """Standard error of the mean of paired differences; of one seed in n + 2 where all agree."""
    n = len(by_seed)
    return max(float(by_seed.std(ddof=1) / np.sqrt(n)), float(np.sqrt(1 / (n + 2)) / np.sqrt(n + 2)))


def weighted(of: np.ndarray, se: np.ndarray, weights: np.ndarray) -> list[float]:
    """Weighted mean with the error of the models."""
    return [float(weights @ of), float(np.sqrt(weights**2 @ se**2))] if len(of) else [float("nan"), float("nan")]


def ratio(of: np.ndarray, loo: np.ndarray, weights: np.ndarray, band: np.ndarray) -> list[float]:
    """Of the means over D, with the error of seeds, models and the draw of examples."""
    below = weights @ loo
    if below <= 0:
        return [float("nan"), float("nan")]
    quotient = float(weights @ of / below)
    return [quotient, stratified_error((of - quotient * loo) / below, weights, band)]


def stratified_error(values: np.ndarray, weights: np.ndarray, band: np.ndarray) -> float:
    """Standard error of a weighted mean of examples drawn within bands."""
    variance = 0.0
    for k in np.unique(band):
        some = values[band == k]
        if len(some) > 1:
            variance += weights[band == k].sum() ** 2 * some.var(ddof=1) / len(some)
    return float(np.sqrt(variance))


def share(some: np.ndarray) -> np.ndarray:
    """Equal weights."""
    return np.full(some.sum(), 1 / max(1, some.sum()))
