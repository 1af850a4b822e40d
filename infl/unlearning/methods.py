"""The table of methods by name, with their settings and what they are given."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from infl.records import InputError
from infl.unlearning.steps import (
    ascent_to_level,
    bad_teacher,
    fine_tune,
    gradient_ascent,
    l1_sparse,
    last_layers,
    last_layers_anew,
    match,
    neggrad_plus,
    neggrad_to_level,
    npo,
    push,
    random_labels,
    salun,
    scrub,
    simnpo,
    stop_then_match,
)
from infl.unlearning.weights import newton, selective_dampening

Level = Literal["prediction", "oracle"]


@dataclass(frozen=True)
class Method:
    """A method, and where `problem.change` comes from.

    Attributes:
        function: (params, key, problem, **settings) -> params; keyword-only arguments are settings, each with a default.
        level: `prediction`: what infl predicts from models of subsets; `oracle`: what models of D\\S show, which is an upper
            bound; None where the method does without.
    """

    function: Callable[..., Any]
    level: Level | None = None

    @property
    def defaults(self) -> dict[str, float]:
        """Its settings."""
        parameters = inspect.signature(self.function).parameters.values()
        return {one.name: float(one.default) for one in parameters if one.kind is one.KEYWORD_ONLY}

    def settings(self, given: dict[str, Any]) -> dict[str, float]:
        """The defaults, with what was given instead.

        Raises:
            InputError: Where it has no such setting, or that is no finite number.
        """
        defaults = self.defaults
        for name, value in given.items():
            if name not in defaults:
                known = ", ".join(f"{one} {value:g}" for one, value in defaults.items()) or "none"
                raise InputError(f"setting {name}: expected one of this method's ({known})")
            try:
                finite = math.isfinite(float(value))
            except (TypeError, ValueError):
                finite = False
            if not finite:
                raise InputError(f"setting {name}: expected a finite number, got {value!r}")
        return defaults | {name: float(value) for name, value in given.items()}


METHODS = {
    "fine-tune": Method(fine_tune),
    "gradient-ascent": Method(gradient_ascent),
    "ascent-to-prediction": Method(ascent_to_level, "prediction"),
    "ascent-to-oracle": Method(ascent_to_level, "oracle"),
    "neggrad+": Method(neggrad_plus),
    "neggrad-to-prediction": Method(neggrad_to_level, "prediction"),
    "neggrad-to-oracle": Method(neggrad_to_level, "oracle"),
    "random-labels": Method(random_labels),
    "salun": Method(salun),
    "npo": Method(npo),
    "simnpo": Method(simnpo),
    "scrub": Method(scrub),
    "ssd": Method(selective_dampening),
    "bad-teacher": Method(bad_teacher),
    "eu-k": Method(last_layers_anew),
    "cf-k": Method(last_layers),
    "l1-sparse": Method(l1_sparse),
    "newton": Method(newton),
    "match-prediction": Method(match, "prediction"),
    "match-oracle": Method(match, "oracle"),
    "stop-then-match": Method(stop_then_match, "prediction"),
    "stop-then-match-oracle": Method(stop_then_match, "oracle"),
    "push": Method(push),
}


def choose_method(given: str | Callable[..., Any] | Method) -> tuple[str, Method]:
    """Name and method: one of the table, a function of one's own, known by its name, or a `Method` of one.

    Raises:
        InputError: Where there is none of that name.
    """
    if isinstance(given, str):
        if given not in METHODS:
            raise InputError(f"method: expected one of {', '.join(METHODS)}, or a function; got {given!r}")
        return given, METHODS[given]
    method = given if isinstance(given, Method) else Method(given)
    return getattr(method.function, "__name__", "custom"), method
