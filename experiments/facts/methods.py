"""Methods of unlearning on a conclusion that A and B still imply: whether it is gone, what goes with it, whether it comes back.

Every method is run by itself, and followed by training on facts that do not contain C: all others, or those alone that name
neither its person nor the person's town.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from record import mean_and_error

import infl
from infl.unlearning.descent import descend, own_optimizer
from infl.unlearning.problem import Problem
from infl.unlearning.steps import fine_tune, gradient_ascent, npo, random_labels

METHODS: dict[str, tuple[Callable[..., Any], dict[str, float]]] = {
    "fine-tune": (fine_tune, {"rate": 1.0, "epochs": 10.0}),
    "gradient ascent": (
        gradient_ascent,
        {"rate": 1.0, "epochs": 320.0},
    ),  # five steps, as S is one fact of a batch of 64
    "random labels": (random_labels, {"rate": 1.0, "epochs": 10.0}),
    "NPO": (npo, {"rate": 0.2, "epochs": 5.0}),
}
AFTERWARDS = {"": (0.0, 0.0), "others 1": (1.0, 0.0), "others 5": (5.0, 0.0), "unrelated 5": (5.0, 1.0)}


def followed(name: str, afterwards: str) -> Callable[..., Any]:
    """A method of one's own: one of those above, then so many epochs on other facts."""
    method, settings = METHODS[name]

    def run(params: Any, key: jax.Array, problem: Problem) -> Any:
        keys, (epochs, unrelated) = jax.random.split(key), AFTERWARDS[afterwards]
        params = method(params, keys[0], problem, **settings)
        members = ~problem.forget & ~(related(problem) & (unrelated > 0))

        def objective(params: Any, batch: Any) -> jax.Array:
            return problem.losses(params, batch.retained).mean()

        optimizer = own_optimizer(problem, 1.0)
        return descend(problem, params, keys[1], objective, optimizer=optimizer, epochs=epochs, members=members)

    run.__name__ = f"{name} {afterwards}".strip().replace(" ", "-").lower()
    return run


def related(problem: Problem) -> jax.Array:
    """Facts that name the person of S, or a town that the person's facts name, [n] bool."""
    subject, target = problem.images[: problem.n_train, 0], problem.targets[: problem.n_train]
    person = jnp.where(problem.forget, subject, -1).max()
    named = jnp.zeros(1 + jnp.iinfo(jnp.int16).max, bool).at[jnp.where(subject == person, target, -1)].set(True)
    return (subject == person) | (target == person) | named[subject]


def compare(place: Path, dataset: infl.Dataset, sets: list[infl.ForgetSet], *, n_models: int) -> list[dict[str, Any]]:
    r"""Of each method, means over sets with their error: C known, others lost, and distances T to A(D\C) and A(D\cut).

    Args:
        sets: Of one fact each, with its cut as the concept.
    """
    run = infl.train(dataset, run=place, n_models=2, n_references=n_models, quiet=True)
    whole = infl.forget_sets.whole_concepts(sets)
    effects = list(infl.verify_effects(run, [*sets, *whole], n_models=n_models, stop=None, quiet=True))
    rows = []
    for what, some in (("C", effects[: len(sets)]), ("its cut", effects[len(sets) :])):
        changes = [(e.effect, list(e.forget_set.ids)) for e in some]
        rows.append({"method": f"trained without {what}", **known_and_lost(changes, sets)})
    full = run.outcomes("full", range(n_models)).load().of("correct").mean(axis=0)
    for name in METHODS:
        row: dict[str, Any] = {"method": name}
        for afterwards in AFTERWARDS:
            method = followed(name, afterwards)
            names = infl.unlearn(run, sets, method=method, n_models=n_models, quiet=True)
            made = [infl.open_run(place).outcomes(names[one.name]).load().of("correct") for one in sets]
            changes = [(full - correct.mean(axis=0), list(one.ids)) for correct, one in zip(made, sets, strict=True)]
            found = known_and_lost(changes, sets)
            row |= {f"{what} {afterwards}".strip(): value for what, value in found.items()}
        rows.append(row)
    evaluations = infl.evaluate(place, sets, quiet=True)
    for row in rows[2:]:
        some = [one for one in evaluations if one.method == followed(row["method"], "").__name__]
        row["T"] = mean_and_error([one.to_oracle.value.value for one in some])
        row["T to the cut"] = mean_and_error([one.to_full_oracle.value.value for one in some if one.to_full_oracle])
    return rows


def known_and_lost(changes: list[tuple[np.ndarray, list[int]]], sets: list[infl.ForgetSet]) -> dict[str, Any]:
    """Of models the fraction that knows C, as models of D do; and facts outside of what was left out that they do not know."""
    known = [1 - float(effect[one.ids[0]]) for (effect, _), one in zip(changes, sets, strict=True)]
    return {
        "known": mean_and_error(known),
        "lost": mean_and_error([float(np.delete(effect, ids).sum()) for effect, ids in changes]),
    }
