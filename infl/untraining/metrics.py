r"""Metrics of others for unlearned models, each beside its null: what it says of oracles against oracles.

Half of the oracles, drawn at random, stands against the *other seeds* of the unlearned models, and for the null of the oracles:
the two differ in nothing but who made the models. The mean over such splits is the value, and their standard deviation its
error over models (the delete-half jackknife of Shao and Wu 1989, whose factor is one). So a metric is read at K/2 models on
each side, and that of a perfect method is its null, whatever its formula would promise.

| name | what it is | of an exact method |
|---|---|---|
| `shift` | mean over examples of \|mean difference of margins\| in standard deviations of the oracles | 1.6 / sqrt(K) |
| `ks` | fraction of examples with a Kolmogorov-Smirnov test at a false discovery rate of 5% (Benjamini-Hochberg) | 0 |
| `energy` | 2 E\|X-Y\| - E\|X-X'\| - E\|Y-Y'\| of margins on S in oracle deviations up to 5; p by permuting *models* | 0 |
| `klom` | mean over examples of KL(unlearned, oracle), nats, bins by oracle quantiles, 1/2 added (Georgiev 2024) | by K |
| `tug-of-war` | product over S, retained, held out of 1 - \|difference of mean accuracy\| (Zhao 2024) | 1 |
| `epsilon` | mean over S of the 95% Clopper-Pearson bound from below; threshold by one half, counts by the other | 0 |
| `competition` | mean over S of 2^-floor(2 epsilon), best threshold on the *same* models, by accuracy ratios (2023) | 0.1-0.2 |
| `u-lira` | Gaussians fitted to half of the models: AUC, true positives at 1% false ones (Hayes 2024) | 0.5, 0.01 |
| `relative` | energy statistic to the originals less that to the oracles, above 0 where nearer these (Ribero 2026) | above 0 |
| `membership` | attack on one model by the margin: AUC of S against held-out examples | as the oracles' |

`shift`, `ks` and `klom` are of S, of other training examples and of held-out ones; `u-lira` is also of the rest of the concept,
against models without it. Tests of distributions see changes of margins that change no prediction. A margin further than 100
deviations from the oracles' mean counts as that far. The competition's two-sided windows are left out: one threshold, in either
direction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from scipy import special, stats
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score, roc_curve

from infl.records import Array, ForgetSet, InputError, Metric, MetricName, Outcomes, Quantity, seeded

N_SPLITS = 20
N_PERMUTATIONS = 999
MIN_MODELS = 16  # on each side: a quarter of them is what epsilon and u-lira fit on
DELTA = 1e-5
MAX_EPSILON = 50.0


@dataclass(frozen=True)
class Sides:
    """Margins and accuracies [models, n+m] of two sides, and the columns of the groups.

    Attributes:
        u, r: Margins of the unlearned models, for the null of oracles, and of the oracles that they stand against.
        u_right, r_right: Accuracies.
        original: Margins of models of D.
        u_full, full: Margins of the same, for the null of models of D\\S_full, and of those; [0, n+m] where there are none.
        groups: Columns of S, of the rest of its concept, of the other training examples, and of H.
    """

    u: Array
    r: Array
    u_right: Array
    r_right: Array
    original: Array
    u_full: Array
    full: Array
    groups: dict[str, Array]


def measure_metrics(
    names: Sequence[MetricName],
    forget_set: ForgetSet,
    unlearned: Outcomes,
    oracle: Outcomes,
    original: Outcomes,
    full_oracle: Outcomes | None = None,
) -> dict[str, Metric]:
    """Metrics by their names, those of several groups with the group behind; of sides that pair, as `align` makes them.

    Raises:
        InputError: for an unknown name, outcomes without margins, or fewer than 16 models.
    """
    for name in names:
        if name not in METRICS:
            raise InputError(f"metrics: expected some of {', '.join(get_args(MetricName))}; got {name!r}")
    n_models, n, m = oracle.n_models, oracle.n_train, oracle.n_columns - oracle.n_train
    if n_models < MIN_MODELS:
        raise InputError(f"metrics: expected at least {MIN_MODELS} models on each side, got {n_models}")
    rest = np.setdiff1d(np.arange(n), forget_set.concept or forget_set.ids)
    groups = {"set": np.array(forget_set.ids), "retained": rest, "held out": n + np.arange(m)}
    groups["concept"] = np.setdiff1d(forget_set.concept or forget_set.ids, forget_set.ids)
    u, r, o = (one.of("margin").astype(np.float64) for one in (unlearned, oracle, original))
    full = u[:0] if full_oracle is None else full_oracle.of("margin").astype(np.float64)
    far = 100 * _spread(r)
    u = np.clip(u, r.mean(axis=0) - far, r.mean(axis=0) + far)
    u_right, r_right = (one.of("correct") for one in (unlearned, oracle))
    values, nulls = dict[str, list[float]](), dict[str, list[float]]()
    random = seeded(0, "metrics")
    for _ in range(N_SPLITS):
        order = random.permutation(n_models)
        half, others = order[: n_models // 2], order[n_models // 2 : 2 * (n_models // 2)]
        there = len(full) > 0
        for found, side, right, beside in ((values, u, u_right, u), (nulls, r, r_right, full)):
            margins = side[others], r[half]
            of_full = (beside[others], full[half]) if there else (full, full)
            sides = Sides(*margins, right[others], r_right[half], o[half], *of_full, groups)
            for name in names:
                for key, value in METRICS[name](sides).items():
                    found.setdefault(f"{name} {key}".strip(), []).append(value)
    p = {"energy": energy_p(u[:, groups["set"]], r[:, groups["set"]])} if "energy" in names else {}
    return {
        key: Metric(
            *(Quantity(float(np.mean(of[key])), float(np.std(of[key]))) for of in (values, nulls)), p=p.get(key, np.nan)
        )
        for key in values
    }


def _by_group(metric: Callable[[Array, Array], float]) -> Callable[[Sides], dict[str, float]]:
    def measure(s: Sides) -> dict[str, float]:
        some = {name: s.groups[name] for name in ("set", "retained", "held out")}
        return {f"({name})": metric(s.u[:, ids], s.r[:, ids]) for name, ids in some.items() if len(ids)}

    return measure


def shift(u: Array, r: Array) -> float:
    """Mean difference of margins in standard deviations of the oracles."""
    return float((np.abs(u.mean(axis=0) - r.mean(axis=0)) / _spread(r)).mean())


def ks_fraction(u: Array, r: Array) -> float:
    """Fraction of columns that a Kolmogorov-Smirnov test finds different, at a false discovery rate of 5%."""
    both = np.concatenate([u, r])
    order = np.argsort(both, axis=0, kind="stable")
    steps = np.where(order < len(u), 1 / len(u), -1 / len(r)).cumsum(axis=0)
    ordered = np.take_along_axis(both, order, axis=0)
    last = np.concatenate([ordered[1:] != ordered[:-1], np.ones((1, both.shape[1]), bool)])  # of those that are equal
    statistic = np.abs(steps * last).max(axis=0)
    p = special.kolmogorov(np.sqrt(len(u) * len(r) / len(both)) * statistic)
    return float((stats.false_discovery_control(p) <= 0.05).mean())


def klom(u: Array, r: Array) -> float:
    """Mean over columns of KL(u, r) in nats; bins by quantiles of r, about four models each, 1/2 added to each bin."""
    n_bins = int(np.clip(len(r) // 4, 2, 20))
    edges = np.quantile(r, np.arange(1, n_bins) / n_bins, axis=0)
    p, q = (
        (
            np.diff(
                [np.zeros(x.shape[1]), *((x <= edge).sum(axis=0) for edge in edges), np.full(x.shape[1], len(x))],
                axis=0,
            )
            + 0.5
        )
        / (len(x) + n_bins / 2)
        for x in (u, r)
    )
    return float(special.rel_entr(p, q).sum(axis=0).mean())


def energy(u: Array, r: Array) -> float:
    """Energy statistic of rows, unbiased: 0 on average where both are of one distribution."""
    u, r = _standardized(u, r)
    within = [cdist(x, x).sum() / (len(x) * (len(x) - 1)) for x in (u, r)]
    return float(2 * cdist(u, r).mean() - sum(within))


def energy_p(u: Array, r: Array) -> float:
    """Chance of an energy statistic as large, were the models shuffled between the sides."""
    both = np.concatenate(_standardized(u, r))
    distances, random = cdist(both, both), seeded(0, "permutations")
    side = np.repeat([1.0, 0.0], [len(u), len(r)])
    ones = np.stack([side, *(random.permutation(side) for _ in range(N_PERMUTATIONS))])
    products = ones @ distances
    within, total = (products * ones).sum(axis=1), distances.sum()
    across = products.sum(axis=1) - within
    n, m = len(u), len(r)
    found = 2 * across / (n * m) - within / (n * (n - 1)) - (total - within - 2 * across) / (m * (m - 1))
    return float((found >= found[0] - 1e-12).mean())


def epsilon(u: Array, r: Array) -> float:
    """Mean over columns of the lower bound of epsilon, 95% by Clopper and Pearson; see `Sides` for the sides."""
    parts = [(x[: len(x) // 2], x[len(x) // 2 :]) for x in (u, r)]
    (u_choose, u_count), (r_choose, r_count) = parts
    thresholds = np.sort(np.concatenate([u_choose, r_choose]), axis=0)
    above = [(x[None] >= thresholds[:, None]).mean(axis=1) for x in (u_choose, r_choose)]  # [thresholds, columns]
    best = np.abs(above[0] - above[1]).argmax(axis=0)
    at = np.take_along_axis(thresholds, best[None], axis=0)[0]
    bounds = []
    counts = [(x >= at).sum(axis=0) for x in (u_count, r_count)]
    sizes = [len(u_count), len(r_count)]
    for flip in (False, True):
        k = [size - count if flip else count for size, count in zip(sizes, counts, strict=True)]
        for one, other in ((0, 1), (1, 0)):
            low = stats.beta.ppf(0.025, k[one], sizes[one] - k[one] + 1)
            high = stats.beta.ppf(0.975, k[other] + 1, sizes[other] - k[other])
            low, high = np.nan_to_num(low, nan=0.0), np.nan_to_num(high, nan=1.0)
            bounds.append(np.log(np.maximum(low - DELTA, 1e-12) / high))
    return float(np.maximum(np.max(bounds, axis=0), 0).mean())


def forgetting_quality(u: Array, r: Array) -> float:
    """Mean over columns of 2^-floor(2 epsilon), epsilon the largest over thresholds, in the buckets of the competition."""
    thresholds = np.concatenate([u, r])
    above = [(x[None] >= thresholds[:, None]).mean(axis=1) for x in (u, r)]
    rates = [(above[0], 1 - above[1]), (above[1], 1 - above[0])]  # of false alarms, of misses
    best = np.zeros(u.shape[1])
    for false, missed in rates:
        known = (false > 0) == (missed > 0)  # with one of the two 0 a threshold is discarded, as there
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = np.maximum(np.log((1 - DELTA - false) / missed), np.log((1 - DELTA - missed) / false))
        bound = np.where((false == 0) & (missed == 0), MAX_EPSILON, np.nan_to_num(bound, nan=0.0, posinf=MAX_EPSILON))
        best = np.maximum(best, np.where(known, bound, 0).max(axis=0))
    top = np.ceil(np.log(max(len(u) - 1, 2)))
    return float(np.where(best > top, 0, 2.0 ** -np.floor(2 * best)).mean())


def attack(u: Array, r: Array) -> dict[str, float]:
    """U-LiRA: Gaussians by the first half of the models, likelihood ratios of the second, pooled over columns."""
    (u_fit, u_test), (r_fit, r_test) = ((x[: len(x) // 2], x[len(x) // 2 :]) for x in (u, r))
    scores = [
        (
            stats.norm.logpdf(x, u_fit.mean(axis=0), _spread(u_fit))
            - stats.norm.logpdf(x, r_fit.mean(axis=0), _spread(r_fit))
        ).ravel()
        for x in (u_test, r_test)
    ]
    truth, score = np.repeat([1, 0], [len(one) for one in scores]), np.concatenate(scores)
    false, true, _ = roc_curve(truth, score)
    return {"auc": float(roc_auc_score(truth, score)), "tpr at 1%": float(true[false <= 0.01].max())}


def _u_lira(s: Sides) -> dict[str, float]:
    own = {f"{key} (set)": value for key, value in attack(s.u[:, s.groups["set"]], s.r[:, s.groups["set"]]).items()}
    rest = s.groups["concept"]
    if len(rest) and len(s.full):
        own |= {f"{key} (concept)": value for key, value in attack(s.u_full[:, rest], s.full[:, rest]).items()}
    return own


def _tug_of_war(s: Sides) -> dict[str, float]:
    means = [
        [right[:, s.groups[name]].mean() for name in ("set", "retained", "held out") if len(s.groups[name])]
        for right in (s.u_right, s.r_right)
    ]
    return {"": float(np.prod(1 - np.abs(np.subtract(means[0], means[1]))))}


def _competition(s: Sides) -> dict[str, float]:
    ids = s.groups["set"]
    ratios = [
        s.u_right[:, s.groups[name]].mean() / max(s.r_right[:, s.groups[name]].mean(), 1e-9)
        for name in ("retained", "held out")
        if len(s.groups[name])
    ]
    return {"": forgetting_quality(s.u[:, ids], s.r[:, ids]) * float(np.prod(ratios))}


def _relative(s: Sides) -> dict[str, float]:
    ids = s.groups["set"]
    return {"": energy(s.u[:, ids], s.original[:, ids]) - energy(s.u[:, ids], s.r[:, ids])}


def _membership(s: Sides) -> dict[str, float]:
    n, m = len(s.groups["set"]), len(s.groups["held out"])
    if not m:
        return {}
    ranks = stats.rankdata(s.u[:, np.concatenate([s.groups["set"], s.groups["held out"]])], axis=1)
    return {"auc": float(((ranks[:, :n].sum(axis=1) - n * (n + 1) / 2) / (n * m)).mean())}


def _spread(x: Array) -> Array:
    return np.maximum(x.std(axis=0, ddof=1), 1e-3)


def _standardized(u: Array, r: Array) -> list[Array]:
    return [np.clip((x - r.mean(axis=0)) / _spread(r), -5, 5) for x in (u, r)]


METRICS: dict[str, Callable[[Sides], dict[str, float]]] = {
    "shift": _by_group(shift),
    "ks": _by_group(ks_fraction),
    "energy": lambda s: {"": energy(s.u[:, s.groups["set"]], s.r[:, s.groups["set"]])},
    "klom": _by_group(klom),
    "tug-of-war": _tug_of_war,
    "epsilon": lambda s: {"": epsilon(s.u[:, s.groups["set"]], s.r[:, s.groups["set"]])},
    "competition": _competition,
    "u-lira": _u_lira,
    "relative": _relative,
    "membership": _membership,
}
