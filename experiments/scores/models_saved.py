"""How many models does shrinkage save, what does each part of it give, and what does it cost on the largest effects?

Estimates from 256, 512 and 1,024 of the first 4,096 models (from 512 in parts, too), against 8,192 others in
two halves: the mean of (estimate - half 1)(estimate - half 2) is the squared error without the reference's own noise. Average
precision is that of finding |influence| >= 0.1, by the whole reference. The largest effects are its largest 0.1%.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score
from worlds import N_DATA, N_REFERENCE, SMALL, names, open_world

import infl
from infl.records import Array, Estimate, ProtocolName
from infl.scores.adjustment import adjusted_influence
from infl.scores.shrinkage import Shrunk, fit_prior, shrink
from infl.scores.surrogate import Surrogate, fit_surrogate, leave_one_out_influence
from infl.store import Run

READINGS: tuple[ProtocolName, ...] = ("held-out", "left-out")
HIGH = 0.1
SHIPPED = "softened, control variate, strata and centre by surrogate"
IN_PARTS = (30, 512)  # numbers of models at which the parts of the method are measured apart


def measure(*, small: bool, work: Path) -> list[dict[str, Any]]:
    """One row for each data set, protocol, number of models and estimator."""
    n_data, n_reference = (SMALL["data"], SMALL["reference"]) if small else (N_DATA, N_REFERENCE)
    rows: list[dict[str, Any]] = []
    for name in names(small=small):
        run = open_world(name, work, small=small)
        data = run.dataset()
        surrogate = fit_surrogate(data.images, data.labels, n_train=data.n_train, n_classes=data.n_classes)
        surrogate_influence = np.nan_to_num(leave_one_out_influence(surrogate, fraction=0.7))
        of_models = _margins(run, surrogate, run.complete("design")[: 30 if small else 1024])
        for protocol in READINGS:
            columns = slice(data.n_train, None) if protocol == "held-out" else slice(0, data.n_train)
            same = np.equal.outer(data.y_train, data.labels[columns]).astype(float)
            models = run.complete("design")
            half = n_data + n_reference // 2
            parts = (models[n_data:half], models[half : n_data + n_reference], models[n_data : n_data + n_reference])
            reference = _Reference(*(infl.influence(run.outcomes("design", part), protocol=protocol) for part in parts))
            for n_models in (30, n_data) if small else (256, 512, 1024, n_data):
                known = _Known(surrogate_influence[:, columns], of_models[:n_models], same)
                estimates = _estimates(run, models[:n_models], protocol, columns, known, n_models == n_data)
                for estimator, (estimate, shrunk) in estimates.items():
                    row = {"world": name, "reading": protocol, "n_models": n_models, "estimator": estimator}
                    rows.append({**row, **reference.evaluate(estimate, shrunk)})
                    print(rows[-1], flush=True)
    return rows


@dataclass(frozen=True)
class _Known:
    """What is known without a model: influence on the surrogate's margin and same class [n, columns]; its margins [T, n+m]."""

    surrogate_influence: Array
    of_models: Array
    same: Array


def _margins(run: Run, surrogate: Surrogate, models: list[int]) -> Array:
    """The surrogate's margins on the subset of each model, [T, n+m]."""
    masks = np.concatenate([block.masks for block in run.outcomes("design", models).blocks(slice(0, 1))])
    return np.stack([surrogate.margins(np.flatnonzero(~mask)) for mask in masks])


def _estimates(
    run: Run, models: list[int], protocol: ProtocolName, columns: slice, known: _Known, plain_only: bool
) -> dict[str, tuple[Array, Shrunk | None]]:
    """Each estimator's matrix, and its posterior where it has one."""
    outcomes = run.outcomes("design", models)
    plain = infl.influence(outcomes, protocol=protocol)
    if plain_only:
        return {"plain": (plain.value, None)}
    soft, rest = _in_columns(run, models, protocol, columns), _in_columns(run, models, protocol, columns, known)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.nanmean(plain.se**2 / (1 / plain.n_in + 1 / plain.n_out), axis=0)
    scaled = known.surrogate_influence * spread
    of_spread = np.broadcast_to(spread, scaled.shape)
    kinds: dict[str, tuple[Estimate, Array | None, bool]] = {
        "plain, one prior": (plain, None, False),
        "plain, strata by class": (plain, known.same, False),
        "plain, strata by spread": (plain, of_spread, False),
        "plain, strata by surrogate": (plain, scaled, False),
        "plain, strata and centre by surrogate": (plain, scaled, True),
        "softened, strata and centre by surrogate": (soft, scaled, True),
        SHIPPED: (rest, scaled, True),
    }
    found: dict[str, tuple[Array, Shrunk | None]] = {"plain": (plain.value, None), "softened": (soft.value, None)}
    found["softened, control variate"] = (rest.value, None)
    for name, (estimate, by, centred) in kinds.items():
        if name != SHIPPED and len(models) not in IN_PARTS:
            continue
        prior = fit_prior(estimate.value, estimate.se, by, centred=centred)
        shrunk = shrink(estimate, prior, by)
        found[name] = (shrunk.value, shrunk)
        if centred and estimate is plain:
            found[f"{name.split(',')[0]}: surrogate alone, times the slope"] = (
                prior.slope * scaled,
                None,
            )
    return found


def _in_columns(
    run: Run, models: list[int], protocol: ProtocolName, columns: slice, control: _Known | None = None
) -> Estimate:
    """Influence from softened margins, 500 columns at a time; with the surrogate as a control variate where it is given."""
    numbers = np.arange(run.manifest["dataset"]["n_columns"])[columns]
    outcomes = run.outcomes("design", models)
    parts = []
    for some in np.array_split(numbers, -(-len(numbers) // 500)):
        part = slice(int(some[0]), int(some[-1]) + 1)
        given = (
            {}
            if control is None
            else {
                "covariate": control.of_models[:, part].astype(np.float64),
                "covariate_influence": control.surrogate_influence[:, some - numbers[0]],
            }
        )
        parts.append(adjusted_influence(outcomes, columns=part, protocol=protocol, **given))
    joined = {name: np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("value", "se")}
    return replace(parts[0], **joined)


class _Reference:
    """What 8,192 other models say, in two halves and together."""

    def __init__(self, one: Estimate, two: Estimate, both: Estimate) -> None:
        self.known = np.isfinite(both.value)
        self.one, self.two = one.value[self.known], two.value[self.known]
        self.truth, self.se = both.value[self.known], both.se[self.known]
        self.largest = np.abs(self.truth) >= np.quantile(np.abs(self.truth), 0.999)

    def evaluate(self, estimate: Array, shrunk: Shrunk | None) -> dict[str, Any]:
        """Errors, average precision, and of posteriors the coverage of intervals and the false signs among those called."""
        value = np.nan_to_num(estimate[self.known])  # no estimate finds nothing
        squared = (value - self.one) * (value - self.two)
        row = {
            "rmse": float(np.sqrt(max(0.0, squared.mean()))),
            "rmse_of_largest": float(np.sqrt(max(0.0, squared[self.largest].mean()))),
            "bias_of_largest": float((np.sign(self.truth) * (value - self.truth))[self.largest].mean()),
            "average_precision": float(average_precision_score(np.abs(self.truth) >= HIGH, np.abs(value))),
        }
        if shrunk is None:
            return row
        # The reference's own noise widens the interval, as it does the difference.
        middle, reach = (shrunk.high + shrunk.low)[self.known] / 2, (shrunk.high - shrunk.low)[self.known] / 2
        covered = np.abs(self.truth - middle) <= np.sqrt(reach**2 + (1.96 * self.se) ** 2)
        picked = np.abs(value) >= np.quantile(np.abs(value), 0.999)
        called = shrunk.sign_rate[self.known] < 0.05
        wrong = np.sign(self.truth) != np.sign(value)
        return {
            **row,
            "coverage": float(covered.mean()),
            "coverage_of_largest_estimates": float(covered[picked].mean()),
            "signs_called": int(called.sum()),
            "of_them_wrong": float(wrong[called].mean()) if called.any() else None,
        }
