"""Turns verdicts, scores and plans into JSON and .npz for machines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from infl.records import (
    Array,
    Detectable,
    Effects,
    Estimate,
    InputError,
    OutcomeKind,
    Quantity,
    Reading,
    ScoredPair,
    Thresholds,
    Verdict,
)


def verdicts_as_json(
    predicted: Sequence[Verdict], measured: Sequence[Verdict] = (), *, thresholds: Thresholds
) -> dict[str, Any]:
    """`{"thresholds": ..., "sets": {name: fields}}`, measured fields under `"measured"` in each set. NaN becomes null."""
    sets = {verdict.forget_set.name: _verdict_fields(verdict) for verdict in predicted}
    for verdict in measured:
        sets.setdefault(verdict.forget_set.name, {"size": len(verdict.forget_set)})["measured"] = _verdict_fields(
            verdict
        )
    return {"thresholds": asdict(thresholds), "sets": sets}


def scores_as_json(
    memorization: Estimate,
    pairs: Sequence[ScoredPair],
    *,
    n_top: int,
    n_models: int,
    n_train: int,
    q: Array | None = None,
    detectable: Mapping[str, Detectable] | None = None,
) -> dict[str, Any]:
    """The most memorized examples and the strongest pairs; a target of `n_train` or more is held out.

    q: of memorization, [n]. detectable: under `memorization` and `influence`, the smallest that could have been found.
    """
    smallest = {name: finite_fields(one) for name, one in (detectable or {}).items()}
    order = np.argsort(-np.nan_to_num(memorization.value, nan=-np.inf), kind="stable")[:n_top]
    return {
        "n_models": n_models,
        "n_train": n_train,
        "outcome": memorization.outcome,
        "memorization": [_memorization_fields(memorization, int(i), q) for i in order],
        "pairs": [_pair_fields(pair) for pair in pairs],
        **({"detectable": smallest} if smallest else {}),
    }


def example_as_json(
    example: int,
    memorization: Estimate | None,
    listed: Mapping[str, tuple[Reading, Sequence[ScoredPair]]],
    *,
    outcome: OutcomeKind,
    n_models: int,
    n_train: int,
) -> dict[str, Any]:
    """The strongest influences on an example and, of a training example, by it.

    listed: `influenced_by`, and of a training example `held_out` and `left_out`, whom it influences; each with its reading.
    """
    parts = {
        name: {"reading": reading, "pairs": [_pair_fields(pair) for pair in pairs]}
        for name, (reading, pairs) in listed.items()
    }
    own = {} if memorization is None else {"memorization": _memorization_fields(memorization, example)}
    return {"example": example, "n_models": n_models, "n_train": n_train, "outcome": outcome, **own, **parts}


def finite_fields(record: Any) -> dict[str, Any]:
    """A record as JSON, what records it holds too; NaN becomes null."""
    return _finite(asdict(record))


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """Write JSON.

    Raises:
        InputError: where the path cannot be written.
    """
    try:
        Path(path).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_effects(path: str | Path, effects: Sequence[Effects]) -> None:
    """Write `names` [s], `effect` and `se` [s, n+m] as .npz.

    Raises:
        InputError: where the path cannot be written.
    """
    write_arrays(
        path,
        names=np.array([e.forget_set.name for e in effects], dtype=np.str_),
        effect=np.stack([e.effect for e in effects]).astype(np.float32),
        se=np.stack([e.se for e in effects]).astype(np.float32),
    )


def write_scores(
    path: str | Path,
    memorization: Estimate,
    left_out: Estimate,
    held_out: Estimate,
    *,
    q: tuple[Array, Array] | None = None,
    shrunk: tuple[Array, Array] | None = None,
) -> None:
    """Write `memorization`, `memorization_se` [n] and `influence`, `influence_se` [n, n+m] as .npz.

    Columns of D are in the `left-out` reading, NaN on the diagonal; columns of H follow. q: written as `memorization_q` [n],
    over all examples, and `influence_q` [n, n+m], over all pairs of both readings together. shrunk: posterior means and rates
    of false signs, written as `influence_shrunk` and `influence_sign_rate` [n, n+m].

    Raises:
        InputError: where the path cannot be written.
    """
    write_arrays(
        path,
        memorization=memorization.value,
        memorization_se=memorization.se,
        influence=np.concatenate([left_out.value, held_out.value], axis=1).astype(np.float32),
        influence_se=np.concatenate([left_out.se, held_out.se], axis=1).astype(np.float32),
        **({} if q is None else {"memorization_q": q[0], "influence_q": q[1]}),
        **dict(
            zip(("influence_shrunk", "influence_sign_rate"), (a.astype(np.float32) for a in shrunk or ()), strict=False)
        ),
    )


def write_arrays(path: str | Path, **arrays: Any) -> None:
    """Write named arrays as .npz.

    Raises:
        InputError: where the path cannot be written.
    """
    try:
        with open(path, "wb") as file:
            np.savez_compressed(file, **arrays)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _verdict_fields(verdict: Verdict) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "size": len(verdict.forget_set),
        "regime": verdict.regime,
        "probability": {regime: _number(p) for regime, p in verdict.probability.items()},
        "self": _quantity(verdict.self_influence),
        "cross": _quantity(verdict.cross_influence),
        "harm": _quantity(verdict.harm),
        "gain": _quantity(verdict.gain),
        "source": verdict.source,
        "n_models": verdict.n_models,
        "hurt_most": [
            {"id": j, "effect": _number(effect)}
            for j, effect in zip(verdict.hurt_most, verdict.hurt_most_effects, strict=True)
        ],
    }
    gap = verdict.concept_gap
    if gap is not None:
        fields["concept_gap"] = {
            "n_full": gap.n_full,
            "n_held_out": gap.n_held_out,
            "of_part": _number(gap.of_part),
            "of_whole": _number(gap.of_whole),
            **_quantity(gap.value),
        }
    if verdict.note:
        fields |= {"note": verdict.note, "models_needed": verdict.models_needed}
    return fields


def _memorization_fields(memorization: Estimate, i: int, q: Array | None = None) -> dict[str, Any]:
    n_in, n_out = (np.broadcast_to(n, memorization.value.shape) for n in (memorization.n_in, memorization.n_out))
    return {
        "id": i,
        "memorization": _number(float(memorization.value[i])),
        "se": _number(float(memorization.se[i])),
        "n_in": int(n_in[i]),
        "n_out": int(n_out[i]),
        **({} if q is None else {"q": _number(float(q[i]))}),
    }


def _pair_fields(pair: ScoredPair) -> dict[str, Any]:
    known = {name: getattr(pair, name) for name in ("p", "q") if not math.isnan(getattr(pair, name))}
    return {
        "source": pair.source,
        "target": pair.target,
        "influence": _number(pair.value),
        "se": _number(pair.se),
        **known,
    }


def _quantity(quantity: Quantity) -> dict[str, float | None]:
    return {"value": _number(quantity.value), "se": _number(quantity.se)}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
