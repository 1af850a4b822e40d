"""The method that was designed on the development sets: NegGrad+ that stops, then matching."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax

from infl.unlearning.methods import Method
from infl.unlearning.problem import Problem
from infl.unlearning.steps import match, neggrad_to_level


def stop_then_match(
    params: Any, key: jax.Array, problem: Problem, *, first: Any = 4.0, learning_rate: Any = 6e-3, epochs: Any = 5.0
) -> Any:
    """`neggrad-to-prediction` for `first` epochs, then matching of the margins that `match-prediction` would match.

    The first part gets large drops, and what shares them, out of the way of the second, which takes back what went too far;
    retained examples that the first part moved count as affected in the second.
    """
    keys, n = jax.random.split(key), problem.n_train
    moved = neggrad_to_level(params, keys[0], problem, epochs=first)
    before, after = (problem.on_all(partial(problem.margins, one)) for one in (params, moved))
    change = problem.change.at[:n].add(before - after)
    return match(moved, keys[1], replace(problem, change=change), learning_rate=learning_rate, epochs=epochs)


STOP_THEN_MATCH = Method(stop_then_match, "prediction")
